"""Decode a TOML file into its tables, with file, key path, value and nearest key in errors."""

from __future__ import annotations

import re
import tomllib
import typing
from typing import TYPE_CHECKING, Final, TypeVar

import msgspec

from wheelyard.errors import InputFileError
from wheelyard.model.words import nearest

if TYPE_CHECKING:
    from wheelyard.model.recipe_file import Table

T = TypeVar("T", bound="Table")

UNREADABLE: Final = (msgspec.DecodeError, RecursionError, UnicodeDecodeError)
"""What msgspec raises for a document that is none."""

_MOST_PARTS: Final = 64
# tomllib takes minutes for a key of some thousand parts
_LONG_KEY = re.compile(r"(?<![\w-])(?:[\w-]++\s*+\.\s*+){64}")
_UNKNOWN = re.compile(r"Object contains unknown field `(?P<key>[^`]*)`(?: - at `(?P<path>.*)`)?")
_AT = re.compile(r"^(?P<text>.*) - at `\$(?P<path>.*)`$")
_STEP = re.compile(r"\.(?P<key>[^.\[\]]+)|\[(?P<number>\d+|\.\.\.)\]")


def decode_table(text: str, table: type[T], *, origin: str) -> T:
    """Decode ``text`` as ``table``; ``origin`` names the file in errors."""
    if _LONG_KEY.search(text):
        msg = f"{origin} has a key of more than {_MOST_PARTS} parts. No table is so deep."
        raise InputFileError(msg)
    try:
        document = tomllib.loads(text)
    except (RecursionError, ValueError) as error:  # ValueError: a number of thousands of digits
        msg = f"{origin} is not TOML: {error}"
        raise InputFileError(msg) from None
    try:
        return msgspec.convert(document, table)
    except msgspec.ValidationError as error:
        msg = f"{_explain(str(error), document, table)} in {origin}"
        raise InputFileError(msg) from None


def _explain(message: str, document: object, table: type[Table]) -> str:
    unknown = _UNKNOWN.fullmatch(message)
    if unknown is not None:
        path = (unknown["path"] or "$").removeprefix("$")
        known = _keys_at(table, path)
        hint = nearest(unknown["key"], known) or f" Known: {', '.join(known)}."
        return f"Unknown key {unknown['key']!r}.{hint} - at `${path}`"
    match = _AT.fullmatch(message)
    if match is None:
        return f"{message} - at `$`"
    path, value = _locate(document, table, match["path"])
    # a whole table says less than the path to it
    given = "" if isinstance(value, (dict, list)) else f", given {value!r}"
    return f"{match['text']}{given} - at `${path}`"


def _keys_at(table: type[Table], path: str) -> tuple[str, ...]:
    """Return the valid keys of the table that ``path`` leads to."""
    current: object = table
    for step in _STEP.finditer(path):
        if step["key"] is not None and isinstance(current, type):
            current = _field_type(current, step["key"])
        current = _table_in(current)
    if isinstance(current, type) and issubclass(current, msgspec.Struct):
        return tuple(field.encode_name for field in msgspec.structs.fields(current))
    return ()


def _field_type(table: type, key: str) -> object:
    if not issubclass(table, msgspec.Struct):
        return None
    types = {field.encode_name: field.type for field in msgspec.structs.fields(table)}
    return types.get(key)


def _table_in(annotation: object) -> object:
    """Return the table that an annotation such as ``tuple[T, ...]`` or ``T | None`` holds."""
    if isinstance(annotation, type) and issubclass(annotation, msgspec.Struct):
        return annotation
    held = (_table_in(argument) for argument in typing.get_args(annotation))
    return next((item for item in held if item is not None), None)


def _locate(document: object, annotation: object, path: str) -> tuple[str, object]:
    """Follow ``path`` to its value; msgspec writes ``[...]`` for a key, here it stands in full."""
    spelled = ""
    for step in _STEP.finditer(path):
        if step["key"] is not None:
            annotation = _field_type(typing.cast("type", _table_in(annotation)), step["key"])
            document = typing.cast("dict[str, object]", document)[step["key"]]
            spelled += f".{step['key']}"
        elif step["number"] != "...":
            document = typing.cast("list[object]", document)[int(step["number"])]
            spelled += step[0]
        else:
            annotation = typing.get_args(annotation)[1]
            key, document = _first_wrong(typing.cast("dict[str, object]", document), annotation)
            spelled += f".{key!r}"
    return spelled, document


def _first_wrong(items: dict[str, object], annotation: object) -> tuple[str, object]:
    for key, value in items.items():
        try:
            msgspec.convert(value, annotation)
        except msgspec.ValidationError:
            return key, value
    msg = f"every value of {items!r} is a {annotation!r}"
    raise AssertionError(msg)
