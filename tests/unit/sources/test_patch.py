from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from wheelyard.errors import IntegrityError, PatchError
from wheelyard.model.source import FolderSource, GitSource
from wheelyard.network.git import fetch_commit
from wheelyard.run import run
from wheelyard.sources.patch import apply_patches
from wheelyard.sources.tree import SOURCE_TIME, tree_digest
from wheelyard.sources.values import AppliedPatch, FetchedSource, PatchedSource

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    FetchSdist = Callable[..., FetchedSource]

LINES = "".join(f"line {number}\n" for number in range(1, 21))
FIRST = """\
Why: the first line is wrong. Upstream: #1.
--- a/setup.py
+++ b/setup.py
@@ -1,4 +1,4 @@
-line 1
+LINE 1
 line 2
 line 3
 line 4
"""
SECOND_HUNK_IS_WRONG = """\
--- a/setup.py
+++ b/setup.py
@@ -1,4 +1,4 @@
-line 1
+LINE 1
 line 2
 line 3
 line 4
@@ -10,4 +10,4 @@ def x():
-line ten
+LINE 10
 line 11
 line 12
 line 13
"""


class Patcher:
    def __init__(self, root: Path, env: dict[str, str]) -> None:
        self.folder = root / "patches"
        self.folder.mkdir()
        self.tree = root / "job" / "source"
        self.env = env

    def write(self, name: str, text: str) -> Path:
        path = self.folder / name
        path.write_text(text)
        return path

    def __call__(self, fetched: FetchedSource, *patches: Path) -> PatchedSource:
        return apply_patches(
            fetched, patches, tree=self.tree, run_python=self.run_python, env=self.env
        )

    def run_python(self, script: Path, tree: Path) -> None:
        run([sys.executable, "-B", script], cwd=tree, env=self.env)

    @property
    def left(self) -> list[str]:
        return sorted(path.name for path in self.tree.parent.glob("*"))


@pytest.fixture
def patch(tmp_path: Path, env: dict[str, str]) -> Patcher:
    return Patcher(tmp_path, env)


@pytest.fixture
def lines(fetch_sdist: FetchSdist) -> FetchedSource:
    return fetch_sdist(**{"setup.py": LINES})


def test_source_without_patches_is_unpacked(patch: Patcher, lines: FetchedSource) -> None:
    patched = patch(lines)
    assert patched.tree == patch.tree
    assert (patch.tree / "setup.py").read_text() == LINES
    assert patched.patches == ()
    assert patched.source == lines
    assert patched.digest == tree_digest(patch.tree)
    assert patch.left == ["source"]


def test_patches_are_applied_in_the_given_order(patch: Patcher, lines: FetchedSource) -> None:
    first = patch.write("0001-first.patch", FIRST)
    second = patch.write(
        "0002-second.patch", FIRST.replace("LINE 1", "Line one").replace("-line 1\n", "-LINE 1\n")
    )
    patched = patch(lines, first, second)
    assert (patch.tree / "setup.py").read_text() == LINES.replace("line 1\n", "Line one\n", 1)
    digest = hashlib.sha256(first.read_bytes()).hexdigest()
    assert patched.patches[0] == AppliedPatch(name="0001-first.patch", sha256=digest)
    assert [applied.name for applied in patched.patches] == [first.name, second.name]


def test_patched_tree_is_the_same_every_time(patch: Patcher, lines: FetchedSource) -> None:
    path = patch.write("0001-first.patch", FIRST)
    first = patch(lines, path)
    assert {entry.lstat().st_mtime for entry in patch.tree.rglob("*")} == {SOURCE_TIME}
    patch.tree = patch.tree.with_name("again")
    old = os.umask(0o077)
    try:
        assert patch(lines, path).digest == first.digest
    finally:
        os.umask(old)
    assert (patch.tree / "setup.py").stat().st_mode & 0o777 == 0o644


def test_patch_makes_moves_and_removes_files(patch: Patcher, fetch_sdist: FetchSdist) -> None:
    fetched = fetch_sdist(**{"old.py": "old\n", "gone.py": "gone\n"})
    text = (
        "diff --git a/old.py b/new/name.py\nrename from old.py\nrename to new/name.py\n"
        "diff --git a/gone.py b/gone.py\ndeleted file mode 100644\n"
        "--- a/gone.py\n+++ /dev/null\n@@ -1 +0,0 @@\n-gone\n"
        "diff --git a/run b/run\nnew file mode 100755\n"
        "--- /dev/null\n+++ b/run\n@@ -0,0 +1 @@\n+r\n"
    )
    patch(fetched, patch.write("0001-move.patch", text))
    assert sorted(path.name for path in patch.tree.rglob("*")) == ["name.py", "new", "run"]
    assert os.access(patch.tree / "run", os.X_OK)


