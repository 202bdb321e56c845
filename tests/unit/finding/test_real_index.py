"""What is known to go together, and what not, asked of the real index with the real farm."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable
    from pathlib import Path

pytestmark = [pytest.mark.network, pytest.mark.heavy]

GLIBC = ("--machine", "x86_64", "--glibc", "2.36")


@pytest.fixture
def find(
    tmp_path: Path,
    repository: Path,
    run_as_user: Callable[..., subprocess.CompletedProcess[str]],
) -> Callable[..., dict[str, Any]]:
    """Return a function that asks and returns the JSON."""

    def ask(*words: str, code: int = 0) -> dict[str, Any]:
        places = ("--farm", repository, "--yard", tmp_path / "yard")
        done = run_as_user("find", *words, *places, *GLIBC, "--json")
        assert done.returncode == code, done.stderr
        answer: dict[str, Any] = json.loads(done.stdout)
        return answer

    return ask


def versions(fit: dict[str, Any]) -> dict[str, str]:
    return {one["name"]: one["version"].partition("+")[0] for one in fit["ours"]}


def test_megatron_core_0_16_1_goes_with_torch_2_11(find: Callable[..., dict[str, Any]]) -> None:
    words = ("transformer-engine-torch==2.11.0", "mamba-ssm==2.3.0", "causal-conv1d==1.6.1")
    others = ("nv-grouped-gemm", "flash-attn", "fast-hadamard-transform", "apex")
    asked = ("megatron-core[mlm,dev]==0.16.1", *words, *others)
    answer = find(*asked, "--python", "3.12", "--torch", "2.11.0")
    (fit,) = answer["fits"]
    assert fit["cell"] == "cp312-torch2.11.0-cu130-x86_64"
    assert fit["packages"]["megatron-core"] == "0.16.1"
    found = versions(fit)
    assert (found["transformer-engine-torch"], found["mamba-ssm"]) == ("2.11.0", "2.3.0")
    assert len(found) == 7


def test_both_blockers_of_megatron_core_0_19_2_are_named(
    find: Callable[..., dict[str, Any]],
) -> None:
    asked = "megatron-core[mlm,dev,te,ssm]==0.19.2"
    answer = find(asked, "--python", "3.12", "--torch", "2.11.0", code=5)
    (left_out,) = answer["left_out"]
    assert (
        "nvidia-resiliency-ext==0.6.0 has no wheels with a matching platform"
        in (left_out["reason"])
    )
    assert "manylinux_2_39_x86_64" in left_out["reason"]
    assert answer["elsewhere"]["glibc"] == "2.39"
    held = {item["wheel"]: item["reason"] for item in answer["elsewhere"]["held_back"]}
    reason = held["transformer-engine-torch 2.20.2"]
    assert "depends on nvidia-cudnn-frontend>=1.29.0" in reason
    assert "depends on nvidia-cudnn-frontend[cutedsl]==1.26.0" in reason


def test_the_guides_combination_takes_transformer_engine_2_9(
    find: Callable[..., dict[str, Any]],
) -> None:
    asked = "megatron-core[mlm,dev]==0.15.3"
    (fit,) = find(asked, "--python", "3.11", "--torch", "2.6.0")["fits"]
    assert fit["cell"] == "cp311-torch2.6.0-cu124-x86_64"
    assert versions(fit)["transformer-engine-torch"] == "2.9.0"


def test_the_guides_combination_with_lts_needs_nothing_of_ours(
    find: Callable[..., dict[str, Any]],
) -> None:
    asked = "megatron-core[mlm,lts]==0.15.3"
    (fit,) = find(asked, "--python", "3.11", "--torch", "2.6.0")["fits"]
    assert (fit["works_now"], fit["ours"]) == (True, [])
    assert fit["packages"]["megatron-core"] == "0.15.3"


def test_setuptools_bounds_of_two_projects_are_named(find: Callable[..., dict[str, Any]]) -> None:
    asked = ("megatron-core[dev]==0.15.3", "setuptools>=80", "transformer-engine-torch==2.9.0")
    (left_out,) = find(*asked, "--python", "3.11", "--torch", "2.6.0", code=5)["left_out"]
    assert "megatron-core[dev]==0.15.3 depends on setuptools<80" in left_out["reason"]
    assert "you require setuptools>=80" in left_out["reason"]


def test_mamba_ssm_and_a_newer_flashinfer_do_not_go_together(
    find: Callable[..., dict[str, Any]],
) -> None:
    words = ("mamba-ssm==2.3.2.post1", "flashinfer-python>=0.7")
    (left_out,) = find(*words, "--python", "3.12", "--torch", "2.11.0", code=5)["left_out"]
    assert "apache-tvm-ffi" in left_out["reason"]
    assert "flashinfer-python" in left_out["reason"]
    assert "mamba-ssm" in left_out["reason"]
