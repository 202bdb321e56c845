"""What the compile cache says that it did."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from wheelyard.toolchain.compile_cache import CacheStatistics, read_cache_statistics

if TYPE_CHECKING:
    from pathlib import Path


def test_hits_and_misses_are_counted_by_kind(tmp_path: Path) -> None:
    stats = {
        "cache_hits": {"counts": {"CUDA": 3, "CUBIN": 1}, "adv_counts": {}},
        "cache_misses": {"counts": {"C/C++": 2}, "adv_counts": {}},
    }
    path = tmp_path / "cache.json"
    path.write_text(json.dumps({"stats": stats, "version": "0.14"}), encoding="utf-8")
    assert read_cache_statistics(path) == CacheStatistics(
        hits={"CUDA": 3, "CUBIN": 1}, misses={"C/C++": 2}
    )


@pytest.mark.parametrize("text", [None, "", "[]", "{}", '{"stats": {"cache_hits": 1}}'])
def test_statistics_that_are_not_there_count_as_nothing(tmp_path: Path, text: str | None) -> None:
    path = tmp_path / "cache.json"
    if text is not None:
        path.write_text(text, encoding="utf-8")
    assert read_cache_statistics(path) == CacheStatistics(hits={}, misses={})
