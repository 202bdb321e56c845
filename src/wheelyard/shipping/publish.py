"""Publish wheels of a yard: the wheels first, the index last, so that it names what is there.

Whatever is cut off anywhere, running it again completes it: everything is looked at before it is
brought, and nothing is ever replaced but pages.
"""

from __future__ import annotations

import dataclasses
import fnmatch
import logging
from typing import TYPE_CHECKING

import msgspec

from wheelyard.errors import TargetError, UnknownNameError
from wheelyard.model.index_entry import IndexEntry, read_entry
from wheelyard.shipping.parcel import Parcel, make_parcel, record_name
from wheelyard.shipping.site import (
    STATE_NAME,
    Site,
    bring_pages,
    reaches,
    read_site,
    site_pages,
    site_sums,
    stale_pages,
    with_folders,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from wheelyard.model.record import TestLevel
    from wheelyard.network.object_store import ObjectStore
    from wheelyard.shipping.shelf import Shelf, Shelved
    from wheelyard.yard.folder import Yard

logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Wishes:
    """What the user wants to have published."""

    select: str = "*"
    """A pattern over identifiers."""
    level: TestLevel | None = None
    """What the index asks for; as before, where it is not given."""
    unsandboxed: bool = False
    """Also wheels that were built without a sandbox."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Skipped:
    """A wheel that is not published, and why."""

    identifier: str
    reason: str


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class PublishPlan:
    """What publishing will do."""

    site: Site
    """As the index is now."""
    level: TestLevel
    bring: tuple[Parcel, ...]
    """Wheels of which something is missing there."""
    there: tuple[Parcel, ...]
    skipped: tuple[Skipped, ...]
    lost: tuple[str, ...]
    """Wheels that the index names and that are gone there; it forgets them."""
    found: tuple[IndexEntry, ...]
    """Wheels that lie there and that no index names: another publishing was cut off."""

    @property
    def size(self) -> int:
        return sum(parcel.size for parcel in self.bring)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Published:
    """What publishing came to."""

    files: int
    wheels: int
    """In the index now."""
    pages_written: int


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Publisher:
    """Where it goes: the index into a store, wheels onto a shelf."""

    store: ObjectStore
    shelf: Shelf
    extra_pages: Callable[[Site], Mapping[str, bytes]]
    """Pages beside the index, made from what is published."""

    def plan(self, yard: Yard, wishes: Wishes) -> PublishPlan:
        """Look at both sides; raise before anything is brought where something cannot be."""
        site = read_site(self.store) or Site()
        level = wishes.level or site.level
        parcels, skipped = choose(yard, wishes, level=level)
        known = {entry.filename: entry for entry in site.entries}
        there = self.shelf.look((*site.entries, *(parcel.entry for parcel in parcels)))
        problems = [text for parcel in parcels for text in self._problems(parcel, there)]
        if problems:
            raise TargetError("\n".join(problems))
        missing = [parcel for parcel in parcels if _is_missing(parcel, known, there)]
        return PublishPlan(
            site=site,
            level=level,
            bring=tuple(missing),
            there=tuple(parcel for parcel in parcels if parcel not in missing),
            skipped=skipped,
            lost=tuple(name for name, entry in known.items() if not _is_there(entry, there)),
            found=tuple(self._found(known, there, parcels, level)),
        )

    def _problems(self, parcel: Parcel, there: Mapping[str, Shelved]) -> Iterable[str]:
        yield from self.shelf.refusals(parcel)
        for file in parcel.files:
            known = there.get(file.name)
            if known is None:
                continue
            if known.size != file.size or known.sha256 not in {"", file.sha256}:
                yield (
                    f"{file.name} is in {self.shelf.name} with other bytes "
                    f"({known.sha256 or f'{known.size} bytes'}, here {file.sha256}). A name is "
                    "used once: raise `revision` of its recipe and build it again."
                )

    def _found(
        self,
        known: Mapping[str, IndexEntry],
        there: Mapping[str, Shelved],
        parcels: Iterable[Parcel],
        level: TestLevel,
    ) -> Iterable[IndexEntry]:
        ours = {parcel.entry.filename for parcel in parcels}
        for name in there:
            filename = name.removesuffix(".json")
            if filename == name or not filename.endswith(".whl") or filename in {*known, *ours}:
                continue
            text = self.shelf.read(name)
            if text is None:
                continue
            entry = read_entry(text, origin=f"{self.shelf.name}/{name}")
            # its own publishing asked for this level before it brought the record
            url = there[filename].url if filename in there else ""
            entry = msgspec.structs.replace(entry, level=level, url=url)
            if entry.filename == filename and _is_there(entry, there):
                yield entry

    def publish(self, plan: PublishPlan, *, say: Callable[[str], object]) -> Published:
        """Bring wheels, then what the index is made from, then its pages."""
        entries = {entry.filename: entry for entry in plan.site.entries}
        for filename in plan.lost:
            logger.warning("%s is gone in %s: the index forgets it", filename, self.shelf.name)
            entries.pop(filename)
        entries |= {entry.filename: entry for entry in plan.found}
        files = 0
        for number, parcel in enumerate(plan.bring, start=1):
            say(f"{number} of {len(plan.bring)}: {parcel.entry.filename}")
            brought, url = self.shelf.put(parcel)
            files += brought
            entry = msgspec.structs.replace(parcel.entry, url=url)
            entries[entry.filename] = _merged(entries.get(entry.filename), entry)
        for parcel in plan.there:
            before = entries[parcel.entry.filename]
            entry = msgspec.structs.replace(parcel.entry, url=before.url)
            entries[entry.filename] = _merged(before, entry)
        site = Site(level=plan.level, entries=tuple(entries.values()))
        return Published(files=files, wheels=len(site.shown), pages_written=self.write(site))

    def write(self, site: Site) -> int:
        """Bring the index up to date; return how many pages were written."""
        pages = with_folders(site_pages(site), self.store)
        there = {found.key: found for found in self.store.objects()}
        state = {STATE_NAME: site.to_json(), **site_sums(site)}
        bring_pages(self.store, state, there=there)
        gone = stale_pages(there, pages)
        written = bring_pages(self.store, pages, there=there)
        written += bring_pages(self.store, self.extra_pages(site), there=there)
        for key in gone:
            self.store.remove(key)
        return written

    def yank(self, wheel: str, *, reason: str | None) -> IndexEntry:
        """Mark a published wheel as yanked, or with no reason take the mark away."""
        site = read_site(self.store)
        entries = () if site is None else site.entries
        found = [entry for entry in entries if wheel in {entry.filename, entry.identifier}]
        if site is None or not found:
            msg = f"{self.store.name} has no wheel {wheel!r}. Name its filename or identifier."
            raise UnknownNameError(msg)
        newest = max(found, key=lambda entry: entry.order)
        changed = msgspec.structs.replace(newest, yanked=reason)
        others = tuple(entry for entry in entries if entry.filename != newest.filename)
        self.write(msgspec.structs.replace(site, entries=(*others, changed)))
        return changed


def choose(
    yard: Yard, wishes: Wishes, *, level: TestLevel
) -> tuple[tuple[Parcel, ...], tuple[Skipped, ...]]:
    """Choose what is published of a yard."""
    parcels, skipped = [], []
    for entry in yard.entries(yard.record_names()):
        if not fnmatch.fnmatch(entry.identifier, wishes.select):
            continue
        entry = msgspec.structs.replace(entry, level=yard.best_level(entry.sha256))  # noqa: PLW2901
        reason = _reason_against(yard, entry, wishes, level=level)
        if reason:
            skipped.append(Skipped(identifier=entry.identifier, reason=reason))
        else:
            parcels.append(make_parcel(yard, entry))
    return tuple(parcels), tuple(skipped)


def _reason_against(yard: Yard, entry: IndexEntry, wishes: Wishes, *, level: TestLevel) -> str:
    damage = yard.damage(entry)
    if damage is not None:
        return damage
    if not reaches(entry.level, level):
        return f"tested: {entry.level or 'not'}; this index asks for {level}"
    if entry.sandbox == "none" and not wishes.unsandboxed:
        return "built without a sandbox; --unsandboxed publishes it all the same"
    return ""


def _is_missing(
    parcel: Parcel, known: Mapping[str, IndexEntry], there: Mapping[str, Shelved]
) -> bool:
    """Whether anything of a parcel has to be brought, or looked at more closely."""
    entry = known.get(parcel.entry.filename)
    if entry is None or any(file.name not in there for file in parcel.files):
        return True
    digests = entry.sha256, entry.record_sha256, entry.provenance_sha256
    ours = parcel.entry
    return digests != (ours.sha256, ours.record_sha256, ours.provenance_sha256)


def _is_there(entry: IndexEntry, there: Mapping[str, Shelved]) -> bool:
    """Whether a wheel and what an index says of it are there."""
    wheel = there.get(entry.filename)
    names = (f"{entry.filename}.metadata", record_name(entry.filename))
    return wheel is not None and wheel.size == entry.size and all(name in there for name in names)


def _merged(before: IndexEntry | None, entry: IndexEntry) -> IndexEntry:
    """Keep what only the index knows: a mark that was made there, a test that went further."""
    if before is None:
        return entry
    keep: dict[str, object] = {}
    if entry.yanked is None and before.yanked is not None:
        keep["yanked"] = before.yanked
    if entry.level is None or (before.level is not None and reaches(before.level, entry.level)):
        keep["level"] = before.level
    return msgspec.structs.replace(entry, **keep)
