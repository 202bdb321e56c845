"""How much of the machine the jobs of a fill take, from one moment to the next."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from wheelyard.machine.processes import family, read_processes
from wheelyard.scheduling.events import Usage

if TYPE_CHECKING:
    from collections.abc import Mapping

    from wheelyard.machine.processes import Process


class UsageMeter:
    """Compares what the processes have taken with what they had at the reading before."""

    def __init__(self) -> None:
        self._before: dict[int, Process] = {}
        self._time = 0.0

    def read(self, roots: Mapping[str, int]) -> Usage:
        """Return what the jobs take, each known by the process that it was started as."""
        processes = read_processes()
        members = {job: family(root, processes) for job, root in roots.items()}
        now, elapsed = time.monotonic(), time.monotonic() - self._time
        mine = {number: one for part in members.values() for number, one in part.items()}
        seconds = sum(self._taken_by(number, process) for number, process in mine.items())
        first = not self._time
        self._before, self._time = mine, now
        return Usage(
            time=time.time(),
            cores=0.0 if first else round(seconds / max(elapsed, 0.001), 2),
            memory=sum(process.memory for process in mine.values()),
            jobs={
                job: sum(process.memory for process in part.values())
                for job, part in members.items()
            },
        )

    def _taken_by(self, number: int, process: Process) -> float:
        before = self._before.get(number)
        if before is None or before.started != process.started:
            return process.cpu_seconds
        return process.cpu_seconds - before.cpu_seconds
