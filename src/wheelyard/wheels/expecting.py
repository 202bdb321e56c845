"""What a job's wheel must be, for the check."""

from __future__ import annotations

from typing import TYPE_CHECKING

from packaging.tags import Tag

from wheelyard.wheels.findings import Expectation

if TYPE_CHECKING:
    from wheelyard.model.job import Job


def make_expectation(job: Job, *, platform_tag: str) -> Expectation:
    """Return what recipe, cell and revision say of the wheel.

    The tag is the one that repair found, or that a wheel names; the check judges whether it holds.
    """
    cell, contents = job.cell, job.version.contents
    return Expectation(
        name=job.version.recipe,
        version=job.wheel_version,
        tag=Tag(cell.python.python_tag, cell.python.abi_tag, platform_tag.partition(".")[0]),
        build_tag=job.build_tag,
        extensions=contents.extensions,
        libraries=contents.libraries,
        top_levels=contents.top_levels,
        requires=(job.torch_requirement, *contents.requires_with(cell.torch.cuda)),
        entry_points=contents.entry_points,
        gpu_archs=job.gpu_archs,
        machine=cell.machine,
    )
