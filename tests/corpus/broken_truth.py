"""Load the broken wheels that are said not to load: the loader must refuse each of them, too.

    python tests/corpus/broken_truth.py --wheels FOLDER --torch 2.11.0+cu130 --python PROGRAM

PROGRAM is a Python that has this torch. Prints the loader's words, and exits with 1 if it takes
every file of a wheel that the check refuses. It may take one for another CUDA where the machine has
a CUDA of its own, which the check does not count on: see ``ldconfig -p | grep cudart``.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

from breaking import CASES, Bench
from broken import MODULES, select
from corpus import corpus_folder, is_loaded
from rich.console import Console
from rich.table import Table

from wheelyard.wheels.findings import FindingKind

if TYPE_CHECKING:
    from collections.abc import Mapping

    from breaking import Case
    from workpiece import Workpiece

assert MODULES  # they register the cases
LOADING: Final = Path(__file__).with_name("loading.py")
KINDS: Final = frozenset(
    {
        FindingKind.DAMAGED_BINARY,
        FindingKind.MACHINE,
        FindingKind.MISSING_LIBRARY,
        FindingKind.MISSING_SYMBOL,
    }
)

# What the check refuses though the loader of this machine takes it: the loader looks neither at GPU
# code nor at the end of a file, where its sections are listed, nor at the tag.
TAKEN: Final = frozenset(
    {"gpu code longer than its file", "module that lost its end", "tag of another machine"}
)


def main() -> None:
    """Load what each case breaks, and print what came of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("words", nargs="*", metavar="WORD", help="in the names of cases")
    parser.add_argument("--wheels", type=Path, help="folder of the wheels; filled as needed")
    parser.add_argument("--torch", required=True, help="for example 2.11.0+cu130")
    parser.add_argument("--python", type=Path, required=True, help="a Python that has this torch")
    arguments = parser.parse_args()
    lines = Table("broken wheel", "refused", "the loader says")
    taken = []
    with tempfile.TemporaryDirectory(prefix="broken-") as scratch:
        bench = Bench(corpus_folder(arguments.wheels), Path(scratch))
        for case in select(CASES.values(), arguments.words):
            if case.kind not in KINDS or case.torch != arguments.torch or case.name in TAKEN:
                continue
            words = complaints(case, bench.open(case.source), arguments.python)
            lines.add_row(case.name, "yes" if words else "NO", next(iter(words.values()), "")[:110])
            taken += [case.name] if not words and case.refused else []
    Console(width=190).print(lines)
    sys.exit(f"The loader takes: {', '.join(taken)}" if taken else 0)


def complaints(case: Case, piece: Workpiece, python: Path) -> Mapping[str, str]:
    """Return what the loader says of the files that it takes from the whole wheel alone."""
    whole = _load(piece, python)
    case.breaking(piece)
    broken = _load(piece, python)
    return {
        member: words
        for member, words in broken.items()
        if not is_loaded(words) and is_loaded(whole.get(member, "ok"))
    }


def _load(piece: Workpiece, python: Path) -> Mapping[str, str]:
    with tempfile.TemporaryDirectory() as folder:
        members = {name: Path(folder, name) for name in piece.members if ".so" in name}
        for name, path in members.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(piece.members[name])
        paths = [str(path) for path in members.values()]
        asked = json.dumps({"members": paths, "beside": {}, "modules": []})
        command = [str(python), str(LOADING)]
        done = subprocess.run(command, check=True, input=asked, capture_output=True, text=True)
        answers = [json.loads(line) for line in done.stdout.splitlines()]
        return {
            one["member"].removeprefix(f"{folder}/"): one["result"].replace(f"{folder}/", "")
            for one in answers
            if "member" in one
        }


if __name__ == "__main__":
    main()
