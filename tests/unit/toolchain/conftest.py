"""A uv that reaches nothing, and locks of wheels that were made on the spot."""

from __future__ import annotations

import hashlib
import os
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture
def uv_env(tmp_path: Path) -> dict[str, str]:
    """Return the environment of a uv that knows the wheels of this test and nothing else."""
    (tmp_path / "wheels").mkdir()
    return {
        "HOME": str(tmp_path / "home"),
        "PATH": os.environ["PATH"],
        "UV_CACHE_DIR": str(tmp_path / "uv-cache"),
        "UV_FIND_LINKS": str(tmp_path / "wheels"),
        "UV_NO_CONFIG": "1",
        "UV_OFFLINE": "1",
    }


@pytest.fixture
def lock_wheel(make_wheel: Callable[..., Path]) -> Callable[..., str]:
    """Return a function that writes a wheel and returns the entry of a lock that pins it."""

    def lock(name: str, *, sha256: str = "", **options: object) -> str:
        path = make_wheel(name=name, **options)
        digest = sha256 or hashlib.sha256(path.read_bytes()).hexdigest()
        return f"{name}==1.0 \\\n    --hash=sha256:{digest}\n"

    return lock
