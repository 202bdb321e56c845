"""The command that builds what is missing: what it takes, and what it has to say."""

from __future__ import annotations

import os
import platform
from typing import TYPE_CHECKING

import pytest

from wheelyard.cli.filling import parse_duration
from wheelyard.cli.screen import tell_in_words
from wheelyard.errors import UsageError
from wheelyard.scheduling import events

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from subprocess import CompletedProcess

    from wheelyard.yard.store import StoredWheel

    Run = Callable[..., CompletedProcess[str]]


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90m", 5400), ("1h30m", 5400), ("45s", 45), ("2h", 7200), ("1h0m5s", 3605), ("5min", 300)],
)
def test_duration_is_read(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "soon", "90", "1.5h", "-5m", "5m1h"])
def test_other_durations_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match=r"is not a duration\. Write it as in 90m"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("words", "code", "expected"),
    [
        pytest.param(["--jobs", "0"], 2, "--jobs 0 builds nothing", id="jobs"),
        pytest.param(["--limit", "0"], 2, "--limit 0 builds nothing", id="limit"),
        pytest.param(["--memory", "-1"], 2, "--memory -1.0 is not an amount", id="memory"),
        pytest.param(["--deadline", "x"], 2, "--deadline 'x' is not a duration", id="deadline"),
        pytest.param(["nothing-*"], 4, "No job matches 'nothing-*'", id="select"),
    ],
)
def test_wrong_word_is_told_before_anything_is_built(
    wheelyard: Run, probe_farm: Path, words: list[str], code: int, expected: str
) -> None:
    done = wheelyard("fill", *words, "--farm", probe_farm)
    assert (done.returncode, expected in done.stderr) == (code, True), done.stderr


def test_jobs_for_other_machines_and_what_is_there_are_not_built(
    wheelyard: Run, probe_farm: Path, store_probe: Callable[..., StoredWheel]
) -> None:
    machine = platform.machine()
    store_probe(machine=machine)
    done = wheelyard("fill", "probe-1.1-cp312-torch2.11.0-*", "--farm", probe_farm)
    assert done.returncode == 0
    assert "1 jobs (1 existing); building 0" in done.stderr
    assert not (probe_farm / "yard" / "logs" / "fills").exists()


def test_compile_that_finds_no_room_is_told_before_it_starts(
    wheelyard: Run, probe_farm: Path
) -> None:
    words = ("fill", "probe-1.1-cp312-torch2.11.0-*", "--farm", probe_farm, "--deadline", "0s")
    tight = wheelyard(*words, "--memory", "1")
    assert "a compile of probe takes up to" in tight.stderr
    assert "of 1.0: it may be killed" in tight.stderr
    assert "it may be killed" not in wheelyard(*words, "--memory", "64").stderr


def test_jobs_without_lock_are_named_with_what_to_do(wheelyard: Run, probe_farm: Path) -> None:
    for path in probe_farm.glob("locks/build/*"):
        path.unlink()
    done = wheelyard("fill", "--farm", probe_farm)
    assert done.returncode == 0
    assert "have no lock, for example:" in done.stderr
    assert "Run `wheelyard update build probe-1.1`" in done.stderr


def test_only_what_ends_stays_on_a_terminal() -> None:
    done = events.Done(
        time=1.0,
        job="a",
        filename="a.whl",
        sha256="",
        made=True,
        seconds=61.0,
        cache_hits=0,
        cache_misses=0,
    )
    assert tell_in_words(done) == "done    a (61 s)"
    assert tell_in_words(events.Step(time=1.0, job="a", done=1, total=2)) == ""


@pytest.mark.parametrize(
    ("words", "code", "expected"),
    [
        pytest.param([], 2, "Name a recipe, or a job with --job ID", id="nothing"),
        pytest.param(["--job", "x"], 4, "'x' is not the identifier of a job", id="name"),
        pytest.param(["probe", "--job", "x"], 2, "leave out RECIPE", id="both"),
        pytest.param(
            ["--job", "{job}", "--python", "3.12"], 2, "leave out --python", id="cell-too"
        ),
        pytest.param(["--job", "{job}", "--lineinfo"], 2, "leave out --lineinfo", id="trait"),
        pytest.param(["--job", "{job}-env"], 2, "name its interpreter with --env", id="env"),
        pytest.param(["--job", "{job}", "--env", "/x"], 2, "leave out --env", id="not-env"),
        pytest.param(["--job", "{job}", "--events", "977"], 2, "not an open descriptor", id="fd"),
    ],
)
def test_job_is_named_once_and_rightly(
    wheelyard: Run, probe_farm: Path, words: list[str], code: int, expected: str
) -> None:
    job = f"probe-1.1-cp312-torch2.11.0-cu130-{platform.machine()}"
    given = [word.replace("{job}", job) for word in words]
    done = wheelyard("build", *given, "--farm", probe_farm)
    assert (done.returncode, expected in done.stderr) == (code, True), done.stderr


def test_failure_of_a_build_is_an_event_too(
    wheelyard: Run, probe_farm: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    job = f"probe-1.1-cp312-torch2.11.0-cu130-{platform.machine()}"
    descriptor = os.open(tmp_path / "events.jsonl", os.O_WRONLY | os.O_CREAT)
    words = ("build", "--job", job, "--events", str(descriptor))
    done = wheelyard(*words, "--farm", probe_farm)
    *_, last = events.read_events(tmp_path / "events.jsonl")
    assert isinstance(last, events.Failed)
    assert (last.job, last.exit_code, last.stage) == (job, done.returncode, "toolchain")
    assert "No C++ compiler" in last.message
