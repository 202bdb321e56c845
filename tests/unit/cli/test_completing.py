"""Words that a shell completes, asked as its script asks, and by the shells themselves."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from wheelyard.cli.completing import SCRIPTS, candidates

if TYPE_CHECKING:
    from collections.abc import Callable
    from subprocess import CompletedProcess

    Run = Callable[..., CompletedProcess[str]]


def _words(line: str, env: dict[str, str] | None = None) -> list[str]:
    *before, current = line.split(" ")
    return [word for word, _ in candidates(before, current, env or {})]


def test_a_command_is_completed_with_what_it_does() -> None:
    found = dict(candidates((), "ex", {}))
    assert found == {"explain": "Say how a job stands: its inputs, its record, what changed."}


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        pytest.param("build {farm} pro", ["probe"], id="recipe"),
        pytest.param("build {farm} probe --sandbox b", ["bubblewrap"], id="choice-of-an-option"),
        pytest.param("update tor", ["torch"], id="choice-of-an-argument"),
        pytest.param("build {farm} --torch 2.8", ["2.8.0+cu128"], id="torch-of-the-matrix"),
        pytest.param("build {farm} --python 3.13", ["3.13"], id="python-of-the-matrix"),
        pytest.param("lint --far", ["--farm"], id="option"),
        pytest.param("plan {farm} x --select", ["--select"], id="option-behind-words"),
        pytest.param("explain {farm} probe-1.1-cp311-torch2.8.0-cu128-x86",
                     ["probe-1.1-cp311-torch2.8.0-cu128-x86_64"], id="job"),
        pytest.param("check {farm} so", [], id="path"),
        pytest.param("build --farm ", [], id="path-of-an-option"),
        pytest.param("build {farm} probe ", [], id="nothing-more"),
        pytest.param("baked ", [], id="no-command"),
    ],
)  # fmt: skip
def test_a_word_becomes_what_may_stand_there(
    probe_farm: Path, line: str, expected: list[str]
) -> None:
    assert _words(line.format(farm=f"--farm {probe_farm}")) == expected


def test_parts_of_the_cache_are_completed(tmp_path: Path) -> None:
    (tmp_path / "compile").mkdir()
    (tmp_path / "a-file").touch()
    assert _words("clean comp", {"WHEELYARD_CACHE": str(tmp_path)}) == ["compile"]


def test_a_farm_that_cannot_be_read_completes_nothing(tmp_path: Path) -> None:
    assert _words(f"explain --farm {tmp_path} a") == []


def test_two_dashes_are_asked_for_with_all_options(wheelyard: Run) -> None:
    done = wheelyard("completion", "--current=:--", "bash", "--", "lint")
    assert done.returncode == 0
    assert "--farm\tfolder with recipes and matrix" in done.stdout.splitlines()


@pytest.fixture
def shell_env(tmp_path: Path) -> dict[str, str]:
    """Return an environment in which the shells find this very wheelyard."""
    folder = tmp_path / "bin"
    folder.mkdir()
    program = folder / "wheelyard"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m wheelyard "$@"\n', encoding="utf-8")
    program.chmod(0o755)
    for shell, text in SCRIPTS.items():
        (tmp_path / f"complete.{shell}").write_text(text.strip("\n") + "\n", encoding="utf-8")
    return {"HOME": str(tmp_path), "PATH": f"{folder}:{os.environ['PATH']}"}


def _shell(name: str, script: str, env: dict[str, str]) -> list[str]:
    if shutil.which(name) is None:
        pytest.skip(f"there is no {name} here")
    command = [name, "-c", script]
    cwd = env["HOME"]
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=env, cwd=cwd)
    return done.stdout.split("\n")


def test_bash_completes_a_command_and_an_option(shell_env: dict[str, str]) -> None:
    script = """
        source complete.bash
        COMP_WORDS=(wheelyard expl); COMP_CWORD=1; _wheelyard; echo "${COMPREPLY[@]}"
        COMP_WORDS=(wheelyard lint --far); COMP_CWORD=2; _wheelyard; echo "${COMPREPLY[@]}"
    """
    assert _shell("bash", script, shell_env)[:2] == ["explain", "--farm"]


def test_fish_completes_commands_with_help_and_leaves_paths_to_itself(
    shell_env: dict[str, str],
) -> None:
    Path(shell_env["HOME"], "some.whl").touch()
    script = 'source complete.fish; complete -C "wheelyard expl"; complete -C "wheelyard check so"'
    lines = _shell("fish", script, shell_env)
    assert lines[0].startswith("explain\tSay how a job stands")
    assert lines[1] == "some.whl"


def test_zsh_reads_its_script(shell_env: dict[str, str]) -> None:
    script = "autoload -Uz compinit; compinit -u -D; source complete.zsh; echo $_comps[wheelyard]"
    assert _shell("zsh", script, shell_env)[0] == "_wheelyard"
