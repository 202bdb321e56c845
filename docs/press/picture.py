"""Picture and table of ARCHITECTURE.md, made from the code: which part builds on which.

An arrow that follows from others is left out. ``python docs/press/picture.py`` writes both anew.
"""

from __future__ import annotations

import ast
import dataclasses
import graphlib
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

REPOSITORY = Path(__file__).parents[2]
HOUSE = REPOSITORY / "src" / "wheelyard"
PICTURE = REPOSITORY / "docs" / "architecture.svg"
PAGE = REPOSITORY / "ARCHITECTURE.md"
GROUND = "errors, log, run, files ..."
GROUND_FLOOR = frozenset({"errors", "files", "folders", "locking", "log", "progress", "run"})
"""What everything is built on, drawn as one."""
ENTRANCE = "__main__"
BEGIN, END = "<!-- parts -->", "<!-- end of parts -->"
_WIDTH, _HEIGHT, _GAP, _ROW = 128, 26, 20, 54

_HEAD = """\
<svg xmlns="http://www.w3.org/2000/svg" viewBox="-{gap} -{gap} {width:g} {height:g}"
 width="{width:g}" height="{height:g}" role="img" font-family="sans-serif" font-size="13">
<title>Which part of wheelyard builds on which</title>
<marker id="head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7"
 orient="auto"><path d="M0 0 8 4 0 8z" fill="#808890"/></marker>
<g fill="none" stroke="#808890" stroke-width="1.2">"""

Graph = dict[str, set[str]]


def imported_parts(house: Path = HOUSE) -> Graph:
    """Return the parts that each part imports, modules for type checking too."""
    graph: Graph = {}
    for path in sorted(house.rglob("*.py")):
        part = _part(path.relative_to(house).with_suffix("").parts[0])
        if part in {"__init__", ENTRANCE}:
            continue
        names = {_part(name.split(".")[1]) for name in _imports(path)}
        graph.setdefault(part, set()).update(names - {part, "__version__"})
    return graph


def _part(name: str) -> str:
    return GROUND if name in GROUND_FLOOR else name


