"""The one-way flow of the house: a room imports only from rooms above it."""

from __future__ import annotations

import ast
import graphlib
from pathlib import Path
from typing import TYPE_CHECKING

import wheelyard

if TYPE_CHECKING:
    from collections.abc import Iterator

HOUSE = Path(wheelyard.__file__).parent
ROOMS = (
    *({"errors"}, {"log"}, {"files", "folders", "leavings", "locking", "progress", "run"}),
    *(
        {"machine"},
        {"model"},
        {"farm"},
        {"planning"},
        {"lint"},
        {"network"},
        {"upstreams"},
        {"sources"},
        {"toolchain"},
    ),
    *(
        {"abi"},
        {"wheels"},
        {"yard"},
        {"shipping"},
        {"workshop"},
        {"survey"},
        {"stages"},
        {"missing"},
        {"drafting"},
        {"finding"},
        {"bundling"},
        {"pipeline"},
    ),
    *({"scheduling"}, {"engines"}, {"doctor"}, {"cli"}, {"__main__"}),
)
RANK = {name: rank for rank, names in enumerate(ROOMS) for name in names}


def _imports(path: Path) -> Iterator[str]:
    """Yield the modules of ours that a file imports, those for type checking too."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name != "wheelyard")
        elif isinstance(node, ast.ImportFrom) and node.module == "wheelyard":
            yield from (f"wheelyard.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield f"{'.' * node.level}{node.module}"


def _modules() -> Iterator[tuple[str, str, set[str]]]:
    """Yield each module's room, its name, and the names of ours that it imports."""
    for path in sorted(HOUSE.rglob("*.py")):
        parts = path.relative_to(HOUSE).with_suffix("").parts
        imported = set(_imports(path))
        assert not any(name.startswith(".") for name in imported), f"{path} imports relatively"
        ours = {name for name in imported if name.startswith("wheelyard.")}
        yield parts[0], ".".join(("wheelyard", *parts)), ours - {"wheelyard.__version__"}


def test_every_module_belongs_to_a_room() -> None:
    assert {room for room, _, _ in _modules()} == {"__init__", *RANK}


def test_imports_run_downwards_only() -> None:
    wrong = [
        f"{name} imports {imported}"
        for room, name, everything in _modules()
        for imported in everything
        if RANK[imported.split(".")[1]] > RANK.get(room, -1)
    ]
    assert not wrong


def test_no_module_imports_itself_in_a_circle() -> None:
    graphlib.TopologicalSorter({name: ours for _, name, ours in _modules()}).prepare()
