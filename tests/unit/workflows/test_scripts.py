"""Scripts of workflows that push, run against bare repositories on this machine."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

if TYPE_CHECKING:
    from collections.abc import Callable

FOLDER = Path(__file__).parents[3] / ".github" / "workflows"
REPOSITORY = "someone/wheels"


def _script(workflow: str, job: str, name: str) -> str:
    document: dict[Any, Any] = yaml.safe_load((FOLDER / workflow).read_text(encoding="utf-8"))
    (script,) = [step["run"] for step in document["jobs"][job]["steps"] if step.get("name") == name]
    return str(script)


@pytest.fixture
def git(tmp_path: Path) -> Callable[..., str]:
    """Return git, with an identity and nobody's configuration."""
    env = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "GIT_CONFIG_NOSYSTEM": "1"}

    def run(*words: str, cwd: Path = tmp_path) -> str:
        who = ["-c", "user.name=A", "-c", "user.email=a@b"]
        done = subprocess.run(
            ["git", *who, *words], cwd=cwd, env=env, check=True, capture_output=True, text=True
        )
        return done.stdout.strip()

    return run


@pytest.fixture
def server(tmp_path: Path, git: Callable[..., str]) -> Path:
    """Return a folder that serves the repository as the server of the workflows would."""
    path = tmp_path / "server" / REPOSITORY
    git("init", "-q", "--bare", str(path))
    return path


def _run(script: str, cwd: Path, **env: str) -> subprocess.CompletedProcess[str]:
    given = {"PATH": os.environ["PATH"], "HOME": str(cwd), "GIT_CONFIG_NOSYSTEM": "1"}
    return subprocess.run(
        ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", script],
        cwd=cwd,
        env={**given, "GH_REPO": REPOSITORY, "GH_TOKEN": "secret", **env},
        check=False,
        capture_output=True,
        text=True,
    )


def _program(path: Path, body: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)


def test_index_is_pushed_to_its_branch_again_and_again(
    tmp_path: Path, server: Path, git: Callable[..., str]
) -> None:
    script = _script("farm.yml", "publish", "Publish")
    for number in ("1", "2"):
        workspace = tmp_path / f"workspace{number}"
        # what publishes has its own tests: this one notes what it is told
        body = f'[ "$1" = publish ] || exit 9\necho "$@" > "$2/page{number}"'
        _program(workspace / ".venv" / "bin" / "wheelyard", body)
        words = {"SERVER": str(tmp_path / "server"), "TARGET": "", "GITHUB_RUN_ID": number}
        done = _run(script, workspace, **words)
        assert done.returncode == 0, done.stderr
    assert git("ls-tree", "--name-only", "pages", cwd=server).splitlines() == [
        ".nojekyll",
        "page1",
        "page2",
    ]
    told = git("show", "pages:page2", cwd=server)
    assert told == f"publish pages --wheels github:{REPOSITORY} --yard yard"
    assert git("log", "--format=%s", "pages", cwd=server).splitlines() == ["Publish 2", "Publish 1"]
    assert "secret" not in git("log", "-p", "pages", cwd=server)


def test_other_targets_need_no_branch(tmp_path: Path, server: Path) -> None:
    _program(tmp_path / ".venv" / "bin" / "wheelyard", 'echo "$@"')
    script = _script("farm.yml", "publish", "Publish")
    done = _run(script, tmp_path, SERVER=str(tmp_path / "server"), TARGET="s3://bucket/x")
    assert done.stdout == f"publish s3://bucket/x --wheels github:{REPOSITORY} --yard yard\n"
    assert not (tmp_path / "pages").exists()


@pytest.mark.parametrize("is_open", [False, True])
def test_what_is_new_is_pushed_and_proposed_once(
    tmp_path: Path, server: Path, git: Callable[..., str], *, is_open: bool
) -> None:
    checkout = tmp_path / "checkout"
    git("clone", "-q", str(server), str(checkout))
    (checkout / "matrix.toml").write_text("old\n")
    git("add", "--all", cwd=checkout)
    git("commit", "-qm", "first", cwd=checkout)
    (checkout / "matrix.toml").write_text("new\n")
    patch = git("diff", "--binary", cwd=checkout)
    git("checkout", "-q", "--", ".", cwd=checkout)
    (checkout / "change").mkdir()
    (checkout / "change" / "change.patch").write_text(f"{patch}\n")
    (checkout / "change" / "found.txt").write_text("new: something\n")
    state = "echo OPEN" if is_open else "echo no pull request >&2; exit 1"
    _program(
        tmp_path / "bin" / "gh",
        f'echo "$@" >> {tmp_path}/gh.txt\n[ "$2" = create ] || {{ {state}; }}',
    )
    name = "Open a pull request, or bring the open one up to date"
    done = _run(
        _script("update.yml", "propose", name),
        checkout,
        SERVER=str(tmp_path / "server"),
        PATH=f"{tmp_path}/bin:{os.environ['PATH']}",
    )
    assert done.returncode == 0, done.stderr
    assert git("show", "update:matrix.toml", cwd=server) == "new"
    asked = (tmp_path / "gh.txt").read_text().splitlines()
    assert [line.split()[1] for line in asked] == ["view"] + ([] if is_open else ["create"])
