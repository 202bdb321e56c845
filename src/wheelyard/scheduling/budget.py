"""Who may compile now: cores and memory of one machine, shared by the compiles of many jobs."""

from __future__ import annotations

import dataclasses
from typing import Literal

Kind = Literal["device", "host", "question"]

PATIENCE = 40
"""How many later compiles may be let in before one that waits; then it is next."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Ask:
    """One compile that wants to start."""

    number: int
    """Its own, in the order of arrival."""
    job: str
    group: str
    """Jobs that differ in Python only."""
    share: str
    """Jobs that share device code, wholly or in part."""
    unit: str
    """The same for the same source of every job of ``share``; empty for what no cache holds."""
    kind: Kind
    memory: int
    cores: int = 1
    name: str = ""
    """For people, for example ``csrc/scale.cu``."""
    begins: bool = False
    """Whether the job's cache server is started next: it finds what was made before."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Go:
    """A compile that may start now."""

    ask: Ask
    fresh: bool
    """Whether another job made this unit after this job began: its cache server cannot know."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class _Member:
    """A job that builds now."""

    priority: float
    memory: int
    """What it takes beside its compiles."""
    began: int


class Budget:
    """Accounts for what runs and what waits; it does no I/O and knows no time.

    Never more than ``cores`` and ``memory`` are given out, except that one compile may always
    run, so that all come to an end. A device unit that some job of its share is compiling is not
    started by another, unless its own group has it already.
    """

    def __init__(self, *, cores: int, memory: int) -> None:
        self.cores = max(1, cores)
        self.memory = max(0, memory)
        self._members: dict[str, _Member] = {}
        self._waiting: dict[int, Ask] = {}
        self._passed: dict[int, int] = {}
        self._running: dict[int, Ask] = {}
        self._made: dict[tuple[str, str], dict[str, int]] = {}
        self._finished: set[tuple[str, str]] = set()
        self._events = 0

    @property
    def waiting(self) -> tuple[Ask, ...]:
        return tuple(self._waiting.values())

    @property
    def running(self) -> tuple[Ask, ...]:
        return tuple(self._running.values())

    @property
    def memory_used(self) -> int:
        """What compiles and builds take that were let in."""
        builds = sum(member.memory for member in self._members.values())
        return builds + sum(ask.memory for ask in self._running.values())

    @property
    def cores_used(self) -> int:
        return sum(ask.cores for ask in self._running.values())

    def join(self, job: str, *, priority: float = 0.0, memory: int = 0) -> None:
        """Expect compiles of a job; those of the highest priority go first."""
        self._events += 1
        self._members[job] = _Member(priority=priority, memory=memory, began=self._events)

    def leave(self, job: str) -> None:
        """Forget a job that ended, but not what it made."""
        self._members.pop(job, None)

    def ask(self, ask: Ask) -> None:
        """Let a compile wait; a job that never joined does so now, without a claim of its own."""
        if ask.job not in self._members:
            self.join(ask.job)
        elif ask.begins:
            self._events += 1
            self._members[ask.job] = dataclasses.replace(self._members[ask.job], began=self._events)
        self._passed[ask.number] = 0
        self._waiting[ask.number] = dataclasses.replace(
            ask, memory=min(ask.memory, self.memory), cores=max(0, min(ask.cores, self.cores))
        )

    def end(self, number: int, *, succeeded: bool) -> None:
        """Take back what a compile held; one that never started just stops waiting."""
        self._passed.pop(number, None)
        self._waiting.pop(number, None)
        ask = self._running.pop(number, None)
        if ask is None or not succeeded:
            return
        if not ask.unit:
            return
        self._events += 1
        self._made.setdefault((ask.share, ask.unit), {})[ask.job] = self._events
        self._finished.add((ask.group, ask.unit))

    def admit(self) -> tuple[Go, ...]:
        """Start every compile that may start now, in order."""
        admitted: list[Go] = []
        while (ask := self._next()) is not None:
            del self._waiting[ask.number], self._passed[ask.number]
            self._running[ask.number] = ask
            admitted.append(Go(ask=ask, fresh=self._is_fresh(ask)))
        return tuple(admitted)

    def _next(self) -> Ask | None:
        """Choose one, and count it against all that came before it and could go but for room."""
        free = [ask for ask in self._waiting.values() if not self._is_held(ask)]
        for ask in sorted(free, key=self._rank):
            if self._fits(ask):
                for other in free:
                    self._passed[other.number] += other.number < ask.number
                return ask
            if self._is_urgent(ask):
                return None  # what becomes free is kept for it
        return None

    def _rank(self, ask: Ask) -> tuple[object, ...]:
        if self._is_urgent(ask):
            return (0, ask.number)
        priority = self._members[ask.job].priority if ask.job in self._members else 0.0
        return (1, -priority, ask.kind != "device", ask.number)

    def _is_urgent(self, ask: Ask) -> bool:
        return self._passed[ask.number] >= PATIENCE

    def _fits(self, ask: Ask) -> bool:
        takes_nothing = ask.cores == 0 and ask.memory == 0
        return (
            takes_nothing
            or not self._running
            or (
                self.cores_used + ask.cores <= self.cores
                and self.memory_used + ask.memory <= self.memory
            )
        )

    def _is_held(self, ask: Ask) -> bool:
        """Whether it would compile now what another is compiling, instead of finding it made."""
        if ask.kind != "device" or (ask.group, ask.unit) in self._finished:
            return False
        return any(
            (other.share, other.unit) == (ask.share, ask.unit)
            and other.job != ask.job
            and (other.group, other.unit) not in self._finished
            for other in self._running.values()
        )

    def _is_fresh(self, ask: Ask) -> bool:
        member = self._members.get(ask.job)
        began = member.began if member is not None else 0
        made = self._made.get((ask.share, ask.unit), {})
        return any(event > began for job, event in made.items() if job != ask.job)
