"""Which job starts when: groups together, the longest first, so that no long one comes last."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from wheelyard.model.record import Built
from wheelyard.planning.groups import group_jobs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from wheelyard.model.job import Job
    from wheelyard.model.recipe import RecipeVersion
    from wheelyard.model.record import BuildRecord
    from wheelyard.planning.groups import Group

USUAL_OVERHEAD = 30.0
"""Seconds that the stages beside the compile take, where no record tells."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Speed:
    """How this yard's builds of a recipe version compare with what its recipe says."""

    factor: float = 1.0
    """CPU seconds taken, for each that the recipe's effort names."""
    overhead: float = USUAL_OVERHEAD
    """Seconds of the stages beside the compile."""


_UNKNOWN = Speed()


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class ScheduledJob:
    """A job in the order of starting, with what it is expected to take."""

    job: Job
    is_leader: bool
    """The first of its group: the others take the device code that it compiles."""
    cpu_seconds: float
    overhead: float
    """Seconds of the stages beside the compile."""

    def seconds(self, *, cores: float) -> float:
        """Return the expected duration when it has so many cores for itself."""
        return self.overhead + self.cpu_seconds / cores


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class ScheduledGroup:
    """A group in the order of starting."""

    group: Group
    leader_seconds: float
    """CPU seconds that the leader's compile is expected to take."""
    follower_seconds: float
    """The same for each of the others, which compile only what includes Python's headers."""
    overhead: float

    @property
    def cpu_seconds(self) -> float:
        return self.leader_seconds + self.follower_seconds * (len(self.group.jobs) - 1)

    def __iter__(self) -> Iterator[ScheduledJob]:
        """Yield the leader, then those that follow it."""
        for job in self.group.jobs:
            is_leader = job is self.group.leader
            yield ScheduledJob(
                job=job,
                is_leader=is_leader,
                cpu_seconds=self.leader_seconds if is_leader else self.follower_seconds,
                overhead=self.overhead,
            )


def schedule(
    jobs: Iterable[Job],
    *,
    records: Iterable[BuildRecord] = (),
    priority: Callable[[str], int] = lambda _identifier: 0,
) -> tuple[ScheduledGroup, ...]:
    """Return the groups in the order of starting.

    What the matrix calls urgent comes first, then the group that will take longest.
    """
    groups = group_jobs(jobs)
    versions = (group.leader.version for group in groups)
    speeds = read_speeds(records, {version.label: version for version in versions})
    scheduled = [_expect(group, speeds) for group in groups]
    return tuple(
        sorted(
            scheduled,
            key=lambda item: (-priority(item.group.leader.identifier), -item.cpu_seconds),
        )
    )


def read_speeds(
    records: Iterable[BuildRecord], versions: Mapping[str, RecipeVersion]
) -> dict[str, Speed]:
    """Return for each recipe version that was built before how it did.

    Of several builds the slowest counts: the others found objects in the compile cache.
    """
    speeds: dict[str, Speed] = {}
    for record in records:
        label = f"{record.name}-{record.version.public}"
        version = versions.get(label)
        if version is None or not isinstance(record.origin, Built):
            continue
        effort = version.build.effort.total(len(record.gpu_archs))
        found = Speed(
            factor=record.origin.build.cpu_seconds / max(effort, 1.0),
            overhead=sum(record.seconds.values()) - record.seconds.get("build", 0.0),
        )
        if label not in speeds or found.factor > speeds[label].factor:
            speeds[label] = found
    return speeds


def _expect(group: Group, speeds: Mapping[str, Speed]) -> ScheduledGroup:
    version = group.leader.version
    speed = speeds.get(version.label, _UNKNOWN)
    effort = version.build.effort
    return ScheduledGroup(
        group=group,
        leader_seconds=speed.factor * effort.total(len(group.leader.gpu_archs)),
        follower_seconds=speed.factor * effort.host,
        overhead=speed.overhead,
    )
