"""sccache: started by every build, and what it did in its own counts and in its own log."""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import io
import json
import re
from typing import TYPE_CHECKING, Annotated

import msgspec

from wheelyard.leavings import list_left, opened, read_left
from wheelyard.toolchain.compile_cache import CACHE_SIZE, CacheReport, CacheStep

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from wheelyard.toolchain.values import Places

_LINE = re.compile(r" sccache::compiler::compiler\] \[(?P<name>[^\]]+)\]: (?P<said>.*)$")
_ASKED = "get_cached_or_compile: "
_KEY = re.compile(r"Hash key: ([0-9a-f]{64})\s*")
_COMPILED = re.compile(r"Compiled in (\d{1,9}(?:\.\d{1,9})?) s", re.ASCII)
_LOG_LIMIT = 1 << 30
_LONGEST_LINE = 8 << 20
"""Above what the kernel takes for the arguments of a process, as the log shows them."""


class _Counts(msgspec.Struct):
    counts: dict[str, Annotated[int, msgspec.Meta(ge=0)]] = {}


class _Stats(msgspec.Struct):
    cache_hits: _Counts
    cache_misses: _Counts


class _Counted(msgspec.Struct):
    stats: _Stats


class Sccache:
    """The default: it keeps the parts of nvcc's work apart, so that torch builds share cubins."""

    program = "sccache"

    def folder(self, root: Path) -> Path:
        return root

    def variables(self, places: Places, *, compilers: str) -> dict[str, str]:  # noqa: ARG002
        """It digests the compilers itself, those that nvcc calls too."""
        return {
            "SCCACHE_BASEDIRS": str(places.base),
            "SCCACHE_CACHE_SIZE": CACHE_SIZE,
            "SCCACHE_DIR": str(places.cache),
            "SCCACHE_IDLE_TIMEOUT": "0",
            "SCCACHE_SERVER_UDS": str(places.build / "sccache.socket"),
            "WHEELYARD_CACHE_SERVER": "1",
        }

    def read(self, output: Path) -> CacheReport:
        """Read what each of the build's cache servers counted and logged."""
        hits, misses = read_counts(output)
        return CacheReport(hits=hits, misses=misses, steps=read_steps(output))


def object_name(key: str) -> str:
    """Return where below its folder it keeps the object of that key."""
    return f"{key[0]}/{key[1]}/{key}"


def read_counts(output: Path) -> tuple[dict[str, int], dict[str, int]]:
    """Add up hits and misses of each server of a build; nothing there means nothing done."""
    hits: collections.Counter[str] = collections.Counter()
    misses: collections.Counter[str] = collections.Counter()
    for name in _of_every_server(output, "cache.json"):
        try:
            stats = msgspec.json.decode(read_left(output, name), type=_Counted).stats
        except (FileNotFoundError, msgspec.DecodeError, RecursionError):
            continue
        hits.update(stats.cache_hits.counts)
        misses.update(stats.cache_misses.counts)
    return dict(hits), dict(misses)


def read_steps(output: Path) -> tuple[CacheStep, ...]:
    """Return the steps of a build from the logs of its cache servers; unknown lines say nothing."""
    steps: list[CacheStep] = []
    for name in _of_every_server(output, "sccache.log"):
        with (
            contextlib.suppress(FileNotFoundError),
            opened(output, name, limit=_LOG_LIMIT) as stream,
            io.TextIOWrapper(stream, encoding="utf-8", errors="replace") as log,
        ):
            steps += _parse(iter(lambda: log.readline(_LONGEST_LINE), ""))
    return tuple(steps)


def _of_every_server(output: Path, name: str) -> list[str]:
    """Return the build's own file, then those of compiles that had a server of their own."""
    try:
        return [name, *(f"fresh/{server}/{name}" for server in list_left(output, "fresh"))]
    except FileNotFoundError:
        return [name]


def _parse(lines: Iterable[str]) -> list[CacheStep]:
    """Put together what the log says of each step; steps of one name follow one another."""
    steps: list[CacheStep] = []
    latest: dict[str, int] = {}
    for line in lines:
        match = _LINE.search(line.rstrip("\n"))
        if match is None:
            continue
        name, said = match["name"], match["said"]
        if said.startswith(_ASKED):
            latest[name] = len(steps)
            arguments = _words(said.removeprefix(_ASKED))
            steps.append(CacheStep(name=name, arguments=arguments))
        elif name in latest:
            changed = _changed(said)
            steps[latest[name]] = dataclasses.replace(steps[latest[name]], **changed)  # type: ignore[arg-type]
    return steps


def _changed(said: str) -> dict[str, str | bool | float]:
    compiled, key = _COMPILED.match(said), _KEY.fullmatch(said)
    if key is not None:
        return {"key": key[1]}
    if said.startswith(("Cache hit", "Cache miss")):
        return {"hit": said.startswith("Cache hit")}
    return {"seconds": float(compiled[1])} if compiled is not None else {}


def _words(listed: str) -> tuple[str, ...]:
    """Read a list as Rust shows it, which for command lines is JSON nearly always."""
    try:
        return tuple(map(str, json.loads(listed)))
    except (ValueError, TypeError, RecursionError):
        return tuple(listed.strip("[]").split(", "))
