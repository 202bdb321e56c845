"""How a build tells people where it is: stages with durations, compile steps, remarks."""

from __future__ import annotations

import contextlib
import logging
import time
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from rich.console import Console

logger = logging.getLogger(__name__)


class Progress(Protocol):
    """Where a build is told about."""

    def stage(self, name: str) -> AbstractContextManager[None]:
        """Show a stage while it runs, and its duration at its end."""

    def step(self, done: int, total: int) -> None:
        """Show how many of the compile steps are done."""

    def say(self, text: str) -> None:
        """Show a remark."""


class PlainProgress:
    """One line a stage and a line for each tenth of the compile steps; for logs and CI."""

    def __init__(self) -> None:
        self._last_tenth = -1

    @contextlib.contextmanager
    def stage(self, name: str) -> Iterator[None]:
        started = time.monotonic()
        self._last_tenth = -1
        yield
        logger.info("%-12s %7.1f s", name, time.monotonic() - started)

    def step(self, done: int, total: int) -> None:
        tenth = 10 * done // max(total, 1)
        if tenth > self._last_tenth:
            self._last_tenth = tenth
            logger.info("  [%d/%d]", done, total)

    def say(self, text: str) -> None:
        logger.info("%s", text)


class LiveProgress:
    """A line on a terminal that moves with ninja's steps."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._update: Callable[[int, int], None] = lambda _done, _total: None

    @contextlib.contextmanager
    def stage(self, name: str) -> Iterator[None]:
        from rich.progress import (  # noqa: PLC0415 - only terminals pay for it
            BarColumn,
            MofNCompleteColumn,
            SpinnerColumn,
            TextColumn,
            TimeElapsedColumn,
        )
        from rich.progress import Progress as Bar  # noqa: PLC0415

        columns = (
            SpinnerColumn(),
            TextColumn("{task.description:<12}"),
            BarColumn(bar_width=30),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
        )
        started = time.monotonic()
        with Bar(*columns, console=self._console, transient=True) as bar:
            task = bar.add_task(name, total=None)
            self._update = lambda done, total: bar.update(task, completed=done, total=total)
            yield
        self._console.print(f"{name:<12} {time.monotonic() - started:7.1f} s", highlight=False)

    def step(self, done: int, total: int) -> None:
        self._update(done, total)

    def say(self, text: str) -> None:
        self._console.print(text, highlight=False, soft_wrap=True)
