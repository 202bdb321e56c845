"""Let the toolkit be of another minor release than torch's CUDA.

Why: upstream stops unless nvcc has exactly the CUDA release that torch was built with. Within one
major release CUDA keeps its ABI, and newer toolkits serve; a GPU box rarely has the very minor.

What: the comparison in check_cuda_torch_binary_vs_bare_metal compares major releases; another
minor one is a warning.
"""

from __future__ import annotations

import ast
import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1]))  # where it lies in the farm

from editing import patch_nodes, the_one

FUNCTION = "check_cuda_torch_binary_vs_bare_metal"
COMPARISON = "bare_metal_version != torch_binary_version"
# `or` calls warn, which returns None, only for another minor release
REPLACEMENT = (
    "bare_metal_version.major != torch_binary_version.major or "
    "(bare_metal_version != torch_binary_version and warnings.warn("
    'f"torch has CUDA {torch_binary_version}, nvcc {bare_metal_version}"))'
)


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
    return [(the_one(tests, f"`if {COMPARISON}` in {FUNCTION}"), REPLACEMENT)]


if __name__ == "__main__":
    patch_nodes("setup.py", find_changes)
