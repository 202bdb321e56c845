"""The transformation that lets torch choose the C++ standard, on texts of the right shape."""

from __future__ import annotations

import ast
import os
from pathlib import Path

import pytest
from patching import apply

PATCH = Path(__file__).parents[3] / "patches" / "common" / "cxx-standard-of-torch.py"

TEXT = """\
arguments = {
    "cxx": ["-O3", "-std=c++17"],
    "nvcc": more(
        [
            "-O3",  # fast
            "-std=c++17",
            "-lineinfo",
        ]
        + ["-std=gnu++20"]
    ),
}
"""


def _outcome(tree: Path, text: str) -> tuple[str, str]:
    path = tree / "setup.py"
    path.write_text(text, encoding="utf-8")
    return apply(PATCH, tree), path.read_text(encoding="utf-8")


def test_standard_goes_and_everything_else_stays(tmp_path: Path) -> None:
    outcome, text = _outcome(tmp_path, TEXT)
    assert outcome == ""
    assert text == TEXT.replace('"-std=c++17"', "", 1).replace('"-std=c++17",', "", 1).replace(
        '"-std=gnu++20"', "", 1
    )
    names: dict[str, object] = {"more": lambda options: options}
    exec(compile(text, "setup.py", "exec"), names)  # noqa: S102
    assert names["arguments"] == {"cxx": ["-O3"], "nvcc": ["-O3", "-lineinfo"]}


def test_words_before_it_on_its_line_may_have_more_than_one_byte(tmp_path: Path) -> None:
    outcome, text = _outcome(tmp_path, 'flags = ["µ", "-std=c++17", "-O2"]\n')
    assert (outcome, text) == ("", 'flags = ["µ", "-O2"]\n')


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        pytest.param("flags = ['-O3']", 'looked for "-std=..." in a list, found none', id="none"),
        pytest.param("a = ['-std=c++17']\nb = '-std=c++17'", "also at line 2", id="elsewhere"),
        pytest.param("flags = ['-O3 -std=c++17']", "also at line 1", id="among-others"),
        pytest.param("a = f('-std=c++17')", "also at line 1", id="argument"),
        pytest.param("a = [", "looked for Python", id="no-python"),
    ],
)
def test_file_of_another_shape_is_refused_and_stays(tmp_path: Path, text: str, reason: str) -> None:
    outcome, after = _outcome(tmp_path, text)
    assert reason in outcome
    assert after == text
    assert [path.name for path in tmp_path.iterdir()] == ["setup.py"]


def test_tree_without_setup_py_is_refused(tmp_path: Path) -> None:
    outcome = apply(PATCH, tmp_path)
    assert outcome == f"{tmp_path / 'setup.py'}: looked for this file: {os.strerror(2)}"


@pytest.mark.parametrize("arguments", [[], ["one", "two"]])
def test_another_number_of_arguments_gets_the_usage(arguments: list[str]) -> None:
    assert apply(PATCH, *arguments).startswith("usage: ")


def test_the_patch_reads_as_python_3_9() -> None:
    ast.parse(PATCH.read_text(encoding="utf-8"), feature_version=(3, 9))
