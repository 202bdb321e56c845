"""What sccache says that it did."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from wheelyard.toolchain.compile_cache import CacheStep
from wheelyard.toolchain.sccache import read_counts, read_steps

if TYPE_CHECKING:
    from pathlib import Path

PREFIX = "[2026-11-24T03:46:47Z DEBUG sccache::compiler::compiler] "
LOG = """\
[2026-11-24T03:46:47Z INFO  sccache::server] something else [k.o]: Cache hit
Found cudafe++
[k.o]: get_cached_or_compile: ["-c", "/wy/source/my \\"k\\".cu", "-o", "k.o"]
[k.o]: generate_hash_key took 0.205 s
[k.o]: Hash key: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa
[k.o]: Cache miss in 0.000 s
[k.compute_90.ptx]: get_cached_or_compile: ["--c++17"]
[h.o]: get_cached_or_compile: ["-c", "h.cpp"]
[k.compute_90.ptx]: Hash key: bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb
[h.o]: Hash key: cccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccc
[h.o]: Cache hit in 0.004 s
[k.compute_90.ptx]: Cache miss in 0.000 s
[k.compute_90.ptx]: Compiled in 2.500 s, storing in cache
[k.o]: get_cached_or_compile: ["-x", "c++"]
[k.o]: Hash key: dddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddd
[k.o]: Cache hit in 0.001 s
"""


def _log(text: str) -> str:
    return "".join(
        line if line.startswith("[2026") else f"{PREFIX}{line}"
        for line in text.splitlines(keepends=True)
    )


@pytest.mark.parametrize("folder", [".", "fresh/17"])
def test_hits_and_misses_are_counted_by_kind(tmp_path: Path, folder: str) -> None:
    stats = {
        "cache_hits": {"counts": {"CUDA": 3, "CUBIN": 1}, "adv_counts": {}},
        "cache_misses": {"counts": {"C/C++": 2}, "adv_counts": {}},
    }
    (tmp_path / folder).mkdir(parents=True, exist_ok=True)
    text = json.dumps({"stats": stats, "version": "0.14"})
    (tmp_path / folder / "cache.json").write_text(text, encoding="utf-8")
    assert read_counts(tmp_path) == ({"CUDA": 3, "CUBIN": 1}, {"C/C++": 2})


def test_counts_of_every_cache_server_are_added_up(tmp_path: Path) -> None:
    for number, folder in enumerate((".", "fresh/17", "fresh/18")):
        stats = {"cache_hits": {"counts": {"PTX": 10**number}}, "cache_misses": {"counts": {}}}
        (tmp_path / folder).mkdir(parents=True, exist_ok=True)
        (tmp_path / folder / "cache.json").write_text(json.dumps({"stats": stats}))
    assert read_counts(tmp_path) == ({"PTX": 111}, {})


@pytest.mark.parametrize("text", [None, "", "[]", "{}", '{"stats": {"cache_hits": 1}}'])
def test_statistics_that_are_not_there_count_as_nothing(tmp_path: Path, text: str | None) -> None:
    if text is not None:
        (tmp_path / "cache.json").write_text(text, encoding="utf-8")
    assert read_counts(tmp_path) == ({}, {})
    assert read_steps(tmp_path) == ()


def test_steps_are_told_apart_although_they_run_at_once_and_share_names(tmp_path: Path) -> None:
    (tmp_path / "sccache.log").write_text(_log(LOG), encoding="utf-8")
    words = ("-c", '/wy/source/my "k".cu', "-o", "k.o")
    assert read_steps(tmp_path) == (
        CacheStep(name="k.o", arguments=words, key="a" * 64, hit=False),
        CacheStep(
            name="k.compute_90.ptx", arguments=("--c++17",), key="b" * 64, hit=False, seconds=2.5
        ),
        CacheStep(name="h.o", arguments=("-c", "h.cpp"), key="c" * 64, hit=True),
        CacheStep(name="k.o", arguments=("-x", "c++"), key="d" * 64, hit=True),
    )