def _imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module == "wheelyard":
            yield from (f"wheelyard.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (name for name in [node.module or ""] if name.startswith("wheelyard."))
        elif isinstance(node, ast.Import):
            names = (alias.name for alias in node.names)
            yield from (name for name in names if name.startswith("wheelyard."))


def without_shortcuts(graph: Mapping[str, set[str]]) -> Graph:
    """Return the graph without the arrows that follow from others.

    >>> without_shortcuts({"a": {"b", "c"}, "b": {"c"}, "c": set()})["a"]
    {'b'}
    """
    below: Graph = {}
    for part in graphlib.TopologicalSorter(graph).static_order():
        below[part] = set().union(graph[part], *(below[other] for other in graph[part]))
    return {
        part: {one for one in ours if not any(one in below[other] for other in ours)}
        for part, ours in graph.items()
    }


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Layout:
    """Rows from the top down; a name that is no part is where a long arrow passes."""

    rows: tuple[tuple[str, ...], ...]
    arrows: tuple[tuple[str, str], ...]

    def place(self, name: str) -> tuple[float, float]:
        """Return the middle of a box, or of a passing arrow."""
        widest = max(map(_row_width, self.rows))
        for number, row in enumerate(self.rows):
            if name in row:
                left = (widest - _row_width(row)) / 2 + _row_width(row[: row.index(name)])
                left += _GAP if row.index(name) else 0
                return left + _wide(name) / 2, number * _ROW + _HEIGHT / 2
        raise KeyError(name)


def _wide(name: str) -> float:
    return 0 if name.startswith("|") else max(_WIDTH, 7.5 * len(name))


def _row_width(row: Sequence[str]) -> float:
    return sum(map(_wide, row)) + _GAP * max(0, len(row) - 1)


def lay_out(graph: Mapping[str, set[str]]) -> Layout:
    """Put every part below all that build on it, and neighbours near each other."""
    heights: dict[str, int] = {}
    for part in graphlib.TopologicalSorter(graph).static_order():
        heights[part] = 1 + max((heights[other] for other in graph[part]), default=-1)
    top = max(heights.values())
    rows: list[list[str]] = [[] for _ in range(top + 1)]
    for part in sorted(graph):
        rows[top - heights[part]].append(part)
    arrows = []
    for part in sorted(graph):
        for other in sorted(graph[part]):
            chain = [part]
            for height in range(heights[part] - 1, heights[other], -1):
                chain.append(f"|{part}|{other}|{height}")
                rows[top - height].append(chain[-1])
            arrows += list(zip(chain, [*chain[1:], other], strict=True))
    for _ in range(8):
        rows = _nearer(rows, arrows)
        rows = _nearer(rows[::-1], [(low, high) for high, low in arrows])[::-1]
    return Layout(rows=tuple(map(tuple, rows)), arrows=tuple(arrows))


def _nearer(rows: list[list[str]], arrows: Iterable[tuple[str, str]]) -> list[list[str]]:
    """Order each row by the middle of what leads to it from the row before."""
    arrows = tuple(arrows)
    ordered = [rows[0]]
    for row in rows[1:]:
        before = {name: _middle(ordered[-1], name) for name in ordered[-1]}

        def middle(name: str, before: dict[str, float] = before) -> float:
            leading = [before[high] for high, low in arrows if low == name]
            return sum(leading) / len(leading) if leading else 0.0

        ordered.append(sorted(row, key=lambda name: (middle(name), name)))
    return ordered


def _middle(row: Sequence[str], name: str) -> float:
    return row.index(name) - (len(row) - 1) / 2


def draw(layout: Layout) -> str:
    """Return the picture; its colours are for a light page and a dark one alike."""
    width = max(map(_row_width, layout.rows)) + 2 * _GAP
    height = len(layout.rows) * _ROW - _ROW + _HEIGHT + 2 * _GAP
    lines = [_HEAD.format(gap=_GAP, width=width, height=height)]
    lines += [_arrow(layout, high, low) for high, low in layout.arrows]
    lines.append("</g>")
    for name in (name for row in layout.rows for name in row if not name.startswith("|")):
        x, y = layout.place(name)
        wide = _wide(name)
        lines.append(
            f'<rect x="{x - wide / 2:g}" y="{y - _HEIGHT / 2:g}" width="{wide:g}" '
            f'height="{_HEIGHT}" rx="5" fill="#e8eef6" stroke="#5b7ea8"/>'
        )
        lines.append(
            f'<text x="{x:g}" y="{y + 4.5:g}" text-anchor="middle" fill="#1d2b3a">{name}</text>'
        )
    return "\n".join([*lines, "</svg>", ""])


def _arrow(layout: Layout, high: str, low: str) -> str:
    (x, y), (to_x, to_y) = layout.place(high), layout.place(low)
    y += 0 if high.startswith("|") else _HEIGHT / 2
    passes = low.startswith("|")
    to_y -= 0 if passes else _HEIGHT / 2
    half = (y + to_y) / 2
    head = "" if passes else ' marker-end="url(#head)"'
    return f'<path d="M{x:g} {y:g}C{x:g} {half:g} {to_x:g} {half:g} {to_x:g} {to_y:g}"{head}/>'


def picture() -> str:
    """Return the picture of the imports as they are."""
    return draw(lay_out(without_shortcuts(imported_parts())))


def with_table(page: str, house: Path = HOUSE) -> str:
    """Return the page with the table of parts as they are, those that use most first."""
    graph = imported_parts(house)
    order = [name for row in lay_out(without_shortcuts(graph)).rows for name in row]
    rows = [_row(name, house) for name in order if name in graph]
    table = "\n".join(["| part | what it is |", "|---|---|", *rows])
    before, rest = page.split(BEGIN)
    return f"{before}{BEGIN}\n{table}\n{END}{rest.split(END)[1]}"


def _row(name: str, house: Path) -> str:
    if name == GROUND:
        parts = ", ".join(f"`{part}`" for part in sorted(GROUND_FLOOR))
        return f"| {parts} | What everything else stands on. |"
    package = house / name / "__init__.py"
    path = package if package.exists() else house / f"{name}.py"
    text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    return f"| `{name}` | {text.splitlines()[0]} |"


if __name__ == "__main__":
    PICTURE.write_text(picture(), encoding="utf-8")
    PAGE.write_text(with_table(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
