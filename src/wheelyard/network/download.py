"""Downloads of pinned files: found on an index, checked while written, visible only when right."""

from __future__ import annotations

import dataclasses
import functools
import logging
from typing import TYPE_CHECKING, NoReturn
from urllib.parse import unquote, urlsplit

from wheelyard.errors import FetchError, IntegrityError
from wheelyard.files import disk_errors
from wheelyard.network.failover import AllFailedError, RouteError
from wheelyard.network.masking import mask_url
from wheelyard.network.project_page import list_files, local_path
from wheelyard.network.routes import Route, server_of
from wheelyard.progress import QUIET

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from pathlib import Path

    import requests
    from pypi_simple import DistributionPackage, ProjectPage

    from wheelyard.model.source import SdistSource, UrlSource
    from wheelyard.network.indexes import IndexSettings
    from wheelyard.network.partial import Partial, Wanted
    from wheelyard.network.transfer import FileWay
    from wheelyard.progress import Transfers

logger = logging.getLogger(__name__)

_LARGEST_PAGE = 64 << 20
_NOT_FOUND = 404


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class _Candidate:
    """A file of the wanted name, with the digest that its page states, if any."""

    url: str
    sha256: str | None = None


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class _Place:
    """A place that may have the file: an index, a page or a folder with links."""

    url: str
    find: Callable[[], _Candidate | None]

    @property
    def is_local(self) -> bool:
        return urlsplit(self.url).scheme in {"", "file"}


def download_sdist(
    source: SdistSource,
    *,
    destination: Path,
    settings: IndexSettings,
    env: Mapping[str, str],
    transfers: Transfers = QUIET,
) -> None:
    """Bring the pinned file to ``destination`` from the first place that has the right bytes."""
    # Imported here: requests and pypi-simple take 0.4 s, and a hit in the cache needs neither.
    from wheelyard.network.session import open_session  # noqa: PLC0415

    with open_session(settings, env) as session:
        ways = [
            way
            for place in _places(source, settings=settings, session=session)
            for way in _place_ways(place, source, settings=settings, session=session)
        ]
        try:
            _bring(source, ways, destination=destination, settings=settings, transfers=transfers)
        except AllFailedError as error:
            raise _not_had(source, error, destination=destination, settings=settings) from error


def download_url(
    source: UrlSource,
    *,
    destination: Path,
    settings: IndexSettings,
    env: Mapping[str, str],
    transfers: Transfers = QUIET,
) -> None:
    """Bring the pinned file at a URL to ``destination``, through proxies and mirrors of its host.

    A file that the user put into a folder of `find_links` comes first.
    """
    from wheelyard.network.session import open_session  # noqa: PLC0415

    with open_session(settings, env) as session:
        ways = [
            _file_way((folder / source.filename).as_uri(), session=session, settings=settings)
            for folder in filter(None, map(local_path, settings.find_links))
            if (folder / source.filename).is_file()
        ]
        is_asked = not settings.offline or local_path(source.url) is not None
        ways += _url_ways(source.url, session=session, settings=settings) if is_asked else []
        try:
            _bring(source, ways, destination=destination, settings=settings, transfers=transfers)
        except AllFailedError as error:
            raise _not_had(source, error, destination=destination, settings=settings) from error


def download_known(
    url: str,
    wanted: Wanted,
    *,
    destination: Path,
    settings: IndexSettings,
    env: Mapping[str, str],
    transfers: Transfers = QUIET,
) -> None:
    """Bring a file whose digest is known from wherever its URL leads, proxies and mirrors too.

    Raises ``IntegrityError`` where something else came, and ``FetchError`` where nothing did.
    """
    from wheelyard.network.session import open_session  # noqa: PLC0415
    from wheelyard.network.transfer import download  # noqa: PLC0415

    with disk_errors(destination):
        destination.parent.mkdir(parents=True, exist_ok=True)
    with open_session(settings, env) as session:
        ways = list(_url_ways(url, session=session, settings=settings))
        try:
            download(
                wanted,
                ways,
                destination=destination,
                settings=settings.network,
                transfers=transfers,
            )
        except AllFailedError as error:
            if error.wrong:
                msg = (
                    f"{wanted.name} is not the file that was asked for:\n"
                    f"  expected: sha256 {wanted.sha256}\n{error}\n"
                    "Nothing of it was kept. Either it was replaced upstream, or something in "
                    "between changed it, or the digest is of another file."
                )
                raise IntegrityError(msg) from error
            msg = (
                f"{wanted.name} cannot be had. Asked:\n{error}\nLook whether the release has "
                "this file; `wheelyard doctor network` measures the mirrors."
            )
            raise FetchError(msg) from error


