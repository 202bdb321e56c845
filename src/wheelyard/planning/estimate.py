"""What a job will take on this machine, told before anything is compiled."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from wheelyard.model.job import Job

_LONG_SECONDS = 900.0
_WORK_BYTES = 2 * 2**30


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Estimate:
    """Wall seconds, peak memory and disk in bytes, and how many compiles run at once.

    Torch and toolkit are on the disk before it is asked for more.
    """

    seconds: float
    memory: int
    disk: int
    compile_jobs: int


def choose_compile_jobs(job: Job, *, cores: int, available_memory: int, wanted: int | None) -> int:
    """Return how many compiles fit into cores and memory, at least one."""
    by_memory = max(1, available_memory // job.version.build.memory_per_job)
    allowed = min(cores, by_memory)
    return max(1, min(wanted, by_memory) if wanted else allowed)


def make_estimate(job: Job, *, compile_jobs: int) -> Estimate:
    """Estimate a build with an empty compile cache."""
    build = job.version.build
    cpu_seconds = build.effort.total(len(job.gpu_archs))
    return Estimate(
        seconds=cpu_seconds / compile_jobs,
        memory=build.memory_per_job * compile_jobs,
        disk=_WORK_BYTES,
        compile_jobs=compile_jobs,
    )


def gpu_archs_hint(job: Job, estimate: Estimate) -> str:
    """Suggest a shorter build where the default list makes it long."""
    if estimate.seconds < _LONG_SECONDS or len(job.gpu_archs) <= 1:
        return ""
    archs = " ".join(str(arch) for arch in job.gpu_archs)
    return (
        f"Long because it compiles for {len(job.gpu_archs)} GPU targets ({archs}). "
        "With --gpu-archs 9.0 it is for one kind of GPU only."
    )
