"""Say which grouped product a wheel has, and give a wheel for A100s alone upstream's own.

Why: upstream compiles its CUTLASS product in when the GPU of the build machine is an A100 (8.0),
and calls cuBLAS for every other. With TORCH_CUDA_ARCH_LIST, which a machine without a GPU needs,
it never learns the target, so that CUTLASS is left out without a word. The choice is made when
the host code is compiled, once for all targets of a wheel.

What: where setup.py takes the list, ``device_capability = ""`` becomes a choice: 8.0 alone means
CUTLASS, as on an A100, everything else cuBLAS, which runs on every target. The build log says
which. Found by the name, not by its place; every other byte of the file stays.
"""

from __future__ import annotations

import ast
import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1]))  # where it lies in the farm

from editing import parse, patch_file, the_one

NAME = "device_capability"
LIST = "env_arch_list"
CHOICE = '"80" if env_arch_list == "8.0" else ""'
TOLD = 'print("grouped products with", "CUTLASS, for 8.0 alone" if device_capability else "cuBLAS")'


def is_empty_choice(node: ast.AST) -> bool:
    """Say whether a statement is ``device_capability = ""``."""
    return (
        isinstance(node, ast.Assign)
        and [getattr(target, "id", None) for target in node.targets] == [NAME]
        and getattr(node.value, "value", None) == ""
    )


def find_choice(tree: ast.Module) -> ast.Assign:
    """Return the one statement to change, which a list of targets decides about."""
    found = [
        statement
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and getattr(node.test, "id", None) == LIST
        for statement in node.body
        if isinstance(statement, ast.Assign) and is_empty_choice(statement)
    ]
    return the_one(found, f'{NAME} = "" below "if {LIST}:"')


def transform(source: bytes) -> bytes:
    """Return the bytes of a setup.py that chooses and says so."""
    statement = find_choice(parse(source))
    lines = source.splitlines(keepends=True)
    line = lines[statement.lineno - 1]
    end = line[len(line.rstrip(b"\r\n")) :] or b"\n"
    indent = line[: statement.col_offset]
    before, after = line[: statement.value.col_offset], line[statement.value.end_col_offset :]
    lines[statement.lineno - 1] = before + CHOICE.encode() + after
    lines.insert(statement.lineno, indent + TOLD.encode() + end)
    changed = b"".join(lines)
    parse(changed)
    return changed


if __name__ == "__main__":
    patch_file("setup.py", transform)
