"""How quick and how modest ``wheelyard check`` is; one run, ratios to ``auditwheel show``.

Both read the same wheels of the corpus in turn. Run it on a quiet machine:

    python benchmarks/checking.py --wheels FOLDER
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

from wheelyard.errors import CheckError

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests" / "corpus"))

from corpus import CorpusWheel, corpus_folder, fetch, read_corpus  # noqa: E402

TYPICAL_SIZE = 25_000_000
SIZES = (1_000_000, 8_000_000, TYPICAL_SIZE, 35_000_000, 120_000_000)
MIB = 1 << 20
VERDICTS = {0, CheckError.exit_code}

Figures = dict[str, float | str]


def main() -> None:
    """Measure and print; with ``--json FILE`` keep the figures too."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--wheels", type=Path, help="folder of the wheels; filled as needed")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    folder = corpus_folder(arguments.wheels)
    corpus = read_corpus()
    chosen = [nearest(corpus, size) for size in SIZES]
    largest = max(corpus, key=lambda wheel: wheel.size)
    rows = [compare(wheel, folder, arguments.runs) for wheel in chosen]
    # Once is enough here: it is about memory, and auditwheel takes minutes.
    rows.append(compare(largest, folder, 1))
    show(rows)
    figures = {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "runs": arguments.runs,
        "wheels": rows,
    }
    print(json.dumps(figures, indent=2))
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


def nearest(corpus: tuple[CorpusWheel, ...], size: int) -> CorpusWheel:
    return min(corpus, key=lambda wheel: abs(wheel.size - size))


def compare(wheel: CorpusWheel, folder: Path, runs: int) -> Figures:
    """Run both, in turn, and return medians, their ratio, and what memory each took."""
    path = str(fetch(wheel, folder))
    ours = [sys.executable, "-m", "wheelyard", "check", path, "--torch", wheel.torch]
    theirs = [sys.executable, "-m", "auditwheel", "show", path]
    measure(ours)  # the symbol table and the wheel itself are in the page cache from here on
    pairs = [(measure(ours), measure(theirs)) for _ in range(runs)]
    check = statistics.median(ours["seconds"] for ours, _ in pairs)
    auditwheel = statistics.median(theirs["seconds"] for _, theirs in pairs)
    return {
        "wheel": wheel.filename,
        "torch": wheel.torch,
        "megabytes": wheel.size / 1e6,
        "check_seconds": check,
        "auditwheel_seconds": auditwheel,
        "ratio": check / auditwheel,
        "check_peak_mib": max(ours["peak_mib"] for ours, _ in pairs),
        "auditwheel_peak_mib": max(theirs["peak_mib"] for _, theirs in pairs),
    }


def measure(command: list[str]) -> dict[str, float]:
    """Return the seconds that a command takes and the most memory that it held."""
    started = time.monotonic()
    child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode not in VERDICTS:
        sys.exit(f"{' '.join(command)} ended with {child.returncode}")
    return {"seconds": time.monotonic() - started, "peak_mib": usage.ru_maxrss * 1024 / MIB}


def show(rows: list[Figures]) -> None:
    table = Table("wheel", "MB", "check s", "auditwheel s", "ratio", "check MiB", "auditwheel MiB")
    for row in rows:
        table.add_row(
            str(row["wheel"]),
            f"{row['megabytes']:.1f}",
            f"{row['check_seconds']:.2f}",
            f"{row['auditwheel_seconds']:.2f}",
            f"{row['ratio']:.2f}",
            f"{row['check_peak_mib']:.0f}",
            f"{row['auditwheel_peak_mib']:.0f}",
        )
    Console(width=150).print(table)


if __name__ == "__main__":
    main()
