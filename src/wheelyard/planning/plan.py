"""The plan: which jobs there are for what was asked, each with its state or its reason."""

from __future__ import annotations

import dataclasses
import itertools
from enum import StrEnum
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from wheelyard.errors import ImpossibleCellError, UnknownNameError, UsageError
from wheelyard.model.cell import Cell
from wheelyard.model.job import Job
from wheelyard.model.possibility import (
    nearest_possible_cell,
    reasons_against_build,
    reasons_against_python,
    reasons_impossible,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from wheelyard.model.cell import GpuArch, Machine, PythonVersion, TorchBuild
    from wheelyard.model.matrix import Matrix
    from wheelyard.model.recipe import Recipe, RecipeVersion
    from wheelyard.planning.fingerprint import GroupFingerprint, PlanFingerprint


class JobState(StrEnum):
    """How a wanted job stands against the yard."""

    missing = "missing"
    stale = "stale"
    done = "done"


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Standing:
    """How a job stands against the yard, and whose the wheel is that makes it so."""

    state: JobState
    differences: tuple[str, ...] = ()
    """For a stale job: what changed since its wheel was made."""
    adopted: str = ""
    """Where its wheel came from, if it was adopted and not built."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class PlannedJob:
    """A job, what its fingerprint is made from, and what the yard has of it."""

    job: Job
    shared: GroupFingerprint
    standing: Standing

    @property
    def fingerprint(self) -> PlanFingerprint:
        return self.shared.of_cell(self.job.cell)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Unwanted:
    """A combination that is not built: impossible or excluded."""

    version: RecipeVersion
    cell: Cell
    excluded: str | None = None
    """Why the matrix does not want it, if it is possible."""

    @property
    def impossible(self) -> bool:
        return self.excluded is None

    @property
    def reason(self) -> str:
        """Why it is not built, in sentences."""
        if self.excluded is not None:
            return self.excluded
        return _why_impossible(self.version, self.cell)


def reasons_against(
    version: RecipeVersion, cell: Cell, *, gpu_archs: tuple[GpuArch, ...] = ()
) -> tuple[str, ...]:
    """Say why this version cannot be built for this cell; empty when it can."""
    reasons = reasons_impossible(cell, gpu_archs=gpu_archs)
    own = version.conditions.reasons_against(cell)
    return (*reasons, *(f"{version.label} {reason}." for reason in own))


def make_job(
    version: RecipeVersion,
    cell: Cell,
    *,
    gpu_archs: tuple[GpuArch, ...] | None = None,
    lineinfo: bool = False,
    foreign_torch: bool = False,
) -> Job:
    """Return the job, or raise with the reason and the nearest cell that is possible."""
    if gpu_archs and not version.gpu_archs:
        msg = f"{version.label} has no device code: there are no GPU targets to choose."
        raise UsageError(msg)
    archs = gpu_archs or version.default_gpu_archs(cell.torch.cuda)
    reasons = () if foreign_torch else reasons_against(version, cell, gpu_archs=archs)
    if reasons:
        why = " ".join(reasons)
        msg = f"{version.label} for {cell.identifier} is impossible: {why}{nearest_hint(cell)}"
        raise ImpossibleCellError(msg)
    return Job(
        version=version,
        cell=cell,
        gpu_archs=archs,
        lineinfo=lineinfo,
        foreign_torch=foreign_torch,
    )


def nearest_hint(cell: Cell) -> str:
    """Name the possible cell that changes least, in a sentence; nothing if ``cell`` is possible."""
    near = nearest_possible_cell(cell)
    if near is None or near == cell:
        return ""
    return (
        f" The nearest possible cell is {near.identifier}: "
        f"--python {near.python} --torch {near.torch.version} --cuda {near.torch.cuda}."
    )


def expand_matrix(
    recipes: Iterable[Recipe], matrix: Matrix
) -> tuple[tuple[Job, ...], tuple[Unwanted, ...]]:
    """Return the wanted jobs by priority, and every other combination with its reason."""
    jobs: list[Job] = []
    unwanted: list[Unwanted] = []
    for outcome in consider_matrix(recipes, matrix):
        if isinstance(outcome, Job):
            jobs.append(outcome)
        else:
            unwanted.append(outcome)
    return _by_priority(jobs, matrix), tuple(unwanted)


def wanted_jobs(recipes: Iterable[Recipe], matrix: Matrix) -> tuple[Job, ...]:
    """Return the wanted jobs by priority; of a million cells most cost nothing."""
    jobs = (
        job
        for group in _groups(recipes, matrix)
        for job in group.jobs()
        if matrix.reason_excluded(job.identifier) is None
    )
    return _by_priority(jobs, matrix)


def consider_matrix(recipes: Iterable[Recipe], matrix: Matrix) -> Iterator[Job | Unwanted]:
    """Yield every combination, those of a group together: a job, or what speaks against it."""
    for group in _groups(recipes, matrix):
        jobs = {job.cell.python: job for job in group.jobs()}
        for python in matrix.pythons:
            job = jobs.get(python)
            cell = Cell(python, group.torch, group.machine)
            excluded = None if job is None else matrix.reason_excluded(job.identifier)
            if job is None or excluded is not None:
                yield Unwanted(version=group.version, cell=cell, excluded=excluded)
            else:
                yield job


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class _Group:
    """The combinations of one recipe version, torch build and machine."""

    version: RecipeVersion
    torch: TorchBuild
    machine: Machine
    gpu_archs: tuple[GpuArch, ...]
    pythons: tuple[PythonVersion, ...]
    """Those it is possible for."""

    def jobs(self) -> Iterator[Job]:
        for python in self.pythons:
            cell = Cell(python, self.torch, self.machine)
            yield Job(version=self.version, cell=cell, gpu_archs=self.gpu_archs)


def _groups(recipes: Iterable[Recipe], matrix: Matrix) -> Iterator[_Group]:
    """Yield the groups of the matrix, the impossible ones too; nothing is asked twice of facts."""
    having = {
        (torch.label, machine): _pythons_of(torch, machine, matrix)
        for torch, machine in itertools.product(matrix.torches, matrix.machines)
    }
    for version in itertools.chain.from_iterable(recipe.versions for recipe in recipes):
        refused = {
            python for python in matrix.pythons if version.conditions.reasons_against_python(python)
        }
        for torch in matrix.torches:
            archs = _usable_gpu_archs(version, torch)
            for machine in matrix.machines:
                pythons = having[torch.label, machine]
                if archs is None or reasons_against_build(torch, machine, archs):
                    pythons = ()
                elif refused:
                    pythons = tuple(python for python in pythons if python not in refused)
                yield _Group(
                    version=version,
                    torch=torch,
                    machine=machine,
                    gpu_archs=archs or (),
                    pythons=pythons,
                )


def _pythons_of(torch: TorchBuild, machine: Machine, matrix: Matrix) -> tuple[PythonVersion, ...]:
    return tuple(
        python
        for python in matrix.pythons
        if not reasons_against_python(torch.version, python, machine)
    )


def _usable_gpu_archs(version: RecipeVersion, torch: TorchBuild) -> tuple[GpuArch, ...] | None:
    """Return the default targets; None where the version does not take this torch at all."""
    if version.conditions.reasons_against_torch(torch):
        return None
    try:
        return version.default_gpu_archs(torch.cuda)
    except ImpossibleCellError:
        return None


def _by_priority(jobs: Iterable[Job], matrix: Matrix) -> tuple[Job, ...]:
    if not matrix.priorities:
        return tuple(jobs)
    return tuple(sorted(jobs, key=lambda job: -matrix.priority(job.identifier)))


def _why_impossible(version: RecipeVersion, cell: Cell) -> str:
    reasons = reasons_against(version, cell)
    if reasons:
        return " ".join(reasons)
    try:
        make_job(version, cell)
    except ImpossibleCellError as error:
        return str(error)
    return ""


def select_jobs(jobs: Iterable[Job], *patterns: str) -> tuple[Job, ...]:
    """Return the jobs whose identifier matches any pattern, in their order; none is an error."""
    jobs = tuple(jobs)
    names = {pattern for pattern in patterns if not set(pattern) & set("*?[")}
    globs = [pattern for pattern in patterns if pattern not in names]
    selected = tuple(
        job
        for job in jobs
        if job.identifier in names or any(fnmatchcase(job.identifier, glob) for glob in globs)
    )
    if not selected:
        what = ", ".join(map(repr, patterns))
        msg = f"No job matches {what}. `wheelyard matrix` shows the {len(jobs)} there are."
        raise UnknownNameError(msg)
    return selected


def select_unwanted(unwanted: Iterable[Unwanted], *patterns: str) -> tuple[Unwanted, ...]:
    """Return those combinations that would be named so, if they could be."""
    return tuple(
        item
        for item in unwanted
        if any(fnmatchcase(f"{item.version.label}-{item.cell.identifier}", one) for one in patterns)
    )
