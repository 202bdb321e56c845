"""Jobs that differ in Python only: they share what was compiled, so they are kept together."""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from wheelyard.model.job import Job


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Group:
    """One recipe version for one torch build, machine and list of GPU targets."""

    name: str
    jobs: tuple[Job, ...]

    @property
    def leader(self) -> Job:
        """The job that compiles what the others find in the compile cache."""
        return self.jobs[0]

    @property
    def followers(self) -> tuple[Job, ...]:
        return self.jobs[1:]


def group_jobs(jobs: Iterable[Job]) -> tuple[Group, ...]:
    """Return the groups in the order of their first jobs, each with its jobs in their order."""
    by_name: defaultdict[str, list[Job]] = defaultdict(list)
    for job in jobs:
        by_name[job.group].append(job)
    return tuple(Group(name=name, jobs=tuple(members)) for name, members in by_name.items())
