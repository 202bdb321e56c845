"""Log lines that carry the identifier of the job they belong to."""

from __future__ import annotations

import contextlib
import contextvars
import logging
import sys
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from collections.abc import Iterator

_current_job: contextvars.ContextVar[str] = contextvars.ContextVar("job", default="")


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
    handler.setFormatter(logging.Formatter("%(job)s%(message)s" if verbose else "%(message)s"))
    logger = logging.getLogger("wheelyard")
    logger.handlers[:] = [handler]
    logger.setLevel(logging.DEBUG if verbose else logging.INFO)
    logger.propagate = False
