"""Locks between processes: one holder, and none after its death."""

from __future__ import annotations

import fcntl
import logging
import os
import platform
import signal
import subprocess
import sys
import threading
from typing import TYPE_CHECKING

import pytest

from wheelyard.errors import DiskError
from wheelyard.locking import held

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

HOLD = """
import pathlib, sys, time
from wheelyard.locking import held
with held(pathlib.Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def _is_free(path: Path) -> bool:
    with path.open("a", encoding="ascii") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True


@pytest.fixture
def holder(tmp_path: Path) -> Callable[[Path], subprocess.Popen[str]]:
    """Return a function that lets another process hold a lock until its stdin ends."""

    def start(path: Path) -> subprocess.Popen[str]:
        child = subprocess.Popen(
            [sys.executable, "-c", HOLD, str(path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert child.stdout is not None
        assert child.stdout.readline() == "held\n"
        return child

    return start


def test_lock_is_held_in_the_block_and_free_after_it(tmp_path: Path) -> None:
    path = tmp_path / "locks" / "job.lock"
    with held(path):
        assert not _is_free(path)
        assert path.read_text(encoding="ascii") == f"{os.getpid()} on {platform.node()}\n"
    assert _is_free(path)


def test_lock_is_free_after_a_failure(tmp_path: Path) -> None:
    with pytest.raises(KeyError), held(tmp_path / "lock"):
        raise KeyError
    assert _is_free(tmp_path / "lock")


def test_who_waits_is_told_for_what_and_for_whom(
    tmp_path: Path,
    holder: Callable[[Path], subprocess.Popen[str]],
    caplog: pytest.LogCaptureFixture,
) -> None:
    path = tmp_path / "lock"
    with holder(path) as child, caplog.at_level(logging.INFO, logger="wheelyard.locking"):
        stdin = child.stdin
        assert stdin is not None
        waiting = threading.Event()

        class Tell(logging.Handler):
            def emit(self, record: logging.LogRecord) -> None:
                waiting.set()

        handler = Tell()
        logging.getLogger("wheelyard.locking").addHandler(handler)
        release = threading.Thread(target=lambda: waiting.wait(20) and stdin.close())
        release.start()
        with held(path, what="the toolkit"):
            # it was released only because the message came first
            assert waiting.is_set()
            assert path.read_text(encoding="ascii") == f"{os.getpid()} on {platform.node()}\n"
        release.join()
        logging.getLogger("wheelyard.locking").removeHandler(handler)
    assert (
        f"waiting for the toolkit: process {child.pid} on {platform.node()} has it" in caplog.text
    )


def test_death_of_the_holder_frees_the_lock(
    tmp_path: Path, holder: Callable[[Path], subprocess.Popen[str]]
) -> None:
    path = tmp_path / "lock"
    with holder(path) as child:
        assert not _is_free(path)
        child.send_signal(signal.SIGKILL)
        child.wait()
        assert _is_free(path)


def test_child_that_is_given_the_lock_holds_it_too(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with held(path) as descriptor:
        child = subprocess.Popen(["sleep", "1000"], pass_fds=[descriptor])
    assert not _is_free(path)
    child.kill()
    child.wait()
    assert _is_free(path)


def test_folder_that_cannot_be_made_is_a_disk_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DiskError), held(tmp_path / "file" / "lock"):
        pass
