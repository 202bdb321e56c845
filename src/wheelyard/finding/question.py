"""What somebody wants to have together, and on what kind of machine."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from packaging.requirements import InvalidRequirement, Requirement

from wheelyard.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from wheelyard.model.cell import Cell, GpuArch


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Question:
    """Requirements, the cells that are considered, and what the machine has."""

    requirements: tuple[Requirement, ...]
    cells: tuple[Cell, ...]
    glibc: tuple[int, int]
    gpu_archs: tuple[GpuArch, ...] = ()
    """GPUs that every wheel must have code for; empty if any wheel will do."""
    driver: str | None = None
    """The version of the NVIDIA driver, where it counts."""


def parse_requirements(texts: Iterable[str]) -> tuple[Requirement, ...]:
    """Parse what the command line names; for example ``megatron-core[mlm,dev]==0.16.1``."""
    found = []
    for text in texts:
        try:
            requirement = Requirement(text)
        except InvalidRequirement as error:
            reason = str(error).partition("\n")[0]
            msg = (
                f"{text!r} is not a requirement: {reason}. Write it as pip takes it, as in "
                "'megatron-core[mlm]==0.16.1'."
            )
            raise UsageError(msg) from None
        if requirement.url is not None:
            msg = f"{text!r} names a URL. Take such a wheel into the yard with `wheelyard adopt`."
            raise UsageError(msg)
        found.append(requirement)
    return tuple(found)
