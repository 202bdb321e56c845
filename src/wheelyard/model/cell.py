"""A cell of the matrix: Python, torch build and machine, and the words they are made of."""

from __future__ import annotations

import dataclasses
import re
from typing import Literal, NamedTuple, Self, get_args

from packaging.version import InvalidVersion, Version

from wheelyard.errors import UsageError

Machine = Literal["x86_64", "aarch64"]
MACHINES: tuple[Machine, ...] = get_args(Machine)

_PYTHON = re.compile(r"(?:cp)?(\d)\.?(\d{1,2})(t?)")
_CUDA = re.compile(r"(?:cu)?(\d{2})\.?(\d)(?:\.\d+)?")
_GPU_ARCH = re.compile(r"(\d{1,2})\.(\d)([af]?)(\+PTX)?")


class PythonVersion(NamedTuple):
    """A CPython minor version, free-threaded or not."""

    major: int
    minor: int
    free_threaded: bool = False

    @classmethod
    def parse(cls, text: str) -> Self:
        """For example ``3.12``, ``3.14t``, ``cp312``, ``cp314t``."""
        match = _PYTHON.fullmatch(text)
        if match is None:
            msg = f"{text!r} is not a Python version. Write it as 3.12, or 3.14t for free-threaded."
            raise UsageError(msg)
        return cls(int(match[1]), int(match[2]), free_threaded=bool(match[3]))

    def __str__(self) -> str:
        return f"{self.major}.{self.minor}{'t' if self.free_threaded else ''}"

    @property
    def version(self) -> Version:
        return Version(f"{self.major}.{self.minor}")

    @property
    def python_tag(self) -> str:
        """The wheel's python tag, for example ``cp314`` (free-threaded or not)."""
        return f"cp{self.major}{self.minor}"

    @property
    def abi_tag(self) -> str:
        """The wheel's abi tag, for example ``cp314t``; also how identifiers name the Python."""
        return f"cp{self.major}{self.minor}{'t' if self.free_threaded else ''}"


class CudaVersion(NamedTuple):
    """A CUDA minor version."""

    major: int
    minor: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """For example ``13.0``, ``12.4.1``, ``cu130``, ``130``."""
        match = _CUDA.fullmatch(text)
        if match is None:
            msg = f"{text!r} is not a CUDA version. Write it as 13.0 or cu130."
            raise UsageError(msg)
        return cls(int(match[1]), int(match[2]))

    def __str__(self) -> str:
        return f"{self.major}.{self.minor}"

    @property
    def label(self) -> str:
        """For example ``cu130``."""
        return f"cu{self.major}{self.minor}"

    @property
    def version(self) -> Version:
        return Version(f"{self.major}.{self.minor}")


@dataclasses.dataclass(frozen=True, slots=True, order=True)
class TorchBuild:
    """A torch build: its full version with local part, for example ``2.11.0+cu130``."""

    version: Version
    cuda: CudaVersion
    label: str = dataclasses.field(init=False, compare=False, repr=False)
    """How identifiers and index folders name it, for example ``torch2.11.0-cu130``."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "label", f"torch{self.version}-{self.cuda.label}")

    @classmethod
    def parse(cls, text: str) -> Self:
        """For example ``2.11.0+cu130``."""
        public, plus, local = text.partition("+")
        if not plus:
            msg = f"{text!r} is not a torch build. Write version and CUDA, as in 2.11.0+cu130."
            raise UsageError(msg)
        return cls(parse_version(public), CudaVersion.parse(local))

    def __str__(self) -> str:
        return f"{self.version}+{self.cuda.label}"


@dataclasses.dataclass(frozen=True, slots=True, order=True)
class Cell:
    """One combination of the matrix."""

    python: PythonVersion
    torch: TorchBuild
    machine: Machine

    @property
    def identifier(self) -> str:
        """For example ``cp312-torch2.11.0-cu130-x86_64``."""
        return f"{self.python.abi_tag}-{self.torch.label}-{self.machine}"


@dataclasses.dataclass(frozen=True, slots=True, order=True)
class GpuArch:
    """One SM target, for example ``9.0``, ``9.0a`` or ``12.0+PTX``."""

    major: int
    minor: int
    feature: Literal["", "a", "f"] = ""
    ptx: bool = False

    @classmethod
    def parse(cls, text: str) -> Self:
        """For example ``9.0``, ``12.0a``, ``12.0+PTX``."""
        match = _GPU_ARCH.fullmatch(text.strip())
        if match is None:
            msg = (
                f"{text!r} is not a GPU target. Write compute capabilities, as in 9.0 or 12.0+PTX."
            )
            raise UsageError(msg)
        feature: Literal["", "a", "f"] = "a" if match[3] == "a" else "f" if match[3] == "f" else ""
        return cls(int(match[1]), int(match[2]), feature, ptx=bool(match[4]))

    def __str__(self) -> str:
        return f"{self.major}.{self.minor}{self.feature}{'+PTX' if self.ptx else ''}"

    @property
    def number(self) -> str:
        """As nvcc writes it after ``sm_``, for example ``90a``."""
        return f"{self.major}{self.minor}{self.feature}"

    @property
    def label(self) -> str:
        """How identifiers name it, for example ``sm90`` or ``sm120ptx``."""
        return f"sm{self.number}{'ptx' if self.ptx else ''}"


def parse_gpu_archs(text: str) -> tuple[GpuArch, ...]:
    """Parse a list separated by ``;``, ``,`` or space, sorted and without repetitions."""
    parts = [part for part in re.split(r"[;,\s]+", text) if part]
    if not parts:
        msg = "The list of GPU targets is empty. Write it as in 8.0;9.0."
        raise UsageError(msg)
    return tuple(sorted({GpuArch.parse(part) for part in parts}))


def parse_version(text: str) -> Version:
    """Parse a version as packaging does, as an error that the user can act on."""
    try:
        return Version(text)
    except InvalidVersion:
        msg = f"{text!r} is not a version. Write it as in 2.11.0."
        raise UsageError(msg) from None
