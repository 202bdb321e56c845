"""Folders of locked requirements: one for each lock and Python, made once."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import pytest

from wheelyard.errors import FetchError
from wheelyard.model.cell import PythonVersion
from wheelyard.toolchain.requirements import provide_requirements

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from wheelyard.toolchain.interpreters import Interpreter


@pytest.fixture
def provide(
    tmp_path: Path, interpreter: Interpreter, uv_env: dict[str, str]
) -> Callable[..., Path]:
    def run(text: str, *, copy: bool = False, python: Interpreter = interpreter) -> Path:
        return provide_requirements(
            text, interpreter=python, cache=tmp_path / "cache", env=uv_env, copy=copy
        )

    return run


def test_folder_is_made_once_and_kept(
    provide: Callable[..., Path], lock_wheel: Callable[..., str]
) -> None:
    text = lock_wheel("alpha")
    folder = provide(text)
    (folder / "mark").touch()
    assert provide(text) == folder
    assert (folder / "mark").exists()
    assert (folder / "alpha" / "__init__.py").is_file()


def test_modules_are_compiled_so_that_no_build_wants_to_write_them(
    provide: Callable[..., Path], lock_wheel: Callable[..., str]
) -> None:
    assert list(provide(lock_wheel("alpha")).glob("alpha/__pycache__/*.pyc"))


def test_another_lock_and_another_python_have_folders_of_their_own(
    provide: Callable[..., Path], interpreter: Interpreter
) -> None:
    threaded = dataclasses.replace(interpreter, version=PythonVersion(3, 14, free_threaded=True))
    folders = [provide(""), provide("\n"), provide("", copy=True), provide("", python=threaded)]
    assert len(set(folders)) == 4


def test_no_entries_make_an_empty_folder(provide: Callable[..., Path]) -> None:
    assert not list(provide("").iterdir())


def test_copies_share_nothing_with_the_cache_of_uv(
    provide: Callable[..., Path], lock_wheel: Callable[..., str]
) -> None:
    module = provide(lock_wheel("alpha"), copy=True) / "alpha" / "__init__.py"
    assert module.stat().st_nlink == 1


def test_failed_installation_leaves_no_folder(
    provide: Callable[..., Path], lock_wheel: Callable[..., str], tmp_path: Path
) -> None:
    with pytest.raises(FetchError):
        provide(lock_wheel("alpha", sha256="0" * 64))
    folder = tmp_path / "cache" / "requirements"
    assert not [path for path in folder.iterdir() if path.suffix != ".lock"]
