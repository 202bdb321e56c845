"""Git repositories that lead elsewhere: by their URLs, their submodules, their trees."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING

import pytest

from wheelyard.errors import IntegrityError
from wheelyard.model.source import GitSource
from wheelyard.network.git import fetch_commit, repository_name
from wheelyard.sources.patch import apply_patches
from wheelyard.sources.values import FetchedSource

if TYPE_CHECKING:
    from pathlib import Path

    from hostile.conftest import Tally

COMMANDS = [
    pytest.param("--upload-pack=touch {mark}", id="option"),
    pytest.param("-u", id="short-option"),
    pytest.param("ext::sh -c touch% {mark}", id="command"),
    pytest.param("fd::17", id="descriptor"),
    pytest.param("ssh://-oProxyCommand=touch {mark}/x", id="option-of-ssh"),
    pytest.param("-oProxyCommand=touch {mark}:x", id="option-as-host"),
    pytest.param("ssh://host/--upload-pack=touch", id="path-that-is-an-option"),
    pytest.param("unknown://host/x", id="unknown"),
    pytest.param("file:///nonexistent\n[core]\n\tsshCommand = touch {mark}", id="lines"),
]


class Upstream:
    """A repository that a test fills, and somebody who fetches it."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "upstream"
        self.folder = folder
        (folder / "home").mkdir()
        self.env = {
            "HOME": str(folder / "home"),
            "PATH": os.environ["PATH"],
            "GIT_SSH_COMMAND": "false",
            "GIT_CONFIG_GLOBAL": "/dev/null",
        }
        self.git("init", "--quiet", self.path, cwd=folder)

    def git(self, *words: str | Path, text: str = "", cwd: Path | None = None) -> str:
        names = {
            f"GIT_{who}_{what}": value
            for who in ("AUTHOR", "COMMITTER")
            for what, value in (("NAME", "a"), ("EMAIL", "a@example.org"))
        }
        done = subprocess.run(
            ["git", *words],
            check=True,
            cwd=cwd or self.path,
            env=self.env | names,
            input=text,
            capture_output=True,
            text=True,
        )
        return done.stdout.strip()

    def commit_tree(self, *entries: str) -> str:
        """Commit entries as ``git mktree`` reads them, whatever their names are."""
        tree = self.git("mktree", "-z", "--missing", text="".join(f"{one}\0" for one in entries))
        return self.publish(self.git("commit-tree", "-m", "x", tree))

    def publish(self, commit: str) -> str:
        self.git("update-ref", "refs/heads/main", commit)
        return commit

    def blob(self, text: str) -> str:
        return self.git("hash-object", "-w", "--stdin", text=text)

    def fetch(self, commit: str, *submodules: str, url: str = "") -> FetchedSource:
        source = GitSource(url=url or str(self.path), commit=commit, submodules=submodules)
        repository = self.folder / "cache" / repository_name(source.url)
        fetch_commit(source, repository=repository, env=self.env)
        return FetchedSource(source=source, path=repository, digest="")

    def lay_out(self, fetched: FetchedSource) -> set[str]:
        tree = self.folder / "tree"
        apply_patches(fetched, [], tree=tree, run_python=lambda *_: None, env=self.env)
        return {str(path.relative_to(tree)) for path in tree.rglob("*") if not path.is_dir()}


@pytest.fixture
def upstream(tmp_path: Path) -> Upstream:
    return Upstream(tmp_path)


@pytest.mark.parametrize("url", COMMANDS)
def test_url_that_is_an_option_or_a_command_is_refused(
    upstream: Upstream, tmp_path: Path, url: str, tally: Tally
) -> None:
    mark = tmp_path / "mark"
    tally.refuses(lambda: upstream.fetch("a" * 40, url=url.format(mark=mark)))
    assert not mark.exists()


