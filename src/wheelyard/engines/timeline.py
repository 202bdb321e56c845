"""A fill drawn over time, as one file that any browser shows: where the hours went."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from wheelyard.files import replace_file
from wheelyard.scheduling import events

if TYPE_CHECKING:
    from collections.abc import Iterable

    from wheelyard.scheduling.events import AnyEvent

_TEMPLATE = Path(__file__).with_name("timeline.html")
_PLACE = '"the events of a fill"'

State = Literal["waiting", "running", "done", "had", "failed", "cut"]


@dataclasses.dataclass(kw_only=True, slots=True)
class Bar:
    """A stage of a job."""

    name: str
    start: float
    end: float | None = None


@dataclasses.dataclass(kw_only=True, slots=True)
class Line:
    """A job, with all that there is to draw of it."""

    job: str
    group: str
    leader: bool
    expected: float
    start: float | None = None
    end: float | None = None
    state: State = "waiting"
    hits: int = 0
    misses: int = 0
    message: str = ""
    stages: list[Bar] = dataclasses.field(default_factory=list)
    units: list[dict[str, object]] = dataclasses.field(default_factory=list)
    cached: list[str] = dataclasses.field(default_factory=list)
    """Names of units that were in the compile cache."""


@dataclasses.dataclass(kw_only=True, slots=True)
class Picture:
    """A whole fill."""

    cores: int = 0
    memory: int = 0
    start: float = 0.0
    end: float = 0.0
    lines: list[Line] = dataclasses.field(default_factory=list)
    usage: list[tuple[float, float, int]] = dataclasses.field(default_factory=list)


def write_timeline(events_path: Path, path: Path) -> None:
    """Draw the events of a file, as far as they go."""
    picture = draw(events.read_events(events_path))
    replace_file(path, to_html(picture).encode())


def to_html(picture: Picture) -> str:
    """Return a page that asks nobody for anything."""
    data = json.dumps(dataclasses.asdict(picture), separators=(",", ":"), sort_keys=True)
    # a name with a tag in it must not end the script
    data = data.replace("<", "\\u003c")
    return _TEMPLATE.read_text(encoding="utf-8").replace(_PLACE, data)


def draw(happened: Iterable[AnyEvent]) -> Picture:
    """Put events into rows and curves; what never ended goes on to the end of the picture."""
    picture = Picture()
    lines: dict[str, Line] = {}
    for event in happened:
        picture.start = picture.start or event.time
        picture.end = max(picture.end, event.time)
        if isinstance(event, events.FillStarted):
            picture.cores, picture.memory = event.cores, event.memory
            lines |= {item.job: _line(item) for item in event.jobs}
        elif isinstance(event, events.Usage):
            picture.usage.append((event.time, event.cores, event.memory))
        elif isinstance(event, events.JobEvent) and event.job in lines:
            _add(lines[event.job], event)
    drawn = [line for line in lines.values() if line.start is not None]
    picture.lines = sorted(drawn, key=lambda line: line.start or 0.0)
    return picture


def _line(item: events.Expected) -> Line:
    return Line(job=item.job, group=item.group, leader=item.leader, expected=item.seconds)


def _add(line: Line, event: events.JobEvent) -> None:
    match event:
        case events.JobStarted():
            line.start, line.state = event.time, "running"
        case events.Stage(state="begin"):
            line.stages.append(Bar(name=event.name, start=event.time))
        case events.Stage():
            _close(line, event.time)
        case events.Unit() if event.ended is not None:
            line.units.append(
                {
                    "asked": event.asked,
                    "ended": event.ended,
                    "kind": event.kind,
                    "memory": event.memory,
                    "name": event.name,
                    "started": event.started,
                    "status": event.status,
                }
            )
        case events.Found():
            line.cached = list(event.units)
        case events.Done():
            line.hits, line.misses = event.cache_hits, event.cache_misses
            _end(line, event.time, "done" if event.made else "had")
        case events.Failed():
            line.message = f"{event.stage}: {event.message}"
            _end(line, event.time, "failed")
        case events.Cut(was_running=True):
            _end(line, event.time, "cut")
        case _:
            pass


def _close(line: Line, time: float) -> None:
    for bar in line.stages:
        if bar.end is None:
            bar.end = time


def _end(line: Line, time: float, state: State) -> None:
    _close(line, time)
    line.end, line.state = time, state
