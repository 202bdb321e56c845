"""Files that are there whole or not at all, even after a crash."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import hashlib
import os
from typing import IO, TYPE_CHECKING

from wheelyard.errors import DiskError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PART = ".part-"
"""How the name of a file begins that is being written. Its writer holds a lock on it, so that a
second one waits, and takes over what a killed one left."""

_CHUNK = 1 << 20
_HERE = -100  # AT_FDCWD
_RENAME_NOREPLACE = 1
_NO_EXCLUSIVE_RENAME = frozenset({errno.EINVAL, errno.ENOSYS, errno.ENOTSUP})
"""What a file system says that knows no such rename; NFS for example."""
_NO_LINKS = frozenset({errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK})
_ELSEWHERE = "or take another folder (--yard, WHEELYARD_CACHE)"
_NOT_ALLOWED = f"you may not write there. Change its permissions, {_ELSEWHERE}"
_REASONS = {
    errno.ENOSPC: f"the disk is full. Free some space, {_ELSEWHERE}",
    errno.EDQUOT: f"your disk quota is used up. Free some space, {_ELSEWHERE}",
    errno.EROFS: f"the file system is read-only. Make it writable, {_ELSEWHERE}",
    errno.EACCES: _NOT_ALLOWED,
    errno.EPERM: _NOT_ALLOWED,
}


@contextlib.contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Say what to do where the disk refuses to read or keep something below ``path``."""
    try:
        yield
    except OSError as error:
        raise DiskError(describe_disk_error(error, path)) from error


def describe_disk_error(error: OSError, path: Path | None = None) -> str:
    """Say what the disk refused, and what to do; ``path`` is where, if the error does not say."""
    cause = str(error.strerror or error)
    reason = _REASONS.get(error.errno or 0, f"{cause}. Check the disk and the folder's owner")
    where = error.filename or path
    return f"Cannot read or write{f' {where}' if where else ''}: {reason}."


@contextlib.contextmanager
def appearing(path: Path, *, replace: bool = True) -> Iterator[IO[bytes]]:
    """Write a file beside ``path`` that takes its place, on disk, when the block ends well.

    Without ``replace`` another file that is there then raises ``FileExistsError``.
    """
    make_folder(path.parent)
    part = path.with_name(f"{PART}{path.name}")
    with _written_alone(part) as stream:
        try:
            yield stream
            os.fchmod(stream.fileno(), 0o644)
            _sync(stream)
            if replace:
                part.replace(path)
            else:
                _place(part, path)
        finally:
            if _is_at(stream, part):
                part.unlink()
    sync_folder(path.parent)


def replace_file(path: Path, content: bytes) -> None:
    """Put ``content`` at ``path``, in the place of what was there."""
    with appearing(path) as stream:
        stream.write(content)


def create_file(path: Path, content: bytes) -> None:
    """Put ``content`` at ``path``; raise ``FileExistsError`` where there is something already."""
    with appearing(path, replace=False) as stream:
        stream.write(content)


def copy_file(source: Path, path: Path, *, sha256: str) -> bool:
    """Copy ``source`` to ``path``, where nothing may be; leave no file if the digest differs."""
    digest = hashlib.sha256()
    try:
        with source.open("rb") as reader, appearing(path, replace=False) as writer:
            while chunk := reader.read(_CHUNK):
                digest.update(chunk)
                writer.write(chunk)
            _require(digest.hexdigest() == sha256)
    except _OtherBytesError:
        return False
    return True


class _OtherBytesError(Exception):
    """Ends a copy that may not appear."""


def _require(is_same: bool) -> None:  # noqa: FBT001
    if not is_same:
        raise _OtherBytesError


def make_folder(folder: Path) -> None:
    """Make a folder and those above it that are missing, durably."""
    missing = []
    while not folder.is_dir():
        missing.append(folder)
        folder = folder.parent
    for path in reversed(missing):
        try:
            path.mkdir(exist_ok=True)  # whoever else makes it meanwhile
        except FileExistsError:
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(path)) from None
        sync_folder(path.parent)


def sweep_parts(folder: Path) -> None:
    """Remove what a crash left half-written."""
    for part in folder.glob(f"{PART}*"):
        sweep_part(part)


def sweep_part(part: Path) -> None:
    """Remove a file that is half-written, unless somebody is writing it now."""
    with contextlib.suppress(BlockingIOError, FileNotFoundError), part.open("rb") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if _is_at(stream, part):
            part.unlink()


def file_sha256(path: Path) -> str:
    """Digest a file without holding it in memory."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def sync_folder(folder: Path) -> None:
    """Make the names in ``folder`` durable."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sync_tree(folder: Path) -> None:
    """Make all that lies below ``folder`` durable: its name may not outlive its content."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        # one call for the whole file system: a tree may have fifty thousand files
        if ctypes.CDLL(None, use_errno=True).syncfs(handle) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), str(folder))
    finally:
        os.close(handle)


@contextlib.contextmanager
def _written_alone(part: Path) -> Iterator[IO[bytes]]:
    """Open a file, emptied, that nobody else writes meanwhile; a killed writer's lock is gone."""
    while True:
        handle = os.open(part, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        with open(handle, "r+b") as stream:  # noqa: PTH123 - a descriptor
            fcntl.flock(stream, fcntl.LOCK_EX)
            if not _is_at(stream, part):
                continue  # it was finished while this process waited
            stream.truncate(0)
            yield stream
            return


def _is_at(stream: IO[bytes], path: Path) -> bool:
    """Whether the open file is the one that has this name."""
    try:
        return os.path.samestat(os.fstat(stream.fileno()), path.lstat())
    except FileNotFoundError:
        return False


def _place(part: Path, path: Path) -> None:
    """Give ``part`` its name without ever taking the place of another file."""
    try:
        _rename_to_free_name(part, path)
    except OSError as error:
        if error.errno not in _NO_EXCLUSIVE_RENAME:
            raise
        _link(part, path)


def _rename_to_free_name(part: Path, path: Path) -> None:
    """Rename at once: of two links a kill in between would leave one too many."""
    arguments = (_HERE, os.fsencode(part), _HERE, os.fsencode(path), _RENAME_NOREPLACE)
    if ctypes.CDLL(None, use_errno=True).renameat2(*arguments) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), str(path))


def _link(part: Path, path: Path) -> None:
    try:
        path.hardlink_to(part)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        if path.exists():
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path)) from None
        part.replace(path)


def _sync(stream: IO[bytes]) -> None:
    stream.flush()
    os.fsync(stream.fileno())
