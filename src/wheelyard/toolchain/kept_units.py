"""What the first build of a group compiled, kept so that a later one can say why it missed."""

from __future__ import annotations

import dataclasses
import itertools
import os.path
import re
from collections import defaultdict
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

import msgspec

from wheelyard.files import replace_file
from wheelyard.model.decode import UNREADABLE
from wheelyard.toolchain.units import is_device_source, source_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from wheelyard.toolchain.compile_cache import CacheStep

_PYTHON_HEADERS = re.compile(
    r"^(?:Python\.h|torch/(?:extension|python)\.h|torch/csrc/(?:Device|Dtype|Exceptions|THP)\.h"
    r"|torch/csrc/.*(?:python|pybind).*|(?:pybind11|nanobind)/.*)$"
)
_INCLUDE = re.compile(r'^\s*#\s*include\s*[<"]([^>"\n]+)[>"]', re.MULTILINE)
_PYTHON_FOLDER = re.compile(r"/include/python3[.]\d+t?/?$")
_OUTPUTS = frozenset({"-o", "--output-file", "-odir", "-MF"})
_TREE = "/source/"
_MOST_WORDS = 4
_MOST_SOURCES = 3


class KeptUnit(msgspec.Struct, frozen=True, kw_only=True):
    """A device unit: nvcc's command line, and the cache's keys of its steps."""

    arguments: tuple[str, ...]
    keys: dict[str, str]
    """By what a step makes, for example ``scale.compute_90.ptx``."""


class KeptUnits(msgspec.Struct, frozen=True, kw_only=True):
    """The device units of a group as they were compiled first."""

    format: int = 1
    job: str
    circumstances: dict[str, str]
    """What else decides the result, by name: compiler, toolkit, torch, source."""
    units: dict[str, KeptUnit] = {}
    """By source."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class _Call:
    """One call of nvcc, and the steps that the cache made of it."""

    source: str
    arguments: tuple[str, ...]
    parts: tuple[CacheStep, ...]

    @property
    def compiled(self) -> tuple[CacheStep, ...]:
        return tuple(part for part in self.parts if part.hit is False)


def read_units(path: Path) -> KeptUnits | None:
    """Return what a group's first build left; a file that cannot be read is as good as none."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=KeptUnits)
    except (FileNotFoundError, *UNREADABLE):
        return None


def keep_units(
    path: Path, steps: Sequence[CacheStep], *, job: str, circumstances: Mapping[str, str]
) -> None:
    """Keep what this build compiled, beside what its group kept already."""
    before = read_units(path)
    units = {
        call.source: KeptUnit(
            arguments=call.arguments, keys={part.name: part.key for part in call.parts}
        )
        for call in _calls(steps)
    }
    if before is not None and before.circumstances == circumstances:
        job, units = before.job, {**units, **before.units}
    if not units:
        return
    kept = KeptUnits(job=job, circumstances=dict(circumstances), units=units)
    text = msgspec.json.encode(kept, order="sorted")
    if before is None or before != kept:
        replace_file(path, msgspec.json.format(text, indent=1) + b"\n")


def explain_misses(
    steps: Sequence[CacheStep],
    kept: KeptUnits,
    *,
    circumstances: Mapping[str, str],
    read_source: Callable[[str], str | None],
) -> tuple[str, ...]:
    """Say why device code was compiled although the group has it, one sentence for each reason.

    ``read_source`` returns a file of the source tree by its path in the sandbox.
    """
    reasons: dict[str, list[str]] = defaultdict(list)
    for call in _calls(steps):
        if call.compiled:
            reasons[_reason(call, kept, circumstances, read_source)].append(call.source)
    return tuple(f"{_listed(sources)}: {reason}" for reason, sources in reasons.items())


def found_units(steps: Sequence[CacheStep]) -> tuple[str, ...]:
    """Return the sources of the tree none of whose steps had to be compiled."""
    device = {call.source: not call.compiled for call in _calls(steps)}
    host = {
        _below_the_tree(source): step.hit is True
        for step in steps
        if _TREE in (source := source_of(step.arguments)) and not is_device_source(source)
    }
    return tuple(sorted(name for name, found in (host | device).items() if found))


def _below_the_tree(source: str) -> str:
    return source.rpartition(_TREE)[2]


