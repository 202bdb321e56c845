"""The plan: which jobs there are for what was asked, each with its state or its reason."""

from __future__ import annotations

import dataclasses
from enum import StrEnum
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from wheelyard.errors import ImpossibleCellError, UnknownNameError
from wheelyard.model.job import Job
from wheelyard.model.possibility import nearest_possible_cell, reasons_impossible

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from wheelyard.model.cell import Cell, GpuArch
    from wheelyard.model.matrix import Matrix
    from wheelyard.model.recipe import Recipe, RecipeVersion
    from wheelyard.planning.fingerprint import PlanFingerprint


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
    """A job, its fingerprint, and what the yard has of it."""

    job: Job
    fingerprint: PlanFingerprint
    standing: Standing


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Unwanted:
    """A combination that is not built: impossible or excluded, with the reason."""

    version: RecipeVersion
    cell: Cell
    reason: str
    impossible: bool


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
    for recipe in recipes:
        for version in recipe.versions:
            for cell in matrix.cells():
                outcome = _consider(version, cell, matrix)
                if isinstance(outcome, Job):
                    jobs.append(outcome)
                else:
                    unwanted.append(outcome)
    jobs.sort(key=lambda job: -matrix.priority(job.identifier))
    return tuple(jobs), tuple(unwanted)


def _consider(version: RecipeVersion, cell: Cell, matrix: Matrix) -> Job | Unwanted:
    reasons = reasons_against(version, cell)
    if reasons:
        return Unwanted(version=version, cell=cell, reason=" ".join(reasons), impossible=True)
    try:
        job = make_job(version, cell)
    except ImpossibleCellError as error:
        return Unwanted(version=version, cell=cell, reason=str(error), impossible=True)
    excluded = matrix.reason_excluded(job.identifier)
    if excluded is not None:
        return Unwanted(version=version, cell=cell, reason=excluded, impossible=False)
    return job


def select_jobs(jobs: Iterable[Job], select: str) -> tuple[Job, ...]:
    """Return the jobs whose identifier matches ``select``, in their order; none is an error."""
    jobs = tuple(jobs)
    selected = tuple(job for job in jobs if fnmatchcase(job.identifier, select))
    if not selected:
        msg = f"No job matches {select!r}. `wheelyard matrix` shows the {len(jobs)} there are."
        raise UnknownNameError(msg)
    return selected


def make_plan(
    jobs: Iterable[Job],
    *,
    fingerprint: Callable[[Job], PlanFingerprint],
    standing: Callable[[Job, PlanFingerprint], Standing],
) -> tuple[PlannedJob, ...]:
    """Return the jobs in their order, with what the yard has of them."""
    planned = []
    for job in jobs:
        print_ = fingerprint(job)
        planned.append(PlannedJob(job=job, fingerprint=print_, standing=standing(job, print_)))
    return tuple(planned)
