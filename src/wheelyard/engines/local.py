"""The engine of this machine: each job is a child process, all under one budget."""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import logging
import os
import queue
import selectors
import signal
import subprocess
import time
from typing import TYPE_CHECKING, Literal

from wheelyard.engines.usage import UsageMeter
from wheelyard.machine.processes import adopting_orphans, family, read_processes
from wheelyard.run import leash
from wheelyard.scheduling import events
from wheelyard.toolchain.admission import BUDGET

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from collections.abc import Set as AbstractSet
    from pathlib import Path

    from wheelyard.scheduling.budget_server import BudgetServer
    from wheelyard.scheduling.events import AnyEvent
    from wheelyard.scheduling.order import ScheduledJob

logger = logging.getLogger(__name__)

Reason = Literal["deadline", "interrupted"]

JOB_MEMORY = 768 * 2**20
"""What a job takes beside its compiles: its build script imports torch, and its test does."""

_TICK = 0.25
_SAMPLE = 1.0
_POLITE_SECONDS = 20.0
"""A job ends its sandbox politely too, and has to come to it."""
_ROUNDS = 100
_SHORT = 0.02
_IDLE_SAMPLES = 3
_LAST_LINES = 8
_NO_EXIT_CODE = 1


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """How many jobs there may be at once, and until when."""

    cores: int
    memory: int
    unit: int = 0
    """What the largest compile takes: it has to find room beside the jobs that wait for it."""
    deadline: float | None = None
    """On the clock of ``time.monotonic``."""
    starts_late: bool = False
    """Start jobs too that will not end by the deadline: they go on from what they compiled."""

    @property
    def jobs(self) -> int:
        """One more than cores: while one waits for the network or a disk, others compile."""
        return max(1, min(self.cores + 1, self.most_jobs))

    @property
    def most_jobs(self) -> int:
        return max(1, (self.memory - self.unit) // JOB_MEMORY)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Child:
    """How the process of a job is started."""

    command: Callable[[ScheduledJob, int], Sequence[str]]
    """From a job and the descriptor that it writes events to."""
    env: Mapping[str, str]
    logs: Path
    """Folder for what it says on stderr."""


@dataclasses.dataclass(kw_only=True, slots=True)
class _Running:
    """A job with its process."""

    item: ScheduledJob
    process: subprocess.Popen[bytes]
    pipe: int
    log: Path
    started: float
    buffer: bytearray = dataclasses.field(default_factory=bytearray)
    stage: str = "start"
    last: events.Done | events.Failed | None = None


class LocalEngine:
    """Runs jobs until all have ended, whatever becomes of some of them."""

    def __init__(
        self,
        child: Child,
        limits: Limits,
        server: BudgetServer,
        tell: Callable[[AnyEvent], object],
    ) -> None:
        self._child = child
        self._limits = limits
        self._server = server
        self._tell = tell
        self._running: dict[str, _Running] = {}
        self._selector = selectors.DefaultSelector()
        self._units: queue.SimpleQueue[events.Unit] = queue.SimpleQueue()
        self._meter = UsageMeter()
        self._sampled = 0.0
        self._others: AbstractSet[int] = frozenset()
        self._idle = 0

    def note_unit(self, unit: events.Unit) -> None:
        """Take notice of a compile; may be called from another thread."""
        self._units.put(unit)

    def run(self, jobs: Iterable[ScheduledJob]) -> None:
        """Run the jobs in their order; what becomes of each is told as events.

        When this is interrupted, or at the deadline, every process is ended before it returns.
        """
        pending = collections.deque(jobs)
        self._others = family(os.getpid(), read_processes()).keys()
        with adopting_orphans(), self._selector:
            reason: Reason = "interrupted"
            try:
                while pending or self._running:
                    self._start_some(pending)
                    if self._is_over():
                        reason = "deadline"
                        break
                    self._listen()
            finally:
                left = [running.item for running in self._running.values()]
                self._end_all()
                self._drain_units()
                for item in left:
                    self._cut(item, reason, was_running=True)
                for item in pending:
                    self._cut(item, reason, was_running=False)

    def _end_all(self) -> None:
        """End every process and all that it started: politely, or at once when asked again."""
        running = list(self._running.values())
        try:
            _send(running, signal.SIGTERM)
            _wait(running, seconds=_POLITE_SECONDS)
        finally:
            _send(running, signal.SIGKILL)
            for item in running:
                item.process.wait()
                self._forget(item)
            _kill_all(but=self._others)

    def _start_some(self, pending: collections.deque[ScheduledJob]) -> None:
        late: list[ScheduledJob] = []
        while pending and self._has_room():
            item = pending.popleft()
            if self._would_end_in_time(item):
                self._start(item)
            else:
                late.append(item)
        for item in late:
            self._cut(item, "deadline", was_running=False)

    def _has_room(self) -> bool:
        """Whether another job may start: one too many where cores lie idle all the same.

        Jobs that wait for the device code of their leader hold a place and take no core.
        """
        running = len(self._running)
        if running < self._limits.jobs:
            return True
        if self._idle < _IDLE_SAMPLES or running >= self._limits.most_jobs:
            return False
        self._idle = 0
        return True

    def _would_end_in_time(self, item: ScheduledJob) -> bool:
        if self._limits.deadline is None or self._limits.starts_late:
            return True
        cores = self._limits.cores / (len(self._running) + 1)
        return time.monotonic() + item.seconds(cores=cores) <= self._limits.deadline

    def _is_over(self) -> bool:
        return self._limits.deadline is not None and time.monotonic() >= self._limits.deadline

    def _start(self, item: ScheduledJob) -> None:
        name = item.job.identifier
        log = self._child.logs / f"{name}.txt"
        reading, writing = os.pipe()
        command = [
            # nobody would account for what it compiles
            *leash(self._child.env, signal.SIGTERM),
            *self._child.command(item, writing),
        ]
        self._server.join(name, priority=item.cpu_seconds, memory=JOB_MEMORY)
        try:
            with log.open("wb") as stderr:
                process = subprocess.Popen(
                    command,
                    env={**self._child.env, BUDGET: str(self._server.path)},
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=stderr,
                    start_new_session=True,
                    pass_fds=[writing],
                )
        finally:
            os.close(writing)
        running = _Running(
            item=item, process=process, pipe=reading, log=log, started=time.monotonic()
        )
        os.set_blocking(reading, False)
        self._selector.register(reading, selectors.EVENT_READ, running)
        self._running[name] = running
        self._tell(events.JobStarted(time=time.time(), job=name, log=str(log)))

    def _listen(self) -> None:
        """Pass on what jobs and compiles say, for a moment."""
        for key, _ in self._selector.select(timeout=_TICK):
            self._read(key.data)
        self._drain_units()
        for running in list(self._running.values()):
            if running.process.poll() is not None:
                self._finish(running)
        now = time.monotonic()
        if now - self._sampled >= _SAMPLE:
            self._sampled = now
            self._sample()

    def _read(self, running: _Running) -> None:
        with contextlib.suppress(BlockingIOError):
            received = os.read(running.pipe, 1 << 16)
            if not received:
                self._selector.unregister(running.pipe)
                return
            for line in events.lines_of(running.buffer, received):
                self._hear(running, line)

    def _hear(self, running: _Running, line: bytes) -> None:
        try:
            event = events.decode(line)
        except ValueError:
            logger.debug("a job said rubbish: %r", line)
            return
        match event:
            case events.Done() | events.Failed():
                running.last = event  # told when its process has ended
            case events.Stage(state="begin"):
                running.stage = event.name
                self._tell(event)
            case _:
                self._tell(event)

    def _drain_units(self) -> None:
        with contextlib.suppress(queue.Empty):
            while True:
                self._tell(self._units.get_nowait())

    def _finish(self, running: _Running) -> None:
        """Say how a job ended whose process is gone."""
        while running.pipe in self._selector.get_map():
            before = len(running.buffer)
            self._read(running)
            if len(running.buffer) == before:
                break  # something that it left behind holds the pipe open
        self._forget(running)
        returncode = running.process.returncode
        if isinstance(running.last, events.Failed) or (returncode == 0 and running.last):
            self._tell(running.last)
            return
        self._tell(
            events.Failed(
                time=time.time(),
                job=running.item.job.identifier,
                stage=running.stage,
                message=_how_it_ended(returncode, running.log),
                exit_code=returncode if returncode > 0 else _NO_EXIT_CODE,
                log=str(running.log),
            )
        )

    def _forget(self, running: _Running) -> None:
        name = running.item.job.identifier
        if running.pipe in self._selector.get_map():
            self._selector.unregister(running.pipe)
        os.close(running.pipe)
        del self._running[name]
        self._server.leave(name)

    def _sample(self) -> None:
        usage = self._meter.read(
            {name: running.process.pid for name, running in self._running.items()}
        )
        self._tell(usage)
        self._idle = self._idle + 1 if self._has_idle_cores() else 0

    def _has_idle_cores(self) -> bool:
        """Whether fewer cores are put to use than there are, and not for want of memory.

        What the processes really take does not tell: others may use the machine too.
        """
        compiling, waiting = self._server.running, self._server.waiting
        asking = {unit.job for unit in compiling} | {ask.job for ask in waiting}
        used = sum(unit.cores for unit in compiling) + len(self._running.keys() - asking)
        least = min((ask.memory for ask in waiting), default=0)
        return (
            used < self._limits.cores
            and self._server.memory_used + least + JOB_MEMORY <= self._limits.memory
        )

    def _cut(self, item: ScheduledJob, reason: Reason, *, was_running: bool) -> None:
        self._tell(
            events.Cut(
                time=time.time(),
                job=item.job.identifier,
                reason=reason,
                was_running=was_running,
            )
        )


def _send(running: Iterable[_Running], number: signal.Signals) -> None:
    for item in running:
        if item.process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(item.process.pid, number)


def _wait(running: Iterable[_Running], *, seconds: float) -> None:
    until = time.monotonic() + seconds
    for item in running:
        with contextlib.suppress(subprocess.TimeoutExpired):
            item.process.wait(timeout=max(0.0, until - time.monotonic()))


def _kill_all(*, but: AbstractSet[int]) -> None:
    """Kill what jobs left behind: all of this process's descendants ``but`` those."""
    for _ in range(_ROUNDS):
        found = family(os.getpid(), read_processes()).keys() - but
        if not found:
            return
        for number in found:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(number, signal.SIGKILL)
        time.sleep(_SHORT)
        for number in found:
            # those that became our children have to be waited for
            with contextlib.suppress(ChildProcessError):
                os.waitpid(number, os.WNOHANG)


def _how_it_ended(returncode: int, log: Path) -> str:
    """Say what is known of a job that ended without a word of its own."""
    status = f"signal {-returncode}" if returncode < 0 else f"exit status {returncode}"
    lines = log.read_text(encoding="utf-8", errors="replace").rstrip().splitlines()
    last = "".join(f"\n{line}" for line in lines[-_LAST_LINES:])
    return f"The job's process ended with {status} and said nothing more.{last}"
