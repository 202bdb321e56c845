"""Compile what importing some modules will load, and nothing else, with all cores.

A script for the interpreter whose environment it is: ``python precompile.py SITE MODULE...``.
Torch's environment has over 5,000 modules, of which a build imports some 750.
"""

from __future__ import annotations

import ast
import functools
import importlib.util
import os
import py_compile
import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_LATER = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)


def main(site: str, *modules: str) -> None:
    """Compile ``modules`` and all that they import while they are imported."""
    seen: set[str] = set()
    waiting = set(modules)
    with ProcessPoolExecutor(_usable_cores()) as pool:
        while waiting:
            seen |= waiting
            found = pool.map(functools.partial(_compile, site), waiting, chunksize=8)
            waiting = {name for names in found for name in names} - seen


def _usable_cores() -> int:
    return len(os.sched_getaffinity(0))


def _compile(site: str, module: str) -> list[str]:
    """Write the module's bytecode and return the names that it may import; some are none."""
    path = _file_of(site, module)
    if path is None:
        return []
    try:
        text = path.read_bytes()
        py_compile.compile(str(path), doraise=True)
        tree = ast.parse(text)
    except (OSError, SyntaxError, ValueError, py_compile.PyCompileError):
        return []  # for another Python, or never imported: whoever imports it will say so
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    return [name for item in _named(tree.body, package) for name in _with_parents(item)]


def _file_of(site: str, module: str) -> Path | None:
    base = Path(site, *module.split("."))
    candidates = (base / "__init__.py", base.with_name(f"{base.name}.py"))
    return next((path for path in candidates if path.is_file()), None)


def _named(statements: Iterable[ast.stmt], package: str) -> Iterator[str]:
    """Yield what a module's own statements import, not those of its functions."""
    waiting: list[ast.AST] = list(statements)
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = _absolute(node, package)
            yield from (base, *(f"{base}.{alias.name}" for alias in node.names))
        elif isinstance(node, ast.If) and _is_for_type_checking(node.test):
            waiting += node.orelse
        elif not isinstance(node, _LATER):
            waiting += ast.iter_child_nodes(node)


def _absolute(node: ast.ImportFrom, package: str) -> str:
    relative = "." * node.level + (node.module or "")
    try:
        return importlib.util.resolve_name(relative, package) if node.level else relative
    except (ImportError, ValueError):
        return ""


def _is_for_type_checking(test: ast.expr) -> bool:
    name = test.attr if isinstance(test, ast.Attribute) else getattr(test, "id", "")
    return name == "TYPE_CHECKING"


def _with_parents(name: str) -> Iterator[str]:
    while name:
        yield name
        name = name.rpartition(".")[0]


if __name__ == "__main__":
    main(*sys.argv[1:])
