"""The static index of the yard, made from its records alone."""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import logging
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

import msgspec

from wheelyard.files import disk_errors, replace_file
from wheelyard.model.decode import UNREADABLE
from wheelyard.model.index_page import (
    HTML_NAME,
    Urls,
    project_pages,
    root_pages,
    root_path,
)
from wheelyard.yard.folder import PROVENANCE
from wheelyard.yard.sums import SUMS_NAME, change_sums

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping
    from pathlib import Path

    from wheelyard.model.index_entry import IndexEntry
    from wheelyard.yard.folder import Yard

logger = logging.getLogger(__name__)

INDEX_FORMAT: Final = 2
"""Raised when pages come to say something else of the same records."""
STATE_NAME: Final = "state.json"
PAGE_NAME: Final = "index.html"
"""The coverage page, at the top of the index beside its folders."""


class IndexState(msgspec.Struct, frozen=True, kw_only=True):
    """What the pages were made from: how many records of each distribution, by their filenames."""

    format: int = INDEX_FORMAT
    records: dict[str, int] = {}


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class IndexSummary:
    """What writing the index came to."""

    pages_written: int
    pages_total: int
    """Those that were looked at; all of them, unless only some projects were updated."""
    left_out: tuple[str, ...]
    """Wheels that the index does not name, because their files are damaged or gone."""


def write_index(yard: Yard) -> IndexSummary:
    """Bring all pages up to date with the records; a page that says the same is not touched."""
    with disk_errors(yard.path), yard.lock("index"):
        names = yard.record_names()
        return _Writing(yard, names, _count(names)).write(projects=None)


def update_index(yard: Yard, filenames: Collection[str]) -> IndexSummary:
    """Bring up to date what names these wheels, and what an update before left behind.

    A project whose number of records is not the one that its pages were made from was changed by
    somebody who was cut off.
    """
    with disk_errors(yard.path), yard.lock("index"):
        return _update(yard, yard.record_names(), filenames)


@contextlib.contextmanager
def index_without(yard: Yard, filenames: Collection[str]) -> Iterator[None]:
    """Let no page name these wheels while the block takes them away."""
    with disk_errors(yard.path), yard.lock("index"):
        names = [name for name in yard.record_names() if name not in set(filenames)]
        _update(yard, names, filenames)
        yield


def _update(yard: Yard, names: list[str], filenames: Collection[str]) -> IndexSummary:
    now = _count(names)
    state = _read_state(yard.index_dir / STATE_NAME)
    if state is None:
        return _Writing(yard, names, now).write(projects=None)
    changed = {name for name in {*now, *state.records} if now[name] != state.records.get(name)}
    projects = {_distribution(filename) for filename in filenames} | changed
    return _Writing(yard, names, now).write(projects=projects)


