"""How a build is told about: to people on stderr, and to whoever asked for events."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import sys
import time
from typing import TYPE_CHECKING

from wheelyard.errors import UsageError, WheelyardError
from wheelyard.model.record import Built
from wheelyard.progress import (
    LiveProgress,
    LiveTransfers,
    PlainProgress,
    PlainTransfers,
    Progress,
    Transfers,
)
from wheelyard.scheduling import events

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterator
    from pathlib import Path
    from typing import BinaryIO

    from wheelyard.model.job import Job
    from wheelyard.pipeline import Outcome


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Teller:
    """Where a build tells what it does, and what it came to."""

    progress: Progress
    done: Callable[[Outcome], None]


def make_progress() -> Progress:
    """Return a moving line for a terminal and plain lines for everything else."""
    if not sys.stderr.isatty():
        return PlainProgress()
    from rich.console import Console  # noqa: PLC0415 - only terminals pay for it

    return LiveProgress(Console(stderr=True))


def make_transfers() -> Transfers:
    """Return moving lines for a terminal and plain ones, now and then, for everything else."""
    if not sys.stderr.isatty():
        return PlainTransfers()
    from rich.console import Console  # noqa: PLC0415 - only terminals pay for it

    return LiveTransfers(Console(stderr=True))


@contextlib.contextmanager
def telling(job: Job, arguments: argparse.Namespace, *, log: Path) -> Iterator[Teller]:
    """Tell about a build; ``--events`` gets its failure too, before it goes on its way."""
    if arguments.events is None:
        yield Teller(progress=make_progress(), done=lambda _outcome: None)
        return
    with _open(arguments.events) as stream:
        writer = events.EventWriter(stream)
        progress = events.EventProgress(job.identifier, writer, beside=make_progress())
        try:
            yield Teller(progress=progress, done=lambda outcome: writer.write(_done(outcome)))
        except (WheelyardError, OSError) as error:
            writer.write(
                events.Failed(
                    time=time.time(),
                    job=job.identifier,
                    stage=progress.current_stage,
                    message=str(error),
                    exit_code=getattr(error, "exit_code", WheelyardError.exit_code),
                    log=str(log),
                )
            )
            raise


def _open(where: str) -> BinaryIO:
    if where == "-":
        return os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    try:
        return os.fdopen(int(where), "wb")
    except (ValueError, OSError):
        msg = f"--events {where!r} is not an open descriptor. Give its number, or - for stdout."
        raise UsageError(msg) from None


def _done(outcome: Outcome) -> events.Done:
    record = outcome.stored.record
    build = record.origin.build if isinstance(record.origin, Built) else None
    return events.Done(
        time=time.time(),
        job=outcome.job.identifier,
        filename=record.filename,
        sha256=record.sha256,
        made=outcome.made,
        seconds=round(outcome.seconds, 3),
        cache_hits=sum(build.cache_hits.values()) if build else 0,
        cache_misses=sum(build.cache_misses.values()) if build else 0,
    )
