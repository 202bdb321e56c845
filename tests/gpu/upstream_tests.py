"""Run upstream's own test files against the wheels that are installed here, on this GPU.

    python upstream_tests.py --json OUT [--sample N] [--seconds S] [--seed K] FILE...
    python upstream_tests.py --json OUT [--sample N] [--seconds S] [--seed K] --trees DIR

Upstream's files have up to hundreds of thousands of cases: ``--sample`` takes so many of each file
at random, the same ones for the same seed, and ``--seconds`` starts no further one of a file after
that time. It needs pytest and what the files import, and leaves 0 when every case that ran passed.

``--trees`` has a folder for each package of ``SELECTION``, with upstream's sources or their tests
alone: a tag's checkout, since most source distributions leave tests out (of apex, which is built
from git, ``wheelyard fetch apex --sources --json`` names the tree). ``--seconds`` is for a whole
package then. Each file runs in a process of its own, because one kernel that fails spoils all that
come after it; one that hangs is ended. Beside OUT comes a table of the same name in Markdown.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import importlib.metadata
import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path
from typing import TypedDict

import pytest
import torch

_LONGEST_REASON = 300
_GRACE = 120.0
"""Seconds that the last case of a file may take beyond its time."""
SELECTION = {
    "causal-conv1d": ("tests/test_causal_conv1d.py",),
    "flash-attn": (
        "tests/test_flash_attn.py",
        "tests/test_rotary.py",
        "tests/losses/test_cross_entropy.py",
        "tests/ops/triton/test_layer_norm.py",
    ),
    "mamba-ssm": (
        "tests/ops/test_selective_scan.py",
        "tests/ops/triton/test_layernorm_gated.py",
        "tests/ops/triton/test_selective_state_update.py",
        "tests/ops/triton/test_ssd.py",
        "tests/test_determinism.py",
        "tests/test_generation.py",
    ),
    "apex": (
        "tests/L0/run_fused_layer_norm/test_fused_layer_norm.py",
        "tests/L0/run_mlp/test_mlp.py",
        "tests/L0/run_optimizers/test_*.py",
        "apex/contrib/test/clip_grad/test_*.py",
        "apex/contrib/test/conv_bias_relu/test_*.py",
        "apex/contrib/test/focal_loss/test_*.py",
        "apex/contrib/test/fused_dense/test_*.py",
        "apex/contrib/test/group_norm/test_*.py",
        "apex/contrib/test/index_mul_2d/test_*.py",
        "apex/contrib/test/layer_norm/test_*.py",
        "apex/contrib/test/transducer/test_*.py",
        "apex/contrib/test/xentropy/test_*.py",
    ),
}
"""What one GPU can run, by package; of models and of several GPUs, nothing."""


class Result(TypedDict):
    """What became of one file's cases."""

    collected: int
    counts: dict[str, int]
    failures: list[dict[str, str]]
    file: str
    seconds: float
    skipped: dict[str, int]
    status: int


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
        if report.failed:
            self._keep(report)
        elif report.skipped:
            text = str(report.longrepr).strip()
            reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else text
            self.reasons[str(reason)] += 1

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Keep why a file could not even be imported."""
        if report.failed:
            self._keep(report)
        elif report.skipped and isinstance(report.longrepr, tuple):
            self.reasons[str(report.longrepr[2])] += 1

    def _keep(self, report: pytest.TestReport | pytest.CollectReport) -> None:
        text = str(report.longrepr).strip()
        errors = [line for line in text.splitlines() if line.startswith("E ")]
        reason = (errors or [text])[0].removeprefix("E ").strip()[:_LONGEST_REASON]
        self.failures.append({"case": report.nodeid, "reason": reason})


def run_file(path: Path, options: argparse.Namespace) -> Result:
    """Return what became of one file's cases."""
    sample = Sample(size=options.sample, seconds=options.seconds, seed=options.seed)
    started = time.monotonic()
    # a folder of apex's is named test, as the standard library's package
    words = ["-q", "-p", "no:cacheprovider", "--no-header", "--tb=short", "--import-mode=importlib"]
    words += ["--rootdir", str(path.parent)]
    # some files import their neighbours
    sys.path.insert(0, str(path.parent.resolve()))
    status = pytest.main([*words, str(path)], plugins=[sample])
    return {
        "collected": sample.collected,
        "counts": dict(sample.counts),
        "failures": sample.failures,
        "file": path.name,
        "seconds": round(time.monotonic() - started, 1),
        "skipped": dict(sample.reasons),
        "status": int(status),
    }


