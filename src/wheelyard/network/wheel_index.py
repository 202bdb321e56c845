"""Which wheels of a distribution the user's indexes and folders have."""

from __future__ import annotations

import contextlib
import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit
from urllib.request import url2pathname

from packaging.utils import InvalidWheelFilename, canonicalize_name

from wheelyard.errors import FetchError
from wheelyard.model.wheel_filename import parse_wheel_filename
from wheelyard.network.foreign import OTHER_FORM, shallow
from wheelyard.network.masking import mask_url

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    import requests
    from packaging.tags import Tag
    from packaging.utils import BuildTag
    from packaging.version import Version

    from wheelyard.network.indexes import IndexSettings


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class IndexWheel:
    """A wheel as an index lists it."""

    filename: str
    url: str = dataclasses.field(repr=False)
    """May hold credentials: to be shown through ``mask_url`` only."""
    sha256: str | None
    """What the index states, if anything."""
    version: Version
    build: BuildTag
    tags: frozenset[Tag]
    yanked: bool = False

    @property
    def path(self) -> Path | None:
        """Where it lies on this machine, for example for a ``file:`` URL."""
        return local_path(self.url)


def list_wheels(
    name: str, *, settings: IndexSettings, session: requests.Session
) -> tuple[IndexWheel, ...]:
    """Return the wheels of ``name`` from every place, those of the first place first.

    A place that cannot be asked is an error only if no other has a wheel.
    """
    found: dict[str, IndexWheel] = {}
    answers: list[str] = []
    for place in (*settings.find_links, *settings.index_urls):
        try:
            wheels = _ask(place, name, settings=settings, session=session)
        except FetchError as error:
            answers.append(f"  {mask_url(place)}: {mask_url(str(error))}")
            continue
        answers.append(f"  {mask_url(place)}: {len(wheels)} wheels")
        for wheel in wheels:
            found.setdefault(wheel.filename, wheel)
    if not found:
        asked = "\n".join(answers) or "  nothing: the settings name no index and no find-links"
        msg = (
            f"No wheels of {name!r} were found. Asked:\n{asked}\n"
            "Check the index settings; `wheelyard doctor` shows where each comes from."
        )
        raise FetchError(msg)
    return tuple(found.values())


def local_path(url: str) -> Path | None:
    """Return the path of a local place, for example ``/opt/wheels`` or ``file:///opt/simple``."""
    parts = urlsplit(url)
    if parts.scheme == "file":
        return Path(url2pathname(parts.path))
    return Path(url) if not parts.scheme else None


def _ask(
    place: str, name: str, *, settings: IndexSettings, session: requests.Session
) -> list[IndexWheel]:
    path = local_path(place)
    if path is not None:
        return list(_in_folder(path, name))
    if settings.offline:
        msg = "not asked (offline)"
        raise FetchError(msg)
    return list(_on_index(place, name, session, is_page=place in settings.find_links))


def _in_folder(folder: Path, name: str) -> Iterator[IndexWheel]:
    """Look into a folder of wheels, or into an index that lies in one."""
    from pypi_simple import (  # noqa: PLC0415 - takes 0.4 s
        ProjectPage,
        UnsupportedRepoVersionError,
    )

    page = folder if folder.is_file() else folder / name / "index.html"
    if page.is_file():
        try:
            text = shallow(page.read_bytes())
            links = ProjectPage.from_html(name, text, base_url=page.as_uri()).packages
        except (UnsupportedRepoVersionError, *OTHER_FORM) as error:
            msg = f"{page} is no project page: {' '.join(str(error).split())[:300]}"
            raise FetchError(msg) from error
        yield from _wheels(
            name, ((one.filename, one.url, one.digests.get("sha256"), False) for one in links)
        )
    elif folder.is_dir():
        files = sorted(folder.glob("*.whl"))
        yield from _wheels(name, ((file.name, file.as_uri(), None, False) for file in files))


def _on_index(
    place: str, name: str, session: requests.Session, *, is_page: bool
) -> Iterator[IndexWheel]:
    from pypi_simple import (  # noqa: PLC0415 - takes 0.4 s
        NoSuchProjectError,
        ProjectPage,
        PyPISimple,
        UnsupportedRepoVersionError,
    )
    from requests import RequestException  # noqa: PLC0415

    from wheelyard.network.session import TIMEOUT  # noqa: PLC0415

    try:
        if is_page:
            response = session.get(place, timeout=TIMEOUT)
            response.raise_for_status()
            page = ProjectPage.from_html(name, shallow(response.content), base_url=place)
        else:
            page = PyPISimple(place, session=session).get_project_page(name, timeout=TIMEOUT)
    except NoSuchProjectError:
        return
    except (RequestException, UnsupportedRepoVersionError, *OTHER_FORM) as error:
        msg = f"no project page ({' '.join(str(error).split())[:300] or type(error).__name__})"
        raise FetchError(msg) from error
    links = page.packages
    yield from _wheels(
        name,
        ((one.filename, one.url, one.digests.get("sha256"), one.is_yanked) for one in links),
    )


def _wheels(name: str, links: Iterable[tuple[str, str, str | None, bool]]) -> Iterator[IndexWheel]:
    for filename, url, sha256, yanked in links:
        with contextlib.suppress(InvalidWheelFilename):
            found, version, build, tags = parse_wheel_filename(filename)
            if found == canonicalize_name(name):
                yield IndexWheel(
                    filename=filename,
                    url=url,
                    sha256=sha256,
                    version=version,
                    build=build,
                    tags=tags,
                    yanked=yanked,
                )
