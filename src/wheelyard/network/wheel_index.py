"""Which wheels of a distribution the user's indexes and folders have."""

from __future__ import annotations

import contextlib
import dataclasses
from typing import TYPE_CHECKING

from packaging.utils import InvalidWheelFilename, canonicalize_name

from wheelyard.errors import FetchError
from wheelyard.model.wheel_filename import parse_wheel_filename
from wheelyard.network.masking import mask_url
from wheelyard.network.project_page import list_files, local_path

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

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


def _ask(
    place: str, name: str, *, settings: IndexSettings, session: requests.Session
) -> list[IndexWheel]:
    path = local_path(place)
    if path is None and settings.offline:
        msg = "not asked (offline)"
        raise FetchError(msg)
    is_page = place in settings.find_links
    listed = list_files(place, name, session=session, is_page=is_page) or ()
    links = ((one.filename, one.url, one.digests.get("sha256"), one.is_yanked) for one in listed)
    wheels = list(_wheels(name, links))
    return wheels or (list(_in_folder(path, name)) if path is not None else [])


def _in_folder(folder: Path, name: str) -> Iterator[IndexWheel]:
    """Look into a folder of wheels that has no pages."""
    files = sorted(folder.glob("*.whl"))
    return _wheels(name, ((file.name, file.as_uri(), None, False) for file in files))


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
