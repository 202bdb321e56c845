"""Run a benchmark, keep its figures, and write docs/figures.md from all that are kept.

python benchmarks/keep.py planning [OPTIONS OF THE BENCHMARK]
"""

from __future__ import annotations

import ast
import datetime as dt
import json
import os
import platform
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wheelyard.machine.cores import usable_cores

if TYPE_CHECKING:
    from collections.abc import Iterator

HERE = Path(__file__).parent
KEPT = HERE / "figures"
PAGE = HERE.parent / "docs" / "figures.md"
INTRODUCTION = """\
# Figures

Written by `./nox -s bench`, whole: what each benchmark measured when it was last run, with the date
and the machine. Ratios carry over to other machines, seconds do not. What was shown beside it is in
[shown.md](shown.md).
"""


def main() -> None:
    """Run the one that is named; the rest of the words are for it."""
    name, *options = sys.argv[1:]
    with tempfile.TemporaryDirectory(prefix="wheelyard-bench-") as folder:
        path = Path(folder, "figures.json")
        command = [sys.executable, str(HERE / f"{name}.py"), *options, "--json", str(path)]
        subprocess.run(command, check=True)
        figures = json.loads(path.read_text(encoding="utf-8"))
    KEPT.mkdir(exist_ok=True)
    version = platform.python_version()
    kept = {
        "date": dt.datetime.now(dt.UTC).date().isoformat(),
        "figures": figures,
        "load": round(os.getloadavg()[2], 1),
        "machine": f"{platform.machine()}, {usable_cores()} cores, Python {version}",
    }
    text = json.dumps(kept, indent=2, sort_keys=True) + "\n"
    (KEPT / f"{name}.json").write_text(text, encoding="utf-8")
    PAGE.write_text(page(), encoding="utf-8")


def page(kept: Path = KEPT) -> str:
    """Return the page of all figures that are kept."""
    sections = (_section(path) for path in sorted(kept.glob("*.json")))
    return "\n".join([INTRODUCTION, *sections])


def _section(path: Path) -> str:
    kept = json.loads(path.read_text(encoding="utf-8"))
    module = ast.parse((HERE / f"{path.stem}.py").read_text(encoding="utf-8"))
    what = (ast.get_docstring(module) or "").partition("\n\n")[0].replace("\n", " ")
    where = f"{kept['date']}, {kept['machine']}, load {kept['load']} over a quarter of an hour."
    tables = "\n\n".join("\n".join(table) for table in _tables(kept["figures"]))
    return f"## {path.stem}\n\n{what} {where}\n\n{tables}\n"


def _tables(figures: Any) -> Iterator[list[str]]:  # noqa: ANN401 - JSON
    """Yield a table for each list of rows, and one of all else."""
    singles: list[tuple[str, str]] = []
    lists: list[list[dict[str, Any]]] = []
    _sort_out(figures, "", singles, lists)
    if singles:
        yield [
            "| figure | value |",
            "|---|---|",
            *(f"| {name} | {value} |" for name, value in singles),
        ]
    for rows in lists:
        heads = list(rows[0])
        yield [
            f"| {' | '.join(heads)} |",
            "|" + "---|" * len(heads),
            *(f"| {' | '.join(_written(row[head]) for head in heads)} |" for row in rows),
        ]


def _sort_out(
    value: Any,  # noqa: ANN401 - JSON
    name: str,
    singles: list[tuple[str, str]],
    lists: list[list[dict[str, Any]]],
) -> None:
    match value:
        case dict():
            for key, inner in value.items():
                _sort_out(inner, f"{name}, {key}" if name else key, singles, lists)
        case [{}, *_]:
            lists.append(value)
        case _:
            singles.append((name, _written(value)))


def _written(value: object) -> str:
    """Return a number with three digits that count.

    >>> _written(0.12345), _written(1234567), _written("x")
    ('0.123', '1,234,567', 'x')
    """
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
    return f"{value:,}" if isinstance(value, int) else str(value)


if __name__ == "__main__":
    main()
