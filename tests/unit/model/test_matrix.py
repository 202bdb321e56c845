"""The matrix: its axes in order, what it leaves out, what comes first."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import pytest

from wheelyard.errors import InputFileError, UsageError
from wheelyard.model.decode import decode_table
from wheelyard.model.matrix import Matrix, parse_machine, parse_matrix
from wheelyard.model.platform import PlatformFloor
from wheelyard.model.recipe_file import MatrixFile

if TYPE_CHECKING:
    from wheelyard.model.recipe import Recipe

MORE = """
[[exclude]]
select = "*-cp313-*"
reason = "too new"

[[exclude]]
select = "*"
reason = "all of them"

[[priorities]]
select = "*-aarch64*"
value = -1

[[priorities]]
select = "probe-*"
value = 5

[toolchain]
gcc = 12
"""


def _parse(text: str) -> Matrix:
    return parse_matrix(decode_table(text, MatrixFile, origin="m.toml"), origin="m.toml")


def test_cells_come_torch_by_torch_in_the_order_of_the_file(matrix_text: str) -> None:
    cells = [cell.identifier for cell in _parse(matrix_text).cells()]
    assert len(cells) == len(set(cells)) == 2 * 2 * 3
    assert cells[0] == "cp311-torch2.11.0-cu130-x86_64"
    assert cells[1] == "cp312-torch2.11.0-cu130-x86_64"
    assert cells[3] == "cp311-torch2.11.0-cu130-aarch64"
    assert cells[6] == "cp311-torch2.8.0-cu128-x86_64"


@pytest.mark.parametrize(
    ("right", "wrong", "expected"),
    [
        pytest.param('"3.12"', '"3.12.1"', r"'3\.12\.1' .*\$\.axes\.python\[1\]", id="python"),
        pytest.param('"2.8.0+cu128"', '"2.8.0"', r"'2\.8\.0' .*\$\.axes\.torch\[1\]", id="torch"),
        pytest.param('"aarch64"', '"arm64"', r"'arm64' .*\$\.axes\.machine\[1\]", id="machine"),
    ],
)
def test_refusal_names_file_place_and_value(
    matrix_text: str, right: str, wrong: str, expected: str
) -> None:
    with pytest.raises(InputFileError, match=f"{expected}` in m\\.toml$"):
        _parse(matrix_text.replace(right, wrong))


def test_first_exclusion_that_matches_gives_the_reason(matrix_text: str) -> None:
    matrix = _parse(matrix_text + MORE)
    assert matrix.reason_excluded("probe-1.0-cp313-torch2.11.0-cu130-x86_64") == "too new"
    assert matrix.reason_excluded("probe-1.0-cp312-torch2.11.0-cu130-x86_64") == "all of them"


def test_without_exclusions_everything_is_wanted(matrix_text: str) -> None:
    matrix = _parse(matrix_text)
    assert matrix.reason_excluded("probe-1.0-cp313-torch2.11.0-cu130-x86_64") is None


def test_priorities_that_match_add_up(matrix_text: str) -> None:
    matrix = _parse(matrix_text + MORE)
    assert matrix.priority("probe-1.0-cp312-torch2.11.0-cu130-aarch64") == 4
    assert matrix.priority("probe-1.0-cp312-torch2.11.0-cu130-x86_64") == 5
    assert matrix.priority("other-1.0-cp312-torch2.11.0-cu130-x86_64") == 0


def test_exclusion_tells_free_threaded_pythons_from_their_siblings(matrix_text: str) -> None:
    text = f'{matrix_text}\n[[exclude]]\nselect = "*-cp313t-*"\nreason = "given up"\n'
    matrix = _parse(text)
    assert matrix.reason_excluded("probe-1.0-cp313t-torch2.11.0-cu130-x86_64") == "given up"
    assert matrix.reason_excluded("probe-1.0-cp313-torch2.11.0-cu130-x86_64") is None


def test_farm_may_insist_on_a_compiler(matrix_text: str) -> None:
    assert _parse(matrix_text).gcc_major is None
    assert _parse(matrix_text + MORE).gcc_major == 12


def test_wheels_load_on_what_torch_loads_on_unless_the_farm_says_otherwise(
    matrix_text: str, probe: Recipe
) -> None:
    version = probe.version(None)
    assert str(_parse(matrix_text).floor_of(version)) == "manylinux_2_28"
    other = _parse(f'{matrix_text}\n[toolchain]\nplatform = "manylinux_2_34"\n')
    assert str(other.floor_of(version)) == "manylinux_2_34"


def test_recipe_may_be_for_newer_systems_than_the_farm(matrix_text: str, probe: Recipe) -> None:
    version = probe.version(None)
    build = dataclasses.replace(version.build, floor=PlatformFloor.parse("manylinux_2_35"))
    floor = _parse(matrix_text).floor_of(dataclasses.replace(version, build=build))
    assert str(floor) == "manylinux_2_35"


def test_machine_that_is_nearly_right_gets_the_right_name() -> None:
    assert parse_machine("aarch64") == "aarch64"
    with pytest.raises(UsageError, match=r"'x86-64' is not a machine\. Did you mean 'x86_64'\?"):
        parse_machine("x86-64")
