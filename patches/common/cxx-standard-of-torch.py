"""Let torch choose the C++ standard of an extension.

Why: upstream passes "-std=c++17" to the compilers. From 2.14 on torch's headers refuse anything
older than C++20 with an #error, and torch adds the standard that its headers need by itself,
unless the extension names one. Seen in mamba-ssm 2.3.0 to 2.3.2.post1.

What: every "-std=c++NN" that is an element of a list in setup.py goes; every other byte stays.

    python cxx-standard-of-torch.py TREE

leaves 0 when TREE/setup.py was changed; otherwise 1, the reason on stderr, and the file untouched.
Runs on CPython 3.9 and newer, standard library only.
"""

from __future__ import annotations

import ast
import re
import shutil
import sys
from pathlib import Path

OPTION = re.compile(r"[-/]std=(?:c|gnu)\+\+\w+")
SEPARATOR = re.compile(rb"\s*,[ \t]*")


class PatchError(Exception):
    """Why the file cannot be changed, as a sentence without the name of the file."""


def is_option(node: ast.AST) -> bool:
    """Say whether a node is a text that names a C++ standard."""
    value = getattr(node, "value", None)
    return isinstance(node, ast.Constant) and isinstance(value, str) and bool(OPTION.search(value))


def find_elements(tree: ast.Module) -> list[ast.expr]:
    """Return the elements of lists to remove; raise if a standard is named anywhere else."""
    lists = [node for node in ast.walk(tree) if isinstance(node, ast.List)]
    found = [item for node in lists for item in node.elts if is_option(item)]
    partial = [item for item in found if not OPTION.fullmatch(str(getattr(item, "value", "")))]
    everywhere = [node for node in ast.walk(tree) if is_option(node)]
    if partial or len(everywhere) != len(found):
        places = {node.lineno for node in everywhere if node not in found or node in partial}
        msg = (
            'looked for "-std=..." only as an element of a list, found it also at line '
            f"{', '.join(map(str, sorted(places)))}"
        )
        raise PatchError(msg)
    if not found:
        msg = 'looked for "-std=..." in a list, found none'
        raise PatchError(msg)
    return found


def transform(source: bytes) -> bytes:
    """Return the bytes of a setup.py without the elements and the commas behind them."""
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError) as error:
        msg = f"looked for Python, found {error}"
        raise PatchError(msg) from error
    starts = [0]
    for line in source.splitlines(keepends=True):
        starts.append(starts[-1] + len(line))
    elements = sorted(find_elements(tree), key=lambda node: (node.lineno, node.col_offset))
    for node in reversed(elements):
        begin = starts[node.lineno - 1] + node.col_offset
        end = starts[node.end_lineno - 1] + node.end_col_offset
        separator = SEPARATOR.match(source, end)
        source = source[:begin] + source[separator.end() if separator else end :]
    ast.parse(source)
    return source


def main(arguments: list[str]) -> int | str:
    """Return what the process exits with."""
    if len(arguments) != 1:
        return "usage: python cxx-standard-of-torch.py TREE"
    path = Path(arguments[0], "setup.py")
    try:
        changed = transform(path.read_bytes())
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
