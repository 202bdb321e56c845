"""What the coverage page shows: every wheel there is, and how every other combination stands."""

from __future__ import annotations

import dataclasses
import re
from typing import TYPE_CHECKING, Final

from wheelyard.model.cell import Cell, PythonVersion, TorchBuild
from wheelyard.model.index_entry import parsed_version
from wheelyard.model.matrix import parse_machine
from wheelyard.model.request import form_url
from wheelyard.planning.plan import expand_matrix

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from wheelyard.farm import Farm
    from wheelyard.model.index_entry import IndexEntry
    from wheelyard.yard.folder import Yard

FORMAT: Final = 1
BUILDABLE: Final = "buildable"
EXCLUDED: Final = "excluded"
FAILED: Final = "failed"
IMPOSSIBLE: Final = "impossible"
_NONE: Final = -1
_JOB: Final = re.compile(
    r"(?P<name>.+)-(?P<version>[0-9][^-]*)-(?P<python>cp\d{2,3}t?)"
    r"-torch(?P<torch>[^-]+)-(?P<cuda>cu\d{3})-(?P<machine>x86_64|aarch64)"
)
"""The identifier of a job with the default GPU targets and a locked torch."""
_COLUMNS: Final = (
    *("name", "version", "python", "torch", "machine", "archs", "label", "platform"),
    *("revision", "size", "level", "adopted"),
)
_TABLES: Final = (
    *("archs", "labels", "machines", "names", "platforms", "pythons", "states", "torches"),
    "versions",
)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Failure:
    """A job whose last build left a log and no wheel."""

    identifier: str
    log_url: str
    """As the page names it; empty where the log is not published."""


def find_failures(yard: Yard, *, log_urls: str) -> tuple[Failure, ...]:
    """Return the jobs that were tried and have no wheel; ``log_urls`` is the folder of the logs."""
    folder = yard.path / "logs"
    if not folder.is_dir():
        return ()
    stored = {entry.identifier for entry in yard.entries(yard.record_names())}
    return tuple(
        Failure(identifier=path.stem, log_url=f"{log_urls}{path.name}" if log_urls else "")
        for path in sorted(folder.glob("*.log"))
        if path.stem not in stored
    )


def coverage(
    entries: Iterable[IndexEntry], farm: Farm | None, failures: Iterable[Failure] = ()
) -> dict[str, object]:
    """Return what the page's script reads: tables of words, and numbers that point into them.

    Wheels are columns, so that twenty thousand of them are some hundred kilobytes.
    """
    return _Tables().document(tuple(entries), farm, tuple(failures))


class _Words:
    """Words by their numbers."""

    def __init__(self) -> None:
        self.words: list[str] = []
        self._numbers: dict[str, int] = {}

    def __contains__(self, word: str) -> bool:
        return word in self._numbers

    def number(self, word: str) -> int:
        found = self._numbers.get(word)
        if found is None:
            found = self._numbers[word] = len(self.words)
            self.words.append(word)
        return found


