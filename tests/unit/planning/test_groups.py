"""Jobs that share what is compiled are kept together."""

from __future__ import annotations

from typing import TYPE_CHECKING

from wheelyard.planning.groups import group_jobs

if TYPE_CHECKING:
    from collections.abc import Callable

    from wheelyard.model.job import Job


def test_pythons_of_one_torch_build_are_one_group(make_probe_job: Callable[..., Job]) -> None:
    first, other, second = (
        make_probe_job(python="3.12"),
        make_probe_job(python="3.12", torch="2.8.0+cu128"),
        make_probe_job(python="3.13"),
    )
    groups = group_jobs([first, other, second])
    assert [group.jobs for group in groups] == [(first, second), (other,)]
    assert groups[0].name == first.group == "probe-1.1-torch2.11.0-cu130-x86_64"
    assert (groups[0].leader, groups[0].followers) == (first, (second,))


def test_other_gpu_targets_are_another_group(make_probe_job: Callable[..., Job]) -> None:
    jobs = [make_probe_job(), make_probe_job(gpu_archs="9.0")]
    assert len(group_jobs(jobs)) == 2
