"""What is published of one wheel: the wheel, what installers read first, and how it was made."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from wheelyard.yard.folder import PROVENANCE

if TYPE_CHECKING:
    from pathlib import Path

    from wheelyard.model.index_entry import IndexEntry
    from wheelyard.yard.folder import Yard


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class ParcelFile:
    """One file of a parcel, under the name that it is published with."""

    name: str
    path: Path
    sha256: str
    size: int


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Parcel:
    """The files of one wheel, in the order that they are brought: the record makes it count."""

    entry: IndexEntry
    files: tuple[ParcelFile, ...]

    @property
    def size(self) -> int:
        return sum(file.size for file in self.files)


def make_parcel(yard: Yard, entry: IndexEntry) -> Parcel:
    """Gather what belongs to a wheel of the yard."""
    name = entry.filename
    digests = {
        yard.wheel_path(name): (name, entry.sha256),
        yard.metadata_path(name): (f"{name}.metadata", entry.core_metadata_sha256),
    }
    if entry.provenance_sha256 is not None:
        digests[yard.provenance_path(name)] = f"{name}{PROVENANCE}", entry.provenance_sha256
    digests[yard.record_path(name)] = record_name(name), entry.record_sha256
    return Parcel(
        entry=entry,
        files=tuple(
            ParcelFile(name=published, path=path, sha256=sha256, size=path.stat().st_size)
            for path, (published, sha256) in digests.items()
        ),
    )


def record_name(filename: str) -> str:
    """Return how the record of a wheel is published, beside it."""
    return f"{filename}.json"
