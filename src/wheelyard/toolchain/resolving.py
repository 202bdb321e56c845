"""Make a lock: resolve a request for all its Pythons and machines, with hashes, through uv."""

from __future__ import annotations

from typing import TYPE_CHECKING

import uv

from wheelyard.errors import FetchError, ProcessError
from wheelyard.network.uv_indexes import run_uv

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from wheelyard.model.lock import LockRequest

_PROJECT = """\
[project]
name = "wheelyard-lock"
version = "0"
requires-python = ">={python}"

[tool.uv]
environments = [{environments}]
"""


def resolve_lock(request: LockRequest, *, env: Mapping[str, str], scratch: Path) -> str:
    """Return the text of the lock that answers ``request``.

    ``env`` is what `wheelyard.network.children.uv_environment` made for resolving.
    """
    if not request.requirements:
        return f"{request.header}\n"
    environments = ", ".join(
        f"\"sys_platform == 'linux' and platform_machine == '{machine}'\""
        for machine in request.machines
    )
    project = _PROJECT.format(python=request.python, environments=environments)
    (scratch / "pyproject.toml").write_text(project, encoding="utf-8")
    wanted = scratch / "requirements.in"
    wanted.write_text("".join(f"{line}\n" for line in request.requirements), encoding="utf-8")
    command = [uv.find_uv_bin(), "pip", "compile", "--quiet", "--universal", "--generate-hashes"]
    command += ["--no-header", "--no-annotate", "--python-version", request.python]
    command += ["--no-build", "--output-file", str(scratch / "lock.txt"), wanted.name]
    # the project's own environments are configuration too, so only the user's is kept away
    child_env = {name: value for name, value in env.items() if name != "UV_NO_CONFIG"}
    child_env["XDG_CONFIG_HOME"] = str(scratch)
    try:
        run_uv(command, env=child_env, cwd=scratch)
    except ProcessError as error:
        msg = f"No lock {request.name}: uv did not resolve it.\n{error.tail.strip()}"
        raise FetchError(msg) from error
    text = (scratch / "lock.txt").read_text(encoding="utf-8")
    return f"{request.header}\n{text}"
