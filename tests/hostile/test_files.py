"""Recipes and matrices that nobody would write: a value, or what is wrong in which file."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from unit.conftest import MATRIX, RECIPE

from wheelyard.errors import InputFileError, WheelyardError
from wheelyard.model.decode import decode_table
from wheelyard.model.matrix import parse_matrix
from wheelyard.model.recipe import parse_recipe
from wheelyard.model.recipe_file import MatrixFile, RecipeFile

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from hostile.conftest import Tally

NINES = "9" * 5000
EXAMPLES = settings(
    max_examples=150,
    deadline=None,
    database=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
LITERALS = st.one_of(
    st.sampled_from(
        [
            *("inf", "nan", "-1", "0", "1e999", "true", "[]", "{}", "[[1]]", '""', NINES),
            *("1979-05-27T07:32:00Z", "07:32:00", '"../../etc"', '"/etc/passwd"', '"\\u0000"'),
            *(
                f'">=3.{NINES}"',
                f'"{NINES}"',
                '">=2.x"',
                '"*"',
                '"--option"',
                '"a b"',
                '"\\u001b[2J"',
            ),
            *('"' + "(" * 5000 + '"', "[" * 500 + "]" * 500, "{a=" * 500 + "1" + "}" * 500),
        ]
    ),
    st.integers().map(str),
    st.floats().map(str),
    st.text(max_size=40).map(lambda text: '"' + text.encode("unicode_escape").decode() + '"'),
)
PIECES = st.one_of(
    st.text(max_size=80),
    st.sampled_from(
        [
            "[" * 3000,
            "x = " + "[" * 3000,
            ".".join("a" * 2000) + " = 1",
            "\x00",
            "[[versions]]",
            "=",
        ]
    ),
)


def _recipe(text: str) -> object:
    return parse_recipe(decode_table(text, RecipeFile, origin="a.toml"), origin="a.toml")


def _matrix(text: str) -> object:
    matrix = parse_matrix(decode_table(text, MatrixFile, origin="a.toml"), origin="a.toml")
    return [cell.identifier for cell in matrix.cells()]


def _with_value(text: str, number: int, literal: str) -> str:
    """Put another value behind one of the keys."""
    lines = text.splitlines()
    at = [index for index, line in enumerate(lines) if " = " in line]
    chosen = at[number % len(at)]
    lines[chosen] = f"{lines[chosen].partition(' = ')[0]} = {literal}"
    return "\n".join(lines)


@pytest.mark.parametrize(("read", "text"), [(_recipe, RECIPE), (_matrix, MATRIX)])
def test_any_value_behind_any_key_is_taken_or_named_with_its_file(
    read: Callable[[str], object], text: str, tally: Tally
) -> None:
    @EXAMPLES
    @given(number=st.integers(0, 40), literal=LITERALS)
    def holds(number: int, literal: str) -> None:
        result = tally.meets(lambda: read(_with_value(text, number, literal)))
        if isinstance(result, WheelyardError):
            assert isinstance(result, InputFileError)
            assert "a.toml" in str(result)

    holds()


@pytest.mark.parametrize(("read", "text"), [(_recipe, RECIPE), (_matrix, MATRIX)])
def test_any_text_in_any_place_is_taken_or_named_with_its_file(
    read: Callable[[str], object], text: str, tally: Tally
) -> None:
    @EXAMPLES
    @given(at=st.integers(0, len(text)), piece=PIECES)
    def holds(at: int, piece: str) -> None:
        result = tally.meets(lambda: read(text[:at] + piece + text[at:]))
        if isinstance(result, WheelyardError):
            assert isinstance(result, InputFileError)
            assert "a.toml" in str(result)

    holds()


@pytest.mark.parametrize(
    ("old", "new"),
    [
        pytest.param('"../source"', '"../../../../etc"', id="source-outside-the-farm"),
        pytest.param('"../source"', '"/etc"', id="source-elsewhere"),
        pytest.param('"0001-first.patch"', '"../../../etc/passwd"', id="patch-outside"),
        pytest.param('"0001-first.patch"', '"0009-none.patch"', id="patch-that-is-not-there"),
        pytest.param('name = "probe"', 'name = "../probe"', id="name-outside"),
        pytest.param('name = "probe"', 'name = "other"', id="name-of-another"),
        pytest.param("1.0.tar.gz", "1.0/../../../x.tar.gz", id="file-outside"),
        pytest.param('version = "1.0"', f'version = "1.{NINES}"', id="version-of-5000-digits"),
    ],
)
def test_recipe_that_leads_out_of_its_farm_leads_nowhere(
    wheelyard: Callable[..., object],
    probe_farm: Path,
    old: str,
    new: str,
    tally: Tally,
) -> None:
    recipe = probe_farm / "recipes" / "probe.toml"
    recipe.write_text(RECIPE.replace(old, new), encoding="utf-8")

    def fetch() -> None:
        version = "1.0" if "tar.gz" in old else "1.1"
        done = wheelyard("fetch", "probe", "--version", version, "--farm", probe_farm)
        assert done.returncode in {3, 4, 7, 16}, done.stderr  # type: ignore[attr-defined]
        assert done.stderr.startswith("wheelyard: ")  # type: ignore[attr-defined]

    tally.meets(fetch)