def _bring(
    source: SdistSource | UrlSource,
    ways: list[FileWay],
    *,
    destination: Path,
    settings: IndexSettings,
    transfers: Transfers,
) -> None:
    from wheelyard.network.partial import Wanted  # noqa: PLC0415
    from wheelyard.network.transfer import download  # noqa: PLC0415

    with disk_errors(destination):
        destination.parent.mkdir(parents=True, exist_ok=True)
    tried = download(
        Wanted(name=source.filename, sha256=source.sha256, size=source.size),
        ways,
        destination=destination,
        settings=settings.network,
        transfers=transfers,
    )
    for one in tried:
        logger.debug("%s: tried before:%s", source.filename, one)


def _place_ways(
    place: _Place, source: SdistSource, *, settings: IndexSettings, session: requests.Session
) -> Iterator[FileWay]:
    """Yield the ways to the file that one place opens: several where it names the file itself."""
    from wheelyard.network.transfer import FileWay  # noqa: PLC0415

    if settings.offline and not place.is_local:
        yield FileWay(name=place.url, server="", open=_refuse_offline)
        return
    if _last_part(place.url) == source.filename:
        yield from _url_ways(place.url, session=session, settings=settings)
        return
    finder = _Finder(place, source, patience=4 * settings.network.stall_timeout)

    def open_file(partial: Partial) -> requests.Response:
        return _open_any(finder.candidate(), partial, session=session, settings=settings)

    yield FileWay(name=place.url, server=server_of(place.url), open=open_file)


class _Finder:
    """Looks for the file at a place until the place has answered once."""

    def __init__(self, place: _Place, source: SdistSource, *, patience: float) -> None:
        self._place = place
        self._patience = patience
        self._source = source
        self._found: _Candidate | None = None

    def candidate(self) -> str:
        from wheelyard.network.asking import within  # noqa: PLC0415

        if self._found is None:
            self._found = within(self._patience, self._place.find, discard=lambda _found: None)
        if self._found is None:
            msg = "has no such file"
            raise RouteError(msg)
        if self._found.sha256 not in {None, self._source.sha256}:
            msg = f"has another file under this name: sha256 {self._found.sha256} (as listed)"
            raise RouteError(msg, wrong=True)
        logger.info("Fetching %s from %s", self._source.filename, mask_url(self._found.url))
        return self._found.url


def _url_ways(url: str, *, session: requests.Session, settings: IndexSettings) -> Iterator[FileWay]:
    from wheelyard.network.transfer import FileWay  # noqa: PLC0415

    if local_path(url) is not None:
        yield _file_way(url, session=session, settings=settings)
        return
    for route in settings.network.routes(url):
        opener = functools.partial(_open_route, route, session=session, settings=settings)
        yield FileWay(name=route.url, server=route.server, open=opener)


def _file_way(url: str, *, session: requests.Session, settings: IndexSettings) -> FileWay:
    from wheelyard.network.transfer import FileWay  # noqa: PLC0415

    opener = functools.partial(_open_any, url, session=session, settings=settings)
    return FileWay(name=url, server="", open=opener)


def _open_any(
    url: str, partial: Partial, *, session: requests.Session, settings: IndexSettings
) -> requests.Response:
    """Open a file that an index or a folder names, which may lie here or on GitHub too."""
    from wheelyard.network.asking import open_local  # noqa: PLC0415

    path = local_path(url)
    if path is not None:
        return open_local(path)
    *others, last = settings.network.routes(url)
    for route in others:
        try:
            return _open_route(route, partial, session=session, settings=settings)
        except RouteError as error:
            logger.info("%s: %s", mask_url(route.url), error.reason)
    try:
        return _open_route(last, partial, session=session, settings=settings)
    except RouteError as error:
        error.reason = f"{mask_url(last.url)} {error.reason}"
        raise


def _open_route(
    route: Route, partial: Partial, *, session: requests.Session, settings: IndexSettings
) -> requests.Response:
    from wheelyard.network.asking import ask  # noqa: PLC0415
    from wheelyard.network.transfer import IDENTITY  # noqa: PLC0415

    headers = IDENTITY | partial.headers_for(route.url)
    return ask(session, route, settings=settings.network, headers=headers)


def _refuse_offline(_partial: Partial) -> NoReturn:
    msg = "not asked (offline)"
    raise RouteError(msg)


def _places(
    source: SdistSource, *, settings: IndexSettings, session: requests.Session
) -> Iterator[_Place]:
    """Yield every place that the settings name."""
    for link in settings.find_links:
        look = functools.partial(_find_in_links, link, source, session=session, settings=settings)
        yield _Place(url=link, find=look)
    for url in settings.index_urls:
        look = functools.partial(_find_on_index, url, source, session=session, settings=settings)
        yield _Place(url=url, find=look)


