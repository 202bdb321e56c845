"""What wheelyard adds to a bare build, and how quick its small commands are; one run, ratios.

Builds the tiny extension of the tests with an empty compile cache, each time in a new yard, and
the same sources bare (``python -m build`` with the same interpreter, torch, toolkit and build
requirements, no sandbox, no cache). Run it on a quiet machine: ``nox -s bench``.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from wheelyard.cli.arguments import make_parser
from wheelyard.cli.choosing import choose_job
from wheelyard.cli.session import open_farm, open_workshop
from wheelyard.machine.folders import cache_folder
from wheelyard.progress import PlainProgress
from wheelyard.stages import toolchain_for
from wheelyard.toolchain.preflight import header_folders

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from wheelyard.toolchain.values import Toolchain

ROOT = Path(__file__).parents[1]
FARM = ROOT / "tests" / "packages"
WHEELYARD = [sys.executable, "-m", "wheelyard"]


def main() -> None:
    """Measure and print; with ``--json FILE`` keep the figures too."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    figures = {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "builds": compare_builds(arguments.runs),
        "commands": measure_commands(arguments.runs),
    }
    print(json.dumps(figures, indent=2))
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


def compare_builds(runs: int) -> dict[str, object]:
    """Build with wheelyard and bare, in turn, and return medians and ratios."""
    ours: list[dict[str, float]] = []
    uncached: list[dict[str, float]] = []
    bare: list[dict[str, float]] = []
    with tempfile.TemporaryDirectory(prefix="wheelyard-bench-") as folder:
        toolchain = prepare(Path(folder))
        for number in range(runs):
            ours.append(build_ours(Path(folder, f"yard-{number}")))
            uncached.append(build_ours(Path(folder, f"plain-{number}"), "--compile-cache", "none"))
            bare.append(build_bare(Path(folder, f"bare-{number}"), toolchain))
    child = statistics.median(run["child"] for run in ours)
    return {
        "bare_cpu": _median(bare, "cpu"),
        "bare_wall": _median(bare, "wall"),
        "child_cpu": _median(ours, "child_cpu"),
        "child_cpu_without_cache": _median(uncached, "child_cpu"),
        "child_wall": child,
        "cpu_ratio_cold_cache": _median(ours, "child_cpu") / _median(bare, "cpu"),
        "cpu_ratio_without_cache": _median(uncached, "child_cpu") / _median(bare, "cpu"),
        "overhead_allowed": 10 + 0.03 * child,
        "overhead_wall": statistics.median(run["process"] - run["child"] for run in ours),
        "runs": runs,
        "stages": ours[-1],
    }


def _median(figures: list[dict[str, float]], name: str) -> float:
    return statistics.median(run[name] for run in figures)


def arguments_for(yard: Path) -> list[str]:
    return ["build", "tinyscale", "--farm", str(FARM), "--yard", str(yard), "--json"]


def prepare(folder: Path) -> Toolchain:
    """Fill the shared caches, so that the runs measure builds and not downloads."""
    arguments = make_parser().parse_args(arguments_for(folder / "yard"))
    workshop = open_workshop(arguments, open_farm(arguments), os.environ)
    job, _ = choose_job(arguments, workshop)
    toolchain = toolchain_for(job, workshop, PlainProgress())
    build_ours(folder / "warm-up")
    return toolchain


def build_ours(yard: Path, *options: str) -> dict[str, float]:
    """Run ``wheelyard build`` in a new yard with an empty compile cache."""
    shutil.rmtree(cache_folder(os.environ) / "compile" / "tinyscale", ignore_errors=True)
    command = [*WHEELYARD, *arguments_for(yard), *options]
    started = time.monotonic()
    answer = subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout
    process = time.monotonic() - started
    wheel = json.loads(answer)["wheels"][0]
    stages = {f"stage_{name}": seconds for name, seconds in wheel["stages"].items()}
    return {
        "child": wheel["build"]["seconds"],
        "child_cpu": wheel["build"]["cpu_seconds"],
        "process": process,
        **stages,
    }


def build_bare(folder: Path, toolchain: Toolchain) -> dict[str, float]:
    """Run the build frontend alone, with the very same parts."""
    source = folder / "tinyscale"
    shutil.copytree(FARM / "tinyscale", source)
    requirements, site = toolchain.requirements, toolchain.torch.site
    includes = [toolchain.toolkit.path / "include" / "cccl", *header_folders(toolchain.torch)]
    env = {
        "CPLUS_INCLUDE_PATH": ":".join(map(str, includes)),
        "CUDA_HOME": str(toolchain.toolkit.path),
        "HOME": str(folder),
        "MAX_JOBS": str(len(os.sched_getaffinity(0))),
        "PATH": f"{requirements}/bin:/usr/bin:/bin",
        "PYTHONPATH": f"{requirements}:{site}",
        "TORCH_CUDA_ARCH_LIST": "9.0",
        "TORCH_EXTENSION_SKIP_NVCC_GEN_DEPENDENCIES": "1",
    }
    command = [str(toolchain.interpreter.executable), "-s", "-m", "build", "--wheel"]
    command += ["--no-isolation", "--skip-dependency-check", str(source)]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    started = time.monotonic()
    subprocess.run(command, check=True, env=env, stdout=subprocess.DEVNULL)
    wall = time.monotonic() - started
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"cpu": cpu, "wall": wall}


def measure_commands(runs: int) -> dict[str, float]:
    """Return the median seconds of the commands that must be quick."""
    with tempfile.TemporaryDirectory(prefix="wheelyard-bench-") as folder:
        finished = [*WHEELYARD, *arguments_for(Path(folder, "yard"))]
        build_ours(Path(folder, "yard"))
        commands: dict[str, Sequence[str]] = {
            "wheelyard list": [*WHEELYARD, "list"],
            "wheelyard build, finished job": finished,
            "nox -l": [str(ROOT / "nox"), "-l"],
        }
        quickly = {name: _timer(command) for name, command in commands.items()}
        for measure in quickly.values():
            measure()
        return {
            name: statistics.median(measure() for _ in range(max(runs, 5)))
            for name, measure in quickly.items()
        }


def _timer(command: Sequence[str]) -> Callable[[], float]:
    def measure() -> float:
        started = time.monotonic()
        subprocess.run(
            command, check=True, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        return time.monotonic() - started

    return measure


if __name__ == "__main__":
    main()
