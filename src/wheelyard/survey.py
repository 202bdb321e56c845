"""How many jobs stand against the yard: every file is read once, however many jobs need it."""

from __future__ import annotations

import contextlib
import dataclasses
import gc
from typing import TYPE_CHECKING

from wheelyard.errors import LockError
from wheelyard.files import file_sha256
from wheelyard.planning.fingerprint import GroupFingerprint, group_fingerprint, version_inputs
from wheelyard.planning.locks import torch_and_toolkit_locks, version_locks
from wheelyard.planning.plan import JobState, PlannedJob, Standing
from wheelyard.workshop import standing_of
from wheelyard.yard.catalogue import Catalogue, read_catalogue
from wheelyard.yard.probes import read_probes

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from wheelyard.model.cell import CudaVersion
    from wheelyard.model.job import Job
    from wheelyard.model.lock import LockRequest
    from wheelyard.model.probe_record import ProbeRecord
    from wheelyard.planning.fingerprint import Inputs
    from wheelyard.workshop import Workshop
    from wheelyard.yard.folder import Yard

_MISSING = Standing(state=JobState.missing)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Unlocked:
    """A job that cannot be built before a lock is made."""

    job: Job
    reason: str


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Survey:
    """What was asked for, as it stands; each part in the order of the jobs."""

    planned: tuple[PlannedJob, ...]
    unlocked: tuple[Unlocked, ...]
    catalogue: Catalogue


@contextlib.contextmanager
def planning() -> Iterator[None]:
    """Let a plan be made: millions of objects without a cycle, so that nobody looks for one."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def survey(jobs: Iterable[Job], workshop: Workshop) -> Survey:
    """Say of every job whether the yard lacks it, has it, or has one made from other inputs."""
    fingerprints = _Fingerprints(workshop)
    catalogue = read_catalogue(workshop.yard)
    planned: list[PlannedJob] = []
    unlocked: list[Unlocked] = []
    probes = _Probes(workshop.yard)
    for job in jobs:
        shared = fingerprints.of_group(job)
        if isinstance(shared, LockError):
            unlocked.append(Unlocked(job=job, reason=str(shared)))
            continue
        has_any = (job.version.label, job.cell.torch.label) in catalogue.builds
        standing = _standing(job, shared, catalogue) if has_any else _MISSING
        if standing.state is JobState.missing:
            standing = probes.standing(job, shared)
        planned.append(PlannedJob(job=job, shared=shared, standing=standing))
    return Survey(planned=tuple(planned), unlocked=tuple(unlocked), catalogue=catalogue)


def _standing(job: Job, shared: GroupFingerprint, catalogue: Catalogue) -> Standing:
    fingerprint = shared.of_cell(job.cell)
    stored = catalogue.find(identifier=job.identifier, plan_fingerprint=fingerprint.sha256)
    return _MISSING if stored is None else standing_of(stored, job, fingerprint)


class _Probes:
    """Finds the probe of a job; one for other GPU targets says nearly as much, and which."""

    def __init__(self, yard: Yard) -> None:
        self._by_job: dict[tuple[str, str], list[ProbeRecord]] = {}
        for record in read_probes(yard):
            self._by_job.setdefault((record.recipe, record.cell), []).append(record)

    def standing(self, job: Job, shared: GroupFingerprint) -> Standing:
        if not self._by_job:  # as nearly always, and there may be a million jobs
            return _MISSING
        found = self._by_job.get((job.version.label, job.cell.identifier), [])
        inputs = shared.of_cell(job.cell).inputs
        archs = [record.gpu_archs for record in found if _is_probe_of(record, inputs)]
        if not archs:
            return _MISSING
        return Standing(state=JobState.probed, probed=max(archs, key=len))


def _is_probe_of(record: ProbeRecord, inputs: Mapping[str, object]) -> bool:
    """Whether nothing but the GPU targets has changed since."""
    sides = (record.fingerprint_inputs, dict(inputs))
    then, now = ({**side, "gpu_archs": None} for side in sides)
    return then == now


class _Fingerprints:
    """Makes what the fingerprints of a group share, and remembers the digests of files."""

    def __init__(self, workshop: Workshop) -> None:
        self._workshop = workshop
        self._groups: dict[str, GroupFingerprint | LockError] = {}
        self._locks: dict[tuple[str, str], tuple[str, str]] = {}
        self._patches: dict[str, str] = {}
        self._series: dict[tuple[str, str, str], dict[str, str]] = {}
        self._torches: dict[tuple[str, bool], dict[str, str]] = {}
        self._of_versions: dict[
            tuple[str, CudaVersion], tuple[tuple[LockRequest, ...], Inputs]
        ] = {}

    def of_group(self, job: Job) -> GroupFingerprint | LockError:
        name = job.identifier if job.version.patches_depend_on_python else job.group
        found = self._groups.get(name)
        if found is None:
            try:
                found = self._make(job)
            except LockError as error:
                found = error
            self._groups[name] = found
        return found

    def _make(self, job: Job) -> GroupFingerprint:
        locks, inputs = self._of_version(job)
        digests = dict(self._lock(request) for request in locks) | self._of_torch(job)
        return group_fingerprint(
            job,
            of_version=inputs,
            patches=self._patches_of(job),
            locks=digests,
            gcc_major=self._workshop.farm.matrix.gcc_major,
            container=self._workshop.farm.matrix.container,
        )

    def _of_version(self, job: Job) -> tuple[tuple[LockRequest, ...], Inputs]:
        key = job.version.label, job.cell.torch.cuda
        if key not in self._of_versions:
            digest = self._workshop.folder_digest(job)
            floor = self._workshop.farm.matrix.floor_of(job.version)
            inputs = version_inputs(job.version, folder_digest=digest, floor=floor)
            self._of_versions[key] = version_locks(job.version, job.cell.torch.cuda), inputs
        return self._of_versions[key]

    def _of_torch(self, job: Job) -> dict[str, str]:
        key = job.cell.torch.label, job.foreign_torch
        if key not in self._torches:
            digests = dict(self._lock(request) for request in torch_and_toolkit_locks(job))
            self._torches[key] = digests | self._workshop.redist_digest(job.cell.torch.cuda)
        return self._torches[key]

    def _lock(self, request: LockRequest) -> tuple[str, str]:
        key = request.kind, request.name
        if key not in self._locks:
            self._locks[key] = str(request.path), self._workshop.farm.lock(request).sha256
        return self._locks[key]

    def _patches_of(self, job: Job) -> dict[str, str]:
        python = job.cell.python.abi_tag if job.version.patches_depend_on_python else ""
        key = job.version.label, job.cell.torch.label, python
        if key not in self._series:
            files = self._workshop.farm.patch_files(job)
            self._series[key] = {name: self._patch(path) for name, path in files.items()}
        return self._series[key]

    def _patch(self, path: str) -> str:
        if path not in self._patches:
            self._patches[path] = file_sha256(self._workshop.farm.folder / "patches" / path)
        return self._patches[path]
