"""A job: one recipe version for one cell and its GPU targets, with the names that follow."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from packaging.requirements import Requirement
from packaging.version import Version

from wheelyard.model.releases import default_torch_build

if TYPE_CHECKING:
    from wheelyard.model.cell import Cell, GpuArch
    from wheelyard.model.recipe import Patch, RecipeVersion


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Job:
    """Recipe version, revision, cell, gpu_archs.

    A plan asks for the names of a million jobs again and again, so they are made once.
    """

    version: RecipeVersion
    cell: Cell
    gpu_archs: tuple[GpuArch, ...]
    lineinfo: bool = False
    """Keeps ``-lineinfo``, for profilers; other bytes, so another name."""
    foreign_torch: bool = False
    """Built against a torch that was there already (``--env``), not against a locked one."""
    identifier: str = dataclasses.field(init=False, compare=False, repr=False)
    """Its one name, for example ``causal-conv1d-1.7.0-cp312-torch2.11.0-cu130-x86_64-sm90``."""
    group: str = dataclasses.field(init=False, compare=False, repr=False)
    """What jobs that differ in Python only have in common; the compile cache is theirs."""

    def __post_init__(self) -> None:
        label, cell = self.version.label, self.cell
        beside_python = "-".join((cell.torch.label, cell.machine, *self.traits))
        object.__setattr__(self, "group", f"{label}-{beside_python}")
        object.__setattr__(self, "identifier", f"{label}-{cell.python.abi_tag}-{beside_python}")

    @property
    def has_default_gpu_archs(self) -> bool:
        return self.gpu_archs == self.version.default_gpu_archs(self.cell.torch.cuda)

    @property
    def gpu_archs_label(self) -> str:
        """For example ``sm90`` or ``sm80.sm90``; empty for the recipe's default list."""
        if self.has_default_gpu_archs:
            return ""
        return ".".join(arch.label for arch in self.gpu_archs)

    @property
    def traits(self) -> tuple[str, ...]:
        """What sets the job apart from the ordinary one of its cell, as names show it."""
        traits = [] if self.has_default_gpu_archs else [self.gpu_archs_label]
        if self.lineinfo:
            traits.append("lineinfo")
        if self.foreign_torch:
            traits.append("env")
        return tuple(traits)

    @property
    def index_label(self) -> str:
        """The folder of the index that serves this wheel, for example ``torch2.11.0-cu130``."""
        return "-".join((self.cell.torch.label, *self.traits))

    @property
    def wheel_version(self) -> Version:
        """The public version with the local part that tells torch build and unusual targets."""
        public = self.version.version.public
        return Version(public if self.has_bare_version else f"{public}+{self._built_for}")

    @property
    def build_tag(self) -> str | None:
        """The revision, with what the version tells otherwise, as in ``0.cu130.torch2.11.0``."""
        revision, suffix = self.version.revision, self.build_suffix
        return f"{revision}{suffix}" if revision or suffix else None

    @property
    def build_suffix(self) -> str:
        """What the build tag says after the revision, as in ``.cu130.torch2.11.0``."""
        return f".{self._built_for}" if self.has_bare_version else ""

    @property
    def has_bare_version(self) -> bool:
        return self.version.contents.bare_version

    @property
    def _built_for(self) -> str:
        torch = self.cell.torch
        return ".".join((torch.cuda.label, f"torch{torch.version.public}", *self.traits))

    @property
    def torch_requirement(self) -> Requirement:
        """The pin that goes into the wheel: the exact local build where it is not the default."""
        torch = self.cell.torch
        is_default = default_torch_build(torch.version, self.cell.machine) == torch
        return Requirement(f"torch=={torch.version if is_default else torch}")

    @property
    def patches(self) -> tuple[Patch, ...]:
        """The patch series for this cell, in order."""
        cell = self.cell
        return tuple(
            patch for patch in self.version.patches if not patch.conditions.reasons_against(cell)
        )
