"""What a source tree says of its project."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from wheelyard.drafting.project import read_project, torch_bound, without_extras
from wheelyard.errors import InputFileError

if TYPE_CHECKING:
    from pathlib import Path

METADATA = """\
Metadata-Version: 2.1
Name: Probe_Scale
Version: 1.0
Summary: Scales
Home-page: UNKNOWN
Project-URL: Repository, https://example.org/repository
License: UNKNOWN
Classifier: License :: OSI Approved :: MIT License
Requires-Python: >=3.8
Requires-Dist: torch>=2.7
Requires-Dist: numpy
Requires-Dist: pytest; extra == "test"
"""
PYPROJECT = """\
[build-system]
requires = ["setuptools<81", "torch"]
[project]
name = "other"
description = "Described elsewhere"
dependencies = ["einops"]
[project.urls]
Homepage = "https://example.org/home"
"""
SCRIPT = "from setuptools import setup\nsetup(name='third', url='https://example.org/third')\n"


def _write(tree: Path, **files: str) -> Path:
    for name, text in files.items():
        (tree / name.replace("__", ".").replace("_", "-")).write_text(text, encoding="utf-8")
    return tree


def test_metadata_goes_before_pyproject_and_that_before_the_script(tmp_path: Path) -> None:
    (tmp_path / "PKG-INFO").write_text(METADATA, encoding="utf-8")
    _write(tmp_path, pyproject__toml=PYPROJECT, setup__py=SCRIPT)
    found = read_project(tmp_path)
    assert (found.name.value, found.name.origin) == ("Probe_Scale", "PKG-INFO")
    assert found.summary.value == "Scales"
    assert found.requires == ("torch>=2.7", "numpy")
    assert found.requires_python.value == ">=3.8"
    assert found.build_requires == ("setuptools<81", "torch")
    assert (found.licence.expression, found.licence.origin) == ("MIT", "classifier")


def test_a_homepage_is_found_among_the_urls_and_unknown_is_nothing(tmp_path: Path) -> None:
    (tmp_path / "PKG-INFO").write_text(METADATA, encoding="utf-8")
    assert read_project(tmp_path).homepage.value == "https://example.org/repository"
    _write(tmp_path, pyproject__toml=PYPROJECT)
    assert read_project(tmp_path).homepage.value == "https://example.org/home"


def test_a_repository_without_metadata_is_read_by_pyproject_and_script(tmp_path: Path) -> None:
    found = read_project(_write(tmp_path, setup__py=SCRIPT))
    assert (found.name.value, found.name.origin) == ("third", "setup.py")
    assert found.homepage.value == "https://example.org/third"
    found = read_project(_write(tmp_path, pyproject__toml=PYPROJECT))
    assert (found.name.value, found.requires) == ("other", ("einops",))


def test_submodules_are_named(tmp_path: Path) -> None:
    text = '[submodule "a"]\n\tpath = third_party/a\n\turl = https://example.org/a\n'
    (tmp_path / ".gitmodules").write_text(text, encoding="utf-8")
    assert read_project(tmp_path).submodules == ("third_party/a",)


def test_the_first_licence_file_is_read(tmp_path: Path) -> None:
    (tmp_path / "LICENSE.txt").write_text("Apache License\nVersion 2.0", encoding="utf-8")
    assert read_project(tmp_path).licence.expression == "Apache-2.0"


@pytest.mark.parametrize(
    ("name", "text"), [("setup.py", "def (:\n"), ("pyproject.toml", "[build-system\n")]
)
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text, encoding="utf-8")
    with pytest.raises(InputFileError, match=name):
        read_project(tmp_path)


def test_requirements_of_extras_and_unreadable_ones_are_left_out() -> None:
    texts = ("numpy", 'pytest; extra == "test"', "not a requirement", 'a; python_version < "3.8"')
    assert without_extras(texts) == ("numpy", 'a; python_version < "3.8"')


def test_the_bound_of_torch_is_the_first_that_is_said() -> None:
    assert torch_bound(("numpy", "torch>=2.7,<2.8", "torch")) == "<2.8,>=2.7"
    assert not torch_bound(("torchvision>=1",))