def _find_in_links(
    link: str, source: SdistSource, *, session: requests.Session, settings: IndexSettings
) -> _Candidate | None:
    """Look into a folder, or at a page with links."""
    path = local_path(link)
    if path is not None and path.is_dir():
        file = path / source.filename
        return _Candidate(url=file.as_uri()) if file.is_file() else None
    if path is not None:
        return _find_on_local_page(link, source, session)
    page = _read_page(link, source, session=session, settings=settings)
    return _choose(page.packages, source)


def _find_on_index(
    index_url: str, source: SdistSource, *, session: requests.Session, settings: IndexSettings
) -> _Candidate | None:
    if local_path(index_url) is not None:
        return _find_on_local_page(index_url, source, session)
    url = f"{index_url.rstrip('/')}/{source.name}/"
    try:
        page = _read_page(url, source, session=session, settings=settings)
    except RouteError as error:
        if error.status == _NOT_FOUND:
            return None
        error.reason = f"no project page ({error.reason})"
        error.wrong = False  # nothing pins a page
        raise
    found = _choose(page.packages, source)
    if found is None:
        msg = f"has no such file on its page of {len(page.packages)} files"
        raise RouteError(msg)
    return found


def _find_on_local_page(
    place: str, source: SdistSource, session: requests.Session
) -> _Candidate | None:
    """Read an index that lies in a folder, as pip and uv do: ``<folder>/<name>/index.html``."""
    try:
        files = list_files(place, source.name, session=session)
    except FetchError as error:
        raise RouteError(str(error)) from error
    return None if files is None else _choose(files, source)


def _choose(packages: Iterable[DistributionPackage], source: SdistSource) -> _Candidate | None:
    """Take the file with the pinned digest, or else one whose digest cannot be told."""
    named = [
        _Candidate(url=package.url, sha256=package.digests.get("sha256"))
        for package in packages
        if source.filename in {package.filename, _last_part(package.url)}
    ]
    order = (source.sha256, None)
    named.sort(key=lambda found: order.index(found.sha256) if found.sha256 in order else 2)
    return next(iter(named), None)


def _read_page(
    url: str, source: SdistSource, *, session: requests.Session, settings: IndexSettings
) -> ProjectPage:
    """Read a page with links, in whichever form the server has it."""
    from pypi_simple import (  # noqa: PLC0415
        ACCEPT_ANY,
        ProjectPage,
        UnsupportedContentTypeError,
        UnsupportedRepoVersionError,
    )

    from wheelyard.network.asking import read_small  # noqa: PLC0415

    route = Route(url=url, original=url)
    answer = read_small(
        session,
        route,
        settings=settings.network,
        limit=_LARGEST_PAGE,
        headers={"Accept": ACCEPT_ANY},
    )
    if b"<html" in answer.content[:512].lower() and b"</html>" not in answer.content[-512:].lower():
        msg = "was cut off: the page has no end"
        raise RouteError(msg, passes=True)
    try:
        return ProjectPage.from_response(answer, source.name)
    except (UnsupportedContentTypeError, UnsupportedRepoVersionError, ValueError) as error:
        msg = f"is no page of an index: {str(error) or type(error).__name__}"
        raise RouteError(msg, wrong=True) from error


def _last_part(url: str) -> str:
    return unquote(urlsplit(url).path).rpartition("/")[2]


def _not_had(
    source: SdistSource | UrlSource,
    failed: AllFailedError,
    *,
    destination: Path,
    settings: IndexSettings,
) -> FetchError | IntegrityError:
    """Say what was asked and why each answer was none, as one error."""
    asked = str(failed) or "  nothing: the settings name no place that may be asked"
    pinned = f"sha256 {source.sha256} ({source.size} bytes)"
    if failed.wrong:
        msg = (
            f"What came under the name {source.filename} is not the file that the recipe pins:\n"
            f"  expected: {pinned}\n{asked}\n"
            "Nothing of it was kept. A mirror or proxy in between may have changed it: try "
            "another one. If the project itself replaced the file, look at the difference and "
            "pin the new digest in the recipe."
        )
        return IntegrityError(msg)
    remedy = (
        "wheelyard is offline (UV_OFFLINE, or `offline` in uv.toml or config.toml)."
        if settings.offline
        else "`wheelyard doctor network` measures the mirrors; docs/network.md says how to name "
        "others."
    )
    msg = (
        f"{source.filename} was not found. Asked:\n{asked}\n{remedy}\n"
        f"Or put the file (sha256 {source.sha256}, {source.size} bytes) to {destination} "
        "or into a folder that PIP_FIND_LINKS names."
    )
    return FetchError(msg)
