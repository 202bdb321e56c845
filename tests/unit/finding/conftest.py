"""A small farm of ours, and an index of small wheels beside which its wheels are resolved."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from wheelyard.farm import load_farm
from wheelyard.planning.locks import wanted_locks

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

RECIPE = """\
name = "{name}"
summary = "An extension"
homepage = "https://example.org/{name}"
license = "MIT"

[build]
requires = ["setuptools>=77"]
memory-per-job = 1.0
effort = {{ host = 30.0, device = 60.0 }}

[wheel]
extensions = ["{module}_cuda"]
top-levels = ["{module}_cuda"]
requires = []

[gpu-archs]
"12.0" = ["9.0"]
"""
VERSION = """
[[versions]]
version = "{version}"
requires = [{requires}]
{conditions}
[versions.sdist]
filename = "{name}-{version}.tar.gz"
sha256 = "{sha256}"
size = 1000
"""
MATRIX = """\
[axes]
python = ["3.11", "3.12"]
torch = ["2.11.0+cu130", "2.8.0+cu128"]
"""
TORCH_RUNTIME = {"2.11.0": "nvidia-cuda-runtime", "2.8.0": "nvidia-cuda-runtime-cu12"}


@pytest.fixture
def write_recipe(tmp_path: Path) -> Callable[..., None]:
    """Return a function that adds a recipe to the farm of this test: requires by version."""

    def write(name: str, versions: dict[str, list[str]], *, conditions: str = "") -> None:
        folder = tmp_path / "farm" / "recipes"
        text = RECIPE.format(name=name, module=name.replace("-", "_"))
        for number, (version, requires) in enumerate(versions.items(), start=1):
            text += VERSION.format(
                name=name,
                version=version,
                requires=", ".join(f'"{item}"' for item in requires),
                conditions=conditions,
                sha256=f"{number}" * 64,
            )
        (folder / name).mkdir(parents=True, exist_ok=True)
        (folder / name / "smoke.py").write_text("", encoding="utf-8")
        (folder / f"{name}.toml").write_text(text, encoding="utf-8")

    return write


@pytest.fixture
def finish_farm(tmp_path: Path) -> Callable[[], Path]:
    """Return a function that gives the farm its matrix and locks that pin nothing."""

    def finish() -> Path:
        folder = tmp_path / "farm"
        (folder / "matrix.toml").write_text(MATRIX, encoding="utf-8")
        for request in wanted_locks(load_farm(folder)):
            path = folder / request.path
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"{request.header}\n", encoding="utf-8")
        return folder

    return finish


@pytest.fixture
def publish(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make_wheel: Callable[..., Path]
) -> Callable[..., None]:
    """Return a function that puts a wheel where pip and uv look; torch is there already."""
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "wheels"))
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "uv-cache"))

    def write(name: str, version: str, *requires: str, extras: tuple[str, ...] = (),
              tag: str = "py3-none-any") -> None:  # fmt: skip
        lines = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}"]
        lines += [f"Provides-Extra: {extra}" for extra in extras]
        lines += [f"Requires-Dist: {requirement}" for requirement in requires]
        text = "\n".join([*lines, "", ""])
        make_wheel(name=name, version=version, tag=tag, texts={"METADATA": text})

    for version, runtime in TORCH_RUNTIME.items():
        write("torch", version, runtime)
        write(runtime, "13.0.96" if version == "2.11.0" else "12.8.90")
    return write


@pytest.fixture
def run_as_user() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Return a function that runs the command line with the index settings of this user."""

    def run(*words: str | Path) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "wheelyard", *map(str, words)]
        return subprocess.run(command, check=False, capture_output=True, text=True, timeout=900)

    return run
