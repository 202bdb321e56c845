"""The script that asks a setup.py, run for real on scripts that need no torch."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from wheelyard.drafting import ask_setup

if TYPE_CHECKING:
    from collections.abc import Mapping

SCRIPT = """\
from setuptools import Extension, setup
if __name__ == "__main__":
    setup(
        name="probe",
        version="1.0",
        ext_modules=[
            Extension("probe._C", ["a.c"], extra_compile_args=["-O3"], include_dirs=["include"])
        ],
        packages=["probe", "probe.inner", "probe_tools"],
        py_modules=["single"],
        install_requires=["numpy"],
        entry_points={"console_scripts": ["probe = probe:main"]},
        scripts=["bin/probe-now"],
    )
"""
PYPROJECT = """\
[project]
name = "probe"
version = "2.0"
dependencies = ["einops"]
scripts = { look = "probe:look" }
[tool.setuptools]
packages = ["probe"]
ext-modules = [{ name = "probe._D", sources = ["d.c"] }]
"""


def _ask(tree: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(Path(ask_setup.__file__)), str(tree / "answer.json")]
    return subprocess.run(command, cwd=tree, check=False, capture_output=True, text=True)


def _answer(tree: Path) -> Mapping[str, object]:
    done = _ask(tree)
    assert done.returncode == 0, done.stderr
    answer: dict[str, object] = json.loads((tree / "answer.json").read_text(encoding="utf-8"))
    return answer


def test_a_script_answers_what_it_would_build_and_builds_nothing(tmp_path: Path) -> None:
    (tmp_path / "setup.py").write_text(SCRIPT, encoding="utf-8")
    answer = _answer(tmp_path)
    assert answer["extensions"] == [
        {
            "arguments": ["-O3"],
            "include_dirs": ["include"],
            "name": "probe._C",
            "sources": ["a.c"],
        }
    ]
    assert answer["top_levels"] == ["probe", "probe_tools", "single"]
    assert answer["requires"] == ["numpy"]
    assert answer["entry_points"] == ["console_scripts:probe"]
    assert answer["scripts"] == ["probe-now"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["answer.json", "setup.py"]


NO_SUFFIX = """\
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
class Command(build_ext):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.no_python_abi_suffix = True
setup(name="probe", ext_modules=[Extension("probe._ops", ["a.c"])], cmdclass={"build_ext": Command})
"""
BROKEN = NO_SUFFIX.replace("self.no_python_abi_suffix = True", "raise RuntimeError('no GPU')")


@pytest.mark.parametrize(
    ("script", "expected"), [(SCRIPT, False), (NO_SUFFIX, True), (BROKEN, False)]
)
def test_a_script_whose_files_have_no_python_in_their_names_makes_libraries(
    tmp_path: Path, script: str, *, expected: bool
) -> None:
    (tmp_path / "setup.py").write_text(script, encoding="utf-8")
    assert _answer(tmp_path)["makes_libraries"] is expected


def test_a_project_without_a_script_is_asked_through_its_configuration(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text(PYPROJECT, encoding="utf-8")
    answer = _answer(tmp_path)
    assert [item["name"] for item in answer["extensions"]] == ["probe._D"]  # type: ignore[attr-defined]
    assert answer["version"] == "2.0"
    assert answer["entry_points"] == ["console_scripts:look"]


@pytest.mark.parametrize("text", ["raise RuntimeError('no GPU')\n", "import nothing_like_this\n"])
def test_a_script_that_stops_leaves_no_answer(tmp_path: Path, text: str) -> None:
    (tmp_path / "setup.py").write_text(text, encoding="utf-8")
    assert _ask(tmp_path).returncode != 0
    assert not (tmp_path / "answer.json").exists()
