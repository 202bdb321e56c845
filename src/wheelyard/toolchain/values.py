"""What a wheel is built with and runs beside, as frozen values."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from pathlib import Path

    from wheelyard.machine.compilers import Compiler
    from wheelyard.model.cell import CudaVersion
    from wheelyard.model.platform import PlatformFloor
    from wheelyard.toolchain.interpreters import Interpreter
    from wheelyard.toolchain.sandbox import Sandbox


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Toolkit:
    """A CUDA toolkit: nvcc and what belongs to it."""

    path: Path
    cuda: CudaVersion
    provider: Literal["installed", "index", "redistributable", "image"]
    digest: str
    """The lock it was assembled from, or the full version of an installed one."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class TorchEnvironment:
    """A folder of installed distributions with torch in it, not tied to one Python's paths."""

    path: Path
    site: Path
    """The distributions, a flat folder."""
    origin: Literal["locked", "foreign"]
    digest: str
    torch_version: str
    """As torch itself says it, for example ``2.11.0+cu130``."""

    @property
    def links(self) -> Path:
        return self.path / "links"


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Runtime:
    """What a finished wheel runs beside, and where."""

    interpreter: Interpreter
    torch: TorchEnvironment
    sandbox: Sandbox


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Toolchain(Runtime):
    """Everything a compile meets beside its source; its wheel then runs beside the same."""

    toolkit: Toolkit
    requirements: Path
    """The recipe's locked build requirements, a flat folder."""
    tools: Path
    """Compiler wrappers and the compile cache's client."""
    compiler: Compiler
    held_to: PlatformFloor | None = None
    """The floor that ``tools`` hold compiles to; nothing where the system is no newer."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Places:
    """Where a build finds things; the same in every sandbox."""

    base: Path

    def __truediv__(self, name: str) -> Path:
        return self.base / name

    @property
    def torch(self) -> Path:
        return self.base / "torch"

    @property
    def toolkit(self) -> Path:
        return self.base / "toolkit"

    @property
    def requirements(self) -> Path:
        return self.base / "requirements"

    @property
    def tools(self) -> Path:
        return self.base / "tools"

    @property
    def floor(self) -> Path:
        """What holds compiles to older systems."""
        return self.tools / "floor"

    @property
    def python(self) -> Path:
        """The base interpreter's prefix."""
        return self.base / "python"

    @property
    def environment(self) -> Path:
        """An empty virtual environment of that interpreter."""
        return self.base / "environment"

    @property
    def source(self) -> Path:
        return self.base / "source"

    @property
    def build(self) -> Path:
        return self.base / "build"

    @property
    def cache(self) -> Path:
        """The compile cache."""
        return self.base / "cache"

    @property
    def budget(self) -> Path:
        """The socket of the budget that this build's compiles ask."""
        return self.base / "budget"
