"""From the identifier of a job back to the job, without expanding a matrix."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from wheelyard.errors import UnknownNameError
from wheelyard.model.cell import Cell, GpuArch, PythonVersion, TorchBuild
from wheelyard.model.matrix import parse_machine
from wheelyard.model.words import nearest
from wheelyard.planning.plan import make_job

if TYPE_CHECKING:
    from collections.abc import Iterable

    from wheelyard.model.job import Job
    from wheelyard.model.recipe import Recipe, RecipeVersion

_CELL = re.compile(
    r"(?P<label>.+)-(?P<python>cp\d{2,3}t?)-torch(?P<torch>[^-]+)-(?P<cuda>cu\d{3})"
    r"-(?P<machine>[^-]+)(?P<traits>(?:-[a-z0-9.]+)*)"
)
_TARGET = re.compile(r"sm(\d{1,2})(\d)([af]?)(ptx)?")


def job_named(identifier: str, recipes: Iterable[Recipe]) -> Job:
    """Return the job of that identifier, for example of one that ``wheelyard plan`` shows."""
    match = _CELL.fullmatch(identifier)
    if match is None:
        msg = (
            f"{identifier!r} is not the identifier of a job. "
            "They look like causal-conv1d-1.7.0-cp312-torch2.11.0-cu130-x86_64."
        )
        raise UnknownNameError(msg)
    version = _version(match["label"], recipes)
    cell = Cell(
        PythonVersion.parse(match["python"]),
        TorchBuild.parse(f"{match['torch']}+{match['cuda']}"),
        parse_machine(match["machine"]),
    )
    traits = match["traits"].split("-")[1:]
    job = make_job(
        version,
        cell,
        gpu_archs=_gpu_archs(traits),
        lineinfo="lineinfo" in traits,
        foreign_torch="env" in traits,
    )
    if job.identifier != identifier:
        msg = f"No job is named {identifier!r}. The nearest is {job.identifier!r}."
        raise UnknownNameError(msg)
    return job


def _version(label: str, recipes: Iterable[Recipe]) -> RecipeVersion:
    known = {version.label: version for recipe in recipes for version in recipe.versions}
    if label in known:
        return known[label]
    msg = f"There is no recipe version {label!r}.{nearest(label, known)}"
    raise UnknownNameError(msg)


def _gpu_archs(traits: list[str]) -> tuple[GpuArch, ...] | None:
    """Read a list of targets as identifiers name it, for example ``sm80.sm90a``."""
    for trait in traits:
        targets = [_TARGET.fullmatch(part) for part in trait.split(".")]
        if all(targets):
            return tuple(
                GpuArch.parse(f"{one[1]}.{one[2]}{one[3]}{'+PTX' if one[4] else ''}")
                for one in targets
                if one is not None
            )
    return None