def test_failing_patch_names_patch_file_and_hunk(patch: Patcher, lines: FetchedSource) -> None:
    path = patch.write("0007-wrong.patch", SECOND_HUNK_IS_WRONG)
    with pytest.raises(PatchError) as caught:
        patch(lines, path)
    message = str(caught.value)
    assert "0007-wrong.patch does not apply to probe-1.0.tar.gz" in message
    assert "setup.py, hunk 2 of 2 (@@ -10,4 +10,4 @@ def x():)" in message
    assert "`versions` in the recipe" in message
    assert patch.left == []


def test_patch_for_a_missing_file_says_so(patch: Patcher, fetch_sdist: FetchSdist) -> None:
    with pytest.raises(PatchError, match=r"git says: setup.py: No such file"):
        patch(fetch_sdist(**{"other.py": ""}), patch.write("0001-first.patch", FIRST))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("only words\n", "No valid patches", id="no-diff"),
        pytest.param(FIRST[:-12], "corrupt patch", id="cut"),
    ],
)
def test_file_that_is_no_good_diff_is_refused(
    patch: Patcher, lines: FetchedSource, text: str, expected: str
) -> None:
    with pytest.raises(PatchError, match=expected):
        patch(lines, patch.write("0001-bad.patch", text))


def test_patch_cannot_reach_a_file_beside_the_tree(patch: Patcher, lines: FetchedSource) -> None:
    beside = patch.tree.with_name("setup.py")
    beside.parent.mkdir()
    beside.write_text(LINES)
    climbing = FIRST.replace("setup.py", "../setup.py")
    with pytest.raises(PatchError, match="invalid path"):
        patch(lines, patch.write("0001-climb.patch", climbing))
    assert beside.read_text() == LINES


@pytest.mark.parametrize(
    "config",
    ["[apply]\n\tignoreWhitespace = change\n\twhitespace = fix\n", "[core]\n\tautocrlf = true\n"],
)
def test_whitespace_counts_whatever_the_users_git_thinks(
    patch: Patcher, fetch_sdist: FetchSdist, tmp_path: Path, config: str
) -> None:
    (tmp_path / "home" / ".gitconfig").write_text(config)
    other = fetch_sdist(**{"setup.py": LINES.replace("line 2", "line  2")})
    with pytest.raises(PatchError, match="hunk 1 of 1"):
        patch(other, patch.write("0001-first.patch", FIRST))
    trailing = FIRST.replace("+LINE 1", "+LINE 1  ")
    patch(fetch_sdist(**{"setup.py": LINES}), patch.write("0002-space.patch", trailing))
    assert (patch.tree / "setup.py").read_bytes().startswith(b"LINE 1  \nline 2\n")


def test_context_must_be_whole(patch: Patcher, fetch_sdist: FetchSdist) -> None:
    """GNU patch would apply this with fuzz 1."""
    other = fetch_sdist(**{"setup.py": LINES.replace("line 4", "line four")})
    with pytest.raises(PatchError, match="hunk 1 of 1"):
        patch(other, patch.write("0001-first.patch", FIRST))


def test_repository_around_the_tree_has_no_say(patch: Patcher, fetch_sdist: FetchSdist) -> None:
    patch.tree.parent.mkdir()
    around = ["git", "-C", str(patch.tree.parent)]
    for arguments in (["init", "--quiet"], ["config", "apply.ignoreWhitespace", "change"]):
        subprocess.run([*around, *arguments], check=True, env={"PATH": os.environ["PATH"]})
    patch.env |= {"GIT_DIR": str(patch.tree.parent / ".git"), "GIT_PREFIX": "x/"}
    path = patch.write("0001-first.patch", FIRST)
    with pytest.raises(PatchError, match="hunk 1 of 1"):
        patch(fetch_sdist(**{"setup.py": LINES.replace("line 2", "line  2")}), path)
    patch(fetch_sdist(**{"setup.py": LINES}), path)
    assert (patch.tree / "setup.py").read_text().startswith("LINE 1\n")


