"""Downloads of pinned files: found on an index, checked while written, visible only when right."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import logging
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit
from urllib.request import url2pathname

from wheelyard.errors import FetchError, IntegrityError
from wheelyard.files import appearing, disk_errors
from wheelyard.network.children import mask_url

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    import requests
    from pypi_simple import DistributionPackage

    from wheelyard.model.source import SdistSource
    from wheelyard.network.indexes import IndexSettings

logger = logging.getLogger(__name__)

_CHUNK = 1 << 18


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


class _PlaceError(Exception):
    """A place could not be asked, or not to the end; the next one may do."""


def download_sdist(
    source: SdistSource,
    *,
    destination: Path,
    settings: IndexSettings,
    env: Mapping[str, str],
) -> None:
    """Bring the pinned file to ``destination`` from the first place that has the right bytes."""
    # Imported here: requests and pypi-simple take 0.4 s, and a hit in the cache needs neither.
    from wheelyard.network.session import open_session  # noqa: PLC0415

    answers: list[str] = []
    wrong: list[IntegrityError] = []
    with disk_errors(destination):
        destination.parent.mkdir(parents=True, exist_ok=True)
    with open_session(settings, env) as session:
        for place in _places(source, settings=settings, session=session):
            try:
                answer = _try_place(
                    place, source, destination=destination, settings=settings, session=session
                )
            except IntegrityError as error:
                answer = "another file under this name"
                wrong.append(error)
            except _PlaceError as error:
                answer = mask_url(str(error))
            if answer is None:
                return
            answers.append(f"  {mask_url(place.url)}: {answer}")
    if wrong:
        raise wrong[0]
    raise _not_found(source, answers, destination=destination, settings=settings)


def _try_place(
    place: _Place,
    source: SdistSource,
    *,
    destination: Path,
    settings: IndexSettings,
    session: requests.Session,
) -> str | None:
    """Take the file from one place, or say in words why it is not to be had there."""
    if settings.offline and not place.is_local:
        return "not asked (offline)"
    candidate = place.find()
    if candidate is None:
        return "has no such file"
    if candidate.sha256 not in {None, source.sha256}:
        raise _wrong_file(source, candidate.url, found=f"sha256 {candidate.sha256} (as listed)")
    logger.info("Fetching %s from %s", source.filename, mask_url(candidate.url))
    _receive(source, candidate.url, destination=destination, session=session)
    return None


def _places(
    source: SdistSource, *, settings: IndexSettings, session: requests.Session
) -> Iterator[_Place]:
    """Yield every place that the settings name."""
    for link in settings.find_links:
        yield _Place(url=link, find=functools.partial(_find_in_links, link, source, session))
    for url in settings.index_urls:
        yield _Place(url=url, find=functools.partial(_find_on_index, url, source, session))


def _find_in_links(link: str, source: SdistSource, session: requests.Session) -> _Candidate | None:
    """Look into a folder, or at a page with links, or at a link to the file itself."""
    if _last_part(link) == source.filename:
        return _Candidate(url=link)
    path = _local_path(link)
    if path is not None and path.is_dir():
        file = path / source.filename
        return _Candidate(url=file.as_uri()) if file.is_file() else None
    if path is not None:
        return _find_on_local_page(path, source)
    from pypi_simple import ProjectPage  # noqa: PLC0415

    page = ProjectPage.from_html(source.name, _ask(session, link).content, base_url=link)
    return _choose(page.packages, source)


def _find_on_index(
    index_url: str, source: SdistSource, session: requests.Session
) -> _Candidate | None:
    path = _local_path(index_url)
    if path is not None:
        return _find_on_local_page(path / source.name / "index.html", source)
    from pypi_simple import (  # noqa: PLC0415
        NoSuchProjectError,
        PyPISimple,
        UnsupportedRepoVersionError,
    )
    from requests import RequestException  # noqa: PLC0415

    from wheelyard.network.session import TIMEOUT  # noqa: PLC0415

    try:
        page = PyPISimple(index_url, session=session).get_project_page(source.name, timeout=TIMEOUT)
    except NoSuchProjectError:
        return None
    except (RequestException, UnsupportedRepoVersionError, ValueError) as error:
        msg = f"no project page ({_reason(error)})"
        raise _PlaceError(msg) from error
    return _choose(page.packages, source)


def _find_on_local_page(path: Path, source: SdistSource) -> _Candidate | None:
    """Read an index that lies in a folder, as pip and uv do: ``<folder>/<name>/index.html``."""
    if not path.is_file():
        return None
    from pypi_simple import ProjectPage  # noqa: PLC0415

    page = ProjectPage.from_html(source.name, path.read_bytes(), base_url=path.as_uri())
    return _choose(page.packages, source)


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


def _receive(
    source: SdistSource, url: str, *, destination: Path, session: requests.Session
) -> None:
    path = _local_path(url)
    if path is None:
        _download(source, url, destination=destination, session=session)
        return
    if not path.is_file():
        msg = f"{path} does not exist"
        raise _PlaceError(msg)
    with disk_errors(path), path.open("rb") as stream:
        _keep(source, iter(lambda: stream.read(_CHUNK), b""), url=url, destination=destination)


def _download(
    source: SdistSource, url: str, *, destination: Path, session: requests.Session
) -> None:
    """Stream the file here; a cut or stalled body is asked for again, as connections are."""
    from urllib3.exceptions import HTTPError  # noqa: PLC0415

    from wheelyard.network.session import retry_policy  # noqa: PLC0415

    retry = retry_policy()
    while True:
        # Not as decoded content: some servers call a .tar.gz an encoding of a .tar.
        headers = {"Accept-Encoding": "identity"}
        response = _ask(session, url, headers=headers, stream=True)
        try:
            with response:
                chunks = response.raw.stream(_CHUNK, decode_content=False)
                return _keep(source, chunks, url=url, destination=destination)
        except HTTPError as error:
            if retry.total == 0:
                msg = f"{url} was cut off ({_reason(error)})"
                raise _PlaceError(msg) from error
            retry = retry.increment(method="GET", url=url)
            retry.sleep()


def _ask(
    session: requests.Session,
    url: str,
    *,
    headers: Mapping[str, str] | None = None,
    stream: bool = False,
) -> requests.Response:
    from requests import RequestException  # noqa: PLC0415

    from wheelyard.network.session import TIMEOUT  # noqa: PLC0415

    try:
        response = session.get(url, stream=stream, timeout=TIMEOUT, headers=headers)
        response.raise_for_status()
    except RequestException as error:
        msg = f"{url} cannot be had ({_reason(error)})"
        raise _PlaceError(msg) from error
    return response


def _keep(source: SdistSource, chunks: Iterable[bytes], *, url: str, destination: Path) -> None:
    """Write the bytes, and let them appear only if they are the pinned ones."""
    digest = hashlib.sha256()
    size = 0
    with disk_errors(destination), appearing(destination) as stream:
        for chunk in chunks:
            digest.update(chunk)
            size += len(chunk)
            if size > source.size:
                raise _wrong_file(source, url, found=f"more than {source.size} bytes")
            stream.write(chunk)
        if (digest.hexdigest(), size) != (source.sha256, source.size):
            found = f"sha256 {digest.hexdigest()} ({size} bytes)"
            raise _wrong_file(source, url, found=found)


def _last_part(url: str) -> str:
    return unquote(urlsplit(url).path).rpartition("/")[2]


def _local_path(url: str) -> Path | None:
    """Return the path of a local place, for example ``/opt/wheels`` or ``file:///opt/simple``."""
    parts = urlsplit(url)
    if parts.scheme == "file":
        return Path(url2pathname(parts.path))
    return Path(url) if not parts.scheme else None


