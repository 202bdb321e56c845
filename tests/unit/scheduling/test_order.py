"""Which job starts when."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING

import pytest
from packaging.utils import canonicalize_name
from packaging.version import Version

from wheelyard.model.record import (
    BuildRecord,
    Built,
    RecordedBuild,
    RecordedCheck,
    RecordedToolkit,
)
from wheelyard.scheduling.order import USUAL_OVERHEAD, schedule

if TYPE_CHECKING:
    from collections.abc import Callable

    from wheelyard.model.job import Job


def _record(*, cpu_seconds: float, gpu_archs: int, name: str = "probe") -> BuildRecord:
    return BuildRecord(
        identifier=f"{name}-1.1-cp311-torch2.11.0-cu130-x86_64",
        index_label="torch2.11.0-cu130",
        filename=f"{name}.whl",
        sha256="1" * 64,
        size=1,
        name=canonicalize_name(name),
        version=Version("1.1+cu130.torch2.11.0"),
        revision=0,
        requires_python=None,
        core_metadata_sha256="2" * 64,
        python="3.11",
        torch="2.11.0+cu130",
        machine="x86_64",
        gpu_archs=("9.0",) * gpu_archs,
        plan_fingerprint="3" * 64,
        build_digest="4" * 64,
        fingerprint_inputs={},
        origin=Built(
            source="sha256:" + "5" * 64,
            tree_sha256="6" * 64,
            patches=(),
            compiler="gcc 12.2.0",
            toolkit=RecordedToolkit(provider="index", version="13.0"),
            build=RecordedBuild(seconds=1.0, cpu_seconds=cpu_seconds, compile_jobs=2),
        ),
        locks={},
        sandbox="unshare",
        torch_origin="locked",
        seconds={"build": 60.0, "smoke": 7.0, "toolchain": 3.0},
        check=RecordedCheck(passed=True),
        created=dt.datetime(2026, 11, 23, tzinfo=dt.UTC),
    )


def test_recipe_s_effort_tells_where_nothing_was_built_yet(
    make_probe_job: Callable[..., Job],
) -> None:
    jobs = [make_probe_job(python=python, gpu_archs="8.0;9.0") for python in ("3.12", "3.13")]
    (group,) = schedule(jobs)
    leader, follower = group
    assert (leader.job, leader.is_leader, leader.cpu_seconds) == (jobs[0], True, 60 + 2 * 240)
    assert (follower.job, follower.is_leader, follower.cpu_seconds) == (jobs[1], False, 60)
    assert leader.seconds(cores=10) == USUAL_OVERHEAD + 54
    assert group.cpu_seconds == 600


def test_longest_group_comes_first_whatever_the_plan_s_order(
    make_probe_job: Callable[..., Job],
) -> None:
    short = make_probe_job(gpu_archs="9.0")
    long = make_probe_job(gpu_archs="8.0;9.0;12.0+PTX")
    assert [group.group.leader for group in schedule([short, long])] == [long, short]


def test_what_the_matrix_calls_urgent_comes_before_what_is_long(
    make_probe_job: Callable[..., Job],
) -> None:
    short, long = make_probe_job(gpu_archs="9.0"), make_probe_job()
    found = schedule([short, long], priority=lambda name: 3 if name.endswith("-sm90") else 0)
    assert [group.group.leader for group in found] == [short, long]


def test_jobs_of_a_group_are_not_torn_apart(make_probe_job: Callable[..., Job]) -> None:
    jobs = [
        make_probe_job(python=python, torch=torch)
        for python in ("3.12", "3.13")
        for torch in ("2.11.0+cu130", "2.8.0+cu128")
    ]
    order = [item.job for group in schedule(jobs) for item in group]
    assert [job.group for job in order] == sorted(job.group for job in order)
    assert len(order) == 4


def test_record_of_the_version_is_scaled_by_the_gpu_targets(
    make_probe_job: Callable[..., Job],
) -> None:
    # one target took half of the 300 s that the recipe names
    records = [_record(cpu_seconds=150.0, gpu_archs=1), _record(cpu_seconds=1.0, gpu_archs=1)]
    (group,) = schedule([make_probe_job(gpu_archs="8.0;9.0")], records=records)
    assert group.leader_seconds == pytest.approx((60 + 480) / 2)
    assert group.follower_seconds == pytest.approx(30)
    assert group.overhead == 10


def test_record_of_another_recipe_tells_nothing(make_probe_job: Callable[..., Job]) -> None:
    records = [_record(cpu_seconds=1.0, gpu_archs=1, name="other")]
    (group,) = schedule([make_probe_job(gpu_archs="9.0")], records=records)
    assert group.leader_seconds == 300
