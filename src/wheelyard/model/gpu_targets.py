"""On which GPUs code runs: as it is, compiled from PTX by the driver, or not at all."""

from __future__ import annotations

import dataclasses
import re
from enum import StrEnum
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

from wheelyard.model.cell import GpuArch, Machine
from wheelyard.model.known_libraries import Bringer, bringer

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping


class Gpu(NamedTuple):
    """The GPUs of one compute capability."""

    name: str
    arch: GpuArch
    machine: Machine | None = None
    """Where they are built into one kind of machine only."""


GPUS: Final = (
    Gpu("V100", GpuArch(7, 0)),
    Gpu("T4, RTX 20", GpuArch(7, 5)),
    Gpu("A100", GpuArch(8, 0)),
    Gpu("A10, A40, RTX 30", GpuArch(8, 6)),
    Gpu("Jetson Orin", GpuArch(8, 7), "aarch64"),
    Gpu("L4, L40, RTX 40", GpuArch(8, 9)),
    Gpu("H100, H200, GH200", GpuArch(9, 0)),
    Gpu("B200, GB200", GpuArch(10, 0)),
    Gpu("B300, GB300", GpuArch(10, 3)),
    Gpu("Jetson Thor", GpuArch(11, 0), "aarch64"),
    Gpu("RTX 50, RTX PRO Blackwell", GpuArch(12, 0)),
    Gpu("GB10 (DGX Spark)", GpuArch(12, 1), "aarch64"),
)
"""Those that people run torch on."""

_TEGRA: Final = frozenset({(5, 3), (6, 2), (7, 2), (8, 7)})
"""Chips with a GPU of their own make: machine code is not exchanged with that of other GPUs."""

_DIGITS = re.compile(r"\d+(?:[af](?![a-z]))?")


class HasTargets(Protocol):
    """The targets that there is machine code for, and those that there is PTX for."""

    @property
    def cubins(self) -> Collection[GpuArch]: ...
    @property
    def ptx(self) -> Collection[GpuArch]: ...


class How(StrEnum):
    """How code comes to run on a GPU."""

    NATIVE = "native"
    PTX = "ptx"
    """The driver compiles it at first use; it has to be as new as the compiler was."""
    NONE = "none"


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Run:
    """How the code of one file runs on one GPU."""

    how: How
    by: GpuArch | None = None
    """The target that is used, for example ``8.0``, or ``8.0+PTX``."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class GpuCoverage:
    """How a wheel runs on one GPU."""

    gpu: str
    """For example ``H100, H200, GH200``."""
    arch: GpuArch
    how: How
    """The worst of its files; of alternatives, the best."""
    by: tuple[GpuArch, ...] = ()
    """The targets that are used, for example ``8.0`` and ``8.0+PTX``."""
    missing_in: tuple[str, ...] = ()
    """The members that hold GPU code, but none for this GPU."""

    @property
    def is_partial(self) -> bool:
        """Whether some files run on it and others do not."""
        return bool(self.by and self.missing_in)

    def to_json(self) -> dict[str, object]:
        return {
            "arch": str(self.arch),
            "by": [str(arch) for arch in self.by],
            "gpu": self.gpu,
            "how": str(self.how),
            "missing_in": list(self.missing_in),
        }


def gpu_name(arch: GpuArch) -> str:
    """For example ``H100, H200, GH200`` for 9.0; the number itself where no GPU is known."""
    chip = (arch.major, arch.minor)
    names = (gpu.name for gpu in GPUS if (gpu.arch.major, gpu.arch.minor) == chip)
    return next(names, f"compute capability {arch.major}.{arch.minor}")


def run_on(gpu: GpuArch, code: HasTargets) -> Run:
    """Return how a file's code runs on a GPU of that compute capability."""
    native = [arch for arch in code.cubins if _cubin_runs(arch, gpu)]
    if native:
        return Run(how=How.NATIVE, by=max(native))
    compilable = [arch for arch in code.ptx if _ptx_runs(arch, gpu)]
    if compilable:
        return Run(how=How.PTX, by=dataclasses.replace(max(compilable), ptx=True))
    return Run(how=How.NONE)


def gpu_coverage(
    gpu_code: Mapping[str, HasTargets],
    gpus: Iterable[GpuArch] = (),
    *,
    machine: Machine | None = None,
) -> tuple[GpuCoverage, ...]:
    """Return how a wheel with this code, by member, runs on each GPU.

    All GPUs that are known for the machine are tried, unless some are named.
    Members whose names differ in numbers only, as ``lib_cuda124.so`` and ``lib_cuda130.so`` do, are
    alternatives: one that runs is enough. Copies of CUDA's own libraries do not count beside other
    members. Without GPU code there is nothing to say.
    """
    coded = {member: code for member, code in sorted(gpu_code.items()) if code.cubins or code.ptx}
    coded = {member: code for member, code in coded.items() if not _is_of_cuda(member)} or coded
    known = (gpu.arch for gpu in GPUS if None in {machine, gpu.machine} or gpu.machine == machine)
    wanted = tuple(gpus) or tuple(known)
    return tuple(_cover(arch, coded) for arch in wanted) if coded else ()


def _cover(arch: GpuArch, gpu_code: Mapping[str, HasTargets]) -> GpuCoverage:
    runs = {member: run_on(arch, code) for member, code in gpu_code.items()}
    families: dict[str, list[str]] = {}
    for member in runs:
        families.setdefault(_family(member), []).append(member)
    best = [min((runs[one] for one in members), key=_badness) for members in families.values()]
    missing = [
        member
        for members, run in zip(families.values(), best, strict=True)
        if run.how is How.NONE
        for member in members
    ]
    return GpuCoverage(
        gpu=gpu_name(arch),
        arch=GpuArch(arch.major, arch.minor),
        how=max(best, key=_badness).how,
        by=tuple(sorted(set(_used(best)))),
        missing_in=tuple(sorted(missing)),
    )


def _is_of_cuda(member: str) -> bool:
    return bringer(PurePosixPath(member).name) is Bringer.CUDA


def _used(runs: Iterable[Run]) -> Iterator[GpuArch]:
    return (run.by for run in runs if run.by is not None)


def _badness(run: Run) -> int:
    return (How.NATIVE, How.PTX, How.NONE).index(run.how)


def _family(member: str) -> str:
    return _DIGITS.sub("#", member)


def _cubin_runs(code: GpuArch, gpu: GpuArch) -> bool:
    """Machine code runs on later minors of its major; ``a`` code on its own chip alone.

    ``f`` code runs on its family, which is what NVIDIA calls the later minors of a major since 10.
    All this is for graphics cards: what a Tegra chip runs was compiled for that very chip.
    """
    chips = {(code.major, code.minor), (gpu.major, gpu.minor)}
    if code.feature == "a" or chips & _TEGRA:
        return len(chips) == 1
    return code.major == gpu.major and code.minor <= gpu.minor


def _ptx_runs(code: GpuArch, gpu: GpuArch) -> bool:
    if code.feature == "a":
        return (code.major, code.minor) == (gpu.major, gpu.minor)
    if code.feature == "f" and code.major != gpu.major:
        return False
    return (code.major, code.minor) <= (gpu.major, gpu.minor)
