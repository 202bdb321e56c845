"""Locks between processes that the kernel releases when their holder dies."""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import platform
from typing import TYPE_CHECKING

from wheelyard.files import disk_errors, make_folder

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

logger = logging.getLogger(__name__)


@contextlib.contextmanager
def held(path: Path, *, what: str = "") -> Iterator[int]:
    """Hold the lock file ``path``; say ``what`` is waited for when another process has it.

    Yields the file's descriptor: a child that is given it holds the lock too, so that when this
    process is killed nobody else goes on before the child has ended.
    """
    with disk_errors(path):
        make_folder(path.parent)
        opened = path.open("a+", encoding="utf-8")
    with opened as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            holder = file.read().strip() or "unknown"
            logger.info("waiting for %s: process %s has it", what or path, holder)
            fcntl.flock(file, fcntl.LOCK_EX)
        _sign(file.fileno())
        yield file.fileno()


def this_process() -> str:
    """Name this process for those who wait for it, for example ``4711 on build-box``."""
    return f"{os.getpid()} on {platform.node()}"


def _sign(handle: int) -> None:
    """Say who has the lock, for those who wait; a full disk keeps nobody from freeing it."""
    with contextlib.suppress(OSError):
        os.ftruncate(handle, 0)
        os.pwrite(handle, f"{this_process()}\n".encode(), 0)