def test_transformation_is_run_on_the_tree(patch: Patcher, lines: FetchedSource) -> None:
    code = (
        "from pathlib import Path; path = Path('setup.py')\n"
        "path.write_text(path.read_text().replace('line 1\\n', 'changed\\n'))\n"
    )
    patched = patch(lines, patch.write("0001-change.py", code))
    assert (patch.tree / "setup.py").read_text().startswith("changed\n")
    assert patched.patches[0].name == "0001-change.py"


def test_failing_transformation_shows_its_output(patch: Patcher, lines: FetchedSource) -> None:
    path = patch.write("0001-fail.py", "raise SystemExit('no sm_90 in setup.py')")
    expected = r"(?s)0001-fail.py failed on probe-1.0.tar.gz.*no sm_90 in setup.py.*recipe"
    with pytest.raises(PatchError, match=expected):
        patch(lines, path)
    assert not patch.tree.exists()


@pytest.mark.parametrize(
    ("name", "text"),
    [
        pytest.param("0001-nothing.py", "pass", id="transformation"),
        pytest.param(
            "0001-nothing.patch",
            "--- a/setup.py\n+++ b/setup.py\n@@ -1,2 +1,2 @@\n-line 1\n+line 1\n line 2\n",
            id="diff",
        ),
    ],
)
def test_patch_that_changes_nothing_is_an_error(
    patch: Patcher, lines: FetchedSource, name: str, text: str
) -> None:
    with pytest.raises(PatchError, match=rf"{name} changes nothing in probe-1.0.tar.gz"):
        patch(lines, patch.write(name, text))


def test_transformation_that_links_out_of_the_tree_is_refused(
    patch: Patcher, lines: FetchedSource
) -> None:
    path = patch.write("0001-link.py", "import os; os.symlink('/etc', 'etc')")
    with pytest.raises(IntegrityError, match="leads out"):
        patch(lines, path)


def test_existing_tree_is_left_alone(patch: Patcher, lines: FetchedSource) -> None:
    patch.tree.mkdir(parents=True)
    with pytest.raises(PatchError, match="exists already"):
        patch(lines)
    assert list(patch.tree.iterdir()) == []


def test_what_a_killed_run_left_is_replaced(patch: Patcher, lines: FetchedSource) -> None:
    partial = patch.tree.with_name(".source.partial")
    partial.mkdir(parents=True)
    (partial / "half").write_text("")
    patch(lines)
    assert [path.name for path in patch.tree.iterdir()] == ["setup.py"]
    assert patch.left == ["source"]


def test_file_of_another_kind_is_refused(patch: Patcher, lines: FetchedSource) -> None:
    with pytest.raises(PatchError, match=r"must end in \.patch or \.py"):
        patch(lines, patch.write("0001-first.diff", FIRST))


def test_folder_source_is_copied_and_patched(patch: Patcher, tmp_path: Path) -> None:
    folder = tmp_path / "project"
    (folder / "__pycache__").mkdir(parents=True)
    (folder / "setup.py").write_text(LINES)
    fetched = FetchedSource(source=FolderSource(path="project"), path=folder, digest="sha256:0")
    patch(fetched, patch.write("0001-first.patch", FIRST))
    assert [path.name for path in patch.tree.iterdir()] == ["setup.py"]
    assert (folder / "setup.py").read_text() == LINES


def test_git_source_is_exported_and_patched(
    patch: Patcher, tmp_path: Path, env: dict[str, str]
) -> None:
    upstream = tmp_path / "upstream"
    upstream.mkdir()
    (upstream / "setup.py").write_text(LINES)
    (upstream / ".gitattributes").write_text("* export-subst\n")
    (upstream / "l").symlink_to("setup.py")
    who = ["git", "-C", str(upstream), "-c", "user.name=a", "-c", "user.email=a@b"]
    for arguments in (["init", "--quiet"], ["add", "."], ["commit", "--quiet", "-mx"]):
        subprocess.run([*who, *arguments], check=True, env=env)
    shown = subprocess.run([*who, "rev-parse", "HEAD"], check=True, capture_output=True, text=True)
    source = GitSource(url=str(upstream), commit=shown.stdout.strip())
    repository = tmp_path / "cache" / "x"
    fetch_commit(source, repository=repository, env=env)
    fetched = FetchedSource(source=source, path=repository, digest=f"git:{source.commit}")
    patch(fetched, patch.write("0001-first.patch", FIRST))
    assert (patch.tree / "l").read_text().startswith("LINE 1\n")
    names = sorted(path.name for path in patch.tree.iterdir())
    assert names == [".gitattributes", "l", "setup.py"]
    assert patch.left == ["source"]
