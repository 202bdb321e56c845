"""Files that are there whole or not at all, even after a crash."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import tempfile
from pathlib import Path
from typing import IO, TYPE_CHECKING

from wheelyard.errors import DiskError

if TYPE_CHECKING:
    from collections.abc import Iterator

PART = ".part-"
"""How the name of a file begins that is being written; its writer holds a lock, and whoever holds
that lock later may sweep it."""

_CHUNK = 1 << 20
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
    with tempfile.NamedTemporaryFile(
        dir=path.parent, prefix=f"{PART}{path.name}.", delete=False
    ) as stream:
        part = Path(stream.name)
        try:
            yield stream
            os.fchmod(stream.fileno(), 0o644)
            _sync(stream)
            if replace:
                part.replace(path)
            else:
                _place(part, path)
        finally:
            part.unlink(missing_ok=True)
    sync_folder(path.parent)


def replace_file(path: Path, content: bytes) -> None:
    """Put ``content`` at ``path``, in the place of what was there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with _part(path) as part:
        with part.open("wb") as stream:
            stream.write(content)
            _sync(stream)
        part.replace(path)
    sync_folder(path.parent)


def create_file(path: Path, content: bytes) -> None:
    """Put ``content`` at ``path``; raise ``FileExistsError`` where there is something already."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with _part(path) as part:
        with part.open("wb") as stream:
            stream.write(content)
            _sync(stream)
        _place(part, path)
    sync_folder(path.parent)


def copy_file(source: Path, path: Path, *, sha256: str) -> bool:
    """Copy ``source`` to ``path``, where nothing may be; leave no file if the digest differs."""
    path.parent.mkdir(parents=True, exist_ok=True)
    digest = hashlib.sha256()
    with _part(path) as part:
        with source.open("rb") as reader, part.open("wb") as writer:
            while chunk := reader.read(_CHUNK):
                digest.update(chunk)
                writer.write(chunk)
            _sync(writer)
        if digest.hexdigest() != sha256:
            return False
        _place(part, path)
    sync_folder(path.parent)
    return True


def sweep_parts(folder: Path) -> None:
    """Remove what a crash left half-written; the caller holds the writers' lock."""
    for part in folder.glob(f"{PART}*"):
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


@contextlib.contextmanager
def _part(path: Path) -> Iterator[Path]:
    part = path.with_name(f"{PART}{path.name}")
    try:
        yield part
    finally:
        part.unlink(missing_ok=True)


def _place(part: Path, path: Path) -> None:
    """Give ``part`` its name without ever taking the place of another file."""
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
