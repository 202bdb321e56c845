"""A published index as the farm's own memory: read whole, or not believed.

What an index does not name is built again. So a project's page counts only if it came whole, is a
page of an index, and still names everything that was seen there before.
"""

from __future__ import annotations

import hashlib
import json
import re
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urljoin

import msgspec
from packaging.utils import NormalizedName, canonicalize_name

from wheelyard.errors import FetchError
from wheelyard.files import replace_file
from wheelyard.model.decode import UNREADABLE
from wheelyard.model.index_page import HTML_NAME, JSON_NAME
from wheelyard.model.published import Published, PublishedWheel, parse_published
from wheelyard.network.failover import RouteError
from wheelyard.network.foreign import shallow
from wheelyard.network.masking import mask_url
from wheelyard.network.reading import NotThereError, read_document

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path

    import requests

    from wheelyard.network.indexes import IndexSettings

T = TypeVar("T")
_LIMIT = 64 * 2**20
_SHA256 = re.compile(r"[0-9a-f]{64}")
_MARK = b'name="pypi:repository-version"'


class IndexReader:
    """Reads one index; ``memory`` is the folder of what was seen there before."""

    def __init__(
        self,
        url: str,
        *,
        session: requests.Session,
        settings: IndexSettings,
        memory: Path,
        trusting: bool = False,
        must_exist: bool = False,
    ) -> None:
        self.url = f"{url.rstrip('/')}/"
        self._session = session
        self._settings = settings
        self._memory = memory / f"{hashlib.sha256(self.url.encode()).hexdigest()[:16]}.json"
        self._trusting = trusting
        self._must_exist = must_exist

    def read(self, names: Iterable[NormalizedName], *, known: Mapping[str, str]) -> Published:
        """Return what the index says of these projects; an index that is none is an error.

        ``known`` has the sha256 of wheels that are here, by filename.
        """
        listed = self._projects()
        seen = _load(self._memory)
        wheels: dict[NormalizedName, tuple[PublishedWheel, ...]] = {}
        unknown: dict[NormalizedName, str] = {}
        for name in sorted(set(names)):
            if self._must_exist and name not in listed:
                wheels[name] = ()  # who only takes what there is has no use for a second opinion
                continue
            try:
                found = self._project(name, is_listed=name in listed)
                self._hold_against(found, seen.get(name, {}), known)
            except FetchError as error:
                unknown[name] = " ".join(str(error).split())[:500]
                continue
            wheels[name] = found
            seen[name] = {wheel.filename: wheel.sha256 for wheel in found}
        self._memory.parent.mkdir(parents=True, exist_ok=True)
        replace_file(self._memory, json.dumps(seen, sort_keys=True).encode() + b"\n")
        return Published(url=mask_url(self.url), wheels=wheels, unknown=unknown)

    def _projects(self) -> frozenset[str]:
        try:
            return self._either("", json_of=_projects_of_json, html_of=_projects_of_html)
        except NotThereError as error:
            if self._trusting and not self._must_exist:
                return frozenset()
            msg = f"There is no index at {mask_url(self.url)}"
            msg += (
                f". The URL of one ends as in .../simple/.\n{error}"
                if self._must_exist
                else ", so nobody knows what exists, and nothing is planned. If nothing was "
                f"published there yet, say so with --trust-index.\n{error}"
            )
            raise FetchError(msg) from error

    def _project(self, name: NormalizedName, *, is_listed: bool) -> tuple[PublishedWheel, ...]:
        base = urljoin(self.url, f"{name}/")
        try:
            files = self._either(
                f"{name}/",
                json_of=lambda text: _files_of_json(text, name=name, base=base),
                html_of=lambda text: _files_of_html(text, name=name, base=base),
            )
        except NotThereError as error:
            if not is_listed:
                return ()
            msg = f"{mask_url(self.url)} lists {name}, but has no page of it"
            raise FetchError(msg) from error
        return tuple(_wheels(files, name=name, page=mask_url(base)))

    def _hold_against(
        self, found: tuple[PublishedWheel, ...], seen: Mapping[str, str], known: Mapping[str, str]
    ) -> None:
        """Refuse a page that lost wheels, or that gives one of ours other bytes."""
        now = {wheel.filename: wheel.sha256 for wheel in found}
        for filename, sha256 in now.items():
            for before in (known.get(filename), seen.get(filename)):
                if before not in {None, sha256}:
                    msg = (
                        f"{mask_url(self.url)} says that {filename} has sha256 {sha256}, it was "
                        f"{before}: a filename is used once, so this page is not believed"
                    )
                    raise FetchError(msg)
        lost = sorted(set(seen) - set(now))
        if lost and not self._trusting:
            msg = (
                f"{mask_url(self.url)} has lost {len(lost)} of {len(seen)} wheels since it was "
                f"last read, for example {lost[0]}. If they were removed on purpose, say so with "
                "--trust-index"
            )
            raise FetchError(msg)

    def _either(
        self, path: str, *, json_of: Callable[[bytes], T], html_of: Callable[[bytes], T]
    ) -> T:
        """Read the page in its JSON form, or where there is none in its HTML form."""
        url = urljoin(self.url, path)
        try:
            return self._document(f"{url}{JSON_NAME}", json_of)
        except NotThereError:
            pass
        try:
            return self._document(url, html_of)
        except NotThereError:
            return self._document(f"{url}{HTML_NAME}", html_of)

    def _document(self, url: str, read: Callable[[bytes], T]) -> T:
        return read_document(
            url, read=read, limit=_LIMIT, session=self._session, settings=self._settings
        )


