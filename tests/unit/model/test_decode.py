"""What people write wrong in recipe and matrix files, and what they are told."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from wheelyard.errors import InputFileError
from wheelyard.model.decode import decode_table
from wheelyard.model.recipe_file import MatrixFile, RecipeFile, Table

if TYPE_CHECKING:
    from pathlib import Path


def _refusal(text: str, table: type[Table] = RecipeFile) -> str:
    with pytest.raises(InputFileError) as caught:
        decode_table(text, table, origin="recipes/probe.toml")
    return str(caught.value)


@pytest.mark.parametrize(
    ("right", "wrong", "hint", "path"),
    [
        pytest.param("summary", "sommary", "'summary'", "$", id="top"),
        pytest.param("top-levels", "top_levels", "'top-levels'", "$.wheel", id="table"),
        pytest.param("host = 60.0", "hots = 60.0", "'host'", "$.build.effort", id="inline-table"),
        pytest.param("sha256", "sha", "'sha256'", "$.versions[0].sdist", id="optional-table"),
        pytest.param("torch = ", "troch = ", "'torch'", "$.patches[1]", id="list-of-tables"),
    ],
)
def test_unknown_key_is_named_with_its_place_and_the_nearest_valid_key(
    recipe_text: str, right: str, wrong: str, hint: str, path: str
) -> None:
    key = wrong.partition(" ")[0]
    message = _refusal(recipe_text.replace(right, wrong, 1))
    assert message == (
        f"Unknown key {key!r}. Did you mean {hint}? - at `{path}` in recipes/probe.toml"
    )


def test_unknown_key_that_resembles_nothing_gets_all_valid_keys(recipe_text: str) -> None:
    message = _refusal(recipe_text.replace("[build]", "[build]\nxyzzy = 1"))
    expected = (
        "Known: requires, environment, memory-per-job, platform, effort, probe. - at `$.build`"
    )
    assert expected in message


@pytest.mark.parametrize(
    ("right", "wrong", "expected"),
    [
        pytest.param(
            'summary = "Looks around"',
            "summary = 5",
            "Expected `str`, got `int`, given 5 - at `$.summary`",
            id="text",
        ),
        pytest.param(
            "size = 1000",
            'size = "big"',
            "Expected `int`, got `str`, given 'big' - at `$.versions[0].sdist.size`",
            id="number",
        ),
        pytest.param(
            "size = 1000",
            "size = 0",
            "Expected `int` >= 1, given 0 - at `$.versions[0].sdist.size`",
            id="range",
        ),
        pytest.param(
            'requires = ["setuptools>=77"]',
            'requires = "setuptools"',
            "Expected `array`, got `str`, given 'setuptools' - at `$.build.requires`",
            id="list",
        ),
        pytest.param(
            'DEPTH = "1"',
            "DEPTH = 1",
            "Expected `str`, got `int`, given 1 - at `$.build.environment.'DEPTH'`",
            id="value-of-a-free-key",
        ),
        pytest.param(
            '["9.0", "8.0", "12.0"]',
            '["9.0", 8.0, "12.0"]',
            "Expected `str`, got `float`, given 8.0 - at `$.gpu-archs.'12.8'[1]`",
            id="list-of-a-free-key",
        ),
        pytest.param(
            '"0001-first.patch"',
            '"first.diff"',
            r"|common/[a-z0-9-]+\\.py)$', given 'first.diff' - at `$.patches[0].file`",
            id="pattern",
        ),
    ],
)
def test_wrong_value_is_told_with_key_path_and_value(
    recipe_text: str, right: str, wrong: str, expected: str
) -> None:
    message = _refusal(recipe_text.replace(right, wrong, 1))
    assert expected in message
    assert "recipes/probe.toml" in message


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        pytest.param('name = "probe"\n', "field `name` - at `$` in recipes/", id="top"),
        pytest.param("size = 1000\n", "field `size` - at `$.versions[0].sdist` in", id="nested"),
    ],
)
def test_missing_key_is_named_with_its_place(recipe_text: str, line: str, expected: str) -> None:
    assert expected in _refusal(recipe_text.replace(line, "", 1))


def test_what_is_not_toml_is_told_with_line_and_column() -> None:
    assert _refusal("name = \n").startswith("recipes/probe.toml is not TOML: ")
    assert "line 1, column" in _refusal("name = \n")


def test_matrix_is_decoded_as_strictly(matrix_text: str) -> None:
    message = _refusal(matrix_text.replace("machine", "machines"), MatrixFile)
    assert re.search(r"'machines'. Did you mean 'machine'\? - at `\$\.axes`", message)


def test_every_recipe_and_the_matrix_of_the_repository_decode(repository: Path) -> None:
    for farm in (repository, repository / "tests" / "packages"):
        recipes = sorted((farm / "recipes").glob("*.toml"))
        assert recipes
        for path in recipes:
            file = decode_table(path.read_text(encoding="utf-8"), RecipeFile, origin=str(path))
            assert file.name == path.stem
        matrix = farm / "matrix.toml"
        text = matrix.read_text(encoding="utf-8")
        assert decode_table(text, MatrixFile, origin=str(matrix)).axes.torch
