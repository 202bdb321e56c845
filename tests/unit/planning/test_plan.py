"""Jobs of a matrix: wanted, impossible, left out; their order, their state."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from wheelyard.errors import ImpossibleCellError, UnknownNameError, UsageError
from wheelyard.model.cell import Cell, PythonVersion, TorchBuild, parse_gpu_archs
from wheelyard.model.decode import decode_table
from wheelyard.model.matrix import Matrix, parse_matrix
from wheelyard.model.recipe_file import MatrixFile
from wheelyard.planning.plan import (
    expand_matrix,
    make_job,
    nearest_hint,
    reasons_against,
    select_jobs,
    wanted_jobs,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from wheelyard.farm import Farm
    from wheelyard.model.job import Job
    from wheelyard.model.recipe import Recipe

STORED = Path(__file__).with_name("wanted.txt")


def _cell(python: str, torch: str) -> Cell:
    return Cell(PythonVersion.parse(python), TorchBuild.parse(torch), "x86_64")


def _matrix(text: str) -> Matrix:
    return parse_matrix(decode_table(text, MatrixFile, origin="m.toml"), origin="m.toml")


def test_possible_cell_becomes_a_job_with_the_recipe_s_gpu_targets(probe: Recipe) -> None:
    job = make_job(probe.version("1.1"), _cell("3.12", "2.11.0+cu130"))
    assert job.identifier == "probe-1.1-cp312-torch2.11.0-cu130-x86_64"
    assert [str(arch) for arch in job.gpu_archs] == ["8.0", "9.0", "12.0"]


@pytest.mark.parametrize("foreign_torch", [False, True])
def test_gpu_targets_without_code_are_refused_before_anything_compiles(
    parse_text: Callable[[str], Recipe], recipe_text: str, *, foreign_torch: bool
) -> None:
    text = recipe_text.replace('torch = ">=2.7"', 'torch = ">=2.7"\ngpu-archs = ">=8.0"')
    with pytest.raises(ImpossibleCellError, match=r"GPU targets >=8.0, not for 7.5\."):
        make_job(
            parse_text(text).version("1.1"),
            _cell("3.12", "2.11.0+cu130"),
            gpu_archs=parse_gpu_archs("7.5;9.0"),
            foreign_torch=foreign_torch,
        )


def test_gpu_targets_that_are_asked_for_replace_the_recipe_s(probe: Recipe) -> None:
    job = make_job(
        probe.version("1.1"), _cell("3.12", "2.11.0+cu130"), gpu_archs=parse_gpu_archs("9.0")
    )
    assert job.identifier.endswith("-sm90")


@pytest.mark.parametrize(
    ("cell", "gpu_archs", "expected"),
    [
        pytest.param(
            _cell("3.9", "2.11.0+cu130"),
            "9.0",
            (
                "probe-1.0 for cp39-torch2.11.0-cu130-x86_64 is impossible: torch 2.11.0 has no "
                "wheels for Python 3.9 on x86_64 (it has 3.10, 3.11, 3.12, 3.13, 3.13t, 3.14, "
                "3.14t). The nearest possible cell is cp310-torch2.11.0-cu130-x86_64: "
                "--python 3.10 --torch 2.11.0 --cuda 13.0."
            ),
            id="python",
        ),
        pytest.param(
            _cell("3.12", "2.6.0+cu124"),
            "12.0",
            (
                "probe-1.0 for cp312-torch2.6.0-cu124-x86_64 is impossible: CUDA 12.4 cannot "
                "compile for 12.0 (it ends at 9.0a). torch 2.6.0 does not know GPU target 12.0."
            ),
            id="gpu-target",
        ),
    ],
)
def test_impossible_cell_gets_its_reason_and_the_nearest_possible_cell(
    probe: Recipe, cell: Cell, gpu_archs: str, expected: str
) -> None:
    with pytest.raises(ImpossibleCellError) as caught:
        make_job(probe.version("1.0"), cell, gpu_archs=parse_gpu_archs(gpu_archs))
    assert str(caught.value) == expected


def test_cell_that_only_the_recipe_refuses_has_the_recipe_s_reason(probe: Recipe) -> None:
    reasons = reasons_against(probe.version("1.1"), _cell("3.12", "2.6.0+cu124"))
    assert reasons == (
        "probe-1.1 needs torch >=2.7, the cell has 2.6.0.",
        "probe-1.1 needs CUDA >=12.6, the cell has 12.4.",
    )


def test_foreign_torch_may_be_one_that_nobody_ever_published(probe: Recipe) -> None:
    cell = _cell("3.12", "2.99.0+cu131")
    job = make_job(probe.version("1.1"), cell, foreign_torch=True)
    assert job.identifier == "probe-1.1-cp312-torch2.99.0-cu131-x86_64-env"


def test_possible_cell_has_no_hint() -> None:
    assert not nearest_hint(_cell("3.12", "2.11.0+cu130"))


def test_every_combination_is_either_wanted_or_has_its_reason(
    probe: Recipe, matrix_text: str
) -> None:
    text = matrix_text.replace('"3.13"', '"3.13", "3.9"')
    text += '[[exclude]]\nselect = "probe-1.0-*"\nreason = "old"\n'
    jobs, unwanted = expand_matrix([probe], _matrix(text))
    assert len(jobs) + len(unwanted) == 2 * 4 * 2 * 2
    assert {str(job.version.version) for job in jobs} == {"1.1"}
    found = {
        item.cell.identifier: (item.impossible, item.reason)
        for item in unwanted
        if str(item.version.version) == "1.0"
    }
    assert found["cp312-torch2.11.0-cu130-x86_64"] == (False, "old")
    impossible, reason = found["cp39-torch2.11.0-cu130-x86_64"]
    assert impossible
    assert "has no wheels for Python 3.9" in reason
    impossible, reason = found["cp312-torch2.8.0-cu128-aarch64"]
    assert impossible
    assert "has no CUDA wheels" in reason


def test_jobs_come_by_priority_and_otherwise_in_the_order_of_the_matrix(
    probe: Recipe, matrix_text: str
) -> None:
    text = f'{matrix_text}\n[[priorities]]\nselect = "*-torch2.8.0-*"\nvalue = 3\n'
    jobs, _ = expand_matrix([probe], _matrix(text))
    order = [(str(job.cell.torch.version), job.cell.machine) for job in jobs]
    assert list(dict.fromkeys(order)) == [
        ("2.8.0", "x86_64"),
        ("2.11.0", "x86_64"),
        ("2.11.0", "aarch64"),
    ]


def test_version_without_gpu_targets_for_a_cuda_is_impossible_there(
    parse_text: Callable[[str], Recipe], recipe_text: str
) -> None:
    text = recipe_text.replace('"12.0" = ["8.0", "9.0"]\n', "")
    matrix = _matrix('[axes]\npython = ["3.12"]\ntorch = ["2.6.0+cu124"]\n')
    jobs, unwanted = expand_matrix([parse_text(text)], matrix)
    assert not jobs
    assert "has GPU targets from CUDA 12.8 on, not for CUDA 12.4" in unwanted[-1].reason


def _without_device_code(recipe_text: str) -> str:
    return recipe_text.replace('"12.0" = ["8.0", "9.0"]\n"12.8" = ["9.0", "8.0", "12.0"]\n', "")


def test_version_without_device_code_is_wanted_without_gpu_targets(
    parse_text: Callable[[str], Recipe], recipe_text: str
) -> None:
    recipe = parse_text(_without_device_code(recipe_text))
    matrix = _matrix('[axes]\npython = ["3.12"]\ntorch = ["2.11.0+cu130"]\n')
    jobs, unwanted = expand_matrix([recipe], matrix)
    cell = "cp312-torch2.11.0-cu130-x86_64"
    assert [job.identifier for job in jobs] == [f"probe-1.1-{cell}", f"probe-1.0-{cell}"]
    assert all(item.reason for item in unwanted)


def test_gpu_targets_for_no_device_code_are_refused(
    parse_text: Callable[[str], Recipe], recipe_text: str
) -> None:
    version = parse_text(_without_device_code(recipe_text)).version("1.1")
    with pytest.raises(UsageError, match=r"probe-1\.1 has no device code"):
        make_job(version, _cell("3.12", "2.11.0+cu130"), gpu_archs=parse_gpu_archs("9.0"))


def test_what_the_farm_wants_is_what_is_stored(
    real_farm: Farm, assert_stored: Callable[[Path, str], None]
) -> None:
    """Keep a change of matrix, recipes or facts from adding or dropping jobs unseen."""
    jobs, _ = expand_matrix(real_farm.recipes, real_farm.matrix)
    assert_stored(STORED, "".join(f"{job.identifier}\n" for job in jobs))


def test_wanted_jobs_are_those_of_the_expanded_matrix_in_its_order(real_farm: Farm) -> None:
    jobs, _ = expand_matrix(real_farm.recipes, real_farm.matrix)
    assert wanted_jobs(real_farm.recipes, real_farm.matrix) == jobs


def test_no_two_jobs_of_the_farm_have_one_identifier(real_farm: Farm) -> None:
    jobs, unwanted = expand_matrix(real_farm.recipes, real_farm.matrix)
    assert max(Counter(job.identifier for job in jobs).values()) == 1
    assert all(item.reason for item in unwanted)


def test_selector_keeps_the_order_of_the_jobs(make_probe_job: Callable[..., Job]) -> None:
    jobs = [make_probe_job(python=python) for python in ("3.13", "3.12", "3.11")]
    selected = select_jobs(jobs, "*-cp31[23]-*")
    assert [job.cell.python.minor for job in selected] == [13, 12]


def test_selector_that_matches_nothing_is_an_error(make_probe_job: Callable[..., Job]) -> None:
    expected = r"No job matches 'causal-\*'.*shows the 1 there are"
    with pytest.raises(UnknownNameError, match=expected):
        select_jobs([make_probe_job()], "causal-*")
