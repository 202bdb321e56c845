"""The plan fingerprint: what it follows, what it does not, and one value for good."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, TypedDict, Unpack

import pytest

from wheelyard.model.platform import DEFAULT_FLOOR, PlatformFloor
from wheelyard.planning.fingerprint import (
    PlanFingerprint,
    adopted_fingerprint,
    explain_difference,
    plan_fingerprint,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from wheelyard.model.job import Job

PATCHES = {"0001-first.patch": "a" * 64, "0002-new-torch.patch": "b" * 64}
LOCKS = {"locks/build/probe-1.1.txt": "c" * 64, "locks/torch/2.11.0+cu130.txt": "d" * 64}


class Files(TypedDict, total=False):
    patches: Mapping[str, str]
    locks: Mapping[str, str]
    folder_digest: str | None
    gcc_major: int | None
    floor: PlatformFloor
    container: str | None


def _digest(job: Job, **files: Unpack[Files]) -> PlanFingerprint:
    given: Files = {
        "patches": PATCHES,
        "locks": LOCKS,
        "folder_digest": "e" * 64,
        "gcc_major": 12,
        "floor": DEFAULT_FLOOR,
    }
    return plan_fingerprint(job, **(given | files))


def test_fingerprint_of_a_fixed_job_never_changes(make_probe_job: Callable[..., Job]) -> None:
    # If this fails, every wheel of every yard has become stale. When that is meant, because
    # other bytes are built now, raise BUILD_FORMAT; when it is not, undo what changed.
    assert _digest(make_probe_job()).sha256 == (
        "90c980a00ef22123b23c763fd3397b4d3addfe405613d40e4a49cacc3034b3b7"
    )


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        pytest.param('version = "1.1"', 'version = "1.1.1"', id="version"),
        pytest.param('version = "1.1"', 'version = "1.1"\nrevision = 1', id="revision"),
        pytest.param('path = "../source"', 'path = "other"', id="source"),
        pytest.param("setuptools>=77", "setuptools>=78", id="build-requires"),
        pytest.param('DEPTH = "1"', 'DEPTH = "2"', id="environment"),
        pytest.param('DEPTH = "1"', 'BREADTH = "1"', id="environment-name"),
        pytest.param('["probe_cuda"]', '["probe_cpp"]', id="extensions"),
        pytest.param('["probe", "probe_cuda"]', '["probe_cuda"]', id="top-levels"),
        pytest.param('requires = ["packaging"]', 'requires = ["einops"]', id="requires"),
        pytest.param(
            'requires = ["packaging"]',
            'requires = ["packaging"]\nentry-points = ["probe"]',
            id="entry-points",
        ),
        pytest.param('["9.0", "8.0", "12.0"]', '["9.0", "8.0"]', id="default-gpu-archs"),
    ],
)
def test_fingerprint_follows_the_recipe(
    make_probe_job: Callable[..., Job], recipe_text: str, right: str, wrong: str
) -> None:
    assert right in recipe_text
    changed = make_probe_job(text=recipe_text.replace(right, wrong))
    assert _digest(changed).sha256 != _digest(make_probe_job()).sha256


@pytest.mark.parametrize(
    "words",
    [
        pytest.param({"python": "3.13"}, id="python"),
        pytest.param({"python": "3.12t"}, id="free-threaded"),
        pytest.param({"torch": "2.11.0+cu129"}, id="cuda"),
        pytest.param({"torch": "2.10.0+cu130"}, id="torch"),
        pytest.param({"machine": "aarch64"}, id="machine"),
        pytest.param({"gpu_archs": "9.0"}, id="gpu-archs"),
        pytest.param({"lineinfo": True}, id="lineinfo"),
        pytest.param({"foreign_torch": True}, id="foreign-torch"),
    ],
)
def test_fingerprint_follows_the_cell(
    make_probe_job: Callable[..., Job], words: dict[str, object]
) -> None:
    assert _digest(make_probe_job(**words)).sha256 != _digest(make_probe_job()).sha256


@pytest.mark.parametrize(
    "files",
    [
        pytest.param(Files(patches={}), id="no-patches"),
        pytest.param(Files(patches=PATCHES | {"0001-first.patch": "f" * 64}), id="patch-bytes"),
        pytest.param(Files(patches=dict(reversed(PATCHES.items()))), id="order-of-patches"),
        pytest.param(Files(locks=LOCKS | {"locks/build/probe-1.1.txt": "f" * 64}), id="lock"),
        pytest.param(Files(locks=LOCKS | {"locks/toolkit/13.0.txt": "f" * 64}), id="more-locks"),
        pytest.param(Files(folder_digest="f" * 64), id="folder"),
        pytest.param(Files(folder_digest=None), id="no-folder"),
        pytest.param(Files(gcc_major=13), id="compiler-major"),
        pytest.param(Files(gcc_major=None), id="any-compiler"),
        pytest.param(Files(floor=PlatformFloor(glibc=(2, 34))), id="platform"),
        pytest.param(Files(container=f"image@sha256:{'a' * 64}"), id="container"),
    ],
)
def test_fingerprint_follows_files_and_compiler(
    make_probe_job: Callable[..., Job], files: Files
) -> None:
    job = make_probe_job()
    assert _digest(job, **files).sha256 != _digest(job).sha256


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        pytest.param('summary = "Looks around"', 'summary = "Peeps"', id="summary"),
        pytest.param("host = 60.0", "host = 61.0", id="effort"),
        pytest.param("memory-per-job = 2.0", "memory-per-job = 3.0", id="memory"),
        pytest.param('python = ">=3.10"', 'python = ">=3.9"', id="conditions-that-still-hold"),
        pytest.param(
            '{ PROBE = "recipe", DEPTH = "1" }',
            '{ DEPTH = "1", PROBE = "recipe" }',
            id="order-of-variables",
        ),
        pytest.param('["probe", "probe_cuda"]', '["probe_cuda", "probe"]', id="order-of-names"),
        pytest.param(
            '"12.8" = ["9.0", "8.0", "12.0"]', '"12.8" = ["8.0", "9.0", "12.0"]', id="order-of-gpus"
        ),
    ],
)
def test_what_changes_no_byte_of_the_wheel_makes_nothing_stale(
    make_probe_job: Callable[..., Job], recipe_text: str, right: str, wrong: str
) -> None:
    assert right in recipe_text
    changed = make_probe_job(text=recipe_text.replace(right, wrong))
    assert _digest(changed).sha256 == _digest(make_probe_job()).sha256


def test_order_of_locks_does_not_count(make_probe_job: Callable[..., Job]) -> None:
    job = make_probe_job()
    other = _digest(job, locks=dict(reversed(LOCKS.items())))
    assert other.sha256 == _digest(job).sha256


def test_fingerprint_is_pure(make_probe_job: Callable[..., Job]) -> None:
    assert _digest(make_probe_job()) == _digest(make_probe_job())


def test_inputs_hold_nothing_of_this_machine(make_probe_job: Callable[..., Job]) -> None:
    inputs = _digest(make_probe_job()).inputs
    assert inputs["cell"] == "cp312-torch2.11.0-cu130-x86_64"
    assert inputs["folder"] == "e" * 64
    assert "/" not in str(dict(inputs) | {"locks": None, "source": None})


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        pytest.param('version = "1.1"', 'version = "1.1"\nrevision = 1', id="revision"),
        pytest.param('["probe_cuda"]', '["probe_cpp"]', id="extensions"),
        pytest.param('["probe", "probe_cuda"]', '["probe_cuda"]', id="top-levels"),
        pytest.param('requires = ["packaging"]', 'requires = ["einops"]', id="requires"),
        pytest.param('["9.0", "8.0", "12.0"]', '["9.0", "8.0"]', id="gpu-archs"),
    ],
)
def test_adopted_wheel_goes_stale_with_what_the_recipe_says_of_the_wheel(
    make_probe_job: Callable[..., Job], recipe_text: str, right: str, wrong: str
) -> None:
    assert right in recipe_text
    before = adopted_fingerprint(make_probe_job(), upstream_sha256="f" * 64)
    changed = make_probe_job(text=recipe_text.replace(right, wrong))
    assert adopted_fingerprint(changed, upstream_sha256="f" * 64).sha256 != before.sha256


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        pytest.param('path = "../source"', 'path = "other"', id="source"),
        pytest.param("setuptools>=77", "setuptools>=78", id="build-requires"),
        pytest.param('DEPTH = "1"', 'DEPTH = "2"', id="environment"),
        pytest.param('versions = ">=1.1"', 'versions = ">=1.0"', id="patches"),
        pytest.param("Looks around", "Looks elsewhere", id="summary"),
    ],
)
def test_adopted_wheel_does_not_go_stale_with_how_it_would_be_built(
    make_probe_job: Callable[..., Job], recipe_text: str, right: str, wrong: str
) -> None:
    assert right in recipe_text
    before = adopted_fingerprint(make_probe_job(), upstream_sha256="f" * 64)
    changed = make_probe_job(text=recipe_text.replace(right, wrong))
    assert adopted_fingerprint(changed, upstream_sha256="f" * 64) == before


def test_adopted_wheel_is_of_one_upstream_file(make_probe_job: Callable[..., Job]) -> None:
    job = make_probe_job()
    one, other = (adopted_fingerprint(job, upstream_sha256=digit * 64) for digit in "ab")
    assert one.sha256 != other.sha256
    assert explain_difference(one.inputs, other.inputs) == (
        f'adopted: "{"a" * 64}" -> "{"b" * 64}"',
    )


def test_difference_is_told_input_by_input(make_probe_job: Callable[..., Job]) -> None:
    job = make_probe_job()
    newer = dataclasses.replace(job, version=dataclasses.replace(job.version, revision=2))
    differences = explain_difference(
        _digest(job, gcc_major=None).inputs, _digest(newer, gcc_major=12).inputs
    )
    assert differences == ("gcc_major: null -> 12", "revision: 0 -> 2")


def test_equal_inputs_have_no_difference(make_probe_job: Callable[..., Job]) -> None:
    inputs = _digest(make_probe_job()).inputs
    assert not explain_difference(inputs, dict(inputs))


def test_input_that_is_new_is_told(make_probe_job: Callable[..., Job]) -> None:
    inputs = dict(_digest(make_probe_job()).inputs)
    del inputs["gcc_major"]
    assert explain_difference(inputs, _digest(make_probe_job()).inputs) == (
        "gcc_major: null -> 12",
    )
