"""The command that says what this machine can build."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from wheelyard.doctor.report import diagnose, to_json, to_text
from wheelyard.network.indexes import IndexSettings, read_index_settings

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator, Mapping


def doctor(arguments: argparse.Namespace, env: Mapping[str, str]) -> None:
    """Print the whole diagnosis."""
    home = Path(env.get("HOME", os.path.expanduser("~")))  # noqa: PTH111 - whoever this is
    settings = read_index_settings(env, home=home, cwd=Path.cwd())
    lines = diagnose(env, settings=tuple(_rows(settings)))
    sys.stdout.write(to_json(lines) if arguments.json else to_text(lines))


def _rows(settings: IndexSettings) -> Iterator[tuple[str, str, str]]:
    for name, origin in settings.origins.items():
        value = getattr(settings, name)
        text = ", ".join(value) if isinstance(value, tuple) else str(value)
        yield name.replace("_", " "), text, str(origin)
