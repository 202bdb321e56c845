"""How many compiles run at once, what a build will take, and when a hint is due."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import pytest

from wheelyard.planning.estimate import choose_compile_jobs, gpu_archs_hint, make_estimate

if TYPE_CHECKING:
    from collections.abc import Callable

    from wheelyard.model.job import Job

GIB = 2**30


@pytest.mark.parametrize(
    ("cores", "memory", "wanted", "expected"),
    [
        pytest.param(8, 64, None, 8, id="cores-are-the-bound"),
        pytest.param(8, 7, None, 3, id="memory-is-the-bound"),
        pytest.param(8, 1, None, 1, id="never-none"),
        pytest.param(8, 64, 2, 2, id="user-wants-fewer"),
        pytest.param(2, 64, 4, 4, id="user-wants-more-than-cores"),
        pytest.param(8, 7, 8, 3, id="user-wants-more-than-memory"),
    ],
)
def test_compile_jobs_fit_into_cores_and_memory(
    make_probe_job: Callable[..., Job], cores: int, memory: int, wanted: int | None, expected: int
) -> None:
    jobs = choose_compile_jobs(
        make_probe_job(), cores=cores, available_memory=memory * GIB, wanted=wanted
    )
    assert jobs == expected


def test_time_grows_with_gpu_targets_and_shrinks_with_jobs(
    make_probe_job: Callable[..., Job],
) -> None:
    # 60 s for the host and 240 s for each of three targets
    assert make_estimate(make_probe_job(), compile_jobs=1).seconds == 60 + 3 * 240
    assert make_estimate(make_probe_job(), compile_jobs=4).seconds == (60 + 3 * 240) / 4
    one = make_estimate(make_probe_job(gpu_archs="9.0"), compile_jobs=1)
    assert one.seconds == 60 + 240


def test_memory_grows_with_jobs(make_probe_job: Callable[..., Job]) -> None:
    assert make_estimate(make_probe_job(), compile_jobs=3).memory == 3 * 2 * GIB


def test_long_build_for_several_targets_gets_a_hint(make_probe_job: Callable[..., Job]) -> None:
    job = make_probe_job(gpu_archs="8.0;9.0;10.0;12.0")
    hint = gpu_archs_hint(job, make_estimate(job, compile_jobs=1))
    assert "4 GPU targets (8.0 9.0 10.0 12.0)" in hint
    assert "--gpu-archs" in hint


def test_short_build_and_build_for_one_target_get_no_hint(
    make_probe_job: Callable[..., Job], recipe_text: str
) -> None:
    job = make_probe_job()
    assert not gpu_archs_hint(job, make_estimate(job, compile_jobs=1))
    one = make_probe_job(text=recipe_text.replace("240.0", "9000.0"), gpu_archs="9.0")
    assert not gpu_archs_hint(one, make_estimate(one, compile_jobs=1))
    none = make_probe_job(text=recipe_text.replace("60.0", "9000.0"))
    none = dataclasses.replace(none, gpu_archs=())
    assert not gpu_archs_hint(none, make_estimate(none, compile_jobs=1))
