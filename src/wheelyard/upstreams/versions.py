"""New versions of what recipes build: sdists on the index, tags of git repositories."""

from __future__ import annotations

import dataclasses
import logging
import re
from typing import TYPE_CHECKING

from packaging.version import InvalidVersion, Version

from wheelyard.errors import FetchError, InputFileError, ProcessError
from wheelyard.model.source import GitSource, SdistSource
from wheelyard.network.git_fetching import route_environment
from wheelyard.network.masking import mask_url
from wheelyard.network.project_page import list_files, local_path
from wheelyard.run import run

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    import requests
    from pypi_simple import DistributionPackage

    from wheelyard.model.recipe import Recipe
    from wheelyard.network.indexes import IndexSettings

logger = logging.getLogger(__name__)

_TABLE = re.compile(r"^\[\[versions\]\]\n", re.MULTILINE)
_NEXT = re.compile(r"^\[(?!versions\.)", re.MULTILINE)
_REFERENCE = re.compile(r"([0-9a-f]{40})\t(HEAD|refs/\S+?)(\^\{\})?")
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class NewVersion:
    """A version that the recipe has not, and what pins its source."""

    version: Version
    source: Mapping[str, str | int]
    """Keys of the table of its source, with their values."""
    evidence: str


def list_packages(
    name: str, *, session: requests.Session, settings: IndexSettings
) -> tuple[DistributionPackage, ...]:
    """Return every file of a distribution on the first index that has it."""
    reasons = []
    for url in settings.index_urls:
        if settings.offline and local_path(url) is None:
            reasons.append(f"{mask_url(url)} was not asked (offline)")
            continue
        try:
            files = list_files(url, name, session=session)
        except FetchError as error:
            reasons.append(f"{mask_url(url)}: {mask_url(str(error))[:200]}")
            continue
        if files is not None:
            return files
        reasons.append(f"{mask_url(url)} has no {name}")
    msg = (
        f"No index tells the versions of {name}: {'; '.join(reasons)}. `wheelyard doctor` shows "
        "which index and proxy are used, and where they were set."
    )
    raise FetchError(msg)


def find_new_version(
    recipe: Recipe, *, session: requests.Session, settings: IndexSettings, env: Mapping[str, str]
) -> NewVersion | None:
    """Return the newest final version beyond the recipe's, or nothing."""
    newest = recipe.versions[0]
    match newest.source:
        case SdistSource() as source:
            packages = list_packages(source.name, session=session, settings=settings)
            return _newest_sdist(packages, above=newest.version, session=session)
        case GitSource(url=url):
            tag = "v{version}" if newest.releases is None else newest.releases.tag
            return _newest_tag(
                _list_tags(url, settings=settings, env=env), url, tag=tag, above=newest.version
            )
        case _:
            return None


def _newest_sdist(
    packages: Iterable[DistributionPackage], *, above: Version, session: requests.Session
) -> NewVersion | None:
    found: list[tuple[Version, DistributionPackage]] = []
    for one in packages:
        version = final_version(one.version or "")
        if version is not None and version > above and is_usable(one):
            found.append((version, one))
    if not found:
        return None
    version, one = max(found, key=lambda item: item[0])
    source: dict[str, str | int] = {
        "filename": one.filename,
        "sha256": one.digests["sha256"],
        "size": one.size or file_size(one, session),
    }
    return NewVersion(version=version, source=source, evidence=f"sdist {one.filename}")


def is_usable(one: DistributionPackage) -> bool:
    """Whether it is an sdist that can be pinned, and not withdrawn."""
    is_pinned = _SHA256.fullmatch(one.digests.get("sha256", "")) is not None
    return one.package_type == "sdist" and is_pinned and not one.is_yanked


