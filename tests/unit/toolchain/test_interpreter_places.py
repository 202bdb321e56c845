from __future__ import annotations

from pathlib import Path

import pytest

from wheelyard.toolchain.interpreter_places import list_interpreters

NOWHERE = Path("/nowhere/python3")


def make_program(path: Path, content: bytes = b"\x7fELF") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    path.chmod(0o755)
    return path


def look(tmp_path: Path, **env: str) -> list[str]:
    env = {"HOME": str(tmp_path / "home"), "PATH": str(tmp_path / "bin"), **env}
    found = list_interpreters(env, running=NOWHERE, root=tmp_path)
    return [str(path.relative_to(tmp_path)) for path in found]


@pytest.mark.parametrize(
    "place",
    [
        "bin/python3.12",
        "bin/python3.14t",
        "home/.local/share/uv/python/cpython-3.12.4-linux-x86_64-gnu/bin/python3",
        "home/.local/share/uv/python/cpython-3.14.0+freethreaded-linux-x86_64-gnu/bin/python3",
        "home/.pyenv/versions/3.12.1/bin/python3.12",
        "home/.local/share/mise/installs/python/3.12.1/bin/python3.12",
        "home/.asdf/installs/python/3.12.1/bin/python3.12",
        "home/miniforge3/bin/python3.12",
        "home/miniforge3/envs/dev/bin/python3.12",
        "home/.local/share/mamba/envs/dev/bin/python3.12",
        "opt/conda/envs/dev/bin/python3.12",
        "opt/python/cp312-cp312/bin/python3.12",
        "usr/local/bin/python3.12",
        "usr/bin/python3.12",
    ],
)
def test_places_that_need_no_variable(tmp_path: Path, place: str) -> None:
    make_program(tmp_path / place)
    assert look(tmp_path) == [place]


@pytest.mark.parametrize(
    ("variable", "value", "place"),
    [
        ("UV_PYTHON_INSTALL_DIR", "uv", "uv/cpython-3.12.4-linux/bin/python3"),
        ("XDG_DATA_HOME", "data", "data/uv/python/cpython-3.12.4-linux/bin/python3"),
        ("PYENV_ROOT", "pyenv", "pyenv/versions/3.12.1/bin/python3.12"),
        ("MISE_DATA_DIR", "mise", "mise/installs/python/3.12/bin/python3"),
        ("CONDA_PREFIX", "active", "active/bin/python3.12"),
        ("CONDA_EXE", "conda/bin/conda", "conda/envs/dev/bin/python3.12"),
        ("CONDA_ENVS_PATH", "envs", "envs/dev/bin/python3.12"),
        ("MAMBA_ROOT_PREFIX", "mamba", "mamba/envs/dev/bin/python3.12"),
        ("WHEELYARD_PYTHONS", "mine/python3.12", "mine/python3.12"),
        ("WHEELYARD_PYTHONS", "mine", "mine/python3.12"),
        ("WHEELYARD_PYTHONS", "mine", "mine/bin/python3.12"),
        ("WHEELYARD_PYTHONS", "mine", "mine/3.12.1/bin/python3.12"),
    ],
)
def test_places_that_variables_name(tmp_path: Path, variable: str, value: str, place: str) -> None:
    make_program(tmp_path / place)
    assert look(tmp_path) == []
    assert look(tmp_path, **{variable: str(tmp_path / value)}) == [place]


def test_environments_that_conda_has_registered(tmp_path: Path) -> None:
    make_program(tmp_path / "far/away/bin/python3.12")
    registry = tmp_path / "home/.conda/environments.txt"
    registry.parent.mkdir(parents=True)
    registry.write_text(f"{tmp_path}/far/away\n{tmp_path}/gone\n")
    assert look(tmp_path) == ["far/away/bin/python3.12"]


def test_several_names_of_one_interpreter_are_one(tmp_path: Path) -> None:
    real = make_program(tmp_path / "bin/python3.12")
    for name in ("python", "python3"):
        (tmp_path / "bin" / name).symlink_to(real)
    assert look(tmp_path) == ["bin/python3.12"]


def test_shims_are_passed_over(tmp_path: Path) -> None:
    make_program(tmp_path / "bin/python3.12", b"#!/bin/sh\nexec pyenv exec python3.12\n")
    assert look(tmp_path) == []


def test_script_that_is_named_is_taken(tmp_path: Path) -> None:
    script = make_program(tmp_path / "module/python3.12", b"#!/bin/sh\n")
    assert look(tmp_path, WHEELYARD_PYTHONS=str(script)) == ["module/python3.12"]


@pytest.mark.parametrize("name", ["python3.12-config", "python-argcomplete", "pythonw", "pip3.12"])
def test_other_programs_are_not_interpreters(tmp_path: Path, name: str) -> None:
    make_program(tmp_path / "bin" / name)
    assert look(tmp_path) == []


def test_relative_entries_of_path_are_ignored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_program(tmp_path / "here/python3.12")
    monkeypatch.chdir(tmp_path)
    assert look(tmp_path, PATH="here:") == []


def test_named_comes_before_path_and_path_before_managers_and_conda_last(tmp_path: Path) -> None:
    make_program(tmp_path / "home/.pyenv/versions/3.9.2/bin/python3.9")
    make_program(tmp_path / "home/.pyenv/versions/3.10.1/bin/python3.10")
    make_program(tmp_path / "active/bin/python3.12")
    (tmp_path / "active/conda-meta").mkdir()
    make_program(tmp_path / "bin/python3.11")
    make_program(tmp_path / "mine/python3.13")
    path = f"{tmp_path}/active/bin:{tmp_path}/bin"
    assert look(tmp_path, PATH=path, WHEELYARD_PYTHONS=str(tmp_path / "mine")) == [
        "mine/python3.13",
        "bin/python3.11",
        "home/.pyenv/versions/3.10.1/bin/python3.10",
        "home/.pyenv/versions/3.9.2/bin/python3.9",
        "active/bin/python3.12",
    ]


def test_running_interpreter_comes_before_path(tmp_path: Path) -> None:
    make_program(tmp_path / "bin/python3.12")
    running = make_program(tmp_path / "own/python3.12")
    found = list_interpreters({"PATH": str(tmp_path / "bin")}, running=running, root=tmp_path)
    assert found == (running, tmp_path / "bin/python3.12")
