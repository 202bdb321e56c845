"""Where a fill is shown while it runs: a terminal, a log, or a program."""

from __future__ import annotations

import contextlib
import logging
import sys
import time
from typing import TYPE_CHECKING, Protocol

from wheelyard.scheduling import events

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import Console
    from rich.text import Text

    from wheelyard.engines.board import Board
    from wheelyard.scheduling.events import AnyEvent

logger = logging.getLogger(__name__)

_TOTALS_EVERY = 30.0


class Screen(Protocol):
    """Shows events, after the board has taken notice of them."""

    def show(self, event: AnyEvent) -> None:
        """Show one event."""


class JsonScreen:
    """Every event as a line on stdout."""

    def __init__(self) -> None:
        self._writer = events.EventWriter(sys.stdout.buffer)

    def show(self, event: AnyEvent) -> None:
        self._writer.write(event)


class PlainScreen:
    """A line when a job starts or ends, and the totals now and then; for logs and CI."""

    def __init__(self, board: Board) -> None:
        self._board = board
        self._last_totals = time.time()

    def show(self, event: AnyEvent) -> None:
        text = tell_in_words(event)
        if text:
            logger.info("%s", text)
        if event.time - self._last_totals >= _TOTALS_EVERY:
            self._last_totals = event.time
            for line in self._board.lines(event.time, width=200):
                logger.info("  %s", line)


class LiveScreen:
    """Lines that move, and above them what has ended."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def show(self, event: AnyEvent) -> None:
        text = tell_in_words(event)
        if text and not isinstance(event, events.JobStarted):
            self._console.print(text, highlight=False, markup=False, soft_wrap=True)


@contextlib.contextmanager
def make_screen(board: Board, *, as_json: bool) -> Iterator[Screen]:
    """Return the screen that fits what stdout and stderr are."""
    if as_json:
        yield JsonScreen()
        return
    if not sys.stderr.isatty():
        yield PlainScreen(board)
        return
    from rich.console import Console  # noqa: PLC0415 - only terminals pay for it
    from rich.live import Live  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    console = Console(stderr=True)

    def render() -> Text:
        lines = board.lines(time.time(), width=console.width)
        return Text("\n".join(lines), no_wrap=True)

    with Live(get_renderable=render, console=console, refresh_per_second=4, transient=True):
        yield LiveScreen(console)


def tell_in_words(event: AnyEvent) -> str:
    """Return a line for the events that stay on the screen, nothing for the others."""
    match event:
        case events.JobStarted():
            return f"started {event.job}"
        case events.Done(made=True):
            return f"done    {event.job} ({event.seconds:.0f} s)"
        case events.Done():
            return f"had     {event.job}"
        case events.Failed():
            return f"FAILED  {event.job} in {event.stage}"
        case events.Cut(was_running=True):
            return f"ended   {event.job} ({event.reason})"
        case _:
            return ""
