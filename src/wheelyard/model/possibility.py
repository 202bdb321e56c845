"""Which cells can exist at all, and which compilers and drivers serve them; with the reasons."""

from __future__ import annotations

import functools
import re
from typing import TYPE_CHECKING

from wheelyard.errors import UsageError
from wheelyard.model.cell import Cell, TorchBuild
from wheelyard.model.releases import (
    cuda_release,
    release_distance,
    torch_release,
    torch_releases,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from packaging.version import Version

    from wheelyard.model.cell import CudaVersion, GpuArch, Machine, PythonVersion
    from wheelyard.model.releases import TorchRelease

_DRIVER = re.compile(r"\d+(\.\d+)*")


def reasons_impossible(cell: Cell, *, gpu_archs: tuple[GpuArch, ...] = ()) -> tuple[str, ...]:
    """Say in sentences why ``cell`` cannot exist, or not with these targets; empty if it can.

    A torch release that the facts do not know raises ``UnknownNameError``.
    """
    return (
        *reasons_against_python(cell.torch.version, cell.python, cell.machine),
        *reasons_against_build(cell.torch, cell.machine, gpu_archs),
    )


@functools.cache
def reasons_against_python(
    torch: Version, python: PythonVersion, machine: Machine
) -> tuple[str, ...]:
    """Say why this torch cannot be had for this Python."""
    pythons = torch_release(torch).pythons(machine)
    if python in pythons:
        return ()
    reason = f"torch {torch} has no wheels for Python {python} on {machine} "
    return (f"{reason}(it has {_join(pythons)}).",)


@functools.cache
def reasons_against_build(
    torch: TorchBuild, machine: Machine, gpu_archs: tuple[GpuArch, ...] = ()
) -> tuple[str, ...]:
    """Say why there is no such torch build, or not with these targets, whatever the Python."""
    release = torch_release(torch.version)
    build_reason = _reason_against_build(release, torch.cuda, machine)
    reasons = [build_reason]
    if build_reason is None:
        reasons.append(reason_cuda_cannot_compile(torch.cuda, gpu_archs))
    reasons.append(_reason_unknown_to_torch(release, gpu_archs))
    return tuple(reason for reason in reasons if reason is not None)


@functools.cache
def nearest_possible_cell(cell: Cell) -> Cell | None:
    """Return the possible cell of the same machine that changes least; ``cell`` if it is one.

    Another Python first, then another torch with the same CUDA, then the index's default build.
    """
    candidates = _possible_cells(cell)
    return min(candidates, key=lambda candidate: _distance(cell, candidate), default=None)


def reason_cuda_cannot_compile(cuda: CudaVersion, gpu_archs: Iterable[GpuArch]) -> str | None:
    """Say which of these GPU targets nvcc of this CUDA release does not have."""
    release = cuda_release(cuda)
    missing = [arch for arch in gpu_archs if not release.compiles_for(arch)]
    if not missing:
        return None
    first, last = release.gpu_archs[0], release.gpu_archs[-1]
    if all(arch < first for arch in missing):
        range_ = f"it starts at {first}"
    elif all(arch > last for arch in missing):
        range_ = f"it ends at {last}"
    else:
        range_ = f"it can for {_join(release.gpu_archs)}"
    return f"CUDA {cuda} cannot compile for {_join(missing)} ({range_})."


def reason_compiler_too_new(cuda: CudaVersion, *, gcc_major: int) -> str | None:
    """Say why nvcc of this CUDA release refuses this gcc."""
    newest = cuda_release(cuda).maximum_gcc
    if gcc_major <= newest:
        return None
    return f"gcc {gcc_major} is too new for CUDA {cuda}: its nvcc takes gcc up to {newest}."


def reason_compiler_too_old(torch: TorchBuild, *, gcc_major: int) -> str | None:
    """Say why this torch's headers cannot be compiled by this gcc."""
    oldest = torch_release(torch.version).minimum_gcc
    if gcc_major >= oldest:
        return None
    return f"gcc {gcc_major} is too old for torch {torch.version}: it needs gcc {oldest} or later."


def reason_compiler_refused(torch: TorchBuild, *, gcc_major: int) -> str | None:
    """Say why cpp_extension of this torch build stops at this gcc, whatever nvcc accepts."""
    bounds = torch_release(torch.version).build(torch.cuda).gcc_bounds
    if bounds is None or gcc_major in bounds:
        return None
    return (
        f"cpp_extension of torch {torch} refuses gcc {gcc_major} (it takes "
        f"{bounds.minimum_major} to {bounds.below_major - 1}), unless "
        "TORCH_DONT_CHECK_COMPILER_ABI is set."
    )


def reason_driver_too_old(cuda: CudaVersion, *, driver: str) -> str | None:
    """Say why this driver, for example ``580.65.06``, cannot run code of this CUDA release."""
    if _DRIVER.fullmatch(driver) is None:
        msg = f"{driver!r} is not a driver version. Write it as nvidia-smi does, as in 580.65.06."
        raise UsageError(msg)
    oldest = cuda_release(cuda).minimum_driver
    if _numbers(driver) >= _numbers(oldest):
        return None
    return f"Driver {driver} is too old for CUDA {cuda}: it needs {oldest} or later."


def _reason_against_build(release: TorchRelease, cuda: CudaVersion, machine: Machine) -> str | None:
    cudas = release.cudas(machine)
    if cuda in cudas:
        return None
    if not cudas:
        return f"torch {release.version} on {machine} has no CUDA wheels on the index."
    if cudas == (release.default_cuda(machine),):
        return (
            f"torch {release.version} on {machine} has no CUDA {cuda} wheels on the index "
            f"(it has {_join(cudas)})."
        )
    return f"torch {release.version} was never built for CUDA {cuda} (it was for {_join(cudas)})."


def _reason_unknown_to_torch(release: TorchRelease, gpu_archs: tuple[GpuArch, ...]) -> str | None:
    unknown = [arch for arch in gpu_archs if not release.knows(arch)]
    if not unknown:
        return None
    targets = "GPU target" if len(unknown) == 1 else "GPU targets"
    return f"torch {release.version} does not know {targets} {_join(unknown)}."


def _possible_cells(cell: Cell) -> Iterator[Cell]:
    """Yield the possible cells of the same torch build, the same CUDA, or a default build."""
    for release in torch_releases():
        for cuda in release.cudas(cell.machine):
            if cuda in {cell.torch.cuda, release.default_cuda(cell.machine)}:
                for python in release.pythons(cell.machine):
                    yield Cell(python, TorchBuild(release.version, cuda), cell.machine)


def _distance(cell: Cell, candidate: Cell) -> tuple[object, ...]:
    return (
        candidate.torch.cuda != cell.torch.cuda,
        release_distance(cell.torch.version, candidate.torch.version),
        *_python_distance(cell.python, candidate.python),
    )


def _python_distance(python: PythonVersion, other: PythonVersion) -> tuple[object, ...]:
    """Prefer the same kind of interpreter: who asks for a free-threaded one needs it."""
    return (
        python.free_threaded != other.free_threaded,
        abs(python.major - other.major),
        abs(python.minor - other.minor),
        -other.minor,
    )


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))


def _join(values: Iterable[object]) -> str:
    return ", ".join(map(str, values))
