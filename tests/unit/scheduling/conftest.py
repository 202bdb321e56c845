"""The program that asks the budget, compiled once."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from wheelyard.machine.compilers import find_gxx
from wheelyard.toolchain.tools import provide_tools

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="session")
def tools(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of wrappers that a build sees."""
    return provide_tools(
        find_gxx(os.environ),
        cache=tmp_path_factory.mktemp("t"),
        env=os.environ,
        compile_cache="sccache",
    )
