"""Runs a patch that is code as the farm does: as a script, with a tree."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


def apply(script: Path, *arguments: Path | str) -> str:
    """Return why the patch refused; nothing when it did what it is for."""
    command = [sys.executable, str(script), *map(str, arguments)]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert (done.returncode == 0) == (not done.stderr)
    return done.stderr.rstrip("\n")
