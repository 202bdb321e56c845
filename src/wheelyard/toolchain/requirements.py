"""Locked requirements as flat folders, one per lock and Python, made on first use."""

from __future__ import annotations

import functools
import hashlib
from typing import TYPE_CHECKING

from wheelyard.folders import make_once
from wheelyard.toolchain.installing import install_locked

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from wheelyard.toolchain.interpreters import Interpreter


def provide_requirements(
    text: str,
    *,
    interpreter: Interpreter,
    cache: Path,
    env: Mapping[str, str],
    copy: bool,
) -> Path:
    """Return a flat folder with what the lock entries of ``text`` pin; empty for no entries.

    ``copy`` makes it without hard links to uv's cache, for builds that could write into it.
    """
    digest = hashlib.sha256(text.encode()).hexdigest()[:16]
    kind = "copied" if copy else "linked"
    tag = f"{interpreter.version.abi_tag}-{interpreter.machine}"
    folder = cache / "requirements" / f"{digest}-{tag}-{kind}"
    folder.parent.mkdir(parents=True, exist_ok=True)
    fill = functools.partial(_fill, text=text, interpreter=interpreter, env=env, copy=copy)
    return make_once(folder, fill, what="locked requirements")


def _fill(
    folder: Path, *, text: str, interpreter: Interpreter, env: Mapping[str, str], copy: bool
) -> None:
    if not text.strip():
        return
    options = ["--link-mode", "copy"] if copy else []
    if interpreter.container_libc is None:
        options.append("--compile-bytecode")
    install_locked(
        text,
        target=folder,
        interpreter=interpreter,
        env=env,
        scratch=folder,
        options=options,
    )
