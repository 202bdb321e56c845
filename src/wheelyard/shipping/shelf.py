"""Where published wheels lie: beside their index in an object store, or as release assets."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Final, Protocol

from wheelyard.errors import TargetError
from wheelyard.machine.disk import readable_size
from wheelyard.model.index_entry import parsed_version
from wheelyard.network.github_releases import MOST_ASSETS, TOO_LARGE
from wheelyard.network.object_store import ObjectHeaders

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from wheelyard.model.index_entry import IndexEntry
    from wheelyard.network.github_releases import Asset, GithubReleases, Release
    from wheelyard.network.object_store import ObjectStore
    from wheelyard.shipping.parcel import Parcel

WHEELS: Final = "wheels/"
FOREVER: Final = ObjectHeaders(cache_control="public, max-age=31536000, immutable")
"""A name is used once, so whoever has a file need not ask again."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Shelved:
    """A file that is there, whole."""

    size: int
    sha256: str = ""
    """Empty where asking for it costs something."""
    url: str = ""
    """Quoted; empty for beside the index."""


class Shelf(Protocol):
    """Where wheels are put. Every method raises ``TargetError`` or ``DiskError`` when it cannot."""

    name: str

    def look(self, entries: Iterable[IndexEntry]) -> Mapping[str, Shelved]:
        """Return what is there by filename, at least of these wheels."""

    def refusals(self, parcel: Parcel) -> Iterator[str]:
        """Yield why a parcel cannot be put here, whatever is there."""

    def put(self, parcel: Parcel) -> tuple[int, str]:
        """Bring what is missing of a parcel; return how many files, and the wheel's URL."""

    def read(self, name: str) -> bytes | None:
        """Return the content of a small file, if it is there."""


class StoreShelf:
    """Wheels beside their index."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store
        self.name = store.name

    def look(self, entries: Iterable[IndexEntry]) -> Mapping[str, Shelved]:  # noqa: ARG002 - all are listed
        return {
            found.key.removeprefix(WHEELS): Shelved(size=found.size, sha256=found.sha256)
            for found in self._store.objects(WHEELS)
        }

    def refusals(self, parcel: Parcel) -> Iterator[str]:  # noqa: ARG002 - it takes everything
        return iter(())

    def put(self, parcel: Parcel) -> tuple[int, str]:
        brought = sum(
            self._store.put(f"{WHEELS}{file.name}", file.path, sha256=file.sha256, headers=FOREVER)
            for file in parcel.files
        )
        return brought, ""

    def read(self, name: str) -> bytes | None:
        return self._store.read(f"{WHEELS}{name}")


class ReleaseShelf:
    """Wheels as assets of releases: one release for each recipe version, or several if full."""

    def __init__(self, github: GithubReleases) -> None:
        self._github = github
        self.name = f"releases of {github.repository}"
        self._releases: dict[str, Release] | None = None
        self._assets: dict[str, dict[str, Asset]] = {}
        """By tag, then by name."""

    def look(self, entries: Iterable[IndexEntry]) -> Mapping[str, Shelved]:
        wanted = {tag_of(entry) for entry in entries}
        found: dict[str, Shelved] = {}
        for tag in self._all_releases():
            if _first_part(tag) in wanted:
                found |= {
                    asset.name: Shelved(size=asset.size, sha256=asset.sha256, url=asset.url)
                    for asset in self._assets_of(tag).values()
                    if asset.is_whole
                }
        return found

    def refusals(self, parcel: Parcel) -> Iterator[str]:
        for file in parcel.files:
            if file.size >= TOO_LARGE:
                yield (
                    f"{file.name} has {readable_size(file.size)}, and a release asset has to be "
                    "smaller than 2 GiB. Build it for fewer GPUs (--gpu-archs), or publish "
                    "without --wheels to a folder or s3://BUCKET/PREFIX, where wheels of any "
                    "size lie beside the index."
                )

    def put(self, parcel: Parcel) -> tuple[int, str]:
        tag = self._tag_for(parcel)
        release = self._release(tag, parcel.entry)
        assets = self._assets_of(tag)
        brought = 0
        for file in parcel.files:
            known = assets.get(file.name)
            if known is not None and known.is_whole:
                self._require_same(known, sha256=file.sha256)
                continue
            if known is not None:
                self._github.delete(known)
            assets[file.name] = self._github.upload(
                release, file.path, name=file.name, sha256=file.sha256
            )
            brought += 1
        return brought, assets[parcel.entry.filename].url

    def _require_same(self, asset: Asset, *, sha256: str) -> None:
        there = self._github.digest(asset)
        if there != sha256:
            msg = (
                f"{asset.name} is in the {self.name} with other bytes: sha256 {there}, here "
                f"{sha256}. A name is used once: raise `revision` of its recipe and build it again."
            )
            raise TargetError(msg)

    def read(self, name: str) -> bytes | None:
        for assets in self._assets.values():
            if name in assets and assets[name].is_whole:
                return self._github.read(assets[name])
        return None

    def _tag_for(self, parcel: Parcel) -> str:
        """Return where the parcel lies already in part, or else where there is room for it."""
        first = tag_of(parcel.entry)
        names = {file.name for file in parcel.files}
        number = 1
        free = ""
        while (tag := _part(first, number)) in self._all_releases():
            assets = self._assets_of(tag)
            if names & assets.keys():
                return tag
            if not free and len(assets) + len(names) <= MOST_ASSETS:
                free = tag
            number += 1
        return free or tag

    def _release(self, tag: str, entry: IndexEntry) -> Release:
        releases = self._all_releases()
        if tag not in releases:
            title = f"{entry.name} {parsed_version(entry.version).public}"
            text = "Wheels for several Pythons and torch builds; install them from the index."
            releases[tag] = self._github.create(tag, title=title, text=text)
        return releases[tag]

    def _all_releases(self) -> dict[str, Release]:
        if self._releases is None:
            self._releases = self._github.releases()
        return self._releases

    def _assets_of(self, tag: str) -> dict[str, Asset]:
        if tag not in self._assets:
            release = self._all_releases()[tag]
            self._assets[tag] = {asset.name: asset for asset in self._github.assets(release)}
        return self._assets[tag]


_PART: Final = "-part"


def tag_of(entry: IndexEntry) -> str:
    """Return the tag of the release of a recipe version, for example ``causal-conv1d-1.7.0``."""
    return f"{entry.name}-{parsed_version(entry.version).public}"


def _part(tag: str, number: int) -> str:
    return tag if number == 1 else f"{tag}{_PART}{number}"


def _first_part(tag: str) -> str:
    first, mark, number = tag.rpartition(_PART)
    return first if mark and number.isdigit() else tag
