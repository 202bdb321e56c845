"""ccache: whole compiles only, for who has it already; it has no server."""

from __future__ import annotations

import collections
import itertools
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from wheelyard.leavings import read_left
from wheelyard.toolchain.compile_cache import CACHE_SIZE, CacheReport

if TYPE_CHECKING:
    from pathlib import Path

    from wheelyard.toolchain.values import Places

_LOG = "ccache.log"
_HITS = frozenset({"direct_cache_hit", "preprocessed_cache_hit"})
_MISS = "cache_miss"
_KINDS = {".cu": "CUDA", ".c": "C"}
_OTHER_KIND = "C/C++"


class Ccache:
    """What the user prefers: Pythons share device code, torch builds share nothing."""

    program = "ccache"

    def folder(self, root: Path) -> Path:
        return root.with_name(f"{root.name}.ccache")

    def variables(self, places: Places, *, compilers: str) -> dict[str, str]:
        """It digests the compiler that it calls, but not what nvcc calls in turn."""
        return {
            "CCACHE_COMPILERCHECK": f"string:{compilers}",
            "CCACHE_DIR": str(places.cache),
            "CCACHE_MAXSIZE": CACHE_SIZE,
            "CCACHE_NOHASHDIR": "1",
            "CCACHE_STATSLOG": str(places.build / _LOG),
        }

    def read(self, output: Path) -> CacheReport:
        """Read its log of results: a line that names the source, then what came of it."""
        try:
            lines = read_left(output, _LOG).decode("utf-8", "replace").splitlines()
        except FileNotFoundError:
            lines = []
        hits: collections.Counter[str] = collections.Counter()
        misses: collections.Counter[str] = collections.Counter()
        for line, result in itertools.pairwise(lines):
            if not line.startswith("# "):
                continue
            kind = _KINDS.get(PurePosixPath(line).suffix, _OTHER_KIND)
            hits[kind] += result in _HITS
            misses[kind] += result == _MISS
        return CacheReport(hits=dict(+hits), misses=dict(+misses))
