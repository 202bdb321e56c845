"""Install locked distributions into a flat folder, with uv, hashes required, nothing built."""

from __future__ import annotations

from typing import TYPE_CHECKING

import uv

from wheelyard.errors import FetchError, ProcessError
from wheelyard.network.uv_indexes import run_uv

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from wheelyard.toolchain.interpreters import Interpreter


def install_locked(
    requirements: str,
    *,
    target: Path,
    interpreter: Interpreter,
    env: Mapping[str, str],
    scratch: Path,
    options: Sequence[str] = (),
    log_path: Path | None = None,
) -> None:
    """Install ``requirements`` (a lock's text) for that Python into the flat folder ``target``.

    ``env`` is what `wheelyard.network.children.uv_environment` made.
    """
    listing = scratch / f"{target.name}.requirements.txt"
    listing.write_text(requirements, encoding="utf-8")
    command = [uv.find_uv_bin(), "pip", "install", *interpreter.installing]
    command += ["--target", str(target), "--requirements", str(listing)]
    command += ["--require-hashes", "--no-deps", "--no-build", *options]
    try:
        run_uv(command, env=env, log_path=log_path)
    except ProcessError as error:
        msg = f"The locked distributions could not be installed.\n{error.tail.strip()}"
        raise FetchError(msg) from error
    finally:
        listing.unlink(missing_ok=True)
