"""Wheels that other machines built, taken in by one that runs none of their code.

Nothing that a folder says is believed: digests are computed here, names and fingerprints have to be
the plan's, and every wheel is checked again.
"""

from __future__ import annotations

import dataclasses
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from wheelyard.errors import CheckError, IntegrityError, WheelyardError, YardError
from wheelyard.files import file_sha256
from wheelyard.model.record import BuildRecord, TestReport
from wheelyard.planning.naming import job_named
from wheelyard.wheels.check import check
from wheelyard.wheels.describing import describe
from wheelyard.wheels.expecting import make_expectation
from wheelyard.wheels.surrounding import torch_candidates
from wheelyard.yard.reports import add_report
from wheelyard.yard.store import store_wheel

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from wheelyard.engines.github import FarmPlan
    from wheelyard.farm import Farm
    from wheelyard.model.job import Job
    from wheelyard.yard.store import Yard


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Refusal:
    """A file that was not taken, and why."""

    path: Path
    reason: str


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Accepted:
    """What was taken into the yard."""

    wheels: tuple[str, ...]
    """Identifiers."""
    reports: int
    refused: tuple[Refusal, ...]
    left: tuple[str, ...]
    """Jobs of the plan that nobody brought."""


def accept(folders: Sequence[Path], plan: FarmPlan, *, farm: Farm, yard: Yard) -> Accepted:
    """Take every wheel and report of the plan out of ``folders`` that holds."""
    planned = plan.jobs
    taken: list[str] = []
    refused: list[Refusal] = []
    for path in _files(folders, "records"):
        try:
            taken.append(_take(path, planned, farm=farm, yard=yard))
        except (WheelyardError, OSError) as error:
            refused.append(Refusal(path=path, reason=str(error)))
    reports = 0
    for path in _files(folders, "reports"):
        try:
            add_report(yard, TestReport.from_json(path.read_bytes(), origin=str(path)))
            reports += 1
        except (WheelyardError, OSError) as error:
            refused.append(Refusal(path=path, reason=str(error)))
    return Accepted(
        wheels=tuple(sorted(set(taken))),
        reports=reports,
        refused=tuple(refused),
        left=tuple(name for name in planned if name not in set(taken)),
    )


def _files(folders: Sequence[Path], name: str) -> Iterator[Path]:
    for folder in folders:
        for path in sorted(folder.rglob("*.json")):
            if name in path.relative_to(folder).parts[:-1] and not path.is_symlink():
                yield path


def _take(path: Path, planned: dict[str, str], *, farm: Farm, yard: Yard) -> str:
    record = BuildRecord.from_json(path.read_bytes(), origin=str(path))
    name = record.identifier
    if name not in planned:
        msg = f"{name} is not in the plan of this run. Only what was planned is published."
        raise YardError(msg)
    if record.plan_fingerprint != planned[name]:
        msg = (
            f"{name} was made from other inputs (plan fingerprint {record.plan_fingerprint}) than "
            f"planned ({planned[name]})."
        )
        raise YardError(msg)
    wheel = path.parent.parent / "wheels" / record.filename
    if wheel.is_symlink() or not wheel.is_file():
        msg = f"{wheel} is not there, or no file."
        raise YardError(msg)
    found = file_sha256(wheel)
    if found != record.sha256:
        msg = f"{wheel} has sha256 {found}, its record says {record.sha256}."
        raise IntegrityError(msg)
    job = job_named(name, farm.recipes)
    _check(wheel, record, job)
    store_wheel(yard, wheel, record)
    return name


def _check(wheel: Path, record: BuildRecord, job: Job) -> None:
    """Hold the wheel against its job once more, and the record against both."""
    said = (record.version, record.revision, record.index_label, record.torch, record.machine)
    wanted = (
        job.wheel_version,
        job.version.revision,
        job.index_label,
        str(job.cell.torch),
        job.cell.machine,
    )
    if said != wanted or record.torch_origin != "locked":
        msg = f"The record of {record.filename} says {said}, {job.identifier} is {wanted}."
        raise YardError(msg)
    with tempfile.TemporaryDirectory(prefix="wheelyard-accept-") as scratch:
        report = check(
            wheel,
            expectation=make_expectation(job, platform_tag=wheel.stem.rpartition("-")[2]),
            surroundings=None,
            candidates=torch_candidates(job.cell.machine, unseen=job.version.contents.loads_first),
            scratch=Path(scratch),
        )
    if not report.passed:
        raise CheckError(describe(report))
