"""What a build's compiles say of themselves at the budget."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from wheelyard.toolchain.admission import Admission, sharing

if TYPE_CHECKING:
    from collections.abc import Callable

    from wheelyard.model.job import Job


def test_build_that_has_the_machine_alone_asks_nobody(make_probe_job: Callable[..., Job]) -> None:
    assert Admission.of(make_probe_job(), {}) is None
    assert Admission.of(make_probe_job(), {"WHEELYARD_BUDGET": ""}) is None


def test_compiles_name_job_group_and_memory(make_probe_job: Callable[..., Job]) -> None:
    job = make_probe_job()
    admission = Admission.of(job, {"WHEELYARD_BUDGET": "/run/budget"})
    assert admission is not None
    assert admission.socket == Path("/run/budget")
    variables = admission.variables(job, inside=Path("/wy/budget"))
    assert variables["WHEELYARD_BUDGET"] == "/wy/budget"
    about = json.loads(variables["WHEELYARD_UNIT"])
    assert "\n" not in variables["WHEELYARD_UNIT"]
    assert (about["job"], about["group"]) == (job.identifier, job.group)
    assert about["memory"] == {"device": 2 * 2**30, "host": 3 * 2**29}


def test_host_units_never_claim_more_than_device_units(make_probe_job: Callable[..., Job]) -> None:
    admission = Admission(socket=Path("s"), memory=2**29)
    variables = admission.variables(make_probe_job(), inside=Path("s"))
    assert json.loads(variables["WHEELYARD_UNIT"])["memory"] == {"device": 2**29, "host": 2**29}


@pytest.mark.parametrize(
    ("changes", "shared"),
    [
        pytest.param({"python": "3.13"}, True, id="python"),
        pytest.param({"torch": "2.12.1+cu130"}, True, id="torch"),
        pytest.param({"torch": "2.8.0+cu128"}, False, id="cuda"),
        pytest.param({"gpu_archs": "12.0"}, False, id="gpu-targets"),
        pytest.param({"lineinfo": True}, False, id="lineinfo"),
        pytest.param({"machine": "aarch64"}, False, id="machine"),
    ],
)
def test_device_code_is_shared_by_pythons_and_torch_builds_of_one_cuda(
    make_probe_job: Callable[..., Job],
    changes: dict[str, str],
    shared: bool,  # noqa: FBT001
) -> None:
    assert (sharing(make_probe_job(**changes)) == sharing(make_probe_job())) is shared
