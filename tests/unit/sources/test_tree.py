from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from wheelyard.errors import IntegrityError
from wheelyard.sources.tree import SOURCE_TIME, copy_folder, settle_tree, tree_digest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    tree = tmp_path / "tree"
    (tree / "pkg" / "empty").mkdir(parents=True)
    (tree / "pkg" / "a.py").write_text("a")
    (tree / "run").write_text("run")
    (tree / "run").chmod(0o700)
    (tree / "link").symlink_to("pkg/a.py")
    (tree / "folder-link").symlink_to("pkg")
    return tree


def test_settled_tree_has_constant_modes_and_times(tree: Path) -> None:
    (tree / "pkg" / "a.py").chmod(0o4664)
    (tree / "pkg").chmod(0o2777)
    settle_tree(tree)
    assert (tree / "pkg" / "a.py").stat().st_mode & 0o7777 == 0o644
    assert (tree / "run").stat().st_mode & 0o7777 == 0o755
    assert (tree / "pkg").stat().st_mode & 0o7777 == 0o755
    for path in (tree, *tree.rglob("*")):
        assert path.lstat().st_mtime == SOURCE_TIME


def test_digest_does_not_know_place_times_or_write_permission(tree: Path, tmp_path: Path) -> None:
    before = tree_digest(tree)
    settle_tree(tree)
    moved = tree.rename(tmp_path / "moved")
    (moved / "run").chmod(0o777)
    assert tree_digest(moved) == before
    assert before.startswith("sha256:")


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda tree: (tree / "run").write_text("ran"), id="bytes"),
        pytest.param(lambda tree: (tree / "run").chmod(0o644), id="mode"),
        pytest.param(lambda tree: (tree / "run").rename(tree / "walk"), id="path"),
        pytest.param(lambda tree: (tree / "new").touch(), id="new"),
        pytest.param(lambda tree: (tree / "link").unlink(), id="gone"),
        pytest.param(
            lambda tree: ((tree / "link").unlink(), (tree / "link").symlink_to("run")), id="target"
        ),
        pytest.param(
            lambda tree: ((tree / "link").unlink(), (tree / "link").write_text("pkg/a.py")),
            id="link-to-file",
        ),
    ],
)
def test_digest_changes_with(tree: Path, change: Callable[[Path], object]) -> None:
    before = tree_digest(tree)
    change(tree)
    assert tree_digest(tree) != before


@pytest.mark.parametrize("target", ["/etc/passwd", "../outside", "folder-link/../../x"])
def test_link_out_of_the_tree_is_refused(tree: Path, target: str) -> None:
    (tree / "evil").symlink_to(target)
    with pytest.raises(IntegrityError, match="evil leads out of its source tree"):
        settle_tree(tree)


def test_link_that_climbs_through_another_link_is_refused(tree: Path) -> None:
    (tree / "a" / "b" / "c").mkdir(parents=True)
    (tree / "a" / "b" / "c" / "up").symlink_to("../../../pkg")
    (tree / "evil").symlink_to("a/b/c/up/../..")
    with pytest.raises(IntegrityError, match="evil leads out"):
        settle_tree(tree)


def test_pipe_is_refused(tree: Path) -> None:
    os.mkfifo(tree / "pipe")
    with pytest.raises(IntegrityError, match="neither file, folder nor link"):
        settle_tree(tree)


def test_folder_is_copied_without_repository_and_leftovers(tree: Path, tmp_path: Path) -> None:
    leftovers = (
        ".git/config",
        "build/lib/x.py",
        "dist/x.whl",
        "pkg/__pycache__/a.pyc",
        "pkg/_C.cpython-312-x86_64-linux-gnu.so",
        "probe.egg-info/PKG-INFO",
        ".mypy_cache/x",
        "csrc/kernel.o",
    )
    kept = ("pkg/build/__init__.py", "pkg/libplain.so", "build.py")
    for name in (*leftovers, *kept):
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_text(name)
    copy_folder(tree, tmp_path / "copy")
    copied = {
        str(path.relative_to(tmp_path / "copy"))
        for path in (tmp_path / "copy").rglob("*")
        if not path.is_dir() or path.is_symlink()
    }
    assert copied == {*kept, "pkg/a.py", "run", "link", "folder-link"}
    assert (tmp_path / "copy" / "run").lstat().st_mtime == SOURCE_TIME


def test_file_that_is_only_named_like_a_build_folder_is_copied(tree: Path, tmp_path: Path) -> None:
    (tree / "build").write_text("a script")
    copy_folder(tree, tmp_path / "copy")
    assert (tmp_path / "copy" / "build").is_file()
