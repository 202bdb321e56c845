"""What the recipes of a farm agree on, for a recipe that knows no better."""

from __future__ import annotations

import dataclasses
from collections import Counter
from typing import TYPE_CHECKING, TypeVar

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

from wheelyard.model.cell import CudaVersion, GpuArch

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from wheelyard.model.recipe import Recipe

T = TypeVar("T")

_SETUPTOOLS = Requirement("setuptools>=77.0.3,<82")
_GPU_ARCHS = ((CudaVersion(12, 0), (GpuArch(8, 0), GpuArch(9, 0))),)
_MEMORY = 3 * 2**30
_UPPER = ("<", "<=", "==", "===", "~=", "!=")


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class House:
    """What most recipes of the farm have."""

    requirements: Mapping[str, Requirement]
    """Build requirements by name."""
    gpu_archs: tuple[tuple[CudaVersion, tuple[GpuArch, ...]], ...]
    memory_per_job: int
    """In bytes."""

    def requirement(self, asked: Requirement) -> Requirement:
        """Return what recipes ask for of that name, within the limits that the project sets."""
        usual = self.requirements.get(canonicalize_name(asked.name))
        if usual is None:
            return asked
        if not any(one.operator in _UPPER for one in asked.specifier):
            return usual
        both = Requirement(str(usual))
        both.specifier = SpecifierSet(str(usual.specifier)) & asked.specifier
        return both


def read_house(recipes: Iterable[Recipe]) -> House:
    """Find what most recipes have; a farm without any has what is known to work."""
    newest = [recipe.versions[0] for recipe in recipes]
    by_name: dict[str, list[Requirement]] = {}
    for version in newest:
        for requirement in version.build.requires:
            by_name.setdefault(canonicalize_name(requirement.name), []).append(requirement)
    by_name.setdefault("setuptools", [_SETUPTOOLS])
    return House(
        requirements={name: _commonest(found) for name, found in by_name.items()},
        gpu_archs=_commonest([one.gpu_archs for one in newest if one.gpu_archs] or [_GPU_ARCHS]),
        memory_per_job=_commonest([one.build.memory_per_job for one in newest] or [_MEMORY]),
    )


def _commonest(values: list[T]) -> T:
    """Return the value that comes most often, of several the one that comes first."""
    counted = Counter(str(value) for value in values)
    return max(values, key=lambda value: counted[str(value)])
