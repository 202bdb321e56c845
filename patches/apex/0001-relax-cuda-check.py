"""Let the toolkit be of another minor release than torch's CUDA.

Why: upstream stops unless nvcc has exactly the CUDA release that torch was built with. Within one
major release CUDA keeps its ABI, and newer toolkits serve; a GPU box rarely has the very minor.

What: the comparison in check_cuda_torch_binary_vs_bare_metal compares major releases; another
minor one is a warning.
"""

from __future__ import annotations

import ast
import shutil
import sys
from pathlib import Path

FUNCTION = "check_cuda_torch_binary_vs_bare_metal"
COMPARISON = "bare_metal_version != torch_binary_version"
# `or` calls warn, which returns None, only for another minor release
REPLACEMENT = (
    "bare_metal_version.major != torch_binary_version.major or "
    "(bare_metal_version != torch_binary_version and warnings.warn("
    'f"torch has CUDA {torch_binary_version}, nvcc {bare_metal_version}"))'
)


class PatchError(Exception):
    """Why the file cannot be changed, as a sentence without the name of the file."""


def find_changes(tree: ast.Module) -> list[tuple[ast.AST, str]]:
    """Return the one ``if`` that raises, as two."""
    functions = [
        node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == FUNCTION
    ]
    tests = [
        node.test
        for function in functions
        for node in ast.walk(function)
        if isinstance(node, ast.If) and ast.unparse(node.test) == COMPARISON
    ]
    if len(tests) != 1:
        msg = f"looked for one `if {COMPARISON}` in {FUNCTION}, found {len(tests)}"
        raise PatchError(msg)
    return [(tests[0], REPLACEMENT)]


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