def file_size(one: DistributionPackage, session: requests.Session) -> int:
    """Ask the file's server, or the disk that it lies on, where the index does not say it."""
    from requests import RequestException  # noqa: PLC0415 - takes 0.3 s

    from wheelyard.network.session import TIMEOUT  # noqa: PLC0415

    path = local_path(one.url)
    try:
        if path is not None:
            return path.stat().st_size
        answer = session.head(one.url, timeout=TIMEOUT, allow_redirects=True)
        answer.raise_for_status()
        return int(answer.headers["Content-Length"])
    except (RequestException, OSError, KeyError, ValueError) as error:
        msg = f"The size of {one.filename} cannot be told: {error!r}"
        raise FetchError(msg) from error


def final_version(text: str) -> Version | None:
    """Return a version that is neither a prerelease nor somebody's own, or nothing."""
    try:
        version = Version(text)
    except InvalidVersion:
        return None
    return None if version.is_prerelease or version.local else version


def list_references(
    url: str, *patterns: str, settings: IndexSettings, env: Mapping[str, str]
) -> dict[str, str]:
    """Return the commits of the references of these names, or of all, on the first way that works.

    The names are whole, as ``refs/tags/v1.0``.
    """
    reasons = []
    for route in settings.network.routes(url):
        child = route_environment(route, env, url=url, network=settings.network)
        try:
            output = run(["git", "ls-remote", url, *patterns], env=child).output
        except ProcessError as error:
            reasons.append(f"{route.via}: {mask_url(error.tail.strip())[-200:]}")
            continue
        found: dict[str, str] = {}
        for match in map(_REFERENCE.fullmatch, output.splitlines()):
            if match is not None and (match[3] or match[2] not in found):
                found[match[2]] = match[1]  # the commit of an annotated tag stands behind it
        return found
    msg = f"The repository {mask_url(url)} cannot be read: {'; '.join(reasons)}"
    raise FetchError(msg)


def _list_tags(url: str, *, settings: IndexSettings, env: Mapping[str, str]) -> dict[str, str]:
    found = list_references(url, "refs/tags/*", settings=settings, env=env)
    return {name.removeprefix("refs/tags/"): commit for name, commit in found.items()}


def _newest_tag(
    tags: Mapping[str, str], url: str, *, tag: str, above: Version
) -> NewVersion | None:
    before, _, after = tag.partition("{version}")
    found: dict[Version, str] = {}
    for name in tags:
        if name.startswith(before) and name.endswith(after):
            version = final_version(name[len(before) : len(name) - len(after)])
            if version is not None and version > above:
                found[version] = name
    if not found:
        return None
    version = max(found)
    name = found[version]
    return NewVersion(
        version=version, source={"commit": tags[name]}, evidence=f"tag {name} of {mask_url(url)}"
    )


def add_version(text: str, recipe: Recipe, new: NewVersion, *, origin: str) -> str:
    """Return the recipe's text with a table for the new version, made from its newest one's."""
    newest = recipe.versions[0]
    for match in _TABLE.finditer(text):
        rest = text[match.end() :]
        stops = [found.start() for found in (_NEXT.search(rest),) if found is not None]
        body = rest[: min(stops, default=len(rest))]
        if re.search(rf'^version = "{re.escape(str(newest.version))}"$', body, re.MULTILINE):
            table = _rewritten(body, new, origin=origin)
            return (
                f"{text[: match.start()]}[[versions]]\n{table.rstrip()}\n\n{text[match.start() :]}"
            )
    msg = f"{origin} has no table of {newest.version} in the usual form. Add {new.version} by hand."
    raise InputFileError(msg)


def _rewritten(body: str, new: NewVersion, *, origin: str) -> str:
    # comments speak of the version that they stand with
    lines = [line for line in body.splitlines() if not line.startswith("#")]
    values: dict[str, str | int] = {"version": str(new.version), **new.source}
    for key, value in values.items():
        written = f'"{value}"' if isinstance(value, str) else str(value)
        at = [
            number for number, line in enumerate(lines) if re.match(rf"{key} = ", line) is not None
        ]
        if len(at) != 1:
            msg = f"{origin} writes `{key}` in another form. Add {new.version} by hand."
            raise InputFileError(msg)
        lines[at[0]] = f"{key} = {written}"
    kept = [line for line in lines if not line.startswith("revision = ")]
    return "\n".join(kept)