class _Writing:
    """One bringing up to date of all pages, or of those of some projects."""

    def __init__(self, yard: Yard, names: list[str], counts: Mapping[str, int]) -> None:
        self._yard = yard
        self._names = names
        self._counts = counts
        self._folder = yard.index_dir
        self._written = 0
        self._total = 0

    def write(self, *, projects: Collection[str] | None) -> IndexSummary:
        """Write pages of projects before the lists that name them, and remove pages after that."""
        entries, left_out = self._read(projects)
        pages = project_pages(entries, yard_urls)
        change_sums(
            self._yard.wheels_dir / SUMS_NAME,
            {entry.filename: entry.sha256 for entry in entries},
            stays=None if projects is None else lambda name: _distribution(name) not in projects,
        )
        self._write_all(pages)
        roots = self._roots(pages, projects)
        for root, names in roots.items():
            if names:
                self._write_all(root_pages(root, names))
        self._remove(pages, roots, projects)
        state = IndexState(records=dict(self._counts))
        text = msgspec.json.encode(state, order="sorted") + b"\n"
        _replace_if_other(self._folder / STATE_NAME, text)
        return IndexSummary(pages_written=self._written, pages_total=self._total, left_out=left_out)

    def _read(self, projects: Collection[str] | None) -> tuple[list[IndexEntry], tuple[str, ...]]:
        names = [
            name for name in self._names if projects is None or _distribution(name) in projects
        ]
        whole, left_out = [], []
        for entry in self._yard.entries(names):
            reason = self._yard.damage(entry)
            if reason is None:
                whole.append(entry)
                continue
            logger.warning("The index leaves out %s: %s", entry.filename, reason)
            left_out.append(entry.filename)
        return whole, tuple(left_out)

    def _write_all(self, pages: Mapping[str, bytes]) -> None:
        for path, content in pages.items():
            self._total += 1
            self._written += _replace_if_other(self._folder / path, content)

    def _roots(
        self, pages: Mapping[str, bytes], projects: Collection[str] | None
    ) -> dict[str, set[str]]:
        """Return what each index lists: what has pages now, and what was not looked at."""
        listed: dict[str, set[str]] = {}
        for path in pages:
            root, name, _ = path.rsplit("/", 2)
            listed.setdefault(root, set()).add(name)
        if projects is None:
            return listed
        for folder in _index_folders(self._folder):
            root = folder.relative_to(self._folder).as_posix()
            there = {page.parent.name for page in folder.glob(f"*/{HTML_NAME}")}
            others = {name for name in there if name.replace("-", "_") not in projects}
            # of an index that lost its last project a kill may have left the lists
            if there != others or root in listed or not there:
                listed[root] = others | listed.get(root, set())
        return listed

    def _remove(
        self,
        pages: Mapping[str, bytes],
        roots: Mapping[str, set[str]],
        projects: Collection[str] | None,
    ) -> None:
        """Remove pages that no record asks for any more, and what a crash left."""
        if projects is None:
            lists = {page for root in roots for page in root_pages(root, ())}
            wanted = {self._folder / name for name in (*pages, *lists, STATE_NAME, PAGE_NAME)}
            _remove_others(self._folder, wanted)
            return
        for root, names in roots.items():
            folder = self._folder / root
            for project in [path for path in folder.iterdir() if path.is_dir()]:
                if project.name not in names:
                    _remove_others(project, set())
                    project.rmdir()
            if not names:
                _remove_others(folder, set())
                folder.rmdir()
                if folder.parent != self._folder:
                    folder.parent.rmdir()


def yard_urls(entry: IndexEntry, depth: int) -> Urls:
    """Return the URLs in the yard that the index is part of, ``+`` as ``%2B``."""
    up = "../" * (depth + 1)
    name = quote(entry.filename)
    signed = entry.provenance_sha256 is not None
    return Urls(
        wheel=f"{up}wheels/{name}",
        record=f"{up}records/{name}.json",
        provenance=f"{up}wheels/{name}{PROVENANCE}" if signed else "",
    )


def _read_state(path: Path) -> IndexState | None:
    """Return what the pages were made from, unless that was another format or is unknown."""
    try:
        state = msgspec.json.decode(path.read_bytes(), type=IndexState)
    except (FileNotFoundError, *UNREADABLE):
        return None
    return state if state.format == INDEX_FORMAT else None


def _count(names: Iterable[str]) -> collections.Counter[str]:
    return collections.Counter(_distribution(name) for name in names)


def _distribution(filename: str) -> str:
    """Return the first part of a wheel's filename, for example ``causal_conv1d``."""
    return filename.partition("-")[0].lower()


def _index_folders(folder: Path) -> Iterable[Path]:
    for root in (root_path(""), root_path("*")):
        yield from folder.glob(root)


def _replace_if_other(path: Path, content: bytes) -> bool:
    try:
        if path.read_bytes() == content:
            return False
    except FileNotFoundError:
        pass
    replace_file(path, content)
    return True


def _remove_others(folder: Path, pages: set[Path]) -> None:
    """Remove everything below a folder but these files and the folders that hold them."""
    kept = {parent for page in pages for parent in page.parents}
    for path in sorted(folder.rglob("*"), reverse=True):
        if path.is_dir():
            if path not in kept:
                path.rmdir()
        elif path not in pages:
            path.unlink()
