"""What a bundle says of itself: its cells, and what each installs."""

from __future__ import annotations

import json
import re
from typing import Any

from wheelyard.shipping.installer.layout import FORMAT, WHEELS, require_safe
from wheelyard.shipping.installer.problems import DamageError, MisfitError

Package = dict[str, Any]
"""``name``, ``version``, ``file``, ``sha256``, ``size``, ``unpacked`` (bytes)."""
CellEntry = dict[str, Any]
_NORMAL = re.compile(r"[-_.]+")


def normalize(name: str) -> str:
    """Return the name as indexes compare it."""
    return _NORMAL.sub("-", name).lower()


def parse_manifest(text: bytes) -> dict[str, Any]:
    """Decode ``bundle.json``; one of a later format is refused."""
    try:
        manifest = json.loads(text)
        found = manifest["format"]
    except (ValueError, KeyError, TypeError):
        msg = "bundle.json of the bundle cannot be read. Get the bundle again."
        raise DamageError(msg) from None
    if found != FORMAT:
        msg = (
            f"The bundle has format {found}, this installer reads {FORMAT}. Use its own install.py."
        )
        raise MisfitError(msg)
    packages = [package for cell in manifest["cells"] for package in cell["packages"]]
    for package in [*packages, manifest["uv"]]:
        require_safe(WHEELS + package["file"])
    for cell in manifest["cells"]:
        if cell["interpreter"]:
            require_safe(cell["interpreter"]["file"])
    return dict(manifest)


def choose_cell(
    manifest: dict[str, Any], *, python: str, machine: str, wanted: str, bound: bool = True
) -> CellEntry:
    """Return the cell for this Python; ``wanted`` names one of several.

    Who is not ``bound`` to it gets one that brings its own interpreter, where none is for it.
    """
    cells: list[CellEntry] = manifest["cells"]
    named = [cell for cell in cells if wanted in ("", cell["identifier"])]
    fitting = [cell for cell in named if (cell["python"], cell["machine"]) == (python, machine)]
    if not fitting and not bound:
        fitting = [cell for cell in named if cell["machine"] == machine and cell["interpreter"]]
    if len(fitting) == 1:
        return fitting[0]
    listed = ", ".join(cell["identifier"] for cell in fitting or cells)
    if fitting:
        msg = f"The bundle has several cells for this machine: {listed}. Name one with --cell."
        raise MisfitError(msg)
    if wanted and not named:
        msg = f"The bundle has no cell {wanted!r}. It has {listed}."
        raise MisfitError(msg)
    machines = {cell["machine"] for cell in named}
    if machine not in machines:
        msg = f"The bundle is for {', '.join(sorted(machines))}, and this machine is {machine}."
        raise MisfitError(msg)
    pythons = sorted({cell["python"] for cell in named})
    msg = (
        f"The bundle is for Python {', '.join(pythons)}, and this is Python {python}. Run it with "
        f"one of those: python{pythons[-1]} install.py ..., or name it with --python."
    )
    raise MisfitError(msg)
