"""Take wheels out of the yard, and sweep out what no wheel of it needs."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from wheelyard.files import PART, disk_errors, sweep_part
from wheelyard.folders import remove_tree
from wheelyard.yard.folder import PROVENANCE, WRITERS
from wheelyard.yard.index import index_without, write_index
from wheelyard.yard.sums import SUMS_NAME

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from pathlib import Path

    from wheelyard.model.index_entry import IndexEntry
    from wheelyard.yard.folder import Yard


_CUT_OFF = "a write that was cut off"


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Litter:
    """A file or folder that goes, and why."""

    path: Path
    why: str


def remove_wheels(yard: Yard, filenames: Collection[str]) -> tuple[Path, ...]:
    """Remove wheels and all that is known of them; return what went.

    The index forgets them first, then their records go, then their files: no page ever names what
    is not there, and what a kill leaves is removed by another call, or by ``prune``.
    """
    found = [path for name in filenames for path in _belongings(yard, name)]
    with index_without(yard, filenames), yard.lock(WRITERS):
        for path in found:
            _remove(path)
    return tuple(found)


def _belongings(yard: Yard, filename: str) -> Iterator[Path]:
    """Yield what there is of a wheel in the order in which it goes.

    Only the record leads to the reports; all that comes after it is known by its name.
    """
    record = yard.record(filename)
    paths = [
        yard.record_path(filename),
        yard.wheel_path(filename),
        yard.metadata_path(filename),
        yard.provenance_path(filename),
        yard.yank_path(filename),
    ]
    if record is not None:
        paths.insert(0, yard.reports_dir(record.sha256))
    yield from (path for path in paths if path.exists())


def superseded(yard: Yard) -> tuple[IndexEntry, ...]:
    """Return the wheels of which the yard has a higher revision."""
    best: dict[str, int] = {}
    entries = list(yard.entries(yard.record_names()))
    for entry in entries:
        best[entry.identifier] = max(entry.revision, best.get(entry.identifier, 0))
    return tuple(entry for entry in entries if entry.revision < best[entry.identifier])


def find_litter(yard: Yard) -> tuple[Litter, ...]:
    """Find what no record speaks of; what the index names stays."""
    entries = list(yard.entries(yard.record_names()))
    kept = {SUMS_NAME}
    for entry in entries:
        kept |= {entry.filename, f"{entry.filename}.metadata", f"{entry.filename}{PROVENANCE}"}
    filenames = {f"{entry.filename}.json" for entry in entries}
    digests = {entry.sha256 for entry in entries}
    found = [
        *_others(yard.wheels_dir, kept, "no record names it"),
        *_others(yard.records_dir, filenames, _CUT_OFF),
        *_others(yard.path / "yanks", filenames, "its wheel is gone"),
        *_others(yard.path / "reports", digests, "its wheel is gone"),
    ]
    return tuple(found)


def prune(yard: Yard) -> tuple[Litter, ...]:
    """Remove what no record speaks of, and bring the index up to date; return what went.

    What was never finished goes first: no page names it, and writing pages needs space.
    """
    with disk_errors(yard.path):
        with yard.lock(WRITERS):
            unfinished = tuple(item for item in find_litter(yard) if item.why == _CUT_OFF)
            _remove_all(unfinished)
        write_index(yard)
        with yard.lock(WRITERS):
            litter = find_litter(yard)
            _remove_all(litter)
    return (*unfinished, *litter)


def _remove_all(litter: Collection[Litter]) -> None:
    for item in litter:
        _remove(item.path)


def _others(folder: Path, kept: Collection[str], why: str) -> Iterator[Litter]:
    if not folder.is_dir():
        return
    for path in sorted(folder.iterdir()):
        if path.name not in kept:
            reason = _CUT_OFF if path.name.startswith(PART) else why
            yield Litter(path=path, why=reason)


def _remove(path: Path) -> None:
    if path.name.startswith(PART) and path.is_file():
        sweep_part(path)
    elif path.is_dir() and not path.is_symlink():
        remove_tree(path)
    else:
        path.unlink(missing_ok=True)
