from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from wheelyard.errors import DiskError
from wheelyard.network.files import appearing, disk_errors, exclusive, remove_partial

if TYPE_CHECKING:
    from pathlib import Path


def test_file_appears_when_the_block_ends(tmp_path: Path) -> None:
    path = tmp_path / "file"
    with appearing(path) as stream:
        stream.write(b"new")
        stream.flush()
        assert not path.exists()
    assert path.read_bytes() == b"new"
    assert path.stat().st_mode & 0o777 == 0o644


def test_failed_block_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")

    def interrupted() -> None:
        with appearing(path) as stream:
            stream.write(b"new")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert [(entry.name, entry.read_bytes()) for entry in tmp_path.iterdir()] == [("file", b"old")]


def test_what_a_killed_process_left_is_removed(tmp_path: Path) -> None:
    program = (
        "import os, sys, pathlib; from wheelyard.network.files import appearing\n"
        "with appearing(pathlib.Path(sys.argv[1])) as stream:\n"
        "    stream.write(b'half'); stream.flush(); os.kill(os.getpid(), 9)\n"
    )
    command = [sys.executable, "-c", program, str(tmp_path / "file")]
    assert subprocess.run(command, check=False).returncode == -9
    assert [entry.name.startswith(".file.") for entry in tmp_path.iterdir()] == [True]
    remove_partial(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_lock_is_held_against_other_processes_until_a_child_that_has_it_ends(
    tmp_path: Path,
) -> None:
    lock = tmp_path / "lock"
    try_it = (
        "import fcntl, sys; stream = open(sys.argv[1], 'w')\n"
        "fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)"
    )
    command = [sys.executable, "-c", try_it, str(lock)]

    def can_take() -> bool:
        return subprocess.run(command, check=False, capture_output=True).returncode == 0

    with exclusive(lock) as descriptor:
        assert not can_take()
        child = subprocess.Popen(["cat"], stdin=subprocess.PIPE, pass_fds=[descriptor])
    assert not can_take()
    child.communicate()
    assert can_take()


def test_error_of_the_disk_names_the_path(tmp_path: Path) -> None:
    with pytest.raises(DiskError, match="missing/file"), disk_errors(tmp_path):
        (tmp_path / "missing" / "file").write_bytes(b"")
