"""Compile some units of a patched source tree as its build would, and keep what that showed.

A probe says that the rest of a wheel is likely to compile. What it returns holds no file, so that
nothing of it can come to be a wheel.
"""

from __future__ import annotations

import dataclasses
import re
import time
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from wheelyard.errors import BuildError, InputFileError
from wheelyard.folders import remove_tree
from wheelyard.leavings import read_left
from wheelyard.toolchain.values import Places
from wheelyard.wheels.build import read_cpu_seconds, run_build

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from wheelyard.model.recipe import RecipeVersion
    from wheelyard.sources.values import PatchedSource
    from wheelyard.wheels.build import BuildRequest

_SECONDS = r"\d{1,12}(?:\.\d{1,9})?"
_COMPILED = re.compile(rf"(?P<began>{_SECONDS}) (?P<ended>{_SECONDS}) (?P<source>.+)", re.ASCII)
VARIABLE = "WHEELYARD_PROBE"
"""Tells the compiler wrappers which sources to compile, as patterns, one a line."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class ProbedUnit:
    """A source that compiled."""

    source: str
    """Below the source tree."""
    seconds: float
    """From its start to its end, whatever ran beside it."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class ProbedSource:
    """A patched source some of whose units compiled."""

    units: tuple[ProbedUnit, ...]
    left_out: int
    """How many others a build compiles."""
    seconds: float
    cpu_seconds: float


def require_probe(version: RecipeVersion) -> tuple[str, ...]:
    """Return the patterns of the recipe's most telling sources, or say how to name them."""
    if version.build.probe:
        return version.build.probe
    msg = (
        f"The recipe {version.recipe} does not say which sources to compile for a probe. Name "
        f"them as `build.probe` in recipes/{version.recipe}.toml, for example "
        '["csrc/binding.cpp", "csrc/largest.cu"].'
    )
    raise InputFileError(msg)


def probe_source(
    patched: PatchedSource,
    request: BuildRequest,
    *,
    on_step: Callable[[int, int], None] = lambda _done, _total: None,
) -> ProbedSource:
    """Run the build child with wrappers that compile only what the recipe names."""
    patterns = require_probe(request.job.version)
    places = Places(base=request.toolchain.sandbox.base)
    variables = {VARIABLE: "\n".join(patterns)}
    started = time.monotonic()
    output = run_build(patched, request, places, variables=variables, on_step=on_step)
    seconds = time.monotonic() - started
    # what the build put together of empty objects
    remove_tree(output / "dist")
    units = read_units(output)
    left_out = _lines(output, "probe/left-out")
    _refuse_idle_patterns(patterns, units, left_out, request)
    return ProbedSource(
        units=units,
        left_out=len(set(left_out)),
        seconds=seconds,
        cpu_seconds=read_cpu_seconds(output),
    )


def read_units(output: Path) -> tuple[ProbedUnit, ...]:
    """Read what the wrappers wrote of each unit: when it began and ended, and its path."""
    units = []
    for line in _lines(output, "probe/compiled"):
        match = _COMPILED.fullmatch(line)
        if match is None:
            msg = f"The probe wrote {line[:200]!r} of a unit, which is no time. Look at its source."
            raise BuildError(msg)
        seconds = round(float(match["ended"]) - float(match["began"]), 3)
        units.append(ProbedUnit(source=match["source"], seconds=seconds))
    return tuple(sorted(units, key=lambda unit: unit.source))


def _lines(output: Path, name: str) -> list[str]:
    try:
        return read_left(output, name).decode("utf-8", "replace").splitlines()
    except FileNotFoundError:
        return []


def _refuse_idle_patterns(
    patterns: Sequence[str],
    units: Sequence[ProbedUnit],
    left_out: Sequence[str],
    request: BuildRequest,
) -> None:
    """A pattern that matches nothing would make a probe say more than it showed."""
    idle = [
        pattern
        for pattern in patterns
        if not any(fnmatchcase(unit.source, pattern) for unit in units)
    ]
    if not idle:
        return
    others = ", ".join(sorted(set(left_out))[:12]) or "none"
    msg = (
        f"{request.job.identifier} compiles no source that matches {', '.join(map(repr, idle))} "
        f"of `build.probe` in recipes/{request.job.version.recipe}.toml. It compiles also: "
        f"{others}.\nLog: {request.log_path}"
    )
    raise BuildError(msg)
