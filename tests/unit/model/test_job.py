"""The names of a job: identifier, group, index label, version of its wheel, pin of torch."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import pytest
from packaging.utils import parse_wheel_filename
from packaging.version import Version

if TYPE_CHECKING:
    from collections.abc import Callable

    from wheelyard.model.job import Job


@pytest.mark.parametrize(
    ("words", "identifier"),
    [
        pytest.param({}, "probe-1.1-cp312-torch2.11.0-cu130-x86_64", id="default-gpu-archs"),
        pytest.param(
            {"gpu_archs": "9.0"}, "probe-1.1-cp312-torch2.11.0-cu130-x86_64-sm90", id="one-target"
        ),
        pytest.param(
            {"gpu_archs": "12.0+PTX;8.0"},
            "probe-1.1-cp312-torch2.11.0-cu130-x86_64-sm80.sm120ptx",
            id="some-targets",
        ),
        pytest.param(
            {"gpu_archs": "12.0 9.0 8.0"},
            "probe-1.1-cp312-torch2.11.0-cu130-x86_64",
            id="default-list-spelled-out",
        ),
        pytest.param(
            {"python": "3.14t", "machine": "aarch64"},
            "probe-1.1-cp314t-torch2.11.0-cu130-aarch64",
            id="free-threaded",
        ),
        pytest.param(
            {"lineinfo": True}, "probe-1.1-cp312-torch2.11.0-cu130-x86_64-lineinfo", id="lineinfo"
        ),
        pytest.param(
            {"foreign_torch": True, "gpu_archs": "9.0a", "lineinfo": True},
            "probe-1.1-cp312-torch2.11.0-cu130-x86_64-sm90a-lineinfo-env",
            id="foreign-torch",
        ),
        pytest.param(
            {"torch": "2.6.0+cu124", "version": "1.0"},
            "probe-1.0-cp312-torch2.6.0-cu124-x86_64",
            id="older-version",
        ),
    ],
)
def test_identifier(
    make_probe_job: Callable[..., Job], words: dict[str, object], identifier: str
) -> None:
    assert make_probe_job(**words).identifier == identifier


def test_jobs_that_differ_in_anything_have_identifiers_of_their_own(
    make_probe_job: Callable[..., Job],
) -> None:
    axes: dict[str, tuple[object, ...]] = {
        "version": ("1.0", "1.1"),
        "python": ("3.13", "3.13t"),
        "torch": ("2.7.1+cu126", "2.7.1+cu128"),
        "machine": ("x86_64", "aarch64"),
        "gpu_archs": ("", "9.0", "9.0a", "9.0+PTX"),
        "lineinfo": (False, True),
        "foreign_torch": (False, True),
    }
    jobs = [
        make_probe_job(**dict(zip(axes, values, strict=True)))
        for values in itertools.product(*axes.values())
    ]
    assert len({job.identifier for job in jobs}) == len(jobs) == 256
    # and their wheels have filenames of their own
    names = {(job.wheel_version, job.cell.python, job.cell.machine) for job in jobs}
    assert len(names) == len(jobs)


def test_group_is_shared_by_pythons_and_by_nothing_else(make_probe_job: Callable[..., Job]) -> None:
    job = make_probe_job()
    assert job.group == "probe-1.1-torch2.11.0-cu130-x86_64"
    assert make_probe_job(python="3.13t").group == job.group
    for other in (
        {"torch": "2.10.0+cu130"},
        {"torch": "2.11.0+cu129"},
        {"machine": "aarch64"},
        {"gpu_archs": "9.0"},
        {"version": "1.0"},
    ):
        assert make_probe_job(**other).group != job.group, other


@pytest.mark.parametrize(
    ("words", "label"),
    [
        pytest.param({}, "torch2.11.0-cu130", id="default-gpu-archs"),
        pytest.param({"machine": "aarch64", "python": "3.14t"}, "torch2.11.0-cu130", id="same"),
        pytest.param({"gpu_archs": "9.0"}, "torch2.11.0-cu130-sm90", id="own-index-for-targets"),
        pytest.param({"lineinfo": True}, "torch2.11.0-cu130-lineinfo", id="own-index-for-lineinfo"),
        pytest.param({"foreign_torch": True}, "torch2.11.0-cu130-env", id="own-index-for-foreign"),
    ],
)
def test_index_label(
    make_probe_job: Callable[..., Job], words: dict[str, object], label: str
) -> None:
    assert make_probe_job(**words).index_label == label


@pytest.mark.parametrize(
    ("words", "version"),
    [
        pytest.param({}, "1.1+cu130.torch2.11.0", id="plain"),
        pytest.param({"foreign_torch": True}, "1.1+cu130.torch2.11.0.env", id="foreign-torch"),
        pytest.param(
            {"gpu_archs": "8.0;12.0+PTX"}, "1.1+cu130.torch2.11.0.sm80.sm120ptx", id="gpu-archs"
        ),
        pytest.param({"torch": "2.7.1+cu126"}, "1.1+cu126.torch2.7.1", id="older"),
    ],
)
def test_wheel_version(
    make_probe_job: Callable[..., Job], words: dict[str, object], version: str
) -> None:
    # as text: Version would hide another spelling
    assert str(make_probe_job(**words).wheel_version) == version


@pytest.mark.parametrize(
    ("words", "build_tag"),
    [
        pytest.param({}, "0.cu130.torch2.11.0", id="plain"),
        pytest.param({"gpu_archs": "8.0"}, "0.cu130.torch2.11.0.sm80", id="gpu-archs"),
    ],
)
def test_build_tag_tells_what_a_version_that_has_to_stay_as_it_is_cannot(
    make_probe_job: Callable[..., Job], recipe_text: str, words: dict[str, object], build_tag: str
) -> None:
    text = recipe_text.replace("[gpu-archs]", "bare-version = true\n[gpu-archs]")
    job = make_probe_job(text=text, **words)
    assert (str(job.wheel_version), job.build_tag) == ("1.1", build_tag)
    name = f"probe-{job.wheel_version}-{job.build_tag}-cp312-cp312-linux_x86_64.whl"
    assert parse_wheel_filename(name)[2] == (0, build_tag.removeprefix("0"))


def test_build_tag_is_the_revision(make_probe_job: Callable[..., Job], recipe_text: str) -> None:
    text = recipe_text.replace('version = "1.1"', 'version = "1.1"\nrevision = 2')
    assert (make_probe_job().build_tag, make_probe_job(text=text).build_tag) == (None, "2")


def test_wheel_for_torch_2_9_sorts_before_the_one_for_2_10(
    make_probe_job: Callable[..., Job],
) -> None:
    builds = ["2.10.0+cu128", "2.9.1+cu128", "2.9.0+cu128", "2.11.0+cu128"]
    ordered = sorted(make_probe_job(torch=torch).wheel_version for torch in builds)
    assert [str(version.local) for version in ordered] == [
        "cu128.torch2.9.0",
        "cu128.torch2.9.1",
        "cu128.torch2.10.0",
        "cu128.torch2.11.0",
    ]


def test_wheel_version_is_newer_than_the_public_one_and_older_than_the_next(
    make_probe_job: Callable[..., Job],
) -> None:
    version = make_probe_job().wheel_version
    assert Version("1.1") < version < Version("1.1.post1")


@pytest.mark.parametrize(
    ("torch", "machine", "pin"),
    [
        pytest.param("2.11.0+cu130", "x86_64", "torch==2.11.0", id="default-of-the-index"),
        pytest.param("2.11.0+cu128", "x86_64", "torch==2.11.0+cu128", id="another-build"),
        pytest.param("2.6.0+cu124", "x86_64", "torch==2.6.0", id="default-then"),
        pytest.param("2.6.0+cu126", "x86_64", "torch==2.6.0+cu126", id="same-release-other-abi"),
        pytest.param("2.6.0+cu124", "aarch64", "torch==2.6.0+cu124", id="index-has-cpu-there"),
        pytest.param("3.1.0+cu140", "x86_64", "torch==3.1.0+cu140", id="unknown-release"),
    ],
)
def test_torch_is_pinned_to_the_local_build_where_that_is_not_the_default(
    make_probe_job: Callable[..., Job], torch: str, machine: str, pin: str
) -> None:
    job = make_probe_job(torch=torch, machine=machine, foreign_torch=torch.startswith("3."))
    assert str(job.torch_requirement) == pin


def test_patches_are_those_of_version_and_torch(make_probe_job: Callable[..., Job]) -> None:
    assert [patch.filename for patch in make_probe_job().patches] == [
        "0001-first.patch",
        "0002-new-torch.patch",
    ]
    assert [patch.filename for patch in make_probe_job(torch="2.8.0+cu128").patches] == [
        "0001-first.patch"
    ]