def _wrong_file(source: SdistSource, url: str, *, found: str) -> IntegrityError:
    msg = (
        f"{source.filename} from {mask_url(url)} is not the file that the recipe pins:\n"
        f"  expected: sha256 {source.sha256} ({source.size} bytes)\n"
        f"  found:    {found}\n"
        "Nothing of it was kept. A mirror or proxy in between may have changed it: try another "
        "index. If the project itself replaced the file, look at the difference and pin the new "
        "digest in the recipe."
    )
    return IntegrityError(msg)


def _not_found(
    source: SdistSource, answers: list[str], *, destination: Path, settings: IndexSettings
) -> FetchError:
    asked = "\n".join(answers) or "  nothing: the settings name no index and no find-links"
    remedy = (
        "wheelyard is offline (UV_OFFLINE, or `offline` in uv.toml)."
        if settings.offline
        else "Check the index settings; `wheelyard doctor` shows where each comes from."
    )
    msg = (
        f"{source.filename} was not found. Asked:\n{asked}\n{remedy}\n"
        f"Or put the file (sha256 {source.sha256}, {source.size} bytes) to {destination} "
        "or into a folder that PIP_FIND_LINKS names."
    )
    return FetchError(msg)


def _reason(error: BaseException) -> str:
    """Say an HTTP library's error in one line."""
    return " ".join(str(error).split())[:300] or type(error).__name__
