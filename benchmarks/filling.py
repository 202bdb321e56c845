"""How well a fill uses the machine, keeps to its memory, and goes on after kills.

``filling.py FOLDER mixed`` and so on; FOLDER keeps a farm and caches of their own between runs.
Run it on a quiet machine. ``crowded`` needs root and a memory controller of cgroups (1 or 2).
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import os
import platform
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).parent))

from farming import ROOT, WHEELYARD, Bench, build_cpu, print_table

from wheelyard.machine.cores import usable_cores
from wheelyard.model.record import Built
from wheelyard.toolchain.sccache import read_steps

if TYPE_CHECKING:
    from collections.abc import Iterator

    from wheelyard.toolchain.compile_cache import CacheStep

_GIB = 2**30
_OOM = re.compile(r"^oom_kill (\d+)$", re.MULTILINE)


def main() -> None:
    """Measure what is asked for and print tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="for caches and yards, some 20 GB")
    parser.add_argument("table", choices=TABLES)
    parser.add_argument("--recipes", default="causal-conv1d")
    parser.add_argument("--select", default="*", help="of the jobs that the other options give")
    parser.add_argument("--pythons", default="3.11,3.12")
    parser.add_argument("--torches", default="2.11.0+cu130,2.12.1+cu130")
    parser.add_argument("--gpu-archs", default="9.0")
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument("--seed", type=int, default=6)
    parser.add_argument("--memory", type=float, default=4.0, help="GiB that `crowded` has")
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    bench = Bench(folder=arguments.folder.absolute())
    bench.write_farm(
        arguments.recipes.split(","),
        pythons=arguments.pythons.split(","),
        torches=arguments.torches.split(","),
        gpu_archs=arguments.gpu_archs.split(","),
    )
    print(f"{platform.machine()}, {usable_cores()} cores, Python {platform.python_version()}")
    bench.fetch(arguments.select)
    bench.forget_compiles()
    for name in ("yard", "separate"):
        shutil.rmtree(bench.folder / name, ignore_errors=True)
    TABLES[arguments.table](bench, arguments)


def measure_mixed(bench: Bench, arguments: argparse.Namespace) -> None:
    """Many real jobs at once: how near the makespan comes to what is possible."""
    took = bench.fill("yard", arguments.select)
    events = bench.events("yard")
    records = bench.records("yard")
    units = [event for event in events if event["event"] == "unit" and event["ended"] is not None]
    longest = max(units, key=lambda unit: unit["ended"] - unit["started"])
    chain = longest["ended"] - longest["started"] + _overhead(records[longest["job"]].seconds)
    bound = max(took.cpu / usable_cores(), chain)
    peak = max(event["memory"] for event in events if event["event"] == "usage")
    began = next(event for event in events if event["event"] == "fill")
    killed = sum(unit["status"] in {137, -9} for unit in units)
    rows = [
        ("jobs", f"{len(records)} of {len(began['jobs'])}"),
        ("makespan", f"{took.wall:.0f} s"),
        ("CPU of all processes", f"{took.cpu:.0f} s"),
        ("CPU of the builds", f"{sum(map(build_cpu, records.values())):.0f} s"),
        (f"CPU / {usable_cores()} cores", f"{took.cpu / usable_cores():.0f} s"),
        ("longest compile with its job's other stages", f"{chain:.0f} s ({longest['name']})"),
        ("makespan of the lower bound", f"{took.wall / bound:.2f}"),
        ("peak memory", f"{peak / _GIB:.1f} GiB of {began['memory'] / _GIB:.1f} GiB"),
        ("compiles, killed", f"{len(units)}, {killed}"),
    ]
    print_table("A mixed set of jobs", ("", ""), rows)


def _overhead(seconds: dict[str, float]) -> float:
    return sum(seconds.values()) - seconds.get("build", 0.0)


