"""Break real wheels in many ways, check them, and print what is found and how it is explained.

    python tests/corpus/broken.py --wheels FOLDER [WORD ...]

Only the cases with one of the words in their names are tried, if there are any. The wheels are
downloaded where they are missing. Exits with 1 unless everything is found and explained.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import broken_contents
import broken_gpu_code
import broken_labels
import broken_libraries
import broken_symbols
from breaking import CASES, SOURCES, Bench
from corpus import corpus_folder
from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from breaking import Case, Verdict

MODULES = (broken_symbols, broken_libraries, broken_gpu_code, broken_labels, broken_contents)
"""Importing them registers their cases."""


def main() -> None:
    """Judge the cases, print the table, and say in the exit code whether all is well."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("words", nargs="*", metavar="WORD", help="in the names of cases")
    parser.add_argument("--wheels", type=Path, help="folder of the wheels; filled as needed")
    arguments = parser.parse_args()
    console = Console(width=160)
    with tempfile.TemporaryDirectory(prefix="broken-") as scratch:
        bench = Bench(corpus_folder(arguments.wheels), Path(scratch))
        whole = [name for name in SOURCES if not bench.check_whole(name, ours=False).passed]
        verdicts = []
        for case in select(CASES.values(), arguments.words):
            verdicts.append(bench.judge(case))
            if not verdicts[-1].explained:
                console.print(shortcoming(verdicts[-1]), markup=False, highlight=False)
    console.print(table(verdicts))
    console.print(summary(verdicts, refused_whole=whole), markup=False, highlight=False)
    sys.exit(bool(whole) or not all(one.explained for one in verdicts))


def select(cases: Iterable[Case], words: Sequence[str]) -> list[Case]:
    return [case for case in cases if not words or any(word in case.name for word in words)]


def table(verdicts: Iterable[Verdict]) -> Table:
    """Return a line for each case."""
    lines = Table("broken wheel", "made from", "kind", "found", "explained", "as")
    for one in verdicts:
        case = one.case
        marks = ("yes" if one.found else "NO", "yes" if one.explained else "NO")
        lines.add_row(case.name, case.source, str(case.kind), *marks, one.explanation[:60])
    return lines


def summary(verdicts: Sequence[Verdict], *, refused_whole: Sequence[str]) -> str:
    """Return the numbers in words."""
    found = sum(one.found for one in verdicts)
    explained = sum(one.explained for one in verdicts)
    refused = f"; REFUSED WHOLE: {', '.join(refused_whole)}" if refused_whole else ""
    return (
        f"{len(verdicts)} broken wheels: {found} found, {explained} explained. "
        f"{len(SOURCES)} wheels they are made from pass{refused}."
    )


def shortcoming(verdict: Verdict) -> str:
    """Say what was expected of a case, and what was said instead."""
    case, report = verdict.case, verdict.report
    wanted = f"{case.kind} matching {case.message!r}{', refused' if case.refused else ''}"
    said = [f"    {one.severity} {one.kind}: {one.message}" for one in verdict.new]
    return "\n".join(
        [
            f"{case.name} ({case.source}; torch {case.torch}; passed: {report.passed})",
            f"  wanted {wanted}",
            *(said or ["    nothing"]),
        ]
    )


if __name__ == "__main__":
    main()
