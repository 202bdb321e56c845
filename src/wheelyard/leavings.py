"""What a command of the sandbox left in a folder that it could write to, read without trust.

A name there may be a link to a file of the user, a pipe that nobody writes to, a device without
an end: whatever it is, it must not be followed or waited for.
"""

from __future__ import annotations

import contextlib
import os
import stat
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from wheelyard.errors import IntegrityError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from io import BufferedReader
    from pathlib import Path

TEXT_LIMIT = 64 << 20
"""Above what any report or list of a command holds."""

_DEEPEST = 40
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class LeavingError(IntegrityError):
    """A command left something else than the plain file that was looked for."""


@contextlib.contextmanager
def opened(folder: Path, name: str, *, limit: int = TEXT_LIMIT) -> Iterator[BufferedReader]:
    """Open the plain file ``name``, a relative path below ``folder``, of ``limit`` bytes at most.

    ``folder`` itself is ours. ``FileNotFoundError`` means that there is nothing of that name.
    """
    path = folder / name
    try:
        with _parent(folder, name) as parent:
            handle = os.open(PurePosixPath(name).name, _FILE, dir_fd=parent)
    except FileNotFoundError:
        raise
    except OSError as error:  # a link, a file for a folder, a socket, too many levels of links
        raise _refused(path, "no plain file") from error
    try:
        status = os.fstat(handle)
        if not stat.S_ISREG(status.st_mode):
            raise _refused(path, "no plain file")
        if status.st_size > limit:
            raise _refused(path, f"{status.st_size} bytes long, more than {limit}")
        with os.fdopen(handle, "rb", closefd=False) as stream:
            yield stream
    finally:
        os.close(handle)


def read_left(folder: Path, name: str, *, limit: int = TEXT_LIMIT) -> bytes:
    """Return the content of such a file."""
    with opened(folder, name, limit=limit) as stream:
        return stream.read(limit)


def put(part: Path, folder: Path, name: str) -> None:
    """Rename ``part``, on the same disk, to ``name`` below ``folder``; no link is followed."""
    path = folder / name
    try:
        with _parent(folder, name, make=True) as parent:
            os.rename(part, PurePosixPath(name).name, dst_dir_fd=parent)
    except NotADirectoryError as error:
        raise _refused(path, "not in a plain folder") from error


def list_left(folder: Path, name: str) -> list[str]:
    """Return the sorted names in the folder ``name`` below ``folder``."""
    try:
        with _parent(folder, f"{name}/any") as handle:
            return sorted(os.listdir(handle))  # noqa: PTH208 - no path, but the folder itself
    except NotADirectoryError as error:
        raise _refused(folder / name, "no plain folder") from error


def find_left(folder: Path, suffix: str) -> list[Path]:
    """Return the plain files below ``folder`` whose names end so, as deep as anybody means them."""
    found: list[Path] = []
    waiting = [(os.fspath(folder), 0)] if folder.is_dir() else []
    while waiting:
        current, depth = waiting.pop()
        with os.scandir(current) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    waiting += [(entry.path, depth + 1)] if depth < _DEEPEST else []
                elif entry.name.endswith(suffix) and entry.is_file(follow_symlinks=False):
                    found.append(folder / os.path.relpath(entry.path, folder))
    return sorted(found)


@contextlib.contextmanager
def _parent(folder: Path, name: str, *, make: bool = False) -> Iterator[int]:
    """Open the folder that ``name`` lies in, step by step from ``folder`` down."""
    parts = PurePosixPath(name).parts
    if not parts or PurePosixPath(name).is_absolute() or ".." in parts or "\0" in name:
        raise _refused(folder / name, "outside its folder")
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for part in parts[:-1]:
            if make:
                with contextlib.suppress(FileExistsError):
                    os.mkdir(part, dir_fd=handle)
            below = os.open(part, _FOLDER, dir_fd=handle)
            os.close(handle)
            handle = below
        yield handle
    finally:
        os.close(handle)


def _refused(path: Path, what: str) -> LeavingError:
    msg = (
        f"{str(path)!r}, left by a command of the sandbox, is {what}. Nothing of what that "
        "command made is used: look at its source and its log before you run it again."
    )
    return LeavingError(msg)
