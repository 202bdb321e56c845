"""What `new` refuses before it fetches anything, and the farm that it makes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from subprocess import CompletedProcess

    Run = Callable[..., CompletedProcess[str]]


def test_outside_a_farm_a_folder_has_to_be_named(wheelyard: Run) -> None:
    done = wheelyard("new", "anything")
    assert done.returncode == 2
    assert "`wheelyard new ... --farm DIR`" in done.stderr


def test_locks_are_made_in_a_farm_of_one_s_own_only(wheelyard: Run) -> None:
    done = wheelyard("update")
    assert done.returncode == 2
    assert "only read" in done.stderr


def test_a_recipe_that_is_there_stays_as_it_is(wheelyard: Run, probe_farm: Path) -> None:
    before = (probe_farm / "recipes/probe.toml").read_bytes()
    done = wheelyard("new", "Probe", "--farm", probe_farm)
    assert done.returncode == 2
    assert "is there already" in done.stderr
    assert (probe_farm / "recipes/probe.toml").read_bytes() == before


@pytest.mark.parametrize(
    ("words", "message"),
    [
        pytest.param((), "a name, or a repository", id="nothing"),
        pytest.param(("other", "--ref", "v1"), "--git URL with --ref", id="reference-of-nothing"),
        pytest.param(("other", "--version", "one"), "is no version", id="no-version"),
    ],
)
def test_wrong_words_are_usage(
    wheelyard: Run, probe_farm: Path, words: tuple[str, ...], message: str
) -> None:
    done = wheelyard("new", *words, "--farm", probe_farm)
    assert done.returncode == 2
    assert message in done.stderr


def test_a_folder_that_is_not_there_becomes_a_farm(
    wheelyard: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WHEELYARD_OFFLINE", "1")
    done = wheelyard("new", "anything", "--farm", tmp_path / "a farm 轮子")
    assert done.returncode == 7
    assert (tmp_path / "a farm 轮子" / "matrix.toml").is_file()
    assert wheelyard("list", "--farm", tmp_path / "a farm 轮子").returncode == 0
