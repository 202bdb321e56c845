"""The C library that this Python runs on."""

from __future__ import annotations

import dataclasses
import os
import re
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Libc:
    """A C library; only glibc tells its version."""

    name: Literal["glibc", "musl"]
    version: tuple[int, int]

    def __str__(self) -> str:
        if self.name == "musl":
            return "musl"
        return f"glibc {self.version[0]}.{self.version[1]}"


def find_libc(*, confstr: Callable[[str], str | None] = os.confstr) -> Libc:
    """Return the C library of this process; one that is not glibc is musl on Linux."""
    try:
        answer = confstr("CS_GNU_LIBC_VERSION") or ""
    except (ValueError, OSError):
        answer = ""
    return read_libc(answer)


def read_libc(answer: str) -> Libc:
    """Read what ``confstr`` says, for example ``glibc 2.28``."""
    match = re.fullmatch(r"glibc (\d+)\.(\d+).*", answer)
    if match is None:
        return Libc(name="musl", version=(0, 0))
    return Libc(name="glibc", version=(int(match[1]), int(match[2])))
