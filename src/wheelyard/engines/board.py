"""What a fill shows of itself: a line for each running job and one for all, from its events."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, assert_never

from wheelyard.scheduling import events

if TYPE_CHECKING:
    from wheelyard.scheduling.events import AnyEvent

_RIGHT = 37
"""Columns of a line beside the identifier."""
_SHORTEST = 20


@dataclasses.dataclass(kw_only=True, slots=True)
class Row:
    """A job that runs."""

    job: str
    started: float
    expected: float
    """Seconds of its own work."""
    is_leader: bool = True
    """Others wait for device code, and so for longer than they work."""
    stage: str = "starting"
    done: int = 0
    total: int = 0
    memory: int = 0


class Board:
    """Follows the events of one fill."""

    def __init__(self) -> None:
        self.rows: dict[str, Row] = {}
        self.done: list[events.Done] = []
        self.failed: list[events.Failed] = []
        self.cut: list[events.Cut] = []
        self.cores = 0
        self.cores_used = 0.0
        self.memory = 0
        self.memory_used = 0
        self._jobs: dict[str, events.Expected] = {}
        self._waiting: dict[str, float] = {}

    @property
    def total(self) -> int:
        return len(self._jobs)

    def tell(self, event: AnyEvent) -> None:
        """Take notice of an event."""
        match event:
            case events.FillStarted():
                self.cores, self.memory = event.cores, event.memory
                self._jobs = {item.job: item for item in event.jobs}
                self._waiting = {item.job: item.seconds for item in event.jobs}
            case events.JobStarted():
                self.rows[event.job] = Row(
                    job=event.job,
                    started=event.time,
                    expected=self._waiting.pop(event.job, 0.0),
                    is_leader=self._jobs[event.job].leader,
                )
            case events.Stage(state="begin") if event.job in self.rows:
                self.rows[event.job].stage = event.name
            case events.Step() if event.job in self.rows:
                self.rows[event.job].done, self.rows[event.job].total = event.done, event.total
            case events.Usage():
                self._use(event)
            case events.Done():
                self.done.append(event)
                self.rows.pop(event.job, None)
            case events.Failed():
                self.failed.append(event)
                self.rows.pop(event.job, None)
            case events.Cut():
                self.cut.append(event)
                self.rows.pop(event.job, None)
                self._waiting.pop(event.job, None)
            case (
                events.Stage()
                | events.Step()
                | events.Remark()
                | events.Unit()
                | events.Found()
                | events.FillEnded()
            ):
                pass
            case _:
                assert_never(event)

    def _use(self, event: events.Usage) -> None:
        self.cores_used, self.memory_used = event.cores, event.memory
        for job, memory in event.jobs.items():
            if job in self.rows:
                self.rows[job].memory = memory

    def seconds_left(self, now: float) -> float:
        """Estimate what is left, if the cores are put to use as the budget means them to be."""
        running = sum(max(0.0, row.expected - (now - row.started)) for row in self.rows.values())
        longest = max((row.expected - (now - row.started) for row in self.rows.values()), default=0)
        return max(0.0, longest, running + sum(self._waiting.values()))

    def lines(self, now: float, *, width: int) -> tuple[str, ...]:
        """Return the lines to show, none longer than ``width``."""
        longest = max(map(len, self.rows), default=0)
        width_of_names = min(longest, max(_SHORTEST, width - _RIGHT))
        rows = [_line(row, now, names=width_of_names)[:width] for row in self.rows.values()]
        return (*rows, self.totals(now)[:width])

    def totals(self, now: float) -> str:
        """For example ``3 of 12 done, 1 failed, 2 running; cores 1.9/2; memory 3.1/20.4 GiB``."""
        parts = [f"{len(self.done)} of {self.total} done"]
        parts += [f"{len(self.failed)} failed"] if self.failed else []
        parts += [f"{len(self.rows)} running"] if self.rows else []
        text = (
            f"{', '.join(parts)}; cores {self.cores_used:.1f}/{self.cores}; "
            f"memory {_gib(self.memory_used)}/{_gib(self.memory)} GiB"
        )
        left = self.seconds_left(now)
        return f"{text}; {_clock(left)} left" if left and self.rows else text


def _line(row: Row, now: float, *, names: int) -> str:
    steps = f"{row.done}/{row.total}" if row.total and row.stage == "build" else ""
    expected = f"/{_clock(row.expected)}" if row.is_leader else ""
    times = f"{_clock(now - row.started)}{expected}"
    name = shorten(row.job, names)
    return f"{name} {row.stage:<9} {steps:>7} {times:>12} {_gib(row.memory)}G"


def shorten(identifier: str, width: int) -> str:
    """Pad an identifier, or leave out its middle, so that it has exactly ``width`` columns.

    For example ``causal-conv1d-1.7.0-cp3…0-cu130-x86_64``.
    """
    if len(identifier) <= width:
        return identifier.ljust(width)
    tail = width // 2
    return f"{identifier[: width - tail - 1]}…{identifier[-tail:]}"


def _clock(seconds: float) -> str:
    """For example ``4:05`` or ``1:02:03``."""
    whole = max(0, round(seconds))
    hours, minutes, rest = whole // 3600, whole % 3600 // 60, whole % 60
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def _gib(size: int) -> str:
    return f"{size / 2**30:.1f}"
