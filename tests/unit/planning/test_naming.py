"""The identifier of a job leads back to the job."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from wheelyard.errors import ImpossibleCellError, UnknownNameError
from wheelyard.planning.naming import job_named

if TYPE_CHECKING:
    from collections.abc import Callable

    from wheelyard.farm import Farm
    from wheelyard.model.job import Job
    from wheelyard.model.recipe import Recipe


@pytest.mark.parametrize(
    "words",
    [
        pytest.param({}, id="plain"),
        pytest.param({"python": "3.14t"}, id="free-threaded"),
        pytest.param({"gpu_archs": "8.0;9.0a;12.0+PTX"}, id="gpu-targets"),
        pytest.param({"lineinfo": True, "gpu_archs": "9.0"}, id="lineinfo"),
        pytest.param({"version": "1.0", "machine": "aarch64"}, id="version"),
        pytest.param({"foreign_torch": True}, id="env"),
    ],
)
def test_every_job_is_found_by_its_identifier(
    probe: Recipe, make_probe_job: Callable[..., Job], words: dict[str, object]
) -> None:
    job = make_probe_job(**words)
    assert job_named(job.identifier, [probe]) == job


def test_name_with_digits_and_hyphens_is_no_trouble(real_farm: Farm) -> None:
    name = "causal-conv1d-1.7.0-cp312-torch2.11.0-cu130-x86_64"
    assert job_named(name, real_farm.recipes).identifier == name


@pytest.mark.parametrize(
    ("identifier", "expected"),
    [
        pytest.param("probe", "'probe' is not the identifier of a job", id="no-cell"),
        pytest.param(
            "prove-1.1-cp312-torch2.11.0-cu130-x86_64",
            "no recipe version 'prove-1.1'. Did you mean 'probe-1.1'",
            id="recipe",
        ),
        pytest.param(
            "probe-1.1-cp312-torch2.11.0-cu130-x86_64-sm99x",
            "No job is named",
            id="trait",
        ),
    ],
)
def test_other_words_are_refused(probe: Recipe, identifier: str, expected: str) -> None:
    with pytest.raises(UnknownNameError) as caught:
        job_named(identifier, [probe])
    assert expected in str(caught.value)


def test_impossible_cell_is_refused_with_its_reason(probe: Recipe) -> None:
    with pytest.raises(ImpossibleCellError, match=r"has no wheels for Python 3\.9"):
        job_named("probe-1.0-cp39-torch2.11.0-cu130-x86_64", [probe])
