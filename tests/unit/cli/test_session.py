"""Which farm and which yard a command means."""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path

import pytest

import wheelyard
from wheelyard.cli.session import open_farm, open_workshop, yard_folder
from wheelyard.errors import InputFileError, UsageError
from wheelyard.farm import Farm, load_farm
from wheelyard.machine.namespaces import SandboxLevel


def _arguments(**given: object) -> argparse.Namespace:
    return argparse.Namespace(**{"command": "plan", "farm": None, "yard": None, **given})


def test_farm_that_is_named_comes_before_the_one_around(
    probe_farm: Path, repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(repository)
    assert open_farm(_arguments(farm=probe_farm)).folder == probe_farm
    assert open_farm(_arguments()).folder == repository


def test_folder_that_is_no_farm_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputFileError, match="is not a farm"):
        open_farm(_arguments(farm=tmp_path))


def test_yard_lies_in_the_farm_unless_another_is_named(probe_farm: Path, tmp_path: Path) -> None:
    farm = load_farm(probe_farm)
    assert yard_folder(_arguments(), farm, {}) == probe_farm / "yard"
    assert yard_folder(_arguments(yard=tmp_path / "y"), farm, {}) == tmp_path / "y"


def test_yard_that_is_named_may_be_relative(
    probe_farm: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert yard_folder(_arguments(yard=Path("y")), load_farm(probe_farm), {}) == tmp_path / "y"


def test_yard_of_the_farm_that_we_ship_is_the_user_s(tmp_path: Path, real_farm: Farm) -> None:
    shipped = Path(wheelyard.__file__).parent / "farm"
    farm = dataclasses.replace(real_farm, folder=shipped)
    env = {"WHEELYARD_STATE": str(tmp_path)}
    assert yard_folder(_arguments(), farm, env) == tmp_path / "yard"


def test_options_of_the_command_line_reach_the_workshop(
    probe_farm: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    arguments = _arguments(
        jobs=3,
        toolkit="installed",
        sandbox="none",
        env=Path("bin/python"),
        compile_cache="none",
    )
    env = {"WHEELYARD_CACHE": str(tmp_path / "cache"), "HOME": str(tmp_path)}
    options = open_workshop(arguments, load_farm(probe_farm), env).options
    assert options.compile_jobs == 3
    assert options.toolkit == "installed"
    assert options.sandbox is SandboxLevel.NONE
    assert options.foreign_python == tmp_path / "bin" / "python"
    assert options.compile_cache == "none"


@pytest.mark.parametrize(
    ("there", "found"), [(True, "bin/python9"), (False, "python9")], ids=["on-path", "nowhere"]
)
def test_interpreter_that_is_a_bare_name_is_looked_for_on_path(
    probe_farm: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, there: bool, found: str
) -> None:
    monkeypatch.chdir(tmp_path)
    if there:
        (tmp_path / "bin").mkdir()
        (tmp_path / "bin" / "python9").touch(mode=0o755)
    env = {"WHEELYARD_CACHE": "/nowhere", "HOME": "/nowhere", "PATH": str(tmp_path / "bin")}
    arguments = _arguments(env=Path("python9"))
    options = open_workshop(arguments, load_farm(probe_farm), env).options
    assert options.foreign_python == tmp_path / found


def test_command_without_options_gets_the_defaults(probe_farm: Path, tmp_path: Path) -> None:
    env = {"WHEELYARD_CACHE": str(tmp_path / "cache"), "HOME": str(tmp_path)}
    options = open_workshop(_arguments(), load_farm(probe_farm), env).options
    assert options.compile_jobs is None
    assert options.toolkit == "auto"
    assert options.sandbox is None
    assert options.compile_cache == "sccache"


@pytest.mark.parametrize("jobs", [0, -1])
def test_number_of_jobs_is_at_least_one(probe_farm: Path, jobs: int) -> None:
    with pytest.raises(UsageError, match=f"--jobs {jobs} compiles nothing"):
        open_workshop(_arguments(jobs=jobs), load_farm(probe_farm), {})
