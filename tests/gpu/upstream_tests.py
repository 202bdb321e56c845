"""Run upstream's own test files against the wheels that are installed here, on this GPU.

    python upstream_tests.py --json OUT [--sample N] [--seconds S] [--seed K] FILE...

Upstream's files have up to hundreds of thousands of cases: ``--sample`` takes so many of each file
at random, the same ones for the same seed, and ``--seconds`` starts no further one of a file after
that time. It needs pytest and what the files import, and leaves 0 when every case that ran passed.
"""

from __future__ import annotations

import argparse
import collections
import importlib.metadata
import json
import random
import sys
import time
from pathlib import Path

import pytest
import torch

_LONGEST_REASON = 300


class Sample:
    """Chooses cases, stops in time, and counts what became of them."""

    def __init__(self, *, size: int | None, seconds: float, seed: int) -> None:
        self.collected = 0
        self.counts: collections.Counter[str] = collections.Counter()
        self.failures: list[dict[str, str]] = []
        self.reasons: collections.Counter[str] = collections.Counter()
        self._size, self._seed = size, seed
        self._ends = time.monotonic() + seconds

    def pytest_collection_modifyitems(
        self, config: pytest.Config, items: list[pytest.Item]
    ) -> None:
        """Keep a sample, in the order of the file."""
        self.collected = len(items)
        if self._size is None or len(items) <= self._size:
            return
        chosen = set(random.Random(self._seed).sample(range(len(items)), self._size))  # noqa: S311
        left_out = [item for number, item in enumerate(items) if number not in chosen]
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for number, item in enumerate(items) if number in chosen]

    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        """Skip what comes too late."""
        if time.monotonic() > self._ends:
            pytest.skip("no time left")

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Count each case once, and keep the last line of a failure."""
        if report.when != "call" and report.passed:
            return
        self.counts[report.outcome] += 1
        text = str(report.longrepr).strip()
        if report.failed:
            errors = [line for line in text.splitlines() if line.startswith("E ")]
            reason = (errors or [text])[0].removeprefix("E ").strip()[:_LONGEST_REASON]
            self.failures.append({"case": report.nodeid, "reason": reason})
        elif report.skipped:
            reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else text
            self.reasons[str(reason)] += 1


def run_file(path: Path, options: argparse.Namespace) -> dict[str, object]:
    """Return what became of one file's cases."""
    sample = Sample(size=options.sample, seconds=options.seconds, seed=options.seed)
    started = time.monotonic()
    words = ["-q", "-p", "no:cacheprovider", "--no-header", "--tb=short", "--rootdir", path.parent]
    status = pytest.main([*map(str, words), str(path)], plugins=[sample])
    return {
        "collected": sample.collected,
        "counts": dict(sample.counts),
        "failures": sample.failures,
        "file": path.name,
        "seconds": round(time.monotonic() - started, 1),
        "skipped": dict(sample.reasons),
        "status": int(status),
    }


def main() -> int:
    """Run the files and write the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("files", type=Path, nargs="+", metavar="FILE")
    parser.add_argument("--json", type=Path, required=True, dest="json_path")
    parser.add_argument("--sample", type=int)
    parser.add_argument("--seconds", type=float, default=3600.0)
    parser.add_argument("--seed", type=int, default=3)
    options = parser.parse_args()
    results = [run_file(path, options) for path in options.files]
    report = {
        "files": results,
        "format": 1,
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "installed": {
            found.name: found.version
            for found in importlib.metadata.distributions()
            if "+" in found.version
        },
        "seed": options.seed,
        "torch": torch.__version__,
    }
    options.json_path.write_text(json.dumps(report, indent=1, sort_keys=True) + "\n")
    for result in results:
        print(f"{result['file']}: {result['counts']} of {result['collected']}", file=sys.stderr)
    return 0 if all(result["status"] in {0, 5} for result in results) else 1


if __name__ == "__main__":
    sys.exit(main())
