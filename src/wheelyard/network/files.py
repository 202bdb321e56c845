"""Files that appear whole or not at all, safe between processes and after a kill."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import logging
import os
import tempfile
from typing import IO, TYPE_CHECKING

from wheelyard.errors import DiskError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

logger = logging.getLogger(__name__)

_PARTIAL = ".partial"


@contextlib.contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Say of an operating system's error that it is the disk's, and at which path."""
    try:
        yield
    except OSError as error:
        where = error.filename or path
        msg = f"Cannot read or write {where}: {error.strerror or error}. Check the disk and folder."
        raise DiskError(msg) from error


@contextlib.contextmanager
def exclusive(path: Path) -> Iterator[int]:
    """Hold the lock file ``path``, waiting for another process that does; yield its descriptor.

    A child that is given the descriptor holds the lock too: when this process is killed, nobody
    else goes on before the child has ended.
    """
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            logger.info("Waiting for another process that holds %s", path)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield descriptor
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def appearing(path: Path) -> Iterator[IO[bytes]]:
    """Write a file beside ``path`` that takes its place, on disk, when the block ends well."""
    with tempfile.NamedTemporaryFile(
        dir=path.parent, prefix=f".{path.name}.", suffix=_PARTIAL, delete=False
    ) as stream:
        try:
            yield stream
            stream.flush()
            os.fchmod(stream.fileno(), 0o644)
            os.fsync(stream.fileno())
            os.replace(stream.name, path)  # noqa: PTH105 - the name is a str
        except BaseException:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(stream.name)  # noqa: PTH108 - the name is a str
            raise
    _sync_folder(path.parent)


def remove_partial(folder: Path) -> None:
    """Remove what a killed process left of ``appearing``; call it with the folder's lock held."""
    for path in folder.glob(f".*{_PARTIAL}"):
        path.unlink(missing_ok=True)


def file_sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _sync_folder(folder: Path) -> None:
    """Make a rename in ``folder`` survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
