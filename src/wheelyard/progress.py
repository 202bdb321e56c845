"""How a build tells people where it is: stages with durations, compile steps, remarks."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from typing import TYPE_CHECKING, Protocol

from wheelyard.log import printable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from contextlib import AbstractContextManager

    from rich.console import Console
    from rich.progress import Progress as Bar

logger = logging.getLogger(__name__)

_LINE_SECONDS = 5.0


class Progress(Protocol):
    """Where a build is told about."""

    def stage(self, name: str) -> AbstractContextManager[None]:
        """Show a stage while it runs, and its duration at its end."""

    def step(self, done: int, total: int) -> None:
        """Show how many of the compile steps are done."""

    def found(self, units: Sequence[str]) -> None:
        """Take notice of the sources whose compiled code was in the compile cache."""

    def say(self, text: str) -> None:
        """Show a remark."""


class Transfers(Protocol):
    """Where downloads are told about; several may run at once, in threads."""

    def transfer(
        self, name: str, size: int | None
    ) -> AbstractContextManager[Callable[[int], None]]:
        """Show a download while it runs; the callable is told how many bytes are here."""


class Meter:
    """Turns how many bytes are here into words: ``12.3 of 50.0 MB, 3.2 MB/s, 12 s left``."""

    def __init__(self, size: int | None, *, now: float) -> None:
        self._size = size
        self._started = now
        self._first: int | None = None

    def describe(self, done: int, *, now: float) -> str:
        """Say how far it is; the rate is that of this run, not of what it found."""
        if self._first is None:
            self._first = done
        rate = (done - self._first) / max(now - self._started, 1e-3)
        if self._size is None:
            return f"{done / 1e6:.1f} MB, {rate / 1e6:.1f} MB/s"
        left = f", {(self._size - done) / rate:.0f} s left" if rate > 0 else ""
        return f"{done / 1e6:.1f} of {self._size / 1e6:.1f} MB, {rate / 1e6:.1f} MB/s{left}"


class QuietTransfers:
    """Shows nothing."""

    @contextlib.contextmanager
    def transfer(self, name: str, size: int | None) -> Iterator[Callable[[int], None]]:  # noqa: ARG002
        yield lambda _done: None


QUIET = QuietTransfers()


class PlainTransfers:
    """A line every few seconds for what takes longer; for logs and CI."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock

    @contextlib.contextmanager
    def transfer(self, name: str, size: int | None) -> Iterator[Callable[[int], None]]:
        meter = Meter(size, now=self._clock())
        last = self._clock()

        def report(done: int) -> None:
            nonlocal last
            text = meter.describe(done, now=self._clock())
            if self._clock() - last >= _LINE_SECONDS:
                last = self._clock()
                logger.info("  %s: %s", name, text)

        yield report


class LiveTransfers:
    """A moving line on a terminal for each download."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._lock = threading.Lock()
        self._running = 0
        self._bar: Bar | None = None

    @contextlib.contextmanager
    def transfer(self, name: str, size: int | None) -> Iterator[Callable[[int], None]]:
        bar = self._join()
        task = bar.add_task(name, total=size)
        try:
            yield lambda done: bar.update(task, completed=done)
        finally:
            bar.remove_task(task)
            self._leave()

    def _join(self) -> Bar:
        with self._lock:
            self._running += 1
            if self._bar is None:
                self._bar = _transfer_bar(self._console)
                self._bar.start()
            return self._bar

    def _leave(self) -> None:
        with self._lock:
            self._running -= 1
            if self._running == 0 and self._bar is not None:
                self._bar.stop()
                self._bar = None


def _transfer_bar(console: Console) -> Bar:
    from rich.progress import (  # noqa: PLC0415 - only terminals pay for it
        BarColumn,
        DownloadColumn,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )
    from rich.progress import Progress as Bar  # noqa: PLC0415

    columns = (
        TextColumn("  {task.description}"),
        BarColumn(bar_width=30),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    return Bar(*columns, console=console, transient=True)


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

    def found(self, units: Sequence[str]) -> None:
        pass

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

    def found(self, units: Sequence[str]) -> None:
        pass

    def say(self, text: str) -> None:
        self._console.print(printable(text), highlight=False, soft_wrap=True)
