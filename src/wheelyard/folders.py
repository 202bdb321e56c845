"""Folders that are made once, whole or not at all, whoever else is making them."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from wheelyard.files import make_folder, sync_folder, sync_tree
from wheelyard.locking import held

if TYPE_CHECKING:
    from collections.abc import Callable

_DEEP = 40


def make_once(folder: Path, fill: Callable[[Path], None], *, what: str) -> Path:
    """Return ``folder``, filled by ``fill`` under another name first if it is not there.

    What a killed process left unfinished beside it is removed.
    """
    if folder.is_dir():
        return folder
    parent = folder.parent
    prefix = f".{folder.name}.new-"
    make_folder(parent)
    with held(parent / f".{folder.name}.lock", what=what):
        if folder.is_dir():
            return folder
        for leftover in parent.glob(f"{prefix}*"):
            remove_tree(leftover)
        unfinished = Path(tempfile.mkdtemp(dir=parent, prefix=prefix))
        try:
            fill(unfinished)
            unfinished.chmod(0o755)
            sync_tree(unfinished)
            unfinished.rename(folder)
            sync_folder(parent)
        except BaseException:
            remove_tree(unfinished)
            raise
    return folder


def remove_tree(folder: Path) -> None:
    """Remove a folder whatever its modes and its depth; builds like to leave read-only files."""
    if folder.is_symlink():
        folder.unlink()
    if not folder.exists():
        return
    folder.chmod(0o700)
    # what lies too deep for a path is moved here first
    shallow = Path(tempfile.mkdtemp(dir=folder, prefix=".removed-"))
    emptied: list[Path] = []
    waiting = [(folder, 0)]
    while waiting:
        current, depth = waiting.pop()
        emptied.append(current)
        with os.scandir(current) as entries:
            found = [entry for entry in entries if entry.path != str(shallow)]
        for entry in found:
            path = Path(entry)
            if not entry.is_dir(follow_symlinks=False):
                path.unlink()
                continue
            path.chmod(0o700)
            if depth < _DEEP:
                waiting.append((path, depth + 1))
            else:
                waiting.append((path.rename(shallow / str(len(emptied) + len(waiting))), 0))
    for path in (*reversed(emptied[1:]), shallow, folder):
        path.rmdir()
