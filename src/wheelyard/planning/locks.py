"""Which locks a job stands on."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

from wheelyard.model.cell import MACHINES
from wheelyard.model.lock import (
    LockRequest,
    build_lock_request,
    runtime_lock_request,
    toolkit_lock_request,
    torch_lock_request,
)
from wheelyard.model.releases import cuda_release, default_torch_build, torch_release

if TYPE_CHECKING:
    from collections.abc import Iterator

    from wheelyard.farm import Farm
    from wheelyard.model.cell import CudaVersion, TorchBuild
    from wheelyard.model.job import Job
    from wheelyard.model.recipe import RecipeVersion


@functools.cache
def torch_lock(torch: TorchBuild) -> LockRequest:
    """The lock of a torch build, for the Pythons and machines that it has wheels for."""
    release = torch_release(torch.version)
    having = [machine for machine in sorted(MACHINES) if torch.cuda in release.cudas(machine)]
    on_index = [item for item in having if default_torch_build(torch.version, item) == torch]
    machines = tuple(on_index or having)
    oldest = min(python for machine in machines for python in release.pythons(machine))
    requirement = f"torch=={torch.version if on_index else torch}"
    return torch_lock_request(
        torch, python=f"{oldest.major}.{oldest.minor}", machines=machines, requirement=requirement
    )


def needs_pytorch_index(request: LockRequest) -> bool:
    """Whether the lock of a torch build names one that the Python index does not have."""
    return any("+" in requirement for requirement in request.requirements)


@functools.cache
def toolkit_lock(cuda: CudaVersion) -> LockRequest | None:
    """The lock of a toolkit from the index, where the index has a whole one."""
    requirement = cuda_release(cuda).toolkit_requirement
    return None if requirement is None else toolkit_lock_request(cuda, requirement)


def job_locks(job: Job) -> tuple[LockRequest, ...]:
    """Every lock that decides the job's content; a foreign torch has none of its own."""
    return (*torch_and_toolkit_locks(job), *version_locks(job.version, job.cell.torch.cuda))


def torch_and_toolkit_locks(job: Job) -> tuple[LockRequest, ...]:
    """The job's locks that its torch build alone decides."""
    torch = None if job.foreign_torch else torch_lock(job.cell.torch)
    toolkit = toolkit_lock(job.cell.torch.cuda)
    return tuple(request for request in (torch, toolkit) if request is not None)


def version_locks(version: RecipeVersion, cuda: CudaVersion) -> tuple[LockRequest, ...]:
    """The locks of a recipe version, whatever else the cell says."""
    return build_lock_request(version), runtime_lock_request(version, cuda)


def wanted_locks(farm: Farm) -> Iterator[LockRequest]:
    """Yield every lock that the farm's matrix and recipes need and the index can give."""
    torches = [
        torch
        for torch in farm.matrix.torches
        if any(
            default_torch_build(torch.version, machine) == torch for machine in farm.matrix.machines
        )
    ]
    for torch in torches:
        yield torch_lock(torch)
    for cuda in sorted({torch.cuda for torch in torches}):
        request = toolkit_lock(cuda)
        if request is not None:
            yield request
    for recipe in farm.recipes:
        for version in recipe.versions:
            yield build_lock_request(version)
            taken = [
                torch.cuda
                for torch in torches
                if not version.conditions.reasons_against_torch(torch)
            ]
            # without a torch of the matrix, still the lock that a build with --env needs
            cudas = {cuda.major: cuda for cuda in taken or [torches[0].cuda]}
            yield from {runtime_lock_request(version, cuda): None for cuda in cudas.values()}
