"""Let setup.py take its -gencode flags from the environment variable WHEELYARD_GENCODE.

Why: upstream appends a fixed list of -gencode flags, chosen by the version of nvcc alone. torch
ignores TORCH_CUDA_ARCH_LIST as soon as an extension passes such flags of its own. So a build for
one GPU compiles four to nine targets, holds no PTX for a GPU of tomorrow, and has sm_103, which is
reported to compute wrong results (causal-conv1d issue 105). There is no setting for it, or one that
knows four targets and leaves out without a word what it does not know (FLASH_ATTN_CUDA_ARCHS). Seen
in causal-conv1d 1.5.3.post1 to 1.7.0, mamba-ssm 2.3.0 to 2.3.2.post1 and flash-attn 2.7.4.post1 to
2.8.3.post2.

What: the statements ``LIST.append("-gencode")`` and ``LIST.append("arch=compute_...")``, with the
conditions on versions and on such a setting that hold nothing else, become one
``LIST.extend(...)``. They are found by these names, not by their place, and every other byte of the
file stays. A build without the variable stops and says so.
"""

from __future__ import annotations

import ast
import sys
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.append(str(Path(__file__).resolve().parents[1]))  # where it lies in the farm

from editing import PatchError, parse, patch_file

if TYPE_CHECKING:
    from collections.abc import Iterator

VARIABLE = "WHEELYARD_GENCODE"
OPTION = "-gencode"
TARGET = "arch=compute_"
ASKED = ("Version", "parse", "cuda_archs")

REPLACEMENT = f"""\
if not os.environ.get("{VARIABLE}", "").split():
    raise RuntimeError(
        "{VARIABLE} is not set: it names the GPU targets to compile for, as options of nvcc"
    )
LIST.extend(os.environ["{VARIABLE}"].split())
"""


def appended(statement: ast.stmt) -> tuple[str, str] | None:
    """Return (list name, value) of a ``name.append("value")`` about GPU targets."""
    if not (isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Call)):
        return None
    call = statement.value
    if not (isinstance(call.func, ast.Attribute) and isinstance(call.func.value, ast.Name)):
        return None
    if call.func.attr != "append" or len(call.args) != 1 or call.keywords:
        return None
    value = getattr(call.args[0], "value", None)
    if isinstance(value, str) and (value == OPTION or value.startswith(TARGET)):
        return call.func.value.id, value
    return None


def chooses_targets(test: ast.expr) -> bool:
    """Say whether a condition compares, and calls nothing but versions and the setting."""
    parts = test.values if isinstance(test, ast.BoolOp) else [test]
    called = [node.func for node in ast.walk(test) if isinstance(node, ast.Call)]
    return all(isinstance(part, ast.Compare) for part in parts) and all(
        isinstance(function, ast.Name) and function.id in ASKED for function in called
    )


def flags_of(statement: ast.stmt) -> list[tuple[str, str]]:
    """Return all that the statement appends about GPU targets, or nothing if it does more."""
    found = appended(statement)
    if found is not None:
        return [found]
    if not (isinstance(statement, ast.If) and chooses_targets(statement.test)):
        return []
    inner = [flags_of(child) for child in statement.body + statement.orelse]
    return [flag for flags in inner for flag in flags] if all(inner) else []


def blocks_of(node: ast.AST) -> Iterator[list[ast.stmt]]:
    """Yield the lists of statements directly inside a node: body, else, handlers, cases."""
    for _, value in ast.iter_fields(node):
        items = value if isinstance(value, list) else []
        statements = [item for item in items if isinstance(item, ast.stmt)]
        if statements:
            yield statements
            continue
        for item in items:
            if isinstance(item, ast.AST):
                yield from blocks_of(item)


