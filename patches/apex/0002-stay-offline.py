"""Read setup.py without network, without git and without compiling anything.

Why: three extensions call ``git submodule update`` without looking at its outcome, so that a build
without network fails much later for a header; and the NCCL ones compile a probe with torch's
``load`` whenever setup.py is imported, for metadata too, into a cache outside of the build.

What: the submodules that the recipe names are there already, so these calls become a look whether
they are; and the version of NCCL is the one that torch tells. Its headers are those of the NCCL
wheel that torch requires.
"""

from __future__ import annotations

import ast
import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1]))  # where it lies in the farm

from editing import PatchError, patch_nodes

QUESTION = "get_nccl_version"


def find_changes(tree: ast.Module) -> list[tuple[ast.AST, str]]:
    """Return the calls of git, and the calls of load with what is asked of their results."""
    nodes = list(ast.walk(tree))
    updates = [node for node in nodes if calls(node, "run", in_module="subprocess")]
    updates = [(node, submodule(node)) for node in updates if submodule(node)]
    probes = [node for node in nodes if calls(node, "load")]
    questions = [
        node
        for node in nodes
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr == QUESTION
    ]
    if not updates or not probes or len(questions) != len(probes):
        msg = (
            f"looked for `git submodule update`, found {len(updates)}; for load(), found "
            f"{len(probes)}, and for as many {QUESTION}(), found {len(questions)}"
        )
        raise PatchError(msg)
    return [
        *(
            (node, f"os.stat(os.path.join(this_dir, {path!r}, 'LICENSE.txt'))")
            for node, path in updates
        ),
        *((node, "None  # torch tells its NCCL") for node in probes),
        *((node, "tuple(torch.cuda.nccl.version())[:2]") for node in questions),
    ]


def calls(node: ast.AST, name: str, *, in_module: str = "") -> bool:
    """Say whether a node calls ``name()`` or ``in_module.name()``."""
    wanted = f"{in_module}.{name}" if in_module else name
    return isinstance(node, ast.Call) and ast.unparse(node.func) == wanted


def submodule(call: ast.Call) -> str:
    """Return the path that ``git submodule update --init PATH`` is given, or nothing."""
    try:
        command = ast.literal_eval(call.args[0])
    except (IndexError, ValueError):
        return ""
    return command[-1] if command[:-1] == ["git", "submodule", "update", "--init"] else ""


if __name__ == "__main__":
    patch_nodes("setup.py", find_changes)
