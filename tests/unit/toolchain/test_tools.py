"""The folder of wrappers that every build sees."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from wheelyard.errors import MachineError
from wheelyard.machine.compilers import find_gxx
from wheelyard.toolchain.tools import find_tool, provide_tools

if TYPE_CHECKING:
    from pathlib import Path


def _program(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("#!/bin/sh\n", encoding="ascii")
    path.chmod(0o755)
    return path


def test_tool_beside_the_running_python_comes_before_one_on_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "prefix", str(tmp_path / "environment"))
    env = {"PATH": str(tmp_path / "bin")}
    on_path = _program(tmp_path / "bin" / "sccache")
    assert find_tool("sccache", env) == on_path
    beside = _program(tmp_path / "environment" / "bin" / "sccache")
    assert find_tool("sccache", env) == beside


def test_missing_tool_is_named_with_what_to_do() -> None:
    with pytest.raises(MachineError, match=r"no 'nonesuch' beside .* `pip install nonesuch`"):
        find_tool("nonesuch", {"PATH": ""})


def test_tools_have_the_names_that_builds_call_and_can_be_run(tmp_path: Path) -> None:
    folder = provide_tools(
        find_gxx(os.environ), cache=tmp_path, env=os.environ, compile_cache="sccache"
    )
    names = {path.name for path in folder.iterdir()}
    assert names == {"c++", "cc", "drive-build", "g++", "gcc", "nvcc", "budget", "cache", "probe"}
    assert all(os.access(path, os.X_OK) for path in folder.iterdir())


def test_compile_cache_is_not_where_torch_would_look_for_it(tmp_path: Path) -> None:
    folder = provide_tools(
        find_gxx(os.environ), cache=tmp_path, env=os.environ, compile_cache="sccache"
    )
    assert not (folder / "sccache").exists()
    assert os.access(folder / "cache" / "sccache", os.X_OK)


def test_program_that_asks_the_budget_is_compiled_and_not_on_the_path(tmp_path: Path) -> None:
    folder = provide_tools(
        find_gxx(os.environ), cache=tmp_path, env=os.environ, compile_cache="sccache"
    )
    asked = subprocess.run(
        [folder / "budget" / "admit", "host", "true"],
        env={"WHEELYARD_BUDGET": "/nowhere"},
        check=False,
        capture_output=True,
        text=True,
    )
    assert asked.returncode == 75
    assert asked.stderr.startswith("wheelyard: the budget at /nowhere does not answer")
    assert os.access(folder / "budget" / "fresh", os.X_OK)


def test_another_compiler_makes_another_folder(tmp_path: Path) -> None:
    compiler = find_gxx(os.environ)
    other = dataclasses.replace(compiler, version=(1, 2, 3))
    first = provide_tools(compiler, cache=tmp_path, env=os.environ, compile_cache="sccache")
    assert provide_tools(other, cache=tmp_path, env=os.environ, compile_cache="sccache") != first


def test_tools_are_laid_out_once(tmp_path: Path) -> None:
    folder = provide_tools(
        find_gxx(os.environ), cache=tmp_path, env=os.environ, compile_cache="sccache"
    )
    (folder / "mark").touch()
    assert (
        provide_tools(find_gxx(os.environ), cache=tmp_path, env=os.environ, compile_cache="sccache")
        == folder
    )
    assert (folder / "mark").exists()


def test_another_cache_program_makes_another_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = provide_tools(
        find_gxx(os.environ), cache=tmp_path, env=os.environ, compile_cache="sccache"
    )
    monkeypatch.setattr(sys, "prefix", str(tmp_path / "environment"))
    _program(tmp_path / "environment" / "bin" / "sccache")
    after = provide_tools(
        find_gxx(os.environ), cache=tmp_path, env=os.environ, compile_cache="sccache"
    )
    assert before != after
