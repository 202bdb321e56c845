"""Where a build's compiles ask before they start, and what they say of themselves."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from wheelyard.model.job import Job

BUDGET = "WHEELYARD_BUDGET"
"""Names the Unix socket of a budget: to ``wheelyard build`` on this machine, and to the compiler
wrappers in the sandbox."""

UNIT = "WHEELYARD_UNIT"

_HOST_MEMORY = 3 * 2**29
"""What compiling C++ with torch's headers takes, if the recipe does not say less of any unit."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Admission:
    """The budget that one build's compiles are admitted by."""

    socket: Path
    memory: int
    """What one device unit takes at most, in bytes."""

    @classmethod
    def of(cls, job: Job, env: Mapping[str, str]) -> Admission | None:
        """Return what the environment names; ``None`` where this build has the machine alone."""
        socket = env.get(BUDGET)
        if not socket:
            return None
        return cls(socket=Path(socket), memory=job.version.build.memory_per_job)

    def variables(self, job: Job, *, inside: Path) -> dict[str, str]:
        """Return what the wrappers need; ``inside`` is the socket as the sandbox shows it."""
        memory = {"device": self.memory, "host": min(self.memory, _HOST_MEMORY)}
        about = {
            "group": job.group,
            "job": job.identifier,
            "memory": memory,
            "share": sharing(job),
        }
        return {BUDGET: str(inside), UNIT: json.dumps(about, sort_keys=True)}


def sharing(job: Job) -> str:
    """Name the jobs that share device code: those of one recipe version, CUDA and GPU targets.

    They differ in Python, or in torch: then ptxas need not run again.
    """
    return "-".join((job.version.label, job.cell.torch.cuda.label, job.cell.machine, *job.traits))
