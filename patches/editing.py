"""What patches that are code share: they find by name, and change a file whole or not at all.

A patch is run as ``python PATCH TREE``, with this module beside it or one folder above. It leaves
0 when its files were changed; otherwise 1, the reason on stderr, and every file untouched. Runs on
CPython 3.9 and newer, standard library only. Whatever changes here changes the fingerprint of every
job that has such a patch.
"""

from __future__ import annotations

import ast
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence


class PatchError(Exception):
    """Why a file cannot be changed, as a sentence without the name of the file."""


def patch_file(name: str, transform: Callable[[bytes], bytes]) -> None:
    """Be a patch of one file: transform it in the tree that the command line names, and exit."""
    patch_files([name], lambda contents: {name: transform(contents[name])})


def patch_nodes(
    name: str, find_changes: Callable[[ast.Module], Iterable[tuple[ast.AST, str]]]
) -> None:
    """Be a patch of one file of Python: replace the nodes that are found, each by its text."""
    patch_file(name, lambda source: replace(source, find_changes(parse(source))))


def patch_files(
    names: Sequence[str], transform: Callable[[dict[str, bytes]], dict[str, bytes]]
) -> None:
    """Be a patch of several files, of all or of none; ``transform`` takes and returns contents."""
    if len(sys.argv) != 2:
        sys.exit(f"usage: python {sys.argv[0]} TREE")
    tree = Path(sys.argv[1])
    try:
        changed = transform({name: (tree / name).read_bytes() for name in names})
    except OSError as error:
        sys.exit(f"{error.filename}: looked for this file: {error.strerror}")
    except PatchError as error:
        sys.exit(f"{tree / names[0] if len(names) == 1 else tree}: {error}")
    for name, content in changed.items():
        rewrite(tree / name, content)


def rewrite(path: Path, content: bytes) -> None:
    """Replace a file, so that a hard link of it elsewhere keeps its text."""
    unfinished = path.with_name(path.name + ".unfinished")
    unfinished.write_bytes(content)
    shutil.copymode(path, unfinished)
    unfinished.replace(path)


def parse(source: bytes) -> ast.Module:
    """Read Python code."""
    try:
        return ast.parse(source)
    except (SyntaxError, ValueError) as error:
        msg = f"looked for Python, found {error}"
        raise PatchError(msg) from error


def replace(source: bytes, changes: Iterable[tuple[ast.AST, str]]) -> bytes:
    """Return the source with each node replaced by its text, in the last place first."""
    return replace_bytes(source, ((*place(source, node), text) for node, text in changes))


def place(source: bytes, node: ast.AST) -> tuple[int, int]:
    """Return where a node begins and where it ends, in bytes."""
    lines = source.splitlines(keepends=True)
    begin = sum(map(len, lines[: node.lineno - 1])) + node.col_offset
    return begin, sum(map(len, lines[: node.end_lineno - 1])) + node.end_col_offset


def replace_bytes(source: bytes, changes: Iterable[tuple[int, int, str]]) -> bytes:
    """Return the source with each place, from here to there, replaced by its text."""
    for begin, end, text in sorted(changes, reverse=True):
        source = source[:begin] + text.encode() + source[end:]
    parse(source)
    return source


def the_one(found: list[ast.AST], what: str) -> ast.AST:
    """Return the only one that was found, or raise with how many there are."""
    if len(found) != 1:
        msg = f"looked for one {what}, found {len(found)}"
        raise PatchError(msg)
    return found[0]


def setup_call(tree: ast.Module) -> ast.Call:
    """Return the call ``setup(..., ext_modules=ext_modules)`` at the end of a setup.py."""
    found = [
        node.value
        for node in tree.body
        if isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Call)
        and ast.unparse(node.value.func) == "setup"
        and any(
            ast.unparse(keyword) == "ext_modules=ext_modules" for keyword in node.value.keywords
        )
    ]
    return the_one(found, "setup(ext_modules=ext_modules)")