class _Tables:
    """Collects the words that wheels and cells have in common."""

    def __init__(self) -> None:
        self.names = _Words()
        self.versions = _Words()
        self.pythons = _Words()
        self.torches = _Words()
        self.machines = _Words()
        self.archs = _Words()
        self.labels = _Words()
        self.platforms = _Words()
        self.states = _Words()

    def document(
        self,
        entries: tuple[IndexEntry, ...],
        farm: Farm | None,
        failures: tuple[Failure, ...],
    ) -> dict[str, object]:
        self._sort_axes(entries, farm)
        ordered = sorted(entries, key=lambda entry: (entry.name, *entry.order))
        wheels = [self._wheel(entry) for entry in ordered]
        return {
            "about": _about(farm),
            "bare": sorted({entry.name for entry in entries if not entry.has_local_version}),
            "cells": self._cells(farm, failures),
            "form": form_url(farm.matrix.repository) if farm and farm.matrix.repository else "",
            "format": FORMAT,
            "wheels": {key: [wheel[at] for wheel in wheels] for at, key in enumerate(_COLUMNS)},
            "yanked": {
                number: entry.yanked
                for number, entry in enumerate(ordered)
                if entry.yanked is not None
            },
            **{name: getattr(self, name).words for name in _TABLES},
        }

    def _sort_axes(self, entries: Iterable[IndexEntry], farm: Farm | None) -> None:
        """Number names, Pythons and torch builds in the order in which they are shown."""
        entries = tuple(entries)
        names = {entry.name for entry in entries}
        pythons = {PythonVersion.parse(entry.python) for entry in entries}
        torches = {TorchBuild.parse(torch) for torch in {entry.torch for entry in entries}}
        machines = {entry.machine for entry in entries}
        if farm is not None:
            names |= {str(recipe.name) for recipe in farm.recipes}
            pythons |= set(farm.matrix.pythons)
            torches |= set(farm.matrix.torches)
            machines |= set(farm.matrix.machines)
        for name in sorted(names):
            self.names.number(name)
        for python in sorted(pythons):
            self.pythons.number(str(python))
        for torch in sorted(torches, key=lambda one: (one.version, str(one.cuda)), reverse=True):
            self.torches.number(str(torch))
        for machine in sorted(machines, reverse=True):
            self.machines.number(machine)

    def _wheel(self, entry: IndexEntry) -> tuple[int, ...]:
        platform = entry.filename.removesuffix(".whl").rpartition("-")[2].partition(".")[0]
        return (
            self.names.number(entry.name),
            self.versions.number(parsed_version(entry.version).public),
            self.pythons.number(entry.python),
            self.torches.number(entry.torch),
            self.machines.number(entry.machine),
            self.archs.number(" ".join(entry.gpu_archs)),
            self.labels.number(entry.index_label),
            self.platforms.number(platform),
            entry.revision,
            -(-entry.size // 1024),
            _NONE if entry.level is None else list(type(entry.level)).index(entry.level),
            int(bool(entry.adopted)),
        )

    def _cells(self, farm: Farm | None, failures: tuple[Failure, ...]) -> list[list[object]]:
        """Return a map for each recipe version and machine: torch builds times Pythons."""
        maps: dict[tuple[int, int, int], list[int]] = {}
        for name, version, cell, state in _states(farm, failures):
            python, torch = str(cell.python), str(cell.torch)
            if python not in self.pythons or torch not in self.torches:
                continue
            key = (
                self.names.number(name),
                self.versions.number(version),
                self.machines.number(cell.machine),
            )
            width = len(self.pythons.words)
            found = maps.setdefault(key, [_NONE] * (width * len(self.torches.words)))
            at = self.torches.number(torch) * width + self.pythons.number(python)
            found[at] = self.states.number(state)
        return [[*key, states] for key, states in sorted(maps.items())]


def _states(farm: Farm | None, failures: Iterable[Failure]) -> Iterator[tuple[str, str, Cell, str]]:
    """Yield name, version, cell and state of what has no wheel; a later one takes precedence."""
    if farm is not None:
        jobs, unwanted = expand_matrix(farm.recipes, farm.matrix)
        for job in jobs:
            yield str(job.version.recipe), str(job.version.version), job.cell, BUILDABLE
        for item in unwanted:
            version = item.version
            state = f"{IMPOSSIBLE if item.impossible else EXCLUDED}\t{item.reason}"
            yield str(version.recipe), str(version.version), item.cell, state
    for failure in failures:
        match = _JOB.fullmatch(failure.identifier)
        if match is not None:
            cell = Cell(
                PythonVersion.parse(match["python"]),
                TorchBuild.parse(f"{match['torch']}+{match['cuda']}"),
                parse_machine(match["machine"]),
            )
            yield match["name"], match["version"], cell, f"{FAILED}\t{failure.log_url}"


def _about(farm: Farm | None) -> dict[str, list[str]]:
    recipes = () if farm is None else farm.recipes
    return {str(recipe.name): [recipe.summary, recipe.homepage] for recipe in recipes}
