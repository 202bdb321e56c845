"""The user's token for GitHub: a variable, or what the ``gh`` command has."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

from wheelyard.errors import MachineError, ProcessError
from wheelyard.network.github_api import token_in
from wheelyard.run import run

if TYPE_CHECKING:
    from collections.abc import Mapping


def github_token(env: Mapping[str, str]) -> str:
    """Return the token, or say where to put one."""
    token = token_in(env)
    if token:
        return token
    gh = shutil.which("gh", path=env.get("PATH", ""))
    if gh is not None:
        try:
            found = run([gh, "auth", "token"], env=env).output.strip()
        except ProcessError:
            found = ""
        if found:
            return found
    msg = (
        "There is no token for GitHub. Set GITHUB_TOKEN or GH_TOKEN to one that may write the "
        "contents of the repository, or run `gh auth login`."
    )
    raise MachineError(msg)
