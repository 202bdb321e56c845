"""Pin the source of a project: its sdist on the index, or a commit of its repository."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from packaging.version import InvalidVersion, Version

from wheelyard.errors import FetchError, UnknownNameError
from wheelyard.model.source import GitSource, SdistSource
from wheelyard.network.masking import mask_url
from wheelyard.upstreams.versions import (
    file_size,
    final_version,
    is_usable,
    list_packages,
    list_references,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    import requests
    from packaging.utils import NormalizedName
    from pypi_simple import DistributionPackage

    from wheelyard.network.indexes import IndexSettings

_COMMIT = re.compile(r"[0-9a-f]{40}")


def pin_sdist(
    name: NormalizedName,
    version: Version | None,
    *,
    session: requests.Session,
    settings: IndexSettings,
) -> tuple[SdistSource, Version]:
    """Return the sdist of that version, or of the newest final one, with its version."""
    packages = list_packages(name, session=session, settings=settings)
    found: list[tuple[Version, DistributionPackage]] = []
    for one in packages:
        candidate = _candidate(one.version or "", version)
        if candidate is not None and is_usable(one):
            found.append((candidate, one))
    if not found:
        wheels = sum(1 for one in packages if one.package_type == "wheel")
        of = f" of {version}" if version else ""
        msg = (
            f"The index has no source distribution{of} of {name}, but {wheels} wheels. Name its "
            f"repository: `wheelyard new {name} --git URL`."
        )
        raise UnknownNameError(msg)
    chosen, one = max(found, key=lambda item: item[0])
    source = SdistSource(
        name=name,
        filename=one.filename,
        sha256=one.digests["sha256"],
        size=one.size or file_size(one, session),
    )
    return source, chosen


def _candidate(text: str, wanted: Version | None) -> Version | None:
    """Return the version where it is the one that is wanted, or any final one."""
    if wanted is None:
        return final_version(text)
    try:
        return wanted if Version(text) == wanted else None
    except InvalidVersion:
        return None


def pin_commit(
    url: str, reference: str | None, *, settings: IndexSettings, env: Mapping[str, str]
) -> tuple[GitSource, str]:
    """Return the commit that a tag, a branch or a commit's own name means, and what it is called.

    Without a reference it is what the repository itself shows.
    """
    if reference is not None and _COMMIT.fullmatch(reference):
        return GitSource(url=url, commit=reference), reference[:12]
    names = (f"refs/tags/{reference}", f"refs/heads/{reference}") if reference else ("HEAD",)
    # an annotated tag is told together with its commit only where that is asked for
    patterns = (*names, *(f"{name}^{{}}" for name in names))
    found = list_references(url, *patterns, settings=settings, env=env)
    for name in names:
        if name in found:
            return GitSource(url=url, commit=found[name]), name.removeprefix("refs/")
    msg = f"{mask_url(url)} has no tag and no branch {reference!r}."
    raise (FetchError if reference is None else UnknownNameError)(msg)
