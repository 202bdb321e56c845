"""What happens in a fill and in each of its jobs, as JSON lines: for screens, logs, programs."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING, BinaryIO, Literal

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from wheelyard.progress import Progress

FORMAT: Literal[1] = 1


class Event(msgspec.Struct, frozen=True, kw_only=True, tag_field="event"):
    """Something that happened; times are seconds since the epoch."""

    time: float


class JobEvent(Event, frozen=True, kw_only=True):
    """Something that happened in one job."""

    job: str
    """Its identifier."""


class Expected(msgspec.Struct, frozen=True, kw_only=True):
    """A job of a fill before it starts."""

    job: str
    group: str
    leader: bool
    seconds: float
    """Expected, with all cores to itself."""


class FillStarted(Event, frozen=True, kw_only=True, tag="fill"):
    """A fill begins: what it may take, and what it is to do, in the order of starting."""

    format: Literal[1] = FORMAT
    cores: int
    memory: int
    jobs: tuple[Expected, ...]


class JobStarted(JobEvent, frozen=True, kw_only=True, tag="start"):
    """A job got a process."""

    log: str


class Stage(JobEvent, frozen=True, kw_only=True, tag="stage"):
    """A stage begins or ends."""

    name: str
    state: Literal["begin", "end"]


class Step(JobEvent, frozen=True, kw_only=True, tag="step"):
    """How many of the compile steps are done."""

    done: int
    total: int


class Remark(JobEvent, frozen=True, kw_only=True, tag="remark"):
    """Something that people should know."""

    text: str


class Unit(JobEvent, frozen=True, kw_only=True, tag="unit"):
    """One compile or link that the budget let in: begun, or ended."""

    name: str
    kind: str
    """``device``, ``host``."""
    asked: float
    started: float
    ended: float | None
    """``None`` where it has just begun."""
    memory: int
    """Bytes that it was counted with."""
    cores: int
    status: int | None
    """As a shell says it; ``None`` where it runs or was cut off."""
    fresh: bool
    """Another job had made it meanwhile, so that it is found in the compile cache."""


class Found(JobEvent, frozen=True, kw_only=True, tag="found"):
    """What a build took from the compile cache."""

    units: tuple[str, ...]
    """Sources none of whose code had to be compiled."""


class Usage(Event, frozen=True, kw_only=True, tag="usage"):
    """What the jobs take of the machine just now."""

    cores: float
    memory: int
    jobs: dict[str, int]
    """Memory of each."""


class Done(JobEvent, frozen=True, kw_only=True, tag="done"):
    """A job's wheel is in the yard."""

    filename: str
    sha256: str
    made: bool
    """Whether this run put it there."""
    seconds: float
    cache_hits: int
    cache_misses: int


class Failed(JobEvent, frozen=True, kw_only=True, tag="failed"):
    """A job ended without a wheel."""

    stage: str
    message: str
    exit_code: int
    log: str


class Cut(JobEvent, frozen=True, kw_only=True, tag="cut"):
    """A job was ended, or not started, because of Ctrl-C or the deadline."""

    reason: Literal["deadline", "interrupted"]
    was_running: bool


class FillEnded(Event, frozen=True, kw_only=True, tag="end"):
    """A fill is over."""

    done: int
    failed: int
    cut: int


AnyEvent = (
    FillStarted
    | JobStarted
    | Stage
    | Step
    | Remark
    | Unit
    | Found
    | Usage
    | Done
    | Failed
    | Cut
    | FillEnded
)
_DECODER: msgspec.json.Decoder[AnyEvent] = msgspec.json.Decoder(AnyEvent)


def encode(event: Event) -> bytes:
    """Return the event as one line."""
    return msgspec.json.encode(event, order="sorted") + b"\n"


def decode(line: bytes) -> AnyEvent:
    """Return the event of one line; anything else is a ``ValueError``."""
    return _DECODER.decode(line)


def read_events(path: Path) -> Iterator[AnyEvent]:
    """Yield the events of a file; one that was cut off in its last line is read up to there."""
    with path.open("rb") as file:
        for line in file:
            with contextlib.suppress(msgspec.DecodeError):
                yield decode(line)


class EventWriter:
    """Writes events to a stream; when nobody reads them any more, nobody misses them."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream: BinaryIO | None = stream

    def write(self, event: Event) -> None:
        if self._stream is None:
            return
        try:
            self._stream.write(encode(event))
            self._stream.flush()
        except (BrokenPipeError, ValueError):
            self._stream = None


class EventProgress:
    """Tells what a job does as events, and to people as ``beside`` does."""

    def __init__(self, job: str, writer: EventWriter, *, beside: Progress) -> None:
        self._job = job
        self._writer = writer
        self._beside = beside
        self.current_stage = ""

    @contextlib.contextmanager
    def stage(self, name: str) -> Iterator[None]:
        self.current_stage = name
        self._write_stage(name, "begin")
        with self._beside.stage(name):
            yield
        self._write_stage(name, "end")

    def step(self, done: int, total: int) -> None:
        self._writer.write(Step(time=time.time(), job=self._job, done=done, total=total))
        self._beside.step(done, total)

    def found(self, units: Sequence[str]) -> None:
        self._writer.write(Found(time=time.time(), job=self._job, units=tuple(units)))
        self._beside.found(units)

    def say(self, text: str) -> None:
        self._writer.write(Remark(time=time.time(), job=self._job, text=text))
        self._beside.say(text)

    def _write_stage(self, name: str, state: Literal["begin", "end"]) -> None:
        self._writer.write(Stage(time=time.time(), job=self._job, name=name, state=state))


def lines_of(buffer: bytearray, received: bytes) -> Iterable[bytes]:
    """Add what was received to the buffer, and take the whole lines out of it."""
    buffer += received
    *lines, rest = bytes(buffer).split(b"\n")
    buffer[:] = rest
    return lines
