"""A published index: what it was made from, its pages, and how they are brought there."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

import msgspec

from wheelyard.errors import TargetError
from wheelyard.model.decode import UNREADABLE
from wheelyard.model.index_entry import IndexEntry  # noqa: TC001 - msgspec reads it
from wheelyard.model.index_page import HTML_NAME, JSON_NAME, Urls, index_pages
from wheelyard.model.record import TestLevel
from wheelyard.network.object_store import ObjectHeaders
from wheelyard.shipping.parcel import record_name
from wheelyard.yard.folder import PROVENANCE
from wheelyard.yard.sums import SUMS_NAME, format_sums

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from wheelyard.network.object_store import ObjectStore, StoredObject

SITE_FORMAT: Final = 1
STATE_NAME: Final = "wheelyard.json"
"""At the top of a published index: what pages are made from, wheels that are elsewhere too."""
SUMS_ELSEWHERE: Final = f"{SUMS_NAME}-releases"
_CHANGING: Final = "no-cache"
_TYPES: Final = {
    JSON_NAME: "application/vnd.pypi.simple.v1+json",
    STATE_NAME: "application/json",
    SUMS_NAME: "text/plain; charset=utf-8",
    SUMS_ELSEWHERE: "text/plain; charset=utf-8",
}
_HTML: Final = "text/html; charset=utf-8"


class Site(msgspec.Struct, frozen=True, kw_only=True):
    """What a published index is made from."""

    format: int = SITE_FORMAT
    level: TestLevel = TestLevel.imported
    """The level of test that the index asks for."""
    entries: tuple[IndexEntry, ...] = ()

    @property
    def shown(self) -> tuple[IndexEntry, ...]:
        """The wheels that were tested as far as the index asks for."""
        return tuple(entry for entry in self.entries if reaches(entry.level, self.level))

    def to_json(self) -> bytes:
        entries = tuple(sorted(self.entries, key=lambda entry: entry.filename))
        return msgspec.json.encode(msgspec.structs.replace(self, entries=entries)) + b"\n"


def reaches(level: TestLevel | None, wanted: TestLevel) -> bool:
    """Whether a wheel was tested so far, or further."""
    levels = list(TestLevel)
    return level is not None and levels.index(level) >= levels.index(wanted)


def read_site(store: ObjectStore) -> Site | None:
    """Read what the index there is made from, if there is one."""
    text = store.read(STATE_NAME)
    if text is None:
        return None
    try:
        site = msgspec.json.decode(text, type=Site)
    except UNREADABLE as error:
        msg = f"{STATE_NAME} in {store.name} cannot be read: {error}. Restore it, or publish anew."
        raise TargetError(msg) from error
    if site.format != SITE_FORMAT:
        msg = (
            f"{store.name} has format {site.format}, this wheelyard knows {SITE_FORMAT}. "
            "Upgrade wheelyard to publish there."
        )
        raise TargetError(msg)
    return site


def site_pages(site: Site) -> dict[str, bytes]:
    """Return every page of the index by its key, pages of projects before lists of them."""
    pages = index_pages(site.shown, locate, level=site.level)
    return {name: pages[name] for name in sorted(pages, key=lambda name: (-name.count("/"), name))}


def site_sums(site: Site) -> dict[str, bytes]:
    """Return the digests of all wheels: of those beside the index, and of those elsewhere."""
    beside = {entry.filename: entry.sha256 for entry in site.entries if not entry.url}
    elsewhere = {entry.filename: entry.sha256 for entry in site.entries if entry.url}
    files = {f"wheels/{SUMS_NAME}": format_sums(beside), SUMS_ELSEWHERE: format_sums(elsewhere)}
    return {key: text for key, text in files.items() if text}


def locate(entry: IndexEntry, depth: int) -> Urls:
    """Return the URLs of a published wheel: elsewhere, or beside its index."""
    url = entry.url or f"{'../' * depth}wheels/{quote(entry.filename)}"
    return Urls(
        wheel=url,
        record=record_name(url),
        provenance=f"{url}{PROVENANCE}" if entry.provenance_sha256 is not None else "",
    )


def bring_pages(
    store: ObjectStore, pages: Mapping[str, bytes], *, there: Mapping[str, StoredObject]
) -> int:
    """Write the pages that say something else now, in their order; return how many."""
    written = 0
    for key, content in pages.items():
        if is_same(store, there.get(key), content):
            continue
        store.write(key, content, headers=headers_of(key))
        written += 1
    return written


def is_same(store: ObjectStore, known: StoredObject | None, content: bytes) -> bool:
    """Whether an object has this content, as cheaply as can be told."""
    if known is None or known.size != len(content):
        return False
    if known.md5:
        return known.md5 == hashlib.md5(content, usedforsecurity=False).hexdigest()
    return store.read(known.key) == content


def with_folders(pages: Mapping[str, bytes], store: ObjectStore) -> dict[str, bytes]:
    """Add an object for each folder's URL where nobody serves ``index.html`` for it."""
    if not store.keys_end_in_slashes:
        return dict(pages)
    both: dict[str, bytes] = {}
    for key, content in pages.items():
        both[key] = content
        if key.endswith(f"/{HTML_NAME}"):
            both[key.removesuffix(HTML_NAME)] = content
    return both


def stale_pages(keys: Iterable[str], pages: Mapping[str, bytes]) -> tuple[str, ...]:
    """Return pages of the index that are there and that nothing is made for any more."""
    return tuple(
        key
        for key in keys
        if key not in pages
        and (key.startswith("simple/") or "/simple/" in key)
        and (key.endswith(("/", f"/{HTML_NAME}", f"/{JSON_NAME}")))
    )


def headers_of(key: str) -> ObjectHeaders:
    """Return what a page is served with."""
    name = key.rpartition("/")[2]
    plain = _TYPES[SUMS_NAME] if name.endswith(".log") else _HTML
    return ObjectHeaders(content_type=_TYPES.get(name, plain), cache_control=_CHANGING)
