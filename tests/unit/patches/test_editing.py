"""What patches that are code share, and what all of them have to keep to."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from patching import apply

PATCHES = Path(__file__).parents[3] / "patches"
SCRIPT = f"""\
import sys

sys.path.append({str(PATCHES)!r})

from editing import PatchError, patch_files


def transform(contents):
    if contents["two"] != b"2":
        raise PatchError("looked for 2 in two")
    return {{name: content + b"!" for name, content in contents.items()}}


patch_files(["one", "two"], transform)
"""


@pytest.mark.parametrize("path", sorted(PATCHES.rglob("*.py")), ids=lambda path: path.name)
def test_every_script_reads_as_python_3_9(path: Path) -> None:
    ast.parse(path.read_text(encoding="utf-8"), feature_version=(3, 9))


@pytest.mark.parametrize(
    ("two", "reason", "after"),
    [("2", "", ["1!", "2!"]), ("3", "looked for 2 in two", ["1", "3"])],
)
def test_of_several_files_all_are_changed_or_none(
    tmp_path: Path, two: str, reason: str, after: list[str]
) -> None:
    script, tree = tmp_path / "patch.py", tmp_path / "tree"
    script.write_text(SCRIPT, encoding="utf-8")
    tree.mkdir()
    (tree / "one").write_text("1")
    (tree / "two").write_text(two)
    assert apply(script, tree) == (f"{tree}: {reason}" if reason else "")
    assert [(tree / name).read_text() for name in ("one", "two")] == after
    assert len(list(tree.iterdir())) == 2
