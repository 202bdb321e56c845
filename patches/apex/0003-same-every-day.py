"""Compile the same on every day and in every folder.

Why: xentropy is compiled with today's date in a macro, so that it is never found in a compile
cache and no two wheels are the same; group_norm takes its sources in the order of the folder,
which decides the order of linking. And every version of apex calls itself 0.1.

What: the date becomes the version; each ``glob.glob()`` is sorted; the version comes from the
environment variable APEX_VERSION, which the recipe sets, and a build without it stops.
"""

from __future__ import annotations

import ast
import shutil
import sys
from pathlib import Path

VERSION = "os.environ['APEX_VERSION']"


class PatchError(Exception):
    """Why the file cannot be changed, as a sentence without the name of the file."""


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


def replace(source: bytes, changes: list[tuple[ast.AST, str]]) -> bytes:
    """Return the source with each node replaced by its text, in the last place first."""
    starts = [0]
    for line in source.splitlines(keepends=True):
        starts.append(starts[-1] + len(line))
    for node, text in sorted(changes, key=lambda change: change[0].lineno, reverse=True):
        begin = starts[node.lineno - 1] + node.col_offset
        end = starts[node.end_lineno - 1] + node.end_col_offset
        source = source[:begin] + text.encode() + source[end:]
    ast.parse(source)
    return source


def main(arguments: list[str]) -> int | str:
    """Return what the process exits with."""
    path = Path(arguments[0], "setup.py")
    try:
        source = path.read_bytes()
        changed = replace(source, find_changes(ast.parse(source)))
    except OSError as error:
        return f"{path}: looked for this file: {error.strerror}"
    except PatchError as error:
        return f"{path}: {error}"
    unfinished = path.with_name(path.name + ".unfinished")
    unfinished.write_bytes(changed)
    shutil.copymode(path, unfinished)
    unfinished.replace(path)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