def measure_kills(bench: Bench, arguments: argparse.Namespace) -> None:
    """SIGKILL at random moments of one build; what is compiled twice, and which wheel comes out."""
    (job, *_) = bench.jobs(arguments.select)
    undisturbed = bench.fill("yard", job.identifier)
    expected = bench.records("yard")[job.identifier].sha256
    bench.forget_compiles()
    chooser = random.Random(arguments.seed)  # noqa: S311 - nothing secret
    finished: set[str] = set()
    in_flight: set[str] = set()
    rows: list[tuple[object, ...]] = []
    for number in range(1, arguments.kills + 1):
        after = chooser.uniform(0.05, 0.95) * undisturbed.wall / 2
        steps = _killed_build(bench, job.identifier, after=after)
        missed = {step.key for step in steps if step.hit is False}
        done = {step.key for step in steps if step.hit is False and step.seconds > 0}
        lost, again = missed & finished, missed & in_flight
        rows.append(
            (f"{number}, after {after:.0f} s", len(done), len(missed - done), len(again), len(lost))
        )
        finished |= done
        in_flight = missed - done
    bench.fill("separate", job.identifier)
    record = bench.records("separate")[job.identifier]
    assert isinstance(record.origin, Built)
    misses = sum(record.origin.build.cache_misses.values())
    rows.append(("to the end", misses, "", "", ""))
    header = ("kill", "compiled", "in flight", "again: was in flight", "again: was done")
    print_table(f"{job.identifier}, {undisturbed.wall:.0f} s undisturbed", header, rows)
    print(f"\nsame wheel as undisturbed: {'yes' if record.sha256 == expected else 'NO'}")


def _killed_build(bench: Bench, identifier: str, *, after: float) -> tuple[CacheStep, ...]:
    """Start a build, kill it, and return what its compile cache logged."""
    command = [*WHEELYARD, "build", "--job", identifier, "--farm", str(bench.farm)]
    command += ["--yard", str(bench.folder / "separate")]
    with (bench.folder / "log.txt").open("ab") as log:
        process = subprocess.Popen(command, env=bench.env, stdout=log, stderr=log, cwd=ROOT)
        time.sleep(after)
        process.send_signal(signal.SIGKILL)
        process.wait()
    time.sleep(1)
    return read_steps(bench.folder / "cache" / "work" / identifier / "build")


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Group:
    """A control group of ours with little memory."""

    folder: Path

    @property
    def kills(self) -> int:
        for name in ("memory.events", "memory.oom_control"):
            with contextlib.suppress(FileNotFoundError):
                match = _OOM.search((self.folder / name).read_text(encoding="ascii"))
                if match is not None:
                    return int(match[1])
        return 0


@contextlib.contextmanager
def little_memory(name: str, size: int) -> Iterator[Group]:
    """Make a control group and remove it when all its processes have ended."""
    base = Path("/sys/fs/cgroup/memory")
    if not base.is_dir():
        base = Path("/sys/fs/cgroup")
    group = Group(folder=base / f"wheelyard-bench-{name}-{os.getpid()}")
    group.folder.mkdir()
    try:
        for limit in ("memory.max", "memory.limit_in_bytes"):
            if (group.folder / limit).exists():
                (group.folder / limit).write_text(str(size), encoding="ascii")
        yield group
    finally:
        time.sleep(1)
        group.folder.rmdir()


def measure_crowded(bench: Bench, arguments: argparse.Namespace) -> None:
    """The same jobs in little memory: builds that each guess alone, and one budget."""
    size = round(arguments.memory * _GIB)
    names = [job.identifier for job in bench.jobs(arguments.select)]
    rows = []
    with little_memory("separate", size) as group:
        started = time.monotonic()
        processes = [_start(bench, group, "build", "--job", name) for name in names]
        failed = sum(process.wait() != 0 for process in processes)
        rows.append(_row(f"{len(names)} builds at once", started, failed, group))
    bench.forget_compiles()
    with little_memory("budget", size) as group:
        started = time.monotonic()
        process = _start(bench, group, "fill", arguments.select, "--yard", "yard")
        process.wait()
        failed = len(names) - len(bench.records("yard"))
        rows.append(_row("one fill", started, failed, group))
    header = ("", "wall, s", "processes killed for memory", "jobs failed")
    print_table(f"{len(names)} jobs in {arguments.memory:g} GiB", header, rows)


def _start(bench: Bench, group: Group, *words: str) -> subprocess.Popen[bytes]:
    yard = [] if "--yard" in words else ["--yard", str(bench.folder / "separate")]
    words = tuple(str(bench.folder / word) if word == "yard" else word for word in words)
    join = ["sh", "-c", 'echo $$ >"$0" && exec "$@"', str(group.folder / "cgroup.procs")]
    command = [*join, *WHEELYARD, *words, "--farm", str(bench.farm), *yard]
    with (bench.folder / "log.txt").open("ab") as log:
        return subprocess.Popen(command, env=bench.env, stdout=log, stderr=log, cwd=ROOT)


def _row(name: str, started: float, failed: int, group: Group) -> tuple[object, ...]:
    return name, f"{time.monotonic() - started:.0f}", group.kills, failed


TABLES = {"mixed": measure_mixed, "kills": measure_kills, "crowded": measure_crowded}

if __name__ == "__main__":
    main()
