"""What the compile cache did for one build, in its own counts."""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class CacheStatistics:
    """Hits and misses by kind of compilation, for example ``CUDA`` and ``CUBIN``."""

    hits: Mapping[str, int]
    misses: Mapping[str, int]


def read_cache_statistics(path: Path) -> CacheStatistics:
    """Read the JSON that sccache wrote at the end of a build; nothing there means nothing done."""
    try:
        stats = json.loads(path.read_text(encoding="utf-8"))["stats"]
        return CacheStatistics(
            hits=dict(stats["cache_hits"]["counts"]), misses=dict(stats["cache_misses"]["counts"])
        )
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return CacheStatistics(hits={}, misses={})