@pytest.mark.parametrize("url", COMMANDS)
def test_submodule_whose_url_is_an_option_or_a_command_is_refused(
    upstream: Upstream, tmp_path: Path, url: str, tally: Tally
) -> None:
    mark = tmp_path / "mark"
    quoted = url.format(mark=mark).replace("\n", "\\n").replace("\t", "\\t")
    modules = upstream.blob(f'[submodule "s"]\n\tpath = sub\n\turl = "{quoted}"\n')
    commit = upstream.commit_tree(
        f"100644 blob {modules}\t.gitmodules", f"160000 commit {'a' * 40}\tsub"
    )
    tally.refuses(lambda: upstream.fetch(commit, "sub"))
    assert not mark.exists()


@pytest.mark.parametrize(
    "target", ["/etc/passwd", "../../secret", "link", "a/../../../secret", "a.txt/../../secret"]
)
def test_link_out_of_its_tree_or_in_a_circle_is_refused(
    upstream: Upstream, target: str, tally: Tally
) -> None:
    fetched = upstream.fetch(_linking(upstream, target))
    error = tally.refuses(lambda: upstream.lay_out(fetched), "link")
    assert isinstance(error, IntegrityError)


@pytest.mark.parametrize("target", ["a.txt", "nowhere"])
def test_link_within_its_tree_is_kept(upstream: Upstream, target: str, tally: Tally) -> None:
    fetched = upstream.fetch(_linking(upstream, target))
    assert tally.meets(lambda: upstream.lay_out(fetched)) == {"link", "a.txt"}


def _linking(upstream: Upstream, target: str) -> str:
    return upstream.commit_tree(
        f"120000 blob {upstream.blob(target)}\tlink", f"100644 blob {upstream.blob('a')}\ta.txt"
    )


@pytest.mark.parametrize("name", ["..", ".git", ".GIT", ".git ", "."])
def test_tree_with_a_name_that_git_forbids_is_refused(
    upstream: Upstream, tmp_path: Path, name: str, tally: Tally
) -> None:
    inner = upstream.git("mktree", text=f"100644 blob {upstream.blob('x')}\tescaped\n")
    commit = upstream.commit_tree(f"040000 tree {inner}\t{name}")
    tally.meets(lambda: upstream.lay_out(upstream.fetch(commit)))
    assert not [path for path in tmp_path.rglob("escaped") if "tree" not in path.parts]
    assert not (tmp_path / "tree" / ".git").exists()


@pytest.mark.parametrize(
    "name", ["--help", "-rf", "a\nb", "ünïcödé", "a b", "*", "\x1b[2J", "a" * 255]
)
def test_odd_name_is_a_name(upstream: Upstream, name: str, tally: Tally) -> None:
    commit = upstream.commit_tree(f"100644 blob {upstream.blob('x')}\t{name}")
    assert tally.meets(lambda: upstream.lay_out(upstream.fetch(commit))) == {name}


def test_attributes_and_hooks_of_a_repository_run_nothing(
    upstream: Upstream, tmp_path: Path, tally: Tally
) -> None:
    mark = tmp_path / "mark"
    attributes = upstream.blob("* filter=evil diff=evil merge=evil export-subst\n* text eol=crlf\n")
    config = upstream.blob(f'[filter "evil"]\n\tsmudge = touch {mark}\n\tclean = touch {mark}\n')
    hook = upstream.blob(f"#!/bin/sh\ntouch {mark}\n")
    hooks = upstream.git("mktree", text=f"100755 blob {hook}\tpost-checkout\n")
    commit = upstream.commit_tree(
        f"100644 blob {attributes}\t.gitattributes",
        f"100644 blob {config}\t.gitconfig",
        f"100644 blob {upstream.blob('$Format:%H$')}\ta.txt",
        f"040000 tree {hooks}\thooks",
    )
    for name in ("post-checkout", "post-merge", "pre-receive", "post-update", "upload-pack"):
        path = upstream.path / ".git" / "hooks" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"#!/bin/sh\ntouch {mark}\n", encoding="ascii")
        path.chmod(0o755)
    tally.meets(lambda: upstream.lay_out(upstream.fetch(commit)))
    assert (tmp_path / "tree" / "a.txt").read_text(encoding="ascii") == "$Format:%H$"
    assert not mark.exists()
