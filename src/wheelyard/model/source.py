"""Where a recipe version's source comes from, pinned."""

from __future__ import annotations

import dataclasses
from typing import assert_never


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class SdistSource:
    """A source distribution of the Python index, pinned by digest and size."""

    name: str
    """The project's normalized name on the index."""
    filename: str
    """For example ``causal_conv1d-1.7.0.tar.gz``."""
    sha256: str
    size: int
    """In bytes."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class UrlSource:
    """An archive at a URL: of a release, or of a model hub; pinned by digest and size."""

    url: str
    filename: str
    """For example ``apex-0.1.tar.gz``: the last part of the URL unless the recipe says another."""
    sha256: str
    size: int
    """In bytes."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class GitSource:
    """A git repository at a pinned commit; submodule commits follow from it."""

    url: str
    commit: str
    """The full 40-digit object name."""
    submodules: tuple[str, ...] = ()
    """Paths of the submodules that the build needs, in the order they are brought in."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class FolderSource:
    """A folder of the farm itself, relative to the recipe; for projects kept beside it."""

    path: str


Source = SdistSource | UrlSource | GitSource | FolderSource


def describe_source(source: Source) -> str:
    """For example ``causal_conv1d-1.7.0.tar.gz, sha256 3202758494ea``."""
    match source:
        case SdistSource() | UrlSource():
            return f"{source.filename}, sha256 {source.sha256[:12]}"
        case GitSource():
            return f"commit {source.commit[:12]} of {source.url}"
        case FolderSource():
            return f"folder {source.path}"
        case _:
            assert_never(source)
