"""A fill on a real Slurm of two nodes: a node lost, a limit passed, no memory, a cancellation."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
from cluster import Cluster, two_nodes

from wheelyard.machine.folders import cache_folder
from wheelyard.scheduling import events

pytestmark = pytest.mark.build

OTHER = "1.0.1"
SECOND_TORCH = "2.12.1+cu130"
SETTINGS = ("cpus=1", "poll=1", "minutes=20", "memory=3")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory):
    with two_nodes(tmp_path_factory.mktemp("slurm") / "two") as running:
        yield running


@pytest.fixture
def groups_farm(built, own_farm: Path, repository_locks: Path) -> Path:
    """Three groups: two versions for one torch, one of them for another torch too."""
    folders = sorted((cache_folder(os.environ) / "torch").glob("torch2.11.0-cu130-cp3*"))
    minors = sorted({re.search(r"-cp3(\d+)-", one.name)[1] for one in folders}, key=int)[-2:]
    if len(minors) < 2:
        minors = ["12", "13"]
    pythons = ", ".join(f'"3.{minor}"' for minor in minors)
    torches = f'"2.11.0+cu130", "{SECOND_TORCH}"'
    (own_farm / "matrix.toml").write_text(
        f"[axes]\npython = [{pythons}]\ntorch = [{torches}]\n"
        f'[[exclude]]\nselect = "tinyscale-{OTHER}-*-torch2.12*"\nreason = "three groups do"\n'
    )
    shutil.copy(repository_locks / "torch" / f"{SECOND_TORCH}.txt", own_farm / "locks" / "torch")
    folder = shutil.copytree(own_farm / "tinyscale", own_farm / f"tinyscale-{OTHER}")
    project = Path(folder, "pyproject.toml")
    project.write_text(project.read_text().replace("1.0.0", OTHER))
    recipe = own_farm / "recipes" / "tinyscale.toml"
    table = f'version = "{OTHER}"\npython = ">=3.9"\nfolder = {{ path = "../{folder.name}" }}'
    recipe.write_text(f"{recipe.read_text()}\n[[versions]]\n{table}\n")
    for kind in ("build", "runtime"):
        lock = own_farm / "locks" / kind / "tinyscale-1.0.0.txt"
        shutil.copy(lock, lock.with_name(f"tinyscale-{OTHER}.txt"))
    return own_farm


@pytest.fixture(scope="session")
def repository_locks() -> Path:
    return Path(__file__).parents[2] / "locks"


class Fill:
    """The command line on the cluster, with one farm and one yard."""

    def __init__(self, cluster: Cluster, farm: Path, yard: Path) -> None:
        self.cluster, self.yard = cluster, yard
        self.words = ["--farm", str(farm), "--yard", str(yard)]

    def start(self, *words: str, settings: tuple[str, ...] = ()) -> subprocess.Popen[str]:
        given = [word for one in (*SETTINGS, *settings) for word in ("--slurm", one)]
        command = [sys.executable, "-m", "wheelyard", "fill", *words, "--engine", "slurm"]
        return subprocess.Popen(
            [*command, *given, *self.words],
            env=self.cluster.env,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *words: str, settings: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
        child = self.start(*words, settings=settings)
        stdout, stderr = child.communicate(timeout=900)
        return subprocess.CompletedProcess(child.args, child.returncode, stdout, stderr)

    def records(self) -> list[str]:
        paths = self.yard.glob("records/*.json")
        return sorted(json.loads(path.read_text())["identifier"] for path in paths)

    def tasks(self) -> list[dict[str, object]]:
        path = self.yard / "logs" / "slurm" / "state.json"
        return json.loads(path.read_text())["tasks"]

    def events(self) -> list[events.AnyEvent]:
        """Everything that tasks told, in whatever order."""
        paths = sorted(self.yard.glob("logs/slurm/outputs/*.jsonl"))
        return [event for path in paths for event in events.read_events(path)]

    def wait_for(self, kind: type[events.Event], *, count: int = 1, seconds: float = 300) -> None:
        until = time.monotonic() + seconds
        while sum(isinstance(event, kind) for event in self.events()) < count:
            if time.monotonic() > until:
                pytest.fail(f"no {kind.__name__} within {seconds:.0f} s")
            time.sleep(0.3)


@pytest.fixture
def fill(cluster: Cluster, groups_farm: Path, tmp_path: Path) -> Fill:
    return Fill(cluster, groups_farm, tmp_path / "yard")


def test_node_and_follower_are_lost_half_way_and_all_ends_in_the_yard_once(
    fill: Fill, cluster: Cluster, empty_compile_cache
):
    empty_compile_cache()
    first = fill.start()
    fill.wait_for(events.JobStarted, count=2)
    running = cluster.ask("squeue", "-h", "-r", "-t", "RUNNING", "-o", "%N").split()
    assert sorted(running) == ["n1", "n2"]
    first.kill()
    first.communicate()
    cluster.kill_node("n2")
    try:
        done = fill.run()
    finally:
        cluster.start_node("n2")
    assert done.returncode == 0, done.stderr
    assert "building 0" in done.stderr, "what the cluster has is not submitted again"
    assert len(fill.records()) == 6
    assert max(Counter(fill.records()).values()) == 1
    assert len(list(fill.yard.glob("wheels/*.whl"))) == 6
    tasks = fill.tasks()
    assert len({task["group"] for task in tasks}) == 3
    assert {task["end"] for task in tasks} <= {"COMPLETED", "NODE_FAIL"}
    assert f"{6} done, 0 failed, 0 not built" in done.stdout
    again = fill.run()
    assert (again.returncode, "building 0" in again.stderr) == (0, True)


def _slow_down(farm: Path, *, seconds: int, files: int) -> None:
    """Let the tiny extension have more files, whose compiles take longer than they need."""
    recipe = farm / "recipes" / "tinyscale.toml"
    slow = "environment = { WHEELYARD_CXX = '/wy/source/slow' }"
    recipe.write_text(recipe.read_text().replace("[build]", f"[build]\n{slow}", 1))
    for folder in farm.glob("tinyscale*"):
        compiler = folder / "slow"
        waits = f'case "$*" in *" -c "*extra*) sleep {seconds} ;; esac'
        # by its path: the name is the one of what calls it
        compiler.write_text(f'#!/bin/sh\n{waits}\nexec /usr/bin/g++ "$@"\n')
        compiler.chmod(0o755)
        setup = folder / "setup.py"
        names = [f"csrc/extra{number}.cpp" for number in range(files)]
        for number, name in enumerate(names):
            (folder / name).write_text(f"int extra{number}() {{ return {number}; }}\n")
        text = setup.read_text()
        listed = "".join(f'"{name}", ' for name in names)
        setup.write_text(text.replace('"csrc/tinyscale.cpp"', f'{listed}"csrc/tinyscale.cpp"'))


def test_task_over_its_time_limit_goes_on_from_what_it_compiled(
    fill: Fill, groups_farm: Path, empty_compile_cache
):
    _slow_down(groups_farm, seconds=22, files=5)
    empty_compile_cache()
    job = "tinyscale-1.0.0-cp313-torch2.11.0-*"
    done = fill.run(job, settings=("minutes=1", "notice=0"))
    assert done.returncode == 0, done.stderr
    assert "submitting it again" in done.stderr
    tasks = fill.tasks()
    assert [task["attempt"] for task in tasks] == list(range(1, len(tasks) + 1))
    assert len(tasks) >= 2
    assert {task["end"] for task in tasks[:-1]} == {"TIMEOUT"}
    assert len(fill.records()) == 1
    (record,) = fill.yard.glob("records/*.json")
    hits = json.loads(record.read_text())["origin"]["build"]["cache_hits"]
    assert sum(hits.values()) >= 1


def test_task_without_enough_memory_is_given_more(fill: Fill, empty_compile_cache):
    empty_compile_cache()
    done = fill.run("tinyscale-1.0.0-cp313-torch2.11.0-*", settings=("memory=0.4",))
    tasks = fill.tasks()
    # without cgroups Slurm calls it a failure, and says why in the task's log
    assert tasks[0]["end"] in {"OUT_OF_MEMORY", "FAILED"}, done.stderr
    assert "it ran out of memory; submitting it again" in done.stderr
    assert [task["memory"] for task in tasks] == [410 * 2**number for number in range(len(tasks))]
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(fill.records()) == 1


def test_cancelled_tasks_are_told_and_another_fill_goes_on(fill: Fill, empty_compile_cache):
    empty_compile_cache()
    words = ("tinyscale-1.0.0-*-torch2.11.0-*",)
    child = fill.start(*words)
    fill.wait_for(events.JobStarted)
    status = fill.run("--status")
    assert "RUNNING" in status.stdout
    cancelled = fill.run("--cancel")
    assert "cancelled " in cancelled.stdout
    stdout, stderr = child.communicate(timeout=120)
    assert child.returncode == 18, stderr
    assert "not built (interrupted): 2" in stdout
    assert "somebody ended them" in stderr
    assert {task["end"] for task in fill.tasks()} == {"CANCELLED"}
    assert fill.run("--cancel").stdout == "no task of this yard is on the cluster\n"
    assert fill.run(*words).returncode == 0
    assert len(fill.records()) == 2
