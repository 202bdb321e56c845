"""What a job promises of its wheel."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from packaging.version import Version

from wheelyard.wheels.expecting import make_expectation
from wheelyard.wheels.values import RepairedWheel

if TYPE_CHECKING:
    from collections.abc import Callable

    from wheelyard.model.job import Job

WHEEL = RepairedWheel(
    path=Path("probe.whl"),
    sha256="",
    version=Version("1.1+cu130.torch2.11.0"),
    platform_tag="manylinux_2_24_x86_64",
    external_libraries=(),
    grafted_libraries=(),
    policy_symbols=(),
)


def test_names_versions_and_contents_are_those_of_recipe_and_cell(
    make_probe_job: Callable[..., Job],
) -> None:
    expected = make_expectation(make_probe_job(gpu_archs="9.0"), platform_tag=WHEEL.platform_tag)
    assert (expected.name, str(expected.version)) == ("probe", "1.1+cu130.torch2.11.0.sm90")
    assert str(expected.tag) == "cp312-cp312-manylinux_2_24_x86_64"
    assert expected.extensions == ("probe_cuda",)
    assert expected.top_levels == {"probe", "probe_cuda"}
    assert [str(item) for item in expected.requires] == ["torch==2.11.0", "packaging"]
    assert [str(arch) for arch in expected.gpu_archs] == ["9.0"]
    assert expected.machine == "x86_64"
    assert expected.build_tag is None


def test_free_threaded_wheel_has_its_own_abi_tag(make_probe_job: Callable[..., Job]) -> None:
    expected = make_expectation(make_probe_job(python="3.14t"), platform_tag=WHEEL.platform_tag)
    assert str(expected.tag) == "cp314-cp314t-manylinux_2_24_x86_64"


@pytest.mark.parametrize("tag", ["manylinux_2_17_x86_64.manylinux2014_x86_64"])
def test_platform_tag_is_taken_without_its_alias(
    make_probe_job: Callable[..., Job], tag: str
) -> None:
    wheel = dataclasses.replace(WHEEL, platform_tag=tag)
    expected = make_expectation(make_probe_job(), platform_tag=wheel.platform_tag)
    assert expected.tag.platform == "manylinux_2_17_x86_64"


def test_revision_is_the_build_tag(make_probe_job: Callable[..., Job], recipe_text: str) -> None:
    text = recipe_text.replace('version = "1.1"', 'version = "1.1"\nrevision = 2')
    assert (
        make_expectation(make_probe_job(text=text), platform_tag=WHEEL.platform_tag).build_tag
        == "2"
    )
