"""The compile cache as a build meets it, whichever program it is."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Literal, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from wheelyard.toolchain.values import Places

CacheName = Literal["sccache", "ccache", "none"]
CACHE_SIZE = "20G"
"""The most that one recipe's cache holds."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class CacheStep:
    """One step that the cache was asked for: a compile, or a part of nvcc's work."""

    name: str
    """The file it makes, for example ``scale.o`` or ``scale.compute_90.ptx``."""
    arguments: tuple[str, ...]
    key: str = ""
    """The digest of everything that the result depends on, as the cache sees it."""
    hit: bool | None = None
    seconds: float = 0.0
    """What compiling it took."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class CacheReport:
    """What a cache did in one build."""

    hits: Mapping[str, int]
    misses: Mapping[str, int]
    """By kind of compilation, for example ``CUDA`` and ``CUBIN``."""
    steps: tuple[CacheStep, ...] = ()
    """Every step, where the cache tells them."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class CacheStatistics:
    """What is recorded of a cache's work in one build."""

    hits: Mapping[str, int]
    misses: Mapping[str, int]
    reasons: tuple[str, ...] = ()
    """Why device code was compiled that another Python of the group had compiled before."""
    found: tuple[str, ...] = ()
    """Sources none of whose code had to be compiled."""
    keys: frozenset[str] = frozenset()
    """The objects that the build took from the cache or put there."""


class CompileCache(Protocol):
    """A program that stands before the compilers and remembers what they made."""

    @property
    def program(self) -> str | None:
        """Its name, where there is one."""

    def folder(self, root: Path) -> Path:
        """Return where it keeps objects, below or beside ``root``, the folder of a recipe."""

    def variables(self, places: Places, *, compilers: str) -> dict[str, str]:
        """Return its settings in the sandbox; ``compilers`` identifies them and the toolkit."""

    def read(self, output: Path) -> CacheReport:
        """Read what it left of one build in the folder that the build child wrote to."""


class NoCache:
    """Everything is compiled, nothing remembered."""

    program = None

    def folder(self, root: Path) -> Path:
        return root

    def variables(self, places: Places, *, compilers: str) -> dict[str, str]:  # noqa: ARG002
        return {}

    def read(self, output: Path) -> CacheReport:  # noqa: ARG002
        return CacheReport(hits={}, misses={})
