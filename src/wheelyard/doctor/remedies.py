"""Commands that mend an environment, for the installer that it has."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from wheelyard.finding.environment import Environment


def pip(environment: Environment, action: str, *words: str) -> str:
    """Return a command of the environment's own pip, or of uv where it has none."""
    python = str(environment.python)
    if "pip" not in environment.installed:
        return shlex.join(["uv", "pip", action, "--python", python, *words])
    words = tuple("--force-reinstall" if word == "--reinstall" else word for word in words)
    return shlex.join([python, "-m", "pip", action, *words])


def uninstall(environment: Environment, *names: str) -> str:
    """Return the command that takes distributions out without a question."""
    yes = ["-y"] if "pip" in environment.installed else []
    return pip(environment, "uninstall", *yes, *names)
