"""Jobs as child processes: what becomes of each, and that none is left behind."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from wheelyard.engines.local import Child, Limits, LocalEngine
from wheelyard.scheduling import events
from wheelyard.scheduling.budget_server import serve_budget
from wheelyard.scheduling.order import ScheduledJob, schedule

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from wheelyard.model.job import Job
    from wheelyard.scheduling.events import AnyEvent

GIB = 2**30
BEGIN = """\
import json, os, signal, subprocess, sys, time
name, descriptor = sys.argv[1], int(sys.argv[2])
def tell(event, **more):
    line = json.dumps({"event": event, "job": name, "time": time.time(), **more})
    os.write(descriptor, line.encode() + b"\\n")
def done():
    tell("done", filename="a.whl", sha256="", made=True, seconds=1.0, cache_hits=0, cache_misses=0)
def failed():
    tell("failed", stage="build", message="did not compile", exit_code=10, log="/a/log")
    sys.exit(10)
tell("stage", name="build", state="begin")
"""
SLEEP = "subprocess.run(['sleep', '600'], start_new_session=True)"


@pytest.fixture
def jobs(make_probe_job: Callable[..., Job]) -> tuple[ScheduledJob, ...]:
    """Return three jobs of one group, in their order."""
    (group,) = schedule(make_probe_job(python=python) for python in ("3.11", "3.12", "3.13"))
    return tuple(group)


class _Stop:
    """Interrupts the engine at the first event of a kind."""

    def __init__(self, kind: type[events.Event]) -> None:
        self.kind = kind

    def __call__(self, event: AnyEvent) -> None:
        if isinstance(event, self.kind):
            raise KeyboardInterrupt


@pytest.fixture
def run(tmp_path: Path, jobs: tuple[ScheduledJob, ...]) -> Callable[..., list[AnyEvent]]:
    """Return a function that runs the jobs, each with the program that is given for it."""

    def run_jobs(
        *programs: str,
        limits: Limits | None = None,
        also: Callable[[AnyEvent], object] = lambda _event: None,
    ) -> list[AnyEvent]:
        happened: list[AnyEvent] = []
        by_name = {
            item.job.identifier: BEGIN + text for item, text in zip(jobs, programs, strict=False)
        }

        def tell(event: AnyEvent) -> None:
            happened.append(event)
            also(event)

        limits = limits or Limits(cores=2, memory=8 * GIB)
        env = {**os.environ, "TOKEN": str(tmp_path)}
        child = Child(command=_command(by_name), env=env, logs=tmp_path)
        with serve_budget(cores=limits.cores, memory=limits.memory) as server:
            engine = LocalEngine(child, limits, server, tell)
            with contextlib.suppress(KeyboardInterrupt):
                engine.run(jobs[: len(programs)])
        return happened

    return run_jobs


def _command(programs: Mapping[str, str]) -> Callable[[ScheduledJob, int], list[str]]:
    def command(item: ScheduledJob, descriptor: int) -> list[str]:
        name = item.job.identifier
        return [sys.executable, "-c", programs[name], name, str(descriptor)]

    return command


def _ends(happened: list[AnyEvent]) -> dict[str, str]:
    """Map the Python of each job to what became of it."""
    last = (events.Done, events.Failed, events.Cut)
    return {
        event.job.split("-")[2]: type(event).__name__
        for event in happened
        if isinstance(event, last)
    }


def _is_sleeping(folder: Path) -> bool:
    """Whether a process of this test is left that sleeps."""
    token = b"TOKEN=%b\0" % os.fsencode(folder)
    for process in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            command, environment = (
                (process / name).read_bytes() for name in ("cmdline", "environ")
            )
            if command == b"sleep\x00600\x00" and token in environment:
                return True
    return False


def test_one_failure_stops_nothing_else(run: Callable[..., list[AnyEvent]]) -> None:
    happened = run("done()", "failed()", "done()")
    assert _ends(happened) == {"cp311": "Done", "cp312": "Failed", "cp313": "Done"}
    (failed,) = (event for event in happened if isinstance(event, events.Failed))
    assert (failed.stage, failed.exit_code) == ("build", 10)


@pytest.mark.parametrize(
    ("program", "expected", "code"),
    [
        pytest.param("raise SystemExit(3)", "exit status 3", 3, id="silent"),
        pytest.param("1 / 0", "ZeroDivisionError: division by zero", 1, id="crash"),
        pytest.param("os.kill(os.getpid(), signal.SIGKILL)", "signal 9", 1, id="killed"),
        pytest.param("pass", "exit status 0 and said nothing more", 1, id="no-result"),
        pytest.param("done(); raise SystemExit(7)", "exit status 7", 7, id="done-and-crash"),
    ],
)
def test_job_that_ends_without_a_word_has_failed(
    run: Callable[..., list[AnyEvent]], program: str, expected: str, code: int
) -> None:
    (failed,) = (event for event in run(program) if isinstance(event, events.Failed))
    assert expected in failed.message
    assert (failed.stage, failed.exit_code) == ("build", code)
    assert Path(failed.log).is_file()


def test_rubbish_of_a_job_harms_nobody(run: Callable[..., list[AnyEvent]]) -> None:
    assert _ends(run("os.write(descriptor, b'rubbish\\n\\xff\\n'); done()")) == {"cp311": "Done"}


@pytest.mark.parametrize(
    ("memory", "unit", "jobs"), [(8.0, 3.0, 6), (2.5, 0.5, 2), (2.5, 1.9, 1), (2.5, 3.0, 1)]
)
def test_jobs_leave_room_for_the_largest_compile(memory: float, unit: float, jobs: int) -> None:
    limits = Limits(cores=16, memory=round(memory * GIB), unit=round(unit * GIB))
    assert limits.jobs == jobs


def test_not_more_jobs_at_once_than_memory_allows(run: Callable[..., list[AnyEvent]]) -> None:
    limits = Limits(cores=8, memory=GIB)
    happened = run("done()", "done()", "done()", limits=limits)
    kinds = [
        type(event).__name__
        for event in happened
        if isinstance(event, (events.JobStarted, events.Done))
    ]
    assert kinds == ["JobStarted", "Done"] * 3


def test_interruption_ends_every_process_and_says_so(
    run: Callable[..., list[AnyEvent]], tmp_path: Path
) -> None:
    limits = Limits(cores=1, memory=8 * GIB)
    happened = run(SLEEP, SLEEP, "done()", limits=limits, also=_Stop(events.Usage))
    cut = [event for event in happened if isinstance(event, events.Cut)]
    assert [(event.reason, event.was_running) for event in cut] == [
        ("interrupted", True),
        ("interrupted", True),
        ("interrupted", False),
    ]
    assert not _is_sleeping(tmp_path)


def test_job_that_does_not_end_politely_is_killed(
    run: Callable[..., list[AnyEvent]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("wheelyard.engines.local._POLITE_SECONDS", 0.2)
    stubborn = f"signal.signal(signal.SIGTERM, signal.SIG_IGN); done(); {SLEEP}"
    happened = run(stubborn, also=_Stop(events.Usage))
    assert _ends(happened) == {"cp311": "Cut"}
    assert not _is_sleeping(tmp_path)


def test_deadline_ends_what_runs_and_starts_nothing_that_takes_longer(
    run: Callable[..., list[AnyEvent]], jobs: tuple[ScheduledJob, ...]
) -> None:
    # the leader compiles for long, the others follow it quickly
    quick = jobs[1].seconds(cores=1e9)
    limits = Limits(cores=10**9, memory=8 * GIB, deadline=time.monotonic() + quick + 1.0)
    assert _ends(run("done()", limits=limits)) == {"cp311": "Done"}
    limits = Limits(cores=1, memory=8 * GIB, deadline=time.monotonic() + 5.0)
    happened = run("done()", limits=limits)
    (cut,) = (event for event in happened if isinstance(event, events.Cut))
    assert (cut.reason, cut.was_running) == ("deadline", False)


def test_job_that_takes_longer_is_started_where_it_goes_on_another_time(
    run: Callable[..., list[AnyEvent]],
) -> None:
    deadline = time.monotonic() + 5.0
    limits = Limits(cores=1, memory=8 * GIB, deadline=deadline, starts_late=True)
    assert _ends(run("done()", limits=limits)) == {"cp311": "Done"}


def test_at_the_deadline_what_runs_is_ended(
    run: Callable[..., list[AnyEvent]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ScheduledJob, "seconds", lambda _self, **_cores: 0.0)
    limits = Limits(cores=2, memory=8 * GIB, deadline=time.monotonic() + 1.5)
    happened = run(SLEEP, "done()", limits=limits)
    assert _ends(happened) == {"cp311": "Cut", "cp312": "Done"}
    assert not _is_sleeping(tmp_path)


def test_job_is_told_where_to_ask_before_it_compiles(run: Callable[..., list[AnyEvent]]) -> None:
    program = "assert os.environ['WHEELYARD_BUDGET'].startswith('/'); done()"
    assert _ends(run(program)) == {"cp311": "Done"}
