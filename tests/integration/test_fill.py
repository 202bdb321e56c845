"""Many jobs of one farm at once: failures, Ctrl-C, a deadline, and going on from there."""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from wheelyard.machine.folders import cache_folder
from wheelyard.scheduling import events

pytestmark = pytest.mark.build

BROKEN = "1.0.9"
SIMILAR = "1.0.1"


def _pythons() -> list[str]:
    """The Pythons that this user has the torch of the tests for, two at most."""
    folders = (cache_folder(os.environ) / "torch").glob("torch2.11.0-cu130-cp3*")
    found = {match[1] for path in folders if (match := re.search(r"-cp3(\d+)-", path.name))}
    return sorted(found, key=int)[-2:]


@pytest.fixture
def filling_farm(built, own_farm: Path) -> Path:
    """Three versions of the tiny extension, one of which does not compile, for known Pythons."""
    pythons = ", ".join(f'"3.{minor}"' for minor in _pythons())
    (own_farm / "matrix.toml").write_text(
        f'[axes]\npython = [{pythons}]\ntorch = ["2.11.0+cu130"]\n'
        f'machine = ["{platform.machine()}"]\n'
    )
    for version in (SIMILAR, BROKEN):
        _add_version(own_farm, version)
    source = own_farm / f"tinyscale-{BROKEN}" / "csrc" / "tinyscale.cpp"
    source.write_text(source.read_text() + "\nthis is not C++\n")
    return own_farm


def _add_version(farm: Path, version: str) -> None:
    folder = shutil.copytree(farm / "tinyscale", farm / f"tinyscale-{version}")
    project = Path(folder, "pyproject.toml")
    project.write_text(project.read_text().replace("1.0.0", version))
    recipe = farm / "recipes" / "tinyscale.toml"
    table = f'version = "{version}"\npython = ">=3.9"\nfolder = {{ path = "../{folder.name}" }}'
    recipe.write_text(f"{recipe.read_text()}\n[[versions]]\n{table}\n")
    for kind in ("build", "runtime"):
        lock = farm / "locks" / kind / "tinyscale-1.0.0.txt"
        shutil.copy(lock, lock.with_name(f"tinyscale-{version}.txt"))


def _events(yard: Path) -> list[events.AnyEvent]:
    path = max((yard / "logs" / "fills").glob("*/events.jsonl"))
    return list(events.read_events(path))


def _descendants(root: int) -> set[int]:
    listing = subprocess.run(["ps", "-eo", "pid=,ppid="], check=True, capture_output=True)
    pairs = [tuple(map(int, line.split())) for line in listing.stdout.splitlines()]
    found = {root}
    while more := {pid for pid, parent in pairs if parent in found} - found:
        found |= more
    return found - {root}


def _wait_for_a_compile(yard: Path) -> None:
    for _ in range(1200):
        if any(yard.glob("logs/fills/*/events.jsonl")) and any(
            isinstance(event, events.Unit) and event.kind == "device" for event in _events(yard)
        ):
            return
        time.sleep(0.1)
    pytest.fail("no compile started")


def _start(farm: Path, yard: Path, *words: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "wheelyard", "fill", "--farm", str(farm)]
    return subprocess.Popen(
        [*command, "--yard", str(yard), *words],
        stderr=subprocess.PIPE,
        text=True,
        # a shell makes what it runs in the background deaf to it
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509
    )


def test_one_failure_stops_nothing_else_and_is_shown_at_the_end(
    filling_farm, wheelyard, tmp_path, empty_compile_cache
):
    empty_compile_cache()
    yard = tmp_path / "yard"
    words = ("fill", "--farm", filling_farm, "--yard", yard)
    done = wheelyard(*words, check=False)
    count = len(_pythons())
    assert done.returncode == 17, done.stderr
    assert len(list(yard.glob("wheels/*.whl"))) == 2 * count
    assert done.stdout.count("FAILED tinyscale-1.0.9") == count
    assert "in build (exit code 10)" in done.stdout
    assert "tinyscale.cpp" in done.stdout
    assert "Whole log: " in done.stdout
    assert f"{count} of {3 * count} jobs failed" in done.stderr

    happened = _events(yard)
    units = [event for event in happened if isinstance(event, events.Unit) and event.ended]
    compiled = Counter((event.job, event.name) for event in units if event.kind == "device")
    assert set(compiled.values()) == {1}
    ended = happened[-1]
    assert isinstance(ended, events.FillEnded)
    assert (ended.done, ended.failed, ended.cut) == (2 * count, count, 0)
    (page,) = yard.glob("logs/fills/*/timeline.html")
    text = page.read_text()
    assert "tinyscale_kernel.cu" in text
    assert not re.findall(r'(?:src|href)="?http|@import|url\(', text)

    # what is there is not built again
    again = wheelyard(*words, "tinyscale-1.0.[01]-*", check=False)
    assert (again.returncode, "building 0" in again.stderr) == (0, True)


