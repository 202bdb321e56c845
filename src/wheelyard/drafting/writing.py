"""Write a draft as the files of a recipe: its TOML and its smoke test."""

from __future__ import annotations

import json
import textwrap
from typing import TYPE_CHECKING

from wheelyard.drafting.draft import GENCODE_PATCH, STANDARD_PATCH

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from wheelyard.drafting.draft import Draft

_WIDTH = 100
_PATCH_REASONS = {
    GENCODE_PATCH: "setup.py names its own GPU targets",
    STANDARD_PATCH: "setup.py names a C++ standard, which may be older than torch's headers take",
}
_SMOKE = '''\
"""Smoke test of an installed {name}: import it with every extension.

    python smoke.py --level imported|ran-on-gpu --json OUT

It needs torch and the wheel, and leaves 1 when a module cannot be imported. No case runs its code
on a GPU yet: write some with a reference in float64, as other recipes do, and give them to `run`
as `run_cases`.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1]))  # where it lies in the farm

from smoking import import_functions, run

FUNCTIONS: dict[str, tuple[str, ...]] = {{
{functions}}}
"""The functions that each module has to have; the package first, for it loads torch's libraries."""


def import_all() -> None:
    """Import the package and its extension modules."""
    import_functions(FUNCTIONS)


if __name__ == "__main__":
    sys.exit(run("{name}", import_all=import_all))
'''


def write_recipe(draft: Draft) -> str:
    """Return the text of ``recipes/NAME.toml``."""
    lines = [
        *_pairs({"name": str(draft.name), "summary": draft.summary}),
        *_pairs({"homepage": draft.homepage, "license": draft.license}),
        *("", "[build]"),
        *_pairs({"requires": draft.build_requires}),
        *_environment(draft.environment),
        f"memory-per-job = {draft.memory_per_job / 2**30:.1f}",
        f"# {draft.effort.origin}",
        f"effort = {{ host = {draft.effort.host:.1f}, device = {draft.effort.device:.1f} }}",
        *("", "[wheel]"),
        *(_pairs({"libraries": draft.libraries}) if draft.libraries else ()),
        *(_pairs({"extensions": draft.extensions}) if not draft.libraries else ()),
        *_pairs({"top-levels": draft.top_levels}),
        *(_pairs({"requires": draft.requires}) if draft.requires else ()),
        *(_pairs({"entry-points": draft.entry_points}) if draft.entry_points else ()),
        *_gpu_archs(draft),
        *_patches(draft),
        *_version(draft),
    ]
    return "\n".join(lines) + "\n"


def write_smoke_test(draft: Draft) -> str:
    """Return the text of ``recipes/NAME/smoke.py``, which imports every extension module."""
    packages = [top for top in draft.top_levels if top not in draft.extensions]
    modules = dict.fromkeys((*packages, *draft.extensions))
    functions = "".join(f"    {_quoted(module)}: (),\n" for module in modules)
    return _SMOKE.format(name=draft.name, functions=functions)


def _pairs(table: Mapping[str, object]) -> Iterator[str]:
    return (f"{key} = {_value(value, indent=len(key) + 3)}" for key, value in table.items())


def _value(value: object, *, indent: int = 0) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return str(value)
    if isinstance(value, str):
        return _quoted(value)
    assert isinstance(value, tuple)
    items = [_quoted(str(item)) for item in value]
    line = f"[{', '.join(items)}]"
    if indent + len(line) <= _WIDTH:
        return line
    return "[\n" + "".join(f"  {item},\n" for item in items) + "]"


def _quoted(text: str) -> str:
    """Quote a text for TOML, which escapes as JSON does, and deletes too."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _environment(environment: Mapping[str, tuple[str, str]]) -> Iterator[str]:
    if not environment:
        return
    for reason in dict.fromkeys(reason for _, reason in environment.values()):
        yield f"# {reason}"
    pairs = ", ".join(f"{name} = {_quoted(value)}" for name, (value, _) in environment.items())
    yield f"environment = {{ {pairs} }}"


def _gpu_archs(draft: Draft) -> Iterator[str]:
    if not draft.gpu_archs:
        return
    yield from ("", "[gpu-archs]")
    for since, archs in draft.gpu_archs:
        yield f"{_quoted(str(since))} = {_value(tuple(map(str, archs)))}"


def _patches(draft: Draft) -> Iterator[str]:
    for filename in draft.patches:
        reason = _PATCH_REASONS.get(filename)
        yield from ("", *([f"# {reason}"] if reason else []), "[[patches]]")
        yield from _pairs({"file": filename, "versions": f">={draft.version}"})


def _version(draft: Draft) -> Iterator[str]:
    yield from ("", "[[versions]]")
    yield from _pairs({"version": str(draft.version)})
    yield from _pairs({key: value for key, value in _bounds(draft) if value})
    for kind, table in draft.source.items():
        assert isinstance(table, dict)
        yield f"[versions.{kind}]"
        yield from _pairs({key: value for key, value in table.items() if value != ()})


def _bounds(draft: Draft) -> Iterable[tuple[str, str]]:
    return (("python", draft.python), ("torch", draft.torch))


def wrapped(sentence: str, *, width: int) -> str:
    """Return a sentence of a list, broken into lines."""
    return textwrap.fill(
        sentence,
        width=width,
        initial_indent="  - ",
        subsequent_indent="    ",
        break_long_words=False,
        break_on_hyphens=False,
    )
