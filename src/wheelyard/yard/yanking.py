"""Yank a wheel: who pins it still gets it, nobody else does (PEP 592)."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING

from wheelyard.files import disk_errors, replace_file
from wheelyard.model.record import Yank
from wheelyard.yard.folder import WRITERS
from wheelyard.yard.index import update_index

if TYPE_CHECKING:
    from wheelyard.yard.folder import Yard


def yank_wheel(yard: Yard, filename: str, *, reason: str) -> None:
    """Mark a wheel as yanked, in the index too."""
    yank = Yank(
        filename=filename,
        reason=reason,
        created=dt.datetime.now(dt.UTC).replace(microsecond=0),
    )
    with disk_errors(yard.path), yard.lock(WRITERS):
        replace_file(yard.yank_path(filename), yank.to_json())
    update_index(yard, (filename,))


def unyank_wheel(yard: Yard, filename: str) -> None:
    """Take the mark away again."""
    with disk_errors(yard.path), yard.lock(WRITERS):
        yard.yank_path(filename).unlink(missing_ok=True)
    update_index(yard, (filename,))
