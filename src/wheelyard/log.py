"""Log lines that carry the identifier of the job they belong to."""

from __future__ import annotations

import contextlib
import contextvars
import logging
import re
import sys
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from collections.abc import Iterator

_COMMANDS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
_current_job: contextvars.ContextVar[str] = contextvars.ContextVar("job", default="")


def printable(text: str) -> str:
    """Return text in which nothing commands a terminal: what strangers wrote is shown to people.

    For example an escape sequence of a build's output, or a name that turns the direction of
    writing round.
    """
    return _COMMANDS.sub(lambda match: ascii(match[0])[1:-1], text)


class _Formatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return printable(super().format(record))


class _JobFilter(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        identifier = _current_job.get()
        record.job = f"{identifier}: " if identifier else ""
        return True


@contextlib.contextmanager
def job_context(identifier: str) -> Iterator[None]:
    """Put ``identifier`` in front of every log line inside the block."""
    token = _current_job.set(identifier)
    try:
        yield
    finally:
        _current_job.reset(token)


def set_up(*, verbose: bool, stream: TextIO | None = None) -> None:
    """Send wheelyard's log lines to ``stream`` (stderr): steps; when verbose, commands and jobs."""
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.addFilter(_JobFilter())
    handler.setFormatter(_Formatter("%(job)s%(message)s" if verbose else "%(message)s"))
    logger = logging.getLogger("wheelyard")
    logger.handlers[:] = [handler]
    logger.setLevel(logging.DEBUG if verbose else logging.INFO)
    logger.propagate = False
