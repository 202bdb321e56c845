"""Files that are there whole or not at all."""

from __future__ import annotations

import errno
import hashlib
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from wheelyard.errors import DiskError
from wheelyard.files import (
    appearing,
    copy_file,
    create_file,
    disk_errors,
    make_folder,
    replace_file,
    sweep_parts,
)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_replacing_leaves_the_new_content_alone(tmp_path: Path) -> None:
    path = tmp_path / "new" / "page"
    replace_file(path, b"one")
    replace_file(path, b"two")
    assert path.read_bytes() == b"two"
    assert names(path.parent) == ["page"]


def test_creating_never_takes_the_place_of_a_file(tmp_path: Path) -> None:
    path = tmp_path / "record"
    create_file(path, b"one")
    with pytest.raises(FileExistsError):
        create_file(path, b"two")
    assert path.read_bytes() == b"one"
    assert names(tmp_path) == ["record"]


def test_creating_works_where_there_are_no_hard_links(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_self: Path, _target: Path) -> None:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(Path, "hardlink_to", refuse)
    path = tmp_path / "record"
    create_file(path, b"one")
    with pytest.raises(FileExistsError):
        create_file(path, b"two")
    assert path.read_bytes() == b"one"
    assert names(tmp_path) == ["record"]


def test_copy_is_independent_of_its_source(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(b"x" * 3_000_000)
    path = tmp_path / "yard" / "copy"
    assert copy_file(source, path, sha256=hashlib.sha256(b"x" * 3_000_000).hexdigest())
    source.write_bytes(b"changed")
    assert path.read_bytes() == b"x" * 3_000_000


def test_copy_with_another_digest_leaves_nothing(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(b"x")
    assert not copy_file(source, tmp_path / "yard" / "copy", sha256="0" * 64)
    assert names(tmp_path / "yard") == []


def test_sweeping_removes_only_what_was_half_written(tmp_path: Path) -> None:
    (tmp_path / ".part-a").write_bytes(b"half")
    (tmp_path / "a").write_bytes(b"whole")
    sweep_parts(tmp_path)
    sweep_parts(tmp_path / "missing")
    assert names(tmp_path) == ["a"]


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.ENOSPC, "full.*Free some space.*--yard"),
        (errno.EDQUOT, "quota"),
        (errno.EROFS, "read-only.*--yard"),
        (errno.EACCES, "permissions"),
    ],
)
def test_refusal_of_the_disk_says_where_and_what_to_do(
    tmp_path: Path, number: int, words: str
) -> None:
    with pytest.raises(DiskError, match=rf"/yard/wheels/x: .*{words}"), disk_errors(tmp_path):
        raise OSError(number, os.strerror(number), "/yard/wheels/x")
    with pytest.raises(DiskError, match=str(tmp_path)), disk_errors(tmp_path):
        raise OSError(number, os.strerror(number))


def test_other_errors_are_the_disks_too_and_say_their_cause(tmp_path: Path) -> None:
    with pytest.raises(DiskError, match="Not a directory"), disk_errors(tmp_path):
        raise NotADirectoryError(errno.ENOTDIR, "Not a directory")


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
        "import os, sys, pathlib; from wheelyard.files import appearing\n"
        "with appearing(pathlib.Path(sys.argv[1])) as stream:\n"
        "    stream.write(b'half'); stream.flush(); os.kill(os.getpid(), 9)\n"
    )
    command = [sys.executable, "-c", program, str(tmp_path / "file")]
    assert subprocess.run(command, check=False).returncode == -9
    assert [entry.name for entry in tmp_path.iterdir()] == [".part-file"]
    sweep_parts(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_what_somebody_writes_is_not_swept_and_a_second_writer_waits(tmp_path: Path) -> None:
    path = tmp_path / "file"
    with appearing(path) as stream:
        stream.write(b"first")
        second = threading.Thread(target=replace_file, args=(path, b"second"))
        second.start()
        sweep_parts(tmp_path)
        second.join(0.1)
        assert second.is_alive()
    second.join()
    assert [(entry.name, entry.read_bytes()) for entry in tmp_path.iterdir()] == [
        ("file", b"second")
    ]


def test_error_of_the_disk_names_the_path(tmp_path: Path) -> None:
    with pytest.raises(DiskError, match="missing/file"), disk_errors(tmp_path):
        (tmp_path / "missing" / "file").write_bytes(b"")


def test_folder_below_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError):
        make_folder(tmp_path / "file" / "folder")
