"""What a setup.py says without being run: read as a syntax tree."""

from __future__ import annotations

import ast
import dataclasses
import re
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_GENCODE = re.compile(r"-gencode|--generate-code|arch=compute_")
_STANDARD = re.compile(r"[-/]std=(?:c|gnu)\+\+\w+")
_TRUE = frozenset({"1", "true", "on", "yes", "y"})


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Variable:
    """An environment variable that the script reads."""

    name: str
    line: int
    compared_with: tuple[str, ...] = ()
    """The texts that it is held against, in the order of the file."""

    @property
    def truth(self) -> str:
        """What switches it on: the first of these texts that means yes, else 1."""
        return next((text for text in self.compared_with if text.lower() in _TRUE), "1")


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class SetupScript:
    """What was read of a setup.py; all lines count from 1."""

    variables: tuple[Variable, ...] = ()
    imports: tuple[str, ...] = ()
    """Top-level modules beside the standard library's that it cannot do without."""
    gencode_lines: tuple[int, ...] = ()
    """Where it names GPU targets itself."""
    standard_lines: tuple[int, ...] = ()
    """Where it names a C++ standard."""
    gpu_lines: tuple[int, ...] = ()
    """Where it asks whether this machine has a GPU, or which."""
    keywords: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """The arguments of ``setup()`` that are plain text."""
    classifiers: tuple[str, ...] = ()


def read_setup_script(text: str) -> SetupScript:
    """Read the text of a setup.py; raise ``SyntaxError`` where it is no Python."""
    module = ast.parse(text)
    constants = _constants(module)
    call = _setup_call(module)
    arguments = {item.arg: item.value for item in call.keywords if item.arg} if call else {}
    given = {name: _text(node, constants) for name, node in arguments.items()}
    return SetupScript(
        variables=tuple(_variables(module)),
        imports=tuple(dict.fromkeys(_imports(module.body))),
        gencode_lines=_lines(module, _GENCODE),
        standard_lines=_lines(module, _STANDARD),
        gpu_lines=tuple(sorted(set(_gpu_lines(module)))),
        keywords={name: text for name, text in given.items() if text is not None},
        classifiers=tuple(_texts(arguments.get("classifiers"))),
    )


def _constants(module: ast.Module) -> dict[str, str]:
    """Return the names of the module that stand for a text, assigned once."""
    found: dict[str, str] = {}
    for statement in module.body:
        match statement:
            case ast.Assign(targets=[ast.Name(id=name)], value=ast.Constant(value=str(text))):
                found[name] = text
            case _:
                pass
    return found


def _setup_call(module: ast.Module) -> ast.Call | None:
    for node in ast.walk(module):
        match node:
            case ast.Call(func=ast.Name(id="setup") | ast.Attribute(attr="setup")):
                return node
            case _:
                pass
    return None


def _text(node: ast.expr | None, constants: Mapping[str, str]) -> str | None:
    match node:
        case ast.Constant(value=str(text)):
            return text
        case ast.Name(id=name):
            return constants.get(name)
        # a suffix that a variable may add, as in "1.0" + os.getenv("SUFFIX", "")
        case ast.BinOp(left=left, op=ast.Add(), right=ast.Call() as right) if _read_name(right):
            return _text(left, constants)
        case _:
            return None


def _texts(node: ast.expr | None) -> Iterator[str]:
    if isinstance(node, (ast.List, ast.Tuple)):
        for item in node.elts:
            if isinstance(item, ast.Constant) and isinstance(item.value, str):
                yield item.value


def _variables(module: ast.Module) -> list[Variable]:
    """Return each variable once, where it is read first, with all that it is held against."""
    compared: dict[str, list[str]] = {}
    for node in ast.walk(module):
        if isinstance(node, ast.Compare):
            sides = (node.left, *node.comparators)
            names = {name for side in sides for name in _names_read(side)}
            texts = [text for side in sides for text in _plain(side)]
            for name in names:
                compared.setdefault(name, []).extend(texts)
    first: dict[str, int] = {}
    for node in ast.walk(module):
        found = _read_name(node)
        if found:
            line = getattr(node, "lineno", 0)
            first[found] = min(line, first.get(found, line))
    return [
        Variable(name=name, line=line, compared_with=tuple(compared.get(name, ())))
        for name, line in sorted(first.items(), key=lambda item: (item[1], item[0]))
    ]


def _names_read(node: ast.AST) -> Iterator[str]:
    return (name for inner in ast.walk(node) if (name := _read_name(inner)))


def _read_name(node: ast.AST) -> str:
    """Return the variable that this very expression reads; empty where it reads none."""
    match node:
        case ast.Call(
            func=ast.Attribute(attr="getenv") | ast.Name(id="getenv"),
            args=[ast.Constant(value=str(name)), *_],
        ):
            return name
        case ast.Call(
            func=ast.Attribute(attr="get", value=owner), args=[ast.Constant(value=str(name)), *_]
        ) if _is_environ(owner):
            return name
        case ast.Subscript(value=owner, slice=ast.Constant(value=str(name)), ctx=ast.Load()) if (
            _is_environ(owner)
        ):
            return name
        case ast.Compare(
            left=ast.Constant(value=str(name)), ops=[ast.In() | ast.NotIn()], comparators=[owner]
        ) if _is_environ(owner):
            return name
        case _:
            return ""


def _is_environ(node: ast.expr) -> bool:
    match node:
        case ast.Attribute(attr="environ") | ast.Name(id="environ"):
            return True
        case _:
            return False


def _plain(node: ast.expr) -> Iterator[str]:
    match node:
        case ast.Constant(value=str() | int() as value):
            yield str(value)
        case ast.List(elts=items) | ast.Tuple(elts=items) | ast.Set(elts=items):
            for item in items:
                yield from _plain(item)
        case _:
            pass


def _imports(body: list[ast.stmt]) -> Iterator[str]:
    """Yield what the script imports whenever it runs; not what it can do without."""
    for statement in body:
        match statement:
            case ast.Import(names=names):
                yield from filter(_is_foreign, (item.name.partition(".")[0] for item in names))
            case ast.ImportFrom(module=str(module), level=0):
                yield from filter(_is_foreign, [module.partition(".")[0]])
            case ast.With(body=inner):
                yield from _imports(inner)
            case ast.Try(body=inner, handlers=handlers) if all(map(_gives_up, handlers)):
                yield from _imports(inner)
            case _:
                pass


def _is_foreign(name: str) -> bool:
    return name not in sys.stdlib_module_names


def _gives_up(handler: ast.ExceptHandler) -> bool:
    return any(isinstance(statement, ast.Raise) for statement in handler.body)


def _lines(module: ast.Module, pattern: re.Pattern[str]) -> tuple[int, ...]:
    docstrings = {id(node.value) for node in ast.walk(module) if isinstance(node, ast.Expr)}
    return tuple(
        sorted(
            {
                node.lineno
                for node in ast.walk(module)
                if isinstance(node, ast.Constant)
                and id(node) not in docstrings
                and isinstance(node.value, str)
                and pattern.search(node.value)
            }
        )
    )


def _gpu_lines(module: ast.Module) -> Iterator[int]:
    for node in ast.walk(module):
        match node:
            case ast.Attribute(
                attr="is_available" | "get_device_capability" | "device_count",
                value=ast.Attribute(attr="cuda"),
            ):
                yield node.lineno
            case _:
                pass
