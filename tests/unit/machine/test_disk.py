from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from wheelyard.errors import DiskError
from wheelyard.machine.disk import free_bytes, readable_size, require_space

if TYPE_CHECKING:
    from pathlib import Path


def test_folder_that_is_not_made_yet_counts_as_its_parent(tmp_path: Path) -> None:
    usage = shutil.disk_usage(tmp_path)
    assert 0 <= free_bytes(tmp_path / "not" / "yet") <= usage.total


def test_enough_space_is_silent(tmp_path: Path) -> None:
    require_space(tmp_path, 1)


def test_too_little_space_names_folder_and_both_sizes(tmp_path: Path) -> None:
    with pytest.raises(DiskError, match=r"new' has .* free, and 1000000.0 TB are needed"):
        require_space(tmp_path / "new", 10**18)


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0 bytes"), (999, "999 bytes"), (1000, "1.0 kB"), (1_550_000_000, "1.6 GB")],
)
def test_size_is_readable(size: int, text: str) -> None:
    assert readable_size(size) == text
