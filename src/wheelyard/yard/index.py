"""The static index of the yard, made from its records alone."""

from __future__ import annotations

import dataclasses
import logging
from typing import TYPE_CHECKING

from wheelyard.files import disk_errors, replace_file
from wheelyard.model.index_page import index_pages, relative_wheel_url

if TYPE_CHECKING:
    from pathlib import Path

    from wheelyard.yard.folder import Yard

logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class IndexSummary:
    """What writing the index came to."""

    pages_written: int
    pages_total: int
    left_out: tuple[str, ...]
    """Wheels that the index does not name, because their files are damaged or gone."""


def write_index(yard: Yard) -> IndexSummary:
    """Bring the pages up to date with the records; a page that says the same is not touched."""
    with disk_errors(yard.path), yard.lock("index"):
        records = yard.records()
        damage = {record.filename: yard.damage(record) for record in records}
        left_out = tuple(filename for filename, reason in damage.items() if reason is not None)
        for filename in left_out:
            logger.warning("The index leaves out %s: %s", filename, damage[filename])
        whole = [record for record in records if damage[record.filename] is None]
        pages = index_pages(whole, relative_wheel_url)
        # a project's page is there before the list of projects names it
        deepest_first = sorted(pages, key=lambda name: (-name.count("/"), name))
        written = [name for name in deepest_first if _write(yard.index_dir / name, pages[name])]
        _remove_others(yard.index_dir, {yard.index_dir / name for name in pages})
    return IndexSummary(pages_written=len(written), pages_total=len(pages), left_out=left_out)


def _write(path: Path, content: bytes) -> bool:
    try:
        if path.read_bytes() == content:
            return False
    except FileNotFoundError:
        pass
    replace_file(path, content)
    return True


def _remove_others(folder: Path, pages: set[Path]) -> None:
    """Remove pages that no record asks for any more, and what a crash left."""
    kept = {parent for page in pages for parent in page.parents}
    for path in sorted(folder.rglob("*"), reverse=True):
        if path.is_dir():
            if path not in kept:
                path.rmdir()
        elif path not in pages:
            path.unlink()
