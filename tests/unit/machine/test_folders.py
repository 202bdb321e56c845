from __future__ import annotations

from pathlib import Path

import platformdirs
import pytest

from wheelyard.machine.folders import cache_folder, config_folder, state_folder

FOLDERS = {"CACHE": cache_folder, "CONFIG": config_folder, "STATE": state_folder}
DEFAULTS = {"CACHE": ".cache", "CONFIG": ".config", "STATE": ".local/state"}


@pytest.mark.parametrize("kind", FOLDERS)
def test_own_variable_wins(kind: str) -> None:
    env = {f"WHEELYARD_{kind}": "/disk/wy", f"XDG_{kind}_HOME": "/xdg", "HOME": "/home/me"}
    assert FOLDERS[kind](env) == Path("/disk/wy")


@pytest.mark.parametrize("kind", FOLDERS)
def test_xdg_variable_comes_before_home(kind: str) -> None:
    env = {f"XDG_{kind}_HOME": "/xdg", "HOME": "/home/me"}
    assert FOLDERS[kind](env) == Path("/xdg/wheelyard")


@pytest.mark.parametrize("kind", FOLDERS)
def test_home_of_the_given_environment_is_used(kind: str) -> None:
    env = {"HOME": "/home/somebody-else"}
    assert FOLDERS[kind](env) == Path("/home/somebody-else", DEFAULTS[kind], "wheelyard")


def test_relative_xdg_variable_is_ignored() -> None:
    env = {"XDG_CACHE_HOME": "relative", "HOME": "/home/me"}
    assert cache_folder(env) == Path("/home/me/.cache/wheelyard")


def test_home_is_expanded_in_own_variable() -> None:
    env = {"WHEELYARD_CACHE": "~/big", "HOME": "/home/me"}
    assert cache_folder(env) == Path("/home/me/big")


def test_own_variable_becomes_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert cache_folder({"WHEELYARD_CACHE": "here"}) == tmp_path / "here"


def test_without_any_variable_platformdirs_tells() -> None:
    assert cache_folder({}) == platformdirs.user_cache_path("wheelyard", appauthor=False)