def test_events_go_to_stdout_as_json_lines(filling_farm, wheelyard, tmp_path):
    words = ("fill", "tinyscale-1.0.0-*", "--limit", "1", "--json")
    done = wheelyard(*words, "--farm", filling_farm, "--yard", tmp_path / "yard")
    happened = [events.decode(line.encode()) for line in done.stdout.splitlines()]
    assert isinstance(happened[0], events.FillStarted)
    assert isinstance(happened[-1], events.FillEnded)
    assert sum(isinstance(event, events.Done) for event in happened) == 1
    stages = [event.name for event in happened if isinstance(event, events.Stage)]
    assert {"fetch", "toolchain", "build", "smoke", "store"} <= set(stages)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_ends_every_process_and_a_second_run_goes_on(
    filling_farm, wheelyard, tmp_path, empty_compile_cache, number
):
    empty_compile_cache()
    yard = tmp_path / "yard"
    child = _start(filling_farm, yard, "tinyscale-1.0.[01]-*")
    _wait_for_a_compile(yard)
    family = _descendants(child.pid)
    assert len(family) > 3
    child.send_signal(number)
    _, stderr = child.communicate(timeout=60)
    assert child.returncode == 130
    assert "run the same command again" in stderr
    left = {pid for pid in family if Path(f"/proc/{pid}").exists()}
    assert not left
    cut = [event for event in _events(yard) if isinstance(event, events.Cut)]
    assert {event.reason for event in cut} == {"interrupted"}
    assert any(event.was_running for event in cut)
    assert list(yard.glob("logs/fills/*/timeline.html"))

    wheelyard("fill", "tinyscale-1.0.[01]-*", "--farm", filling_farm, "--yard", yard)
    assert len(list(yard.glob("wheels/*.whl"))) == 2 * len(_pythons())


def test_killed_fill_takes_its_jobs_with_it(filling_farm, tmp_path, empty_compile_cache):
    empty_compile_cache()
    yard = tmp_path / "yard"
    child = _start(filling_farm, yard, "tinyscale-1.0.0-*")
    _wait_for_a_compile(yard)
    family = _descendants(child.pid)
    child.kill()
    child.communicate()
    for _ in range(300):
        if not {pid for pid in family if Path(f"/proc/{pid}").exists()}:
            return
        time.sleep(0.1)
    pytest.fail("jobs go on without their engine")


def test_deadline_ends_what_runs_and_says_how_to_go_on(
    filling_farm, wheelyard, tmp_path, empty_compile_cache
):
    empty_compile_cache()
    recipe = filling_farm / "recipes" / "tinyscale.toml"
    quick = "effort = { host = 0.1, device = 0.1 }"
    recipe.write_text(re.sub(r"effort = .*", quick, recipe.read_text()))
    yard = tmp_path / "yard"
    words = ("fill", "tinyscale-1.0.0-*", "--farm", filling_farm, "--yard", yard)
    # a compiler that takes longer than anybody expects
    slow = "environment = { WHEELYARD_CXX = '/wy/source/slow', NVCC_CCBIN = '/wy/source/slow' }"
    recipe.write_text(recipe.read_text().replace("[build]", f"[build]\n{slow}"))
    compiler = filling_farm / "tinyscale" / "slow"
    compiler.write_text('#!/bin/sh\ncase "$*" in *" -c "*) sleep 60 ;; esac\nexec g++ "$@"\n')
    compiler.chmod(0o755)
    stopped = wheelyard(*words, "--deadline", "33s", "--compile-cache", "none", check=False)
    assert stopped.returncode == 18, stopped.stderr
    cut = [event for event in _events(yard) if isinstance(event, events.Cut)]
    assert cut
    assert all(event.was_running for event in cut)
    assert "run the same command again to go on" in stopped.stderr
    assert "not built (deadline): " in stopped.stdout


def test_job_that_cannot_end_in_time_is_not_started(filling_farm, wheelyard, tmp_path):
    yard = tmp_path / "yard"
    words = ("fill", "tinyscale-1.0.0-*", "--farm", filling_farm, "--yard", yard)
    stopped = wheelyard(*words, "--deadline", "5s", check=False)
    assert stopped.returncode == 18
    happened = _events(yard)
    assert not [event for event in happened if isinstance(event, events.JobStarted)]
    cut = [event for event in happened if isinstance(event, events.Cut)]
    assert [(event.reason, event.was_running) for event in cut] == [("deadline", False)] * len(
        _pythons()
    )


def test_any_engine_can_build_a_job_by_its_name(built, wheelyard, farm):
    yard, wheel = built
    identifier = wheel["identifier"]
    words = ("build", "--job", identifier, "--farm", farm, "--yard", yard)
    done = wheelyard(*words, "--events", "-")
    happened = [json.loads(line) for line in done.stdout.splitlines()]
    assert happened[-1]["event"] == "done"
    assert (happened[-1]["made"], happened[-1]["sha256"]) == (False, wheel["sha256"])
