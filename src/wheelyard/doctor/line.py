"""One line of the diagnosis."""

from __future__ import annotations

import dataclasses
from typing import Literal

Status = Literal["ok", "warn", "missing"]


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Line:
    """One fact, and what to do about it."""

    status: Status
    subject: str
    finding: str
    remedy: str = ""
    """A command to copy, or nothing."""
