"""The process around a command: errors to messages and exit codes."""

from __future__ import annotations

import importlib
import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from wheelyard import __main__ as program
from wheelyard.cli.arguments import make_parser
from wheelyard.errors import BuildError, WheelyardError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from subprocess import CompletedProcess

    Run = Callable[..., CompletedProcess[str]]

WAIT = """
import sys, time
from wheelyard import __main__ as program

def wait(arguments, env):
    print("waiting", flush=True)
    time.sleep(1000)

program._run = wait
sys.exit(program.main(["list"]))
"""


@pytest.mark.parametrize("name", [*program._PLACES])
def test_every_place_of_a_command_is_a_function(name: str) -> None:
    module, function = program._PLACES[name].split(".")
    assert callable(getattr(importlib.import_module(f"wheelyard.cli.{module}"), function))


def test_every_command_has_a_place() -> None:
    action = make_parser()._subparsers._group_actions[0]  # type: ignore[union-attr]
    assert {*(action.choices or ()), "list --yard"} == {*program._PLACES}


def _fail(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    def run(arguments: object, env: object) -> None:
        raise error

    monkeypatch.setattr(program, "_run", run)


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        pytest.param(WheelyardError("it broke"), 1, "wheelyard: it broke\n", id="ours"),
        pytest.param(BuildError("no\nway"), 10, "wheelyard: no\nway\n", id="with-its-own-code"),
        pytest.param(
            OSError(28, "No space left on device", "/yard/x"),
            15,
            "wheelyard: Cannot read or write /yard/x: the disk is full. Free some space, or take "
            "another folder (--yard, WHEELYARD_CACHE).\n",
            id="disk",
        ),
        pytest.param(
            OSError(28, "No space left on device"),
            15,
            "wheelyard: Cannot read or write: the disk is full. Free some space, or take another "
            "folder (--yard, WHEELYARD_CACHE).\n",
            id="disk-nobody-knows-where",
        ),
        pytest.param(
            OSError(5, "Input/output error", "/yard/x"),
            15,
            "wheelyard: Cannot read or write /yard/x: Input/output error. Check the disk and the "
            "folder's owner.\n",
            id="disk-broken",
        ),
        pytest.param(
            KeyboardInterrupt(),
            130,
            "wheelyard: interrupted; run the same command again to go on\n",
            id="interrupted",
        ),
    ],
)
def test_error_becomes_a_message_and_an_exit_code(
    wheelyard: Run, monkeypatch: pytest.MonkeyPatch, error: BaseException, code: int, message: str
) -> None:
    _fail(monkeypatch, error)
    done = wheelyard("list")
    assert (done.returncode, done.stdout, done.stderr) == (code, "", message)


def test_mistake_of_ours_is_not_hidden(wheelyard: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    _fail(monkeypatch, ZeroDivisionError())
    with pytest.raises(ZeroDivisionError):
        wheelyard("list")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_ends_the_command_in_order(number: signal.Signals) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", WAIT], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None
        assert child.stderr is not None
        assert child.stdout.readline() == "waiting\n"
        child.send_signal(number)
        assert (
            child.stderr.read() == "wheelyard: interrupted; run the same command again to go on\n"
        )
        assert child.wait() == 130


def test_reader_that_goes_away_is_no_error(probe_farm: Path) -> None:
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, "-m", "wheelyard", "list", "--farm", str(probe_farm)]
    # with a buffer, as a pipe has one, nothing is written before the end
    env = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    done = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, check=False, env=env)
    os.close(write)
    assert (done.returncode, done.stderr) == (0, b"")


def test_verbose_shows_the_commands_that_are_run(wheelyard: Run, probe_farm: Path) -> None:
    words = ("build", "probe", "--python", "3.9", "--torch", "2.11.0", "--farm", probe_farm)
    assert "\n+ " in f"\n{wheelyard(*words, '--verbose').stderr}"
    assert "\n+ " not in f"\n{wheelyard(*words).stderr}"


def test_text_that_the_locale_cannot_write_is_written_all_the_same(
    write_farm: Callable[..., Path], recipe_text: str
) -> None:
    folder = write_farm(probe=recipe_text.replace("Looks around", "Sieht sich um \u8f6e"))
    command = [sys.executable, "-m", "wheelyard", "list", "--farm", str(folder)]
    env = os.environ | {"PYTHONIOENCODING": "ascii"}
    done = subprocess.run(command, check=False, capture_output=True, env=env)
    assert done.returncode == 0, done.stderr
    assert rb"Sieht sich um \u8f6e" in done.stdout
