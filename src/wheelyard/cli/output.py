"""Tables for people and JSON for programs."""

from __future__ import annotations

import json
import shutil
import sys
import textwrap
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

FORMAT = 1
_GAP = "  "
_NARROW = 24


def print_json(result: Mapping[str, object]) -> None:
    """Print a result with the format version of the command line's JSON."""
    sys.stdout.write(json.dumps({"format": FORMAT, **result}, indent=2, sort_keys=True) + "\n")


def print_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print aligned columns; on a terminal they are made to fit its width."""
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    sys.stdout.write("".join(f"{line}\n" for line in table_lines(header, rows, width=width)))


def table_lines(
    header: Sequence[str], rows: Sequence[Sequence[str]], *, width: int | None
) -> Iterator[str]:
    """Yield the lines of a table; its last column is not padded.

    What does not fit ``width`` goes on below the last column, or, where that is too narrow, each
    row is told in lines of its own.
    """
    widths = [max(len(row[at]) for row in (header, *rows)) for at in range(len(header))]
    before = sum(widths[:-1]) + len(_GAP) * (len(header) - 1)
    room = None if width is None else width - before
    if room is not None and widths[-1] <= room:
        room = None
    if width is not None and room is not None and room < _NARROW:
        yield from _record_lines(header, rows, width=width)
        return
    for row in (header, *rows):
        cells = [cell.ljust(size) for cell, size in zip(row[:-1], widths, strict=False)]
        first, *others = _wrap(row[-1], room)
        yield _GAP.join([*cells, first]).rstrip()
        yield from (" " * before + line for line in others)


def _wrap(text: str, width: int | None) -> list[str]:
    if width is None:
        return [text]
    lines = textwrap.wrap(text, width, break_long_words=False, break_on_hyphens=False)
    return lines or [""]


def _record_lines(
    header: Sequence[str], rows: Sequence[Sequence[str]], *, width: int
) -> Iterator[str]:
    before = max(map(len, header)) + len(_GAP)
    for number, row in enumerate(rows):
        if number:
            yield ""
        for name, cell in zip(header, row, strict=True):
            first, *others = _wrap(cell, max(width - before, 1))
            yield f"{name.lower():{before}}{first}".rstrip()
            yield from (" " * before + line for line in others)


def print_lines(*lines: str) -> None:
    """Print result lines on stdout."""
    sys.stdout.write("".join(f"{line}\n" for line in lines))


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