def run_trees(options: argparse.Namespace) -> dict[str, list[Result]]:
    """Return what became of the files of every package that is there."""
    packages: dict[str, list[Result]] = {}
    for package, patterns in SELECTION.items():
        tree = options.trees.resolve() / package
        if not tree.is_dir():
            continue
        ends = time.monotonic() + options.seconds
        results = packages[package] = []
        for pattern in patterns:
            # a pattern that leads nowhere is a row of the table, and not a file that passed
            for path in sorted(tree.glob(pattern)) or [tree / pattern]:
                name = str(path.relative_to(tree))
                result = _in_child(path, options, seconds=ends - time.monotonic())
                result["file"] = name
                results.append(result)
    return packages


def _in_child(path: Path, options: argparse.Namespace, *, seconds: float) -> Result:
    """Run one file in a process of its own."""
    if not path.is_file():
        return _not_run("there is no such file")
    if seconds <= 0:
        return _not_run("no time left for it")
    out = options.json_path.with_name(f".{options.json_path.name}.part")
    out.unlink(missing_ok=True)
    words = [sys.executable, __file__, "--json", str(out), "--seconds", str(seconds)]
    words += ["--seed", str(options.seed)]
    words += [] if options.sample is None else ["--sample", str(options.sample)]
    result, started = _not_run(f"ended after {seconds + _GRACE:.0f} s"), time.monotonic()
    with contextlib.suppress(subprocess.TimeoutExpired):
        # nothing of the tree itself may be imported in place of what is installed
        done = subprocess.run(
            [*words, str(path)],
            check=False,
            cwd=options.json_path.parent,
            env=os.environ | {"PYTHONSAFEPATH": "1"},
            timeout=seconds + _GRACE,
        )
        result = _read(out) or _not_run(f"the process left {done.returncode} and no report")
    out.unlink(missing_ok=True)
    result["seconds"] = round(time.monotonic() - started, 1)
    return result


def _read(report: Path) -> Result | None:
    try:
        [result] = json.loads(report.read_text())["files"]
    except (FileNotFoundError, ValueError):
        return None
    found: Result = result
    return found


def _not_run(reason: str) -> Result:
    return {
        "collected": 0,
        "counts": {},
        "failures": [{"case": "", "reason": reason}],
        "file": "",
        "seconds": 0.0,
        "skipped": {},
        "status": -1,
    }


def to_markdown(packages: dict[str, list[Result]]) -> str:
    """Write a row for each file: how many cases did what, and why."""
    lines = [
        "| package | file | cases | passed | failed | skipped | seconds | reasons |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for package, results in packages.items():
        for result in results:
            counts = collections.Counter(result["counts"])
            reasons = [f"{number} x {why}" for why, number in result["skipped"].items()]
            failed = collections.Counter(one["reason"] for one in result["failures"])
            reasons += [f"FAILED {number} x {why}" for why, number in failed.items()]
            cells = [package, result["file"], result["collected"]]
            cells += [counts[outcome] for outcome in ("passed", "failed", "skipped")]
            cells += [result["seconds"], "; ".join(reasons).replace("|", "\\|").replace("\n", " ")]
            lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines) + "\n"


def main() -> int:
    """Run the files and write the results."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("files", type=Path, nargs="*", metavar="FILE")
    parser.add_argument("--trees", type=Path, metavar="DIR")
    parser.add_argument("--json", type=Path, required=True, dest="json_path")
    parser.add_argument("--sample", type=int)
    parser.add_argument("--seconds", type=float, default=3600.0)
    parser.add_argument("--seed", type=int, default=3)
    options = parser.parse_args()
    if bool(options.files) == bool(options.trees):
        parser.error("name files, or a folder with --trees")
    # each file runs in another folder
    options.json_path = options.json_path.resolve()
    options.json_path.parent.mkdir(parents=True, exist_ok=True)
    packages = run_trees(options) if options.trees else {}
    results = [result for found in packages.values() for result in found]
    results += [run_file(path, options) for path in options.files]
    report = {
        "files": results,
        "format": 1,
        "packages": {package: len(found) for package, found in packages.items()},
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
    if packages:
        options.json_path.with_suffix(".md").write_text(to_markdown(packages))
    for result in results:
        print(f"{result['file']}: {result['counts']} of {result['collected']}", file=sys.stderr)
    return 0 if results and all(result["status"] in {0, 5} for result in results) else 1


if __name__ == "__main__":
    sys.exit(main())
