"""What is known of each torch and CUDA release: the facts that ship with the package."""

from __future__ import annotations

import dataclasses
import functools
from pathlib import Path
from typing import Annotated, TypeVar

import msgspec
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.version import Version

from wheelyard.errors import InputFileError, UnknownNameError
from wheelyard.model.cell import CudaVersion, GpuArch, Machine, PythonVersion, TorchBuild

FACTS_DIR = Path(__file__).parents[1] / "facts"

T = TypeVar("T")
Evidence = Annotated[str, msgspec.Meta(min_length=1)]


class _BuildEntry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    cudnn: str | None
    cxx11_abi: bool
    evidence: Evidence
    gcc_bounds: tuple[int, int] | None
    machines: tuple[Machine, ...]
    nccl: str | None


class _TorchEntry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    builds: dict[str, _BuildEntry]
    cpp_standard: int
    default_cuda: dict[Machine, str]
    evidence: Evidence
    gpu_archs: tuple[str, ...]
    minimum_cpp_standard: int
    minimum_gcc: int
    pythons: dict[Machine, tuple[str, ...]]
    setuptools: str
    triton: str


class _CudaEntry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    clang_below: int
    evidence: Evidence
    gpu_archs: tuple[str, ...]
    maximum_gcc: int
    minimum_driver: str
    redistributable_release: str | None
    toolkit_packages: tuple[str, ...]
    toolkit_requirement: str | None


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class GccBounds:
    """The gcc releases that a torch build's cpp_extension lets through."""

    minimum_major: int
    below_major: int
    """The first one that is refused."""

    def __contains__(self, gcc_major: int) -> bool:
        return self.minimum_major <= gcc_major < self.below_major


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class BuildFacts:
    """What is particular to one torch build."""

    cuda: CudaVersion
    machines: tuple[Machine, ...]
    cxx11_abi: bool
    gcc_bounds: GccBounds | None
    """What cpp_extension enforces; nothing where it only warns."""
    nccl: Version | None
    """Known for the index's own build only, like cuDNN; a lock knows the others."""
    cudnn: Version | None
    evidence: str


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class TorchRelease:
    """One torch release with all its builds; ``torch_release`` returns it."""

    version: Version
    builds: tuple[BuildFacts, ...]
    cpp_standard: int
    """What cpp_extension asks for when the package asks for nothing, for example 17."""
    minimum_cpp_standard: int
    """What the headers accept at least."""
    minimum_gcc: int
    gpu_archs: tuple[GpuArch, ...]
    """What cpp_extension accepts in ``TORCH_CUDA_ARCH_LIST``, each with ``+PTX`` too."""
    setuptools: SpecifierSet
    triton: SpecifierSet
    evidence: str
    pythons_of: tuple[tuple[Machine, tuple[PythonVersion, ...]], ...]
    default_cuda_of: tuple[tuple[Machine, CudaVersion], ...]

    def pythons(self, machine: Machine) -> tuple[PythonVersion, ...]:
        """Return the Pythons with wheels, ascending, free-threaded after its plain sibling."""
        return dict(self.pythons_of).get(machine, ())

    def cudas(self, machine: Machine) -> tuple[CudaVersion, ...]:
        """Return the CUDA releases that it was built for, ascending."""
        return tuple(build.cuda for build in self.builds if machine in build.machines)

    def default_cuda(self, machine: Machine) -> CudaVersion | None:
        """Return the CUDA release of the index's own wheels; nothing where those are CPU only."""
        return dict(self.default_cuda_of).get(machine)

    def build(self, cuda: CudaVersion) -> BuildFacts:
        """Return what is particular to the build for ``cuda``."""
        for build in self.builds:
            if build.cuda == cuda:
                return build
        known = ", ".join(str(build.cuda) for build in self.builds)
        msg = f"torch {self.version} was never built for CUDA {str(cuda)!r}; it was for {known}."
        raise UnknownNameError(msg)

    def knows(self, arch: GpuArch) -> bool:
        """Whether cpp_extension accepts this GPU target."""
        return dataclasses.replace(arch, ptx=False) in self.gpu_archs


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class CudaRelease:
    """One CUDA release; ``cuda_release`` returns it."""

    cuda: CudaVersion
    maximum_gcc: int
    """The newest gcc that nvcc accepts."""
    clang_below: int
    """The first clang that nvcc refuses."""
    gpu_archs: tuple[GpuArch, ...]
    minimum_driver: str
    """By minor-version compatibility, for example ``580``."""
    redistributable_release: str | None
    """The release whose redistributable archives are taken, for example ``12.4.1``, if known."""
    toolkit_packages: tuple[str, ...]
    """The index's packages that make a complete toolkit; empty where there is none."""
    toolkit_requirement: Requirement | None
    """Asks for those packages in the releases that belong together."""
    evidence: str

    @property
    def has_index_toolkit(self) -> bool:
        """Whether the index's wheels make a complete toolkit."""
        return self.toolkit_requirement is not None

    def compiles_for(self, arch: GpuArch) -> bool:
        """Whether nvcc can make code, or PTX, for this GPU target."""
        return dataclasses.replace(arch, ptx=False) in self.gpu_archs


