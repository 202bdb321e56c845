"""Free space where a path is, or would be."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

from wheelyard.errors import DiskError

if TYPE_CHECKING:
    from pathlib import Path


def free_bytes(path: Path) -> int:
    """Return what this user may still write on the disk that holds, or would hold, ``path``."""
    path = path.absolute()
    existing = next(folder for folder in (path, *path.parents) if folder.exists())
    return shutil.disk_usage(existing).free


def require_space(path: Path, needed: int) -> None:
    """Raise ``DiskError`` where fewer than ``needed`` bytes are free."""
    free = free_bytes(path)
    if free >= needed:
        return
    msg = (
        f"{str(path)!r} has {readable_size(free)} free, and {readable_size(needed)} are needed. "
        "Free some space (wheelyard clean), or take a folder on another disk."
    )
    raise DiskError(msg)


def readable_size(size: int) -> str:
    """For example ``1.5 GB`` (decimal, as disks and downloads are sold)."""
    for unit, factor in (("TB", 10**12), ("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if size >= factor:
            return f"{size / factor:.1f} {unit}"
    return f"{size} bytes"
