"""Build the wheel once where NVTE_PYTORCH_FORCE_BUILD says to build it.

Why: after that build 2.9.0 goes on to look for a wheel of upstream's, finds none without network,
and builds a second time into folders of the first, which fails after twice the compiling. Later
versions return.

What: the build under ``if FORCE_BUILD`` in the command that makes the wheel is its last deed.
"""

from __future__ import annotations

import ast
import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1]))  # where it lies in the farm

from editing import patch_nodes, the_one

BUILD = "super().run()"


def find_changes(tree: ast.Module) -> list[tuple[ast.AST, str]]:
    """Return the one statement that builds and does not return."""
    builds: list[ast.AST] = [
        statement
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "FORCE_BUILD"
        for statement in node.body
        if isinstance(statement, ast.Expr) and ast.unparse(statement) == BUILD
    ]
    return [(the_one(builds, f"`{BUILD}` under `if FORCE_BUILD`"), f"return {BUILD}")]


if __name__ == "__main__":
    patch_nodes("setup.py", find_changes)