@functools.cache
def torch_release(version: Version) -> TorchRelease:
    """Return what is known of torch ``version``; an unknown release is an error."""
    entry = _torch_entries().get(version)
    if entry is None:
        nearest = sorted(_torch_entries(), key=functools.partial(release_distance, version))[:3]
        msg = (
            f"There are no facts about torch {str(version)!r}. The nearest releases known are "
            f"{', '.join(map(str, nearest))}. To add one, see docs/facts.md."
        )
        raise UnknownNameError(msg)
    return _parse_torch(version, entry)


@functools.cache
def cuda_release(cuda: CudaVersion) -> CudaRelease:
    """Return what is known of a CUDA release; an unknown one is an error."""
    entry = _cuda_entries().get(cuda)
    if entry is None:
        known = ", ".join(map(str, sorted(_cuda_entries())))
        msg = (
            f"There are no facts about CUDA {str(cuda)!r}. Known: {known}. "
            "To add one, see docs/facts.md."
        )
        raise UnknownNameError(msg)
    return _parse_cuda(cuda, entry)


@functools.cache
def torch_releases() -> tuple[TorchRelease, ...]:
    """Return every known torch release, oldest first."""
    return tuple(torch_release(version) for version in sorted(_torch_entries()))


def newest_torch_release() -> TorchRelease:
    return torch_release(max(_torch_entries()))


def default_torch_build(version: Version, machine: Machine) -> TorchBuild | None:
    """Return the build that ``pip install torch`` brings.

    Nothing where those wheels are CPU only, or where the release is not known to the facts, as
    with a torch found in somebody's environment.
    """
    if version not in _torch_entries():
        return None
    cuda = torch_release(version).default_cuda(machine)
    return None if cuda is None else TorchBuild(version, cuda)


def release_distance(version: Version, other: Version) -> tuple[int, ...]:
    """Order ``other`` by nearness to ``version``: patches, then minors; of equals the newer."""
    minors_apart = abs(_place(version) - _place(other))
    patches_apart = 0 if minors_apart else abs(version.micro - other.micro)
    return minors_apart, patches_apart, -_place(other), -other.micro


def _place(version: Version) -> int:
    """Put minors on one line, on which the majors lie far apart."""
    return version.major * 1000 + version.minor


@functools.cache
def _torch_entries() -> dict[Version, _TorchEntry]:
    entries = _read(FACTS_DIR / "torch.json", dict[str, _TorchEntry])
    return {Version(text): entry for text, entry in entries.items()}


@functools.cache
def _cuda_entries() -> dict[CudaVersion, _CudaEntry]:
    entries = _read(FACTS_DIR / "cuda.json", dict[str, _CudaEntry])
    return {CudaVersion.parse(text): entry for text, entry in entries.items()}


def _read(path: Path, form: type[T]) -> T:
    try:
        return msgspec.json.decode(path.read_bytes(), type=form)
    except msgspec.DecodeError as error:
        msg = f"{path} cannot be used: {error}"
        raise InputFileError(msg) from None


def _parse_torch(version: Version, entry: _TorchEntry) -> TorchRelease:
    builds = [_parse_build(CudaVersion.parse(text), item) for text, item in entry.builds.items()]
    return TorchRelease(
        version=version,
        builds=tuple(sorted(builds, key=lambda build: build.cuda)),
        cpp_standard=entry.cpp_standard,
        minimum_cpp_standard=entry.minimum_cpp_standard,
        minimum_gcc=entry.minimum_gcc,
        gpu_archs=_parse_gpu_archs(entry.gpu_archs),
        setuptools=SpecifierSet(entry.setuptools),
        triton=SpecifierSet(entry.triton),
        evidence=entry.evidence,
        pythons_of=tuple(
            (machine, tuple(sorted(map(PythonVersion.parse, texts))))
            for machine, texts in entry.pythons.items()
        ),
        default_cuda_of=tuple(
            (machine, CudaVersion.parse(text)) for machine, text in entry.default_cuda.items()
        ),
    )


def _parse_build(cuda: CudaVersion, entry: _BuildEntry) -> BuildFacts:
    return BuildFacts(
        cuda=cuda,
        machines=entry.machines,
        cxx11_abi=entry.cxx11_abi,
        gcc_bounds=_parse_bounds(entry.gcc_bounds),
        nccl=None if entry.nccl is None else Version(entry.nccl),
        cudnn=None if entry.cudnn is None else Version(entry.cudnn),
        evidence=entry.evidence,
    )


def _parse_bounds(bounds: tuple[int, int] | None) -> GccBounds | None:
    if bounds is None:
        return None
    minimum_major, below_major = bounds
    return GccBounds(minimum_major=minimum_major, below_major=below_major)


def _parse_cuda(cuda: CudaVersion, entry: _CudaEntry) -> CudaRelease:
    requirement = entry.toolkit_requirement
    return CudaRelease(
        cuda=cuda,
        maximum_gcc=entry.maximum_gcc,
        clang_below=entry.clang_below,
        gpu_archs=_parse_gpu_archs(entry.gpu_archs),
        minimum_driver=entry.minimum_driver,
        redistributable_release=entry.redistributable_release,
        toolkit_packages=entry.toolkit_packages,
        toolkit_requirement=None if requirement is None else Requirement(requirement),
        evidence=entry.evidence,
    )


@functools.cache
def _parse_gpu_archs(texts: tuple[str, ...]) -> tuple[GpuArch, ...]:
    return tuple(sorted(map(GpuArch.parse, texts)))
