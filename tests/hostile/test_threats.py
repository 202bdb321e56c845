"""The page of threats names tests that there are."""

from __future__ import annotations

import ast
import re
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
TEXT = (REPOSITORY / "docs" / "threats.md").read_text(encoding="utf-8")
NAMED = re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", TEXT)


def _functions(path: Path) -> set[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}


def test_every_test_that_the_page_of_threats_names_exists() -> None:
    missing = [
        f"{path}::{name}"
        for path, name in NAMED
        if not (REPOSITORY / path).is_file() or (name and name not in _functions(REPOSITORY / path))
    ]
    assert len(NAMED) > 40
    assert not missing


def test_every_row_of_the_page_of_threats_names_a_test() -> None:
    rows = [line for line in TEXT.splitlines() if line.startswith("| ") and "shown by" not in line]
    assert len(rows) > 25
    assert not [row for row in rows if not re.search(r"`tests/[\w/]+\.py", row)]


def test_every_hostile_file_is_named_on_the_page_of_threats() -> None:
    files = {f"tests/hostile/{path.name}" for path in Path(__file__).parent.glob("test_*.py")}
    assert files - {path for path, _ in NAMED} == {"tests/hostile/test_threats.py"}