def find_runs(block: list[ast.stmt]) -> list[list[ast.stmt]]:
    """Return the runs of neighbouring statements that only append such flags, at any depth."""
    runs: list[list[ast.stmt]] = []
    follows = False
    for statement in block:
        if flags_of(statement):
            if not follows:
                runs.append([])
            runs[-1].append(statement)
            follows = True
            continue
        follows = False
        for inner in blocks_of(statement):
            runs += find_runs(inner)
    return runs


def only_run(tree: ast.Module) -> list[ast.stmt]:
    """Return the one run of statements to replace."""
    runs = find_runs(tree.body)
    if not runs:
        msg = f'looked for statements that append "{OPTION}" and "{TARGET}...", found none'
        raise PatchError(msg)
    if len(runs) > 1:
        lines = ", ".join(str(run[0].lineno) for run in runs)
        msg = (
            f'looked for one run of statements that append "{OPTION}" and "{TARGET}...", found '
            f"{len(runs)}, at lines {lines}"
        )
        raise PatchError(msg)
    return runs[0]


def list_name(run: list[ast.stmt]) -> str:
    """Return the name of the list that the run appends to, in pairs of option and target."""
    flags = [flag for statement in run for flag in flags_of(statement)]
    names = sorted({name for name, _ in flags})
    if len(names) > 1:
        msg = f"looked for one list of flags, found {', '.join(names)} at line {run[0].lineno}"
        raise PatchError(msg)
    options, targets = flags[::2], flags[1::2]
    if (
        len(options) != len(targets)
        or any(value != OPTION for _, value in options)
        or any(value == OPTION for _, value in targets)
    ):
        msg = (
            f'looked for "{OPTION}" before every "{TARGET}...", found another order from line '
            f"{run[0].lineno} on"
        )
        raise PatchError(msg)
    return names[0]


def refuse_leftovers(tree: ast.Module, run: list[ast.stmt]) -> None:
    """Raise if anything about GPU targets would stay in the file."""
    replaced = {id(node) for statement in run for node in ast.walk(statement)}
    left = {
        node.lineno
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant)
        and isinstance(node.value, str)
        and (OPTION in node.value or TARGET in node.value)
        and id(node) not in replaced
    }
    if left:
        lines = ", ".join(str(line) for line in sorted(left))
        msg = (
            f'looked for "{OPTION}" and "{TARGET}..." only in statements that append them, '
            f"found them also at line {lines}"
        )
        raise PatchError(msg)


def require_os(tree: ast.Module) -> None:
    """Raise unless the module has the ``import os`` that the new lines use."""
    imported = {
        alias.asname or alias.name
        for node in tree.body
        if isinstance(node, ast.Import)
        for alias in node.names
    }
    if "os" not in imported:
        msg = 'looked for "import os", which the new lines use, found none at the top level'
        raise PatchError(msg)


def replace_lines(source: bytes, run: list[ast.stmt], text: str) -> bytes:
    """Return the source with the lines of the run replaced, indented and ended as they were."""
    lines = source.splitlines(keepends=True)
    first, last = run[0], run[-1]
    before = lines[first.lineno - 1][: first.col_offset]
    after = lines[last.end_lineno - 1][last.end_col_offset :].strip()
    if before.strip() or (after and not after.startswith(b"#")):
        msg = (
            "looked for statements on lines of their own, found more beside them at line "
            f"{first.lineno} or {last.end_lineno}"
        )
        raise PatchError(msg)
    line = lines[first.lineno - 1]
    line_end = line[len(line.rstrip(b"\r\n")) :] or b"\n"
    new = [before + part + line_end for part in text.encode().splitlines()]
    return b"".join(lines[: first.lineno - 1] + new + lines[last.end_lineno :])


def transform(source: bytes) -> bytes:
    """Return the bytes of a setup.py with its list of GPU targets replaced."""
    tree = parse(source)
    run = only_run(tree)
    name = list_name(run)
    refuse_leftovers(tree, run)
    require_os(tree)
    return replace_lines(source, run, REPLACEMENT.replace("LIST", name))


if __name__ == "__main__":
    patch_file("setup.py", transform)
