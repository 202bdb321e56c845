"""Let torch choose the C++ standard of an extension.

Why: upstream passes "-std=c++17" to the compilers. From 2.14 on torch's headers refuse anything
older than C++20 with an #error, and torch adds the standard that its headers need by itself,
unless the extension names one. Seen in mamba-ssm 2.3.0 to 2.3.2.post1.

What: every "-std=c++NN" that is an element of a list in setup.py goes; every other byte stays.
"""

from __future__ import annotations

import ast
import re
import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1]))  # where it lies in the farm

from editing import PatchError, parse, patch_file, place, replace_bytes

OPTION = re.compile(r"[-/]std=(?:c|gnu)\+\+\w+")
SEPARATOR = re.compile(rb"\s*,[ \t]*")


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
    changes = []
    for element in find_elements(parse(source)):
        begin, end = place(source, element)
        separator = SEPARATOR.match(source, end)
        changes.append((begin, separator.end() if separator else end, ""))
    return replace_bytes(source, changes)


if __name__ == "__main__":
    patch_file("setup.py", transform)
