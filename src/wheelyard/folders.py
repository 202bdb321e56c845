"""Folders that are made once, whole or not at all, whoever else is making them."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from wheelyard.files import make_folder, sync_folder, sync_tree
from wheelyard.locking import held

if TYPE_CHECKING:
    from collections.abc import Callable


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
    """Remove a folder whatever its modes; builds like to leave read-only files."""
    if not folder.exists() and not folder.is_symlink():
        return
    for path in folder.rglob("*"):
        if path.is_dir() and not path.is_symlink():
            path.chmod(0o700)
    shutil.rmtree(folder)
