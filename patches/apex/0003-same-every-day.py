"""Compile the same on every day and in every folder.

Why: xentropy is compiled with today's date in a macro, so that it is never found in a compile
cache and no two wheels are the same; group_norm takes its sources in the order of the folder,
which decides the order of linking. And every version of apex calls itself 0.1.

What: the date becomes the version; each ``glob.glob()`` is sorted; the version comes from the
environment variable APEX_VERSION, which the recipe sets, and a build without it stops.
"""

from __future__ import annotations

import ast
import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1]))  # where it lies in the farm

from editing import PatchError, patch_nodes

VERSION = "os.environ['APEX_VERSION']"


def find_changes(tree: ast.Module) -> list[tuple[ast.AST, str]]:
    """Return the calls that ask for the date and the folder, and the version in setup()."""
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    dates = [node for node in calls if ast.unparse(node.func) == "datetime.today().strftime"]
    globs = [node for node in calls if ast.unparse(node.func) == "glob.glob"]
    versions = [
        keyword.value
        for node in calls
        if ast.unparse(node.func) == "setup"
        for keyword in node.keywords
        if keyword.arg == "version" and getattr(keyword.value, "value", None) == "0.1"
    ]
    if len(dates) != 1 or not globs or len(versions) != 1:
        msg = (
            f"looked for one datetime.today().strftime(), found {len(dates)}; for glob.glob(), "
            f'found {len(globs)}; for one setup(version="0.1"), found {len(versions)}'
        )
        raise PatchError(msg)
    return [
        *((node, VERSION) for node in dates),
        *((node, f"sorted({ast.unparse(node)})") for node in globs),
        *((node, VERSION) for node in versions),
    ]


if __name__ == "__main__":
    patch_nodes("setup.py", find_changes)