def _json(text: bytes) -> dict[str, Any]:
    try:
        document = json.loads(text)
    except ValueError as error:
        msg = f"is no JSON, or was cut off: {error}"
        raise RouteError(msg, wrong=True) from error
    meta = document.get("meta") if isinstance(document, dict) else None
    if not isinstance(meta, dict) or not str(meta.get("api-version", "")).startswith("1."):
        msg = "is no page of an index: it has no meta.api-version 1"
        raise RouteError(msg, wrong=True)
    return dict(document)


def _html(text: bytes) -> bytes:
    if _MARK not in text:
        msg = "is no page of an index: it does not name the version of its form"
        raise RouteError(msg, wrong=True)
    if b"</html>" not in text[-64:].lower():
        msg = "was cut off: the page has no end"
        raise RouteError(msg, passes=True)
    return text


def _projects_of_json(text: bytes) -> frozenset[str]:
    try:
        return frozenset(canonicalize_name(one["name"]) for one in _json(text)["projects"])
    except (KeyError, TypeError) as error:
        msg = f"is no list of projects: {error!r}"
        raise RouteError(msg, wrong=True) from error


def _projects_of_html(text: bytes) -> frozenset[str]:
    from pypi_simple import IndexPage, UnsupportedRepoVersionError  # noqa: PLC0415 - takes 0.4 s

    try:
        page = IndexPage.from_html(shallow(_html(text)))
    except UnsupportedRepoVersionError as error:
        raise RouteError(str(error), wrong=True) from error
    return frozenset(map(canonicalize_name, page.projects))


def _files_of_json(
    text: bytes, *, name: NormalizedName, base: str
) -> list[tuple[str, str, str | None]]:
    document = _json(text)
    try:
        files = [
            (_text(one["filename"]), urljoin(base, one["url"]), one["hashes"].get("sha256"))
            for one in document["files"]
        ]
        named, versions = document["name"], set(document.get("versions", ()))
    except (KeyError, TypeError, AttributeError) as error:
        msg = f"is no page of a project: {error!r}"
        raise RouteError(msg, wrong=True) from error
    if canonicalize_name(named) != name:
        msg = f"is the page of {named!r}"
        raise RouteError(msg, wrong=True)
    having = {
        str(wheel.version)
        for filename, url, _ in files
        if (wheel := parse_published(filename, url=url, sha256="")) is not None
    }
    if versions - having:
        msg = f"names version {min(versions - having)} and no file of it: half of it is missing"
        raise RouteError(msg, wrong=True)
    return files


def _text(value: object) -> str:
    if not isinstance(value, str):
        msg = f"{value!r} is no text"
        raise TypeError(msg)
    return value


def _files_of_html(
    text: bytes, *, name: NormalizedName, base: str
) -> list[tuple[str, str, str | None]]:
    from pypi_simple import ProjectPage, UnsupportedRepoVersionError  # noqa: PLC0415 - takes 0.4 s

    try:
        page = ProjectPage.from_html(name, shallow(_html(text)), base_url=base)
    except UnsupportedRepoVersionError as error:
        raise RouteError(str(error), wrong=True) from error
    return [(one.filename, one.url, one.digests.get("sha256")) for one in page.packages]


def _wheels(
    files: Iterable[tuple[str, str, str | None]], *, name: NormalizedName, page: str
) -> Iterable[PublishedWheel]:
    for filename, url, sha256 in files:
        if not isinstance(sha256, str) or _SHA256.fullmatch(sha256) is None:
            msg = f"{page} names {filename!r:.200} without its sha256: such a page is not believed"
            raise FetchError(msg)
        wheel = parse_published(filename, url=mask_url(url), sha256=sha256)
        if wheel is not None and wheel.name == name:
            yield wheel


def _load(path: Path) -> dict[str, dict[str, str]]:
    try:
        return msgspec.json.decode(path.read_bytes(), type=dict[str, dict[str, str]])
    except (OSError, *UNREADABLE):
        return {}
