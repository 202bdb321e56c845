"""What the tests of broken wheels share: real wheels, fetched once into one folder."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

# With --import-mode=importlib nothing puts that folder on the path.
sys.path.insert(0, os.fspath(Path(__file__).parents[1] / "corpus"))

from corpus import FOLDER_VARIABLE


@pytest.fixture(scope="session")
def wheels_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return where real wheels are kept: the folder that the environment names, or one of today."""
    named = os.environ.get(FOLDER_VARIABLE)
    return Path(named).resolve() if named else tmp_path_factory.mktemp("wheels")
