"""What the first two stages return: a source that is here, and one that is patched."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from wheelyard.model.source import Source


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class FetchedSource:
    """A source whose bytes are on this machine and are the pinned ones."""

    source: Source
    path: Path
    """The archive, the bare repository, or the folder."""
    digest: str
    """``sha256:...`` of the archive or of the folder's files, or ``git:<commit>``."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class AppliedPatch:
    name: str
    sha256: str


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class PatchedSource:
    """A source tree with its whole patch series applied."""

    tree: Path
    source: FetchedSource
    patches: tuple[AppliedPatch, ...]
    digest: str
    """``sha256:...`` over the sorted paths, modes and bytes of the tree."""
