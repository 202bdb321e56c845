"""Which locks a torch build, a toolkit and a job ask for."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from wheelyard.model.cell import CudaVersion, TorchBuild
from wheelyard.planning.locks import job_locks, toolkit_lock, torch_lock

if TYPE_CHECKING:
    from collections.abc import Callable

    from wheelyard.model.job import Job


@pytest.mark.parametrize(
    ("torch", "header"),
    [
        pytest.param(
            "2.11.0+cu130", "torch==2.11.0; Python >= 3.10; aarch64, x86_64", id="default-on-both"
        ),
        pytest.param("2.6.0+cu124", "torch==2.6.0; Python >= 3.9; x86_64", id="default-on-one"),
        pytest.param("2.6.0+cu126", "torch==2.6.0+cu126; Python >= 3.9; x86_64", id="no-default"),
    ],
)
def test_torch_lock_is_for_the_pythons_and_machines_that_the_build_has_wheels_for(
    torch: str, header: str
) -> None:
    assert torch_lock(TorchBuild.parse(torch)).header == f"# wheelyard lock of: {header}"


def test_toolkit_lock_exists_where_the_index_has_a_whole_toolkit() -> None:
    request = toolkit_lock(CudaVersion(13, 0))
    assert request is not None
    assert request.requirements[0].startswith("cuda-toolkit[")
    assert toolkit_lock(CudaVersion(12, 4)) is None


@pytest.mark.parametrize(
    ("words", "paths"),
    [
        pytest.param(
            {},
            ["torch/2.11.0+cu130", "toolkit/13.0", "build/probe-1.1", "runtime/probe-1.1"],
            id="everything-from-the-index",
        ),
        pytest.param(
            {"torch": "2.8.0+cu128"},
            ["torch/2.8.0+cu128", "build/probe-1.1", "runtime/probe-1.1"],
            id="installed-toolkit",
        ),
        pytest.param(
            {"foreign_torch": True},
            ["toolkit/13.0", "build/probe-1.1", "runtime/probe-1.1"],
            id="foreign-torch",
        ),
    ],
)
def test_job_stands_on_locks(
    make_probe_job: Callable[..., Job], words: dict[str, object], paths: list[str]
) -> None:
    locks = [str(request.path) for request in job_locks(make_probe_job(**words))]
    assert locks == [f"locks/{path}.txt" for path in paths]
