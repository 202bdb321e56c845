"""Let torch choose the GPU targets of every extension.

Why: some extensions pass ``-gencode`` flags of their own, which makes torch ignore
TORCH_CUDA_ARCH_LIST for them: group_norm_v2 in 2026 (9.0, 10.0 and PTX for 12.0), and four more,
fused_weight_gradient_mlp of the core among them, in 25.09. They would hold code that nobody asked
for and lack what was. Without those flags torch takes the farm's targets, as for the others.

What: in front of ``setup()`` these flags are taken out of all extensions, however they got there.
"""

from __future__ import annotations

import ast
import shutil
import sys
from pathlib import Path

NEW_LINES = """\
def without_targets(flags):
    kept = [flag for flag in flags if not flag.startswith(("-gencode", "arch=compute_"))]
    strange = [flag for flag in kept if "compute_" in flag or flag.startswith("-arch")]
    if strange:
        raise RuntimeError(f"GPU targets in another form: {strange}")
    return kept


for extension in ext_modules:
    options = extension.extra_compile_args
    if isinstance(options, dict) and "nvcc" in options:
        options["nvcc"] = without_targets(options["nvcc"])

"""


class PatchError(Exception):
    """Why the file cannot be changed, as a sentence without the name of the file."""


def find_changes(tree: ast.Module) -> list[tuple[ast.AST, str]]:
    """Return the call of setup(), with the new lines in front of it."""
    calls = [
        node.value
        for node in tree.body
        if isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Call)
        and ast.unparse(node.value.func) == "setup"
        and any(
            ast.unparse(keyword) == "ext_modules=ext_modules" for keyword in node.value.keywords
        )
    ]
    if len(calls) != 1:
        msg = f"looked for one setup(ext_modules=ext_modules), found {len(calls)}"
        raise PatchError(msg)
    return [(calls[0].func, NEW_LINES + "setup")]


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
