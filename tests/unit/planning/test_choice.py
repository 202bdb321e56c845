"""The best cell for a machine, and what is said when there is none."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from wheelyard.errors import ImpossibleCellError, MachineError
from wheelyard.model.cell import CudaVersion, PythonVersion, TorchBuild
from wheelyard.model.decode import decode_table
from wheelyard.model.matrix import parse_matrix
from wheelyard.model.recipe_file import MatrixFile
from wheelyard.planning.choice import Choice, Offer, Wish, choose_cell

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from wheelyard.model.recipe import Recipe

MATRIX = """
[axes]
python = ["3.12"]
torch = ["2.11.0+cu130", "2.10.0+cu128", "2.6.0+cu124"]
"""
KNOWN = ("2.9.1+cu128", "2.9.1+cu126")


def _wish(*, python: str = "", torch: str = "", cuda: str = "") -> Wish:
    return Wish(
        python=PythonVersion.parse(python) if python else None,
        torch=torch or None,
        cuda=CudaVersion.parse(cuda) if cuda else None,
    )


def _choose(
    probe: Recipe,
    wish: Wish | None = None,
    *,
    version: str = "1.0",
    pythons: Sequence[str] = ("3.10", "3.12"),
    driver: str | None = None,
    toolkits: Collection[str] = ("13.0", "12.8", "12.6", "12.4"),
    unlocked: Collection[str] = (),
) -> Choice:
    return choose_cell(
        probe.version(version),
        parse_matrix(decode_table(MATRIX, MatrixFile, origin="m.toml"), origin="m.toml"),
        wish=wish or Wish(),
        offer=Offer(
            machine="x86_64",
            pythons=[PythonVersion.parse(text) for text in pythons],
            driver=driver,
            has_toolkit=lambda cuda: str(cuda) in toolkits,
            has_lock=lambda torch: str(torch) not in unlocked,
        ),
        known_torches=[TorchBuild.parse(text) for text in KNOWN],
    )


def test_without_wishes_it_is_the_first_torch_of_the_matrix_and_the_newest_python(
    probe: Recipe,
) -> None:
    choice = _choose(probe)
    assert choice.cell.identifier == "cp312-torch2.11.0-cu130-x86_64"
    assert choice.reasons == (
        "torch 2.11.0+cu130: first in matrix.toml that is locked, has a toolkit and fits",
        "Python 3.12: newest one here that this torch has wheels for",
    )


def test_python_that_is_too_new_for_the_torch_is_passed_over(probe: Recipe) -> None:
    choice = _choose(probe, pythons=("3.9", "3.11", "3.15"))
    assert choice.cell.python == PythonVersion(3, 11)


def test_python_3_9_is_not_newer_than_3_10(probe: Recipe) -> None:
    assert _choose(probe, pythons=("3.9", "3.10")).cell.python == PythonVersion(3, 10)


def test_free_threaded_python_is_never_the_default(probe: Recipe) -> None:
    assert _choose(probe, pythons=("3.12", "3.14t")).cell.python == PythonVersion(3, 12)


def test_free_threaded_python_is_taken_when_it_is_wished(probe: Recipe) -> None:
    choice = _choose(probe, _wish(python="3.14t"))
    assert choice.cell.identifier == "cp314t-torch2.11.0-cu130-x86_64"
    assert len(choice.reasons) == 1


@pytest.mark.parametrize(
    ("lacking", "expected"),
    [
        pytest.param({"unlocked": ["2.11.0+cu130"]}, "2.10.0+cu128", id="no-lock"),
        pytest.param({"toolkits": ["12.4"]}, "2.6.0+cu124", id="no-toolkit"),
        pytest.param({"driver": "570.86.10"}, "2.10.0+cu128", id="driver-too-old"),
        pytest.param({"driver": "580.159.04"}, "2.11.0+cu130", id="driver-new-enough"),
        pytest.param({"pythons": ["3.9"]}, "2.6.0+cu124", id="no-python-for-it"),
    ],
)
def test_next_torch_is_taken_where_the_first_cannot_be_served(
    probe: Recipe, lacking: dict[str, object], expected: str
) -> None:
    choice = _choose(probe, **lacking)  # type: ignore[arg-type]
    assert str(choice.cell.torch) == expected


@pytest.mark.parametrize(
    ("wish", "expected"),
    [
        pytest.param(_wish(torch="2.10.0"), "cp312-torch2.10.0-cu128-x86_64", id="torch"),
        pytest.param(_wish(torch="2.10"), "cp312-torch2.10.0-cu128-x86_64", id="short-torch"),
        pytest.param(_wish(cuda="12.4"), "cp312-torch2.6.0-cu124-x86_64", id="cuda"),
        pytest.param(_wish(python="3.11"), "cp311-torch2.11.0-cu130-x86_64", id="python-not-here"),
        pytest.param(
            _wish(torch="2.9.1"), "cp312-torch2.9.1-cu128-x86_64", id="torch-outside-of-the-matrix"
        ),
        pytest.param(
            _wish(torch="2.9.1", cuda="12.6"), "cp312-torch2.9.1-cu126-x86_64", id="its-other-build"
        ),
        pytest.param(
            _wish(python="3.10", torch="2.6.0", cuda="12.4"),
            "cp310-torch2.6.0-cu124-x86_64",
            id="everything",
        ),
    ],
)
def test_wishes_are_met(probe: Recipe, wish: Wish, expected: str) -> None:
    assert _choose(probe, wish).cell.identifier == expected


def test_torch_outside_of_the_matrix_is_never_the_default(probe: Recipe) -> None:
    with pytest.raises(ImpossibleCellError):
        _choose(probe, unlocked=["2.11.0+cu130", "2.10.0+cu128", "2.6.0+cu124"])


def test_reasons_are_given_only_for_what_was_chosen_here(probe: Recipe) -> None:
    assert not _choose(probe, _wish(python="3.12", torch="2.11.0", cuda="13.0")).reasons


@pytest.mark.parametrize(
    ("wish", "lacking", "expected"),
    [
        pytest.param(
            Wish(),
            {"unlocked": ["2.11.0+cu130"], "toolkits": ["13.0"], "version": "1.1"},
            (
                "No cell for probe-1.1 with what is here. torch 2.11.0+cu130 has no lock (run "
                "`wheelyard update torch 2.11.0+cu130`). CUDA 12.8 (torch 2.10.0+cu128) is not "
                "installed, not on the index whole, and its redistributable archives are not "
                "locked (`wheelyard update redist`). probe-1.1 needs torch >=2.7, the cell has "
                "2.6.0. probe-1.1 needs CUDA >=12.6, the cell has 12.4. `wheelyard matrix` shows "
                "the cells that are possible."
            ),
            id="every-torch-has-its-reason",
        ),
        pytest.param(
            _wish(torch="2.11.0"),
            {"driver": "550.54.15"},
            "with torch 2.11.0. Driver 550.54.15 is too old for CUDA 13.0: it needs 580",
            id="driver-too-old",
        ),
        pytest.param(
            _wish(python="3.9", torch="2.11.0"),
            {},
            "torch 2.11.0 has no wheels for Python 3.9 on x86_64 (it has 3.10, ",
            id="impossible-python",
        ),
        pytest.param(
            _wish(torch="2.11.0", cuda="12.4"),
            {},
            "torch 2.11.0 was never built for CUDA 12.4",
            id="impossible-cuda",
        ),
        pytest.param(
            _wish(cuda="11.8"), {}, "No torch build of the matrix matches.", id="nothing-matches"
        ),
    ],
)
def test_no_cell_says_why_for_each_candidate(
    probe: Recipe, wish: Wish, lacking: dict[str, object], expected: str
) -> None:
    with pytest.raises(ImpossibleCellError) as caught:
        _choose(probe, wish, **lacking)  # type: ignore[arg-type]
    assert expected in str(caught.value)


@pytest.mark.parametrize(
    ("wish", "nearest"),
    [
        pytest.param(
            _wish(python="3.9", torch="2.11.0", cuda="13.0"),
            "cp310-torch2.11.0-cu130-x86_64: --python 3.10 --torch 2.11.0 --cuda 13.0.",
            id="another-python",
        ),
        pytest.param(
            _wish(python="3.12", torch="2.11.0", cuda="12.4"),
            "cp312-torch2.6.0-cu124-x86_64: --python 3.12 --torch 2.6.0 --cuda 12.4.",
            id="another-torch",
        ),
    ],
)
def test_impossible_wish_gets_the_nearest_possible_cell(
    probe: Recipe, wish: Wish, nearest: str
) -> None:
    with pytest.raises(ImpossibleCellError) as caught:
        _choose(probe, wish)
    assert f"The nearest possible cell is {nearest}" in str(caught.value)


def test_cell_that_only_this_machine_cannot_serve_gets_no_other_one(probe: Recipe) -> None:
    with pytest.raises(ImpossibleCellError) as caught:
        _choose(probe, _wish(torch="2.11.0"), toolkits=[])
    assert "nearest" not in str(caught.value)


def test_machine_without_an_interpreter_is_told_so(probe: Recipe) -> None:
    with pytest.raises(MachineError, match="no CPython here to build for"):
        _choose(probe, pythons=["3.14t"])
