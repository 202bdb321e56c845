"""Tables for people and JSON for programs."""

from __future__ import annotations

import json
import shutil
import sys
import textwrap
from typing import TYPE_CHECKING

from wheelyard.log import printable

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

FORMAT = 1


def print_json(result: Mapping[str, object]) -> None:
    """Print a result with the format version of the command line's JSON."""
    sys.stdout.write(json.dumps({"format": FORMAT, **result}, indent=2, sort_keys=True) + "\n")


def print_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print aligned columns; the last one is not padded."""
    widths = [max(len(row[at]) for row in (header, *rows)) for at in range(len(header))]
    for row in (header, *rows):
        cells = [cell.ljust(width) for cell, width in zip(row[:-1], widths, strict=False)]
        sys.stdout.write(printable("  ".join([*cells, row[-1]]).rstrip()) + "\n")


def print_lines(*lines: str) -> None:
    """Print result lines on stdout."""
    sys.stdout.write("".join(f"{printable(line)}\n" for line in lines))


def wrapped(text: str, *, indent: int = 0, first: int = 0) -> list[str]:
    """Break a sentence into lines that fit the terminal; ``first`` indents the first of them."""
    return textwrap.wrap(
        text,
        width=max(40, shutil.get_terminal_size().columns),
        initial_indent=" " * first,
        subsequent_indent=" " * indent,
        break_long_words=False,
        break_on_hyphens=False,
    )


def readable_seconds(seconds: float) -> str:
    """For example ``2 h 5 min``, ``5 min 58 s`` or ``4.2 s``."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    if seconds >= 3600:
        return f"{int(seconds) // 3600} h {int(seconds) // 60 % 60} min"
    return f"{int(seconds) // 60} min {int(seconds) % 60} s"
