"""Folders that are whole or not there."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from wheelyard.folders import make_once, remove_tree

if TYPE_CHECKING:
    from collections.abc import Iterator

FILL = """
import os, pathlib, signal, sys, time
from wheelyard.folders import make_once

target, how = pathlib.Path(sys.argv[1]), sys.argv[2]

def fill(folder):
    with open(target.parent / "fillers", "a") as file:
        file.write(f"{os.getpid()}\\n")
    (folder / "first").write_text("half")
    if how == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(0.3)
    (folder / "second").write_text("whole")

make_once(target, fill, what="it")
assert (target / "second").read_text() == "whole"
"""


def _fill(folder: Path) -> None:
    (folder / "first").write_text("1", encoding="ascii")


def _start(target: Path, how: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", FILL, str(target), how])


def test_folder_is_filled_once(tmp_path: Path) -> None:
    calls = []

    def fill(folder: Path) -> None:
        calls.append(folder)
        _fill(folder)

    for _ in range(2):
        assert make_once(tmp_path / "made", fill, what="it") == tmp_path / "made"
    assert len(calls) == 1
    assert calls[0].parent == tmp_path
    assert (tmp_path / "made" / "first").read_text(encoding="ascii") == "1"


def test_folder_can_be_read_by_everybody(tmp_path: Path) -> None:
    folder = make_once(tmp_path / "made", _fill, what="it")
    assert folder.stat().st_mode & 0o777 == 0o755


def test_failed_filling_leaves_nothing(tmp_path: Path) -> None:
    def fill(folder: Path) -> None:
        _fill(folder)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make_once(tmp_path / "made", fill, what="it")
    assert [path.name for path in tmp_path.iterdir()] == [".made.lock"]


def test_killed_filler_leaves_nothing_that_is_taken_for_real(tmp_path: Path) -> None:
    target = tmp_path / "made"
    with _start(target, "die") as child:
        assert child.wait() == -signal.SIGKILL
    leftovers = [path.name for path in tmp_path.glob(".made.new-*")]
    assert len(leftovers) == 1
    assert not target.exists()

    make_once(target, _fill, what="it")
    assert [path.name for path in target.iterdir()] == ["first"]
    assert (target / "first").read_text(encoding="ascii") == "1"
    assert not list(tmp_path.glob(".made.new-*"))


def test_two_processes_fill_once(tmp_path: Path) -> None:
    target = tmp_path / "made"
    with _start(target, "live") as first, _start(target, "live") as second:
        assert (first.wait(), second.wait()) == (0, 0)
    assert len((tmp_path / "fillers").read_text(encoding="ascii").split()) == 1


def test_leftovers_of_another_folder_are_left_alone(tmp_path: Path) -> None:
    other = tmp_path / ".made-longer.new-abc"
    other.mkdir()
    make_once(tmp_path / "made", _fill, what="it")
    assert other.is_dir()


@pytest.fixture
def nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Be a user whom modes bind, in the folder of the test."""
    monkeypatch.chdir(tmp_path)
    user = os.geteuid()
    if user == 0:
        tmp_path.chmod(0o777)
        os.seteuid(65534)
    yield
    os.seteuid(user)


@pytest.mark.usefixtures("nobody")
def test_tree_is_removed_whatever_its_modes() -> None:
    tree = Path("tree")
    (tree / "a" / "b").mkdir(parents=True)
    (tree / "a" / "b" / "file").touch()
    (tree / "a" / "b").chmod(0o500)
    (tree / "a").chmod(0o000)
    remove_tree(tree)
    assert not tree.exists()


def test_links_are_removed_and_not_followed(tmp_path: Path) -> None:
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "file").touch()
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "link").symlink_to(tmp_path / "kept")
    remove_tree(tree)
    assert (tmp_path / "kept" / "file").exists()
    assert not tree.exists()


def test_removing_what_is_not_there_is_fine(tmp_path: Path) -> None:
    remove_tree(tmp_path / "nothing")