def _calls(steps: Sequence[CacheStep]) -> list[_Call]:
    """Gather the steps by the call that they are part of: its source gives their names."""
    outer = [step for step in steps if is_device_source(source_of(step.arguments))]
    calls: dict[str, tuple[CacheStep, list[CacheStep]]] = {}
    for step in outer:
        calls.setdefault(PurePosixPath(source_of(step.arguments)).stem, (step, []))
    for step in steps:
        stem = step.name
        while stem not in calls and "." in stem:
            stem = stem.rpartition(".")[0]
        if stem in calls and not is_device_source(source_of(step.arguments)):
            calls[stem][1].append(step)
    return [
        _Call(
            source=_below_the_tree(source_of(call.arguments)),
            arguments=call.arguments,
            parts=tuple(parts),
        )
        for call, parts in calls.values()
    ]


def _reason(
    call: _Call,
    kept: KeptUnits,
    circumstances: Mapping[str, str],
    read_source: Callable[[str], str | None],
) -> str:
    before = kept.units.get(call.source)
    if before is None:
        return f"{kept.job} did not compile it"
    if all(before.keys.get(part.name) == part.key for part in call.compiled):
        return f"{kept.job} had compiled the same, but the compile cache has it no longer"
    changed = _difference(before.arguments, call.arguments) or _changed(kept, circumstances)
    if changed:
        return f"otherwise than for {kept.job}: {changed}"
    header = _python_header(call, read_source)
    if header:
        return f"it includes Python's headers ({header}), so that every Python compiles it anew"
    parts = ", ".join(part.name for part in call.compiled)
    return f"the same command as for {kept.job} met other text in the headers ({parts})"


def _difference(before: Sequence[str], now: Sequence[str]) -> str:
    """Name the words that only one of two command lines has."""
    old, new = _telling(before), _telling(now)
    said = [
        *(f"+{word}" for word in new if word not in old),
        *(f"-{word}" for word in old if word not in new),
    ]
    more = [f"and {len(said) - _MOST_WORDS} more"] if len(said) > _MOST_WORDS else []
    return " ".join([*said[:_MOST_WORDS], *more])


def _telling(words: Sequence[str]) -> list[str]:
    """Leave out what decides nothing: where the object goes, and where Python's headers lie."""
    pairs = zip(("", *words[:-1]), words, strict=True)
    return [
        word
        for previous, word in pairs
        if previous not in _OUTPUTS and not _PYTHON_FOLDER.search(word)
    ]


def _changed(kept: KeptUnits, circumstances: Mapping[str, str]) -> str:
    names = sorted(kept.circumstances.keys() | circumstances.keys())
    pairs = ((name, kept.circumstances.get(name), circumstances.get(name)) for name in names)
    return "; ".join(f"{name} {was} -> {now}" for name, was, now in pairs if was != now)


def _python_header(call: _Call, read_source: Callable[[str], str | None]) -> str:
    """Return the first include of Python's headers from the source or what it includes."""
    source = source_of(call.arguments)
    folders = _include_folders(call.arguments)
    waiting, seen = [source], {source}
    while waiting:
        path = waiting.pop(0)
        text = read_source(path)
        for name in _INCLUDE.findall(text or ""):
            if _PYTHON_HEADERS.match(name):
                return f"{PurePosixPath(path).name} includes {name}"
            found = [os.path.normpath(f"{folder}/{name}") for folder in (_parent(path), *folders)]
            waiting += [candidate for candidate in found if candidate not in seen]
            seen.update(found)
    return ""


def _parent(path: str) -> str:
    return str(PurePosixPath(path).parent)


def _include_folders(words: Sequence[str]) -> list[str]:
    """Return the folders of ``-I`` and ``-isystem``, joined or apart."""
    folders = [word[2:] for word in words if word.startswith("-I") and len(word) > len("-I")]
    apart = (word for option, word in itertools.pairwise(words) if option in {"-I", "-isystem"})
    return [*folders, *apart]


def _listed(sources: Sequence[str]) -> str:
    more = len(sources) - _MOST_SOURCES
    shown = ", ".join(sources[:_MOST_SOURCES])
    return f"{shown} and {more} more" if more > 0 else shown
