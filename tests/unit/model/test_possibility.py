"""Which cells can exist, which is the nearest that can, and which compilers and drivers serve."""

from __future__ import annotations

import itertools

import pytest

from wheelyard.errors import UnknownNameError, UsageError
from wheelyard.model.cell import (
    MACHINES,
    Cell,
    CudaVersion,
    Machine,
    PythonVersion,
    TorchBuild,
    parse_gpu_archs,
)
from wheelyard.model.possibility import (
    nearest_possible_cell,
    reason_compiler_refused,
    reason_compiler_too_new,
    reason_compiler_too_old,
    reason_cuda_cannot_compile,
    reason_driver_too_old,
    reasons_impossible,
)


def _cell(python: str, torch: str, machine: Machine = "x86_64") -> Cell:
    return Cell(PythonVersion.parse(python), TorchBuild.parse(torch), machine)


def _cuda(text: str) -> CudaVersion:
    return CudaVersion.parse(text)


@pytest.mark.parametrize(
    "cell",
    [
        pytest.param(_cell("3.11", "2.6.0+cu124"), id="the-guide"),
        pytest.param(_cell("3.12", "2.6.0+cu126"), id="not-the-default-build"),
        pytest.param(_cell("3.15t", "2.15.0+cu132"), id="newest"),
        pytest.param(_cell("3.12", "2.11.0+cu130", "aarch64"), id="aarch64"),
    ],
)
def test_possible_cell_has_no_reasons(cell: Cell) -> None:
    assert reasons_impossible(cell) == ()


@pytest.mark.parametrize(
    ("cell", "reason"),
    [
        pytest.param(
            _cell("3.10", "2.15.0+cu132"),
            "torch 2.15.0 has no wheels for Python 3.10 on x86_64 "
            "(it has 3.11, 3.12, 3.13, 3.14, 3.14t, 3.15, 3.15t).",
            id="python-too-old",
        ),
        pytest.param(
            _cell("3.13t", "2.12.1+cu130"),
            "torch 2.12.1 has no wheels for Python 3.13t on x86_64 "
            "(it has 3.10, 3.11, 3.12, 3.13, 3.14, 3.14t).",
            id="patch-release-dropped-it",
        ),
        pytest.param(
            _cell("3.12", "2.11.0+cu124"),
            "torch 2.11.0 was never built for CUDA 12.4 (it was for 12.6, 12.8, 13.0).",
            id="never-built",
        ),
        pytest.param(
            _cell("3.12", "2.10.0+cu128", "aarch64"),
            "torch 2.10.0 on aarch64 has no CUDA wheels on the index.",
            id="cpu-only-machine",
        ),
        pytest.param(
            _cell("3.12", "2.11.0+cu128", "aarch64"),
            "torch 2.11.0 on aarch64 has no CUDA 12.8 wheels on the index (it has 13.0).",
            id="one-build-on-this-machine",
        ),
    ],
)
def test_reason_says_what_is_missing_and_what_there_is(cell: Cell, reason: str) -> None:
    assert reasons_impossible(cell) == (reason,)


@pytest.mark.parametrize(
    ("torch", "archs", "reasons"),
    [
        pytest.param("2.11.0+cu130", "9.0;10.0+PTX;12.0", (), id="possible"),
        pytest.param(
            "2.11.0+cu130",
            "6.0;7.0+PTX;9.0",
            ("CUDA 13.0 cannot compile for 6.0, 7.0+PTX (it starts at 7.5).",),
            id="dropped-by-cuda",
        ),
        pytest.param(
            "2.7.0+cu126",
            "12.0",
            ("CUDA 12.6 cannot compile for 12.0 (it ends at 9.0a).",),
            id="unknown-to-cuda",
        ),
        pytest.param(
            "2.6.0+cu126",
            "9.0;10.0;12.0",
            (
                "CUDA 12.6 cannot compile for 10.0, 12.0 (it ends at 9.0a).",
                "torch 2.6.0 does not know GPU target 12.0.",
            ),
            id="unknown-to-both",
        ),
        pytest.param(
            "2.9.0+cu130",
            "8.8;10.0f",
            ("torch 2.9.0 does not know GPU targets 8.8, 10.0f.",),
            id="unknown-to-torch",
        ),
    ],
)
def test_gpu_targets_must_be_known_to_cuda_and_torch(
    torch: str, archs: str, reasons: tuple[str, ...]
) -> None:
    assert reasons_impossible(_cell("3.12", torch), gpu_archs=parse_gpu_archs(archs)) == reasons


def test_target_between_others_is_refused_with_the_whole_list() -> None:
    reason = reason_cuda_cannot_compile(_cuda("12.8"), parse_gpu_archs("10.3"))
    assert reason is not None
    assert reason.startswith("CUDA 12.8 cannot compile for 10.3 (it can for 5.0, 5.2,")
    assert reason.endswith("12.0, 12.0a).")


def test_every_reason_is_given_at_once() -> None:
    reasons = reasons_impossible(
        _cell("3.8", "2.11.0+cu124"), gpu_archs=parse_gpu_archs("10.1;12.0")
    )
    assert [reason.split("(")[0].strip() for reason in reasons] == [
        "torch 2.11.0 has no wheels for Python 3.8 on x86_64",
        "torch 2.11.0 was never built for CUDA 12.4",
        "torch 2.11.0 does not know GPU target 10.1.",
    ]


def test_cuda_without_facts_is_a_reason_and_no_error() -> None:
    reasons = reasons_impossible(_cell("3.12", "2.11.0+cu127"), gpu_archs=parse_gpu_archs("9.0"))
    assert reasons == ("torch 2.11.0 was never built for CUDA 12.7 (it was for 12.6, 12.8, 13.0).",)


def test_unknown_torch_release_is_an_error() -> None:
    with pytest.raises(UnknownNameError, match=r"'2\.16\.0'.*2\.15\.0"):
        reasons_impossible(_cell("3.12", "2.16.0+cu132"))


@pytest.mark.parametrize(
    ("cell", "nearest"),
    [
        pytest.param(_cell("3.12", "2.11.0+cu130"), "cp312-torch2.11.0-cu130-x86_64", id="itself"),
        pytest.param(
            _cell("3.10", "2.15.0+cu132"), "cp311-torch2.15.0-cu132-x86_64", id="python-up"
        ),
        pytest.param(
            _cell("3.15", "2.11.0+cu126"), "cp314-torch2.11.0-cu126-x86_64", id="python-down"
        ),
        pytest.param(
            _cell("3.13t", "2.12.1+cu130"),
            "cp314t-torch2.12.1-cu130-x86_64",
            id="still-free-threaded",
        ),
        pytest.param(
            _cell("3.13t", "2.6.0+cu126"),
            "cp313-torch2.6.0-cu126-x86_64",
            id="free-threaded-nowhere",
        ),
        pytest.param(
            _cell("3.12", "2.15.0+cu126"),
            "cp312-torch2.14.1-cu126-x86_64",
            id="nearest-minor-and-its-newest-patch",
        ),
        pytest.param(
            _cell("3.12", "2.9.2+cu130"), "cp312-torch2.9.1-cu130-x86_64", id="nearest-patch"
        ),
        pytest.param(
            _cell("3.9", "2.9.0+cu124"),
            "cp39-torch2.6.0-cu124-x86_64",
            id="torch-before-cuda",
        ),
        pytest.param(
            _cell("3.12", "2.11.0+cu127"),
            "cp312-torch2.11.0-cu130-x86_64",
            id="default-where-no-torch-has-the-cuda",
        ),
        pytest.param(
            _cell("3.12", "2.10.0+cu128", "aarch64"),
            "cp312-torch2.11.0-cu130-aarch64",
            id="nearest-default-of-the-machine",
        ),
        pytest.param(
            _cell("3.12", "2.16.0+cu132"), "cp312-torch2.15.0-cu132-x86_64", id="unknown-release"
        ),
    ],
)
def test_nearest_possible_cell(cell: Cell, nearest: str) -> None:
    found = nearest_possible_cell(cell)
    assert found is not None
    assert found.identifier == nearest


def test_nearest_cell_is_always_possible_and_of_the_same_machine() -> None:
    pythons = ("3.8", "3.11", "3.13t", "3.15")
    torches = ("2.4.0+cu118", "2.6.0+cu126", "2.10.0+cu132", "2.15.0+cu128", "3.0.0+cu140")
    for python, torch, machine in itertools.product(pythons, torches, MACHINES):
        found = nearest_possible_cell(_cell(python, torch, machine))
        assert found is not None
        assert found.machine == machine
        assert reasons_impossible(found) == ()


@pytest.mark.parametrize(
    ("cuda", "newest"), [("11.8", 11), ("12.1", 12), ("12.6", 13), ("12.9", 14), ("13.0", 15)]
)
def test_gcc_past_the_newest_that_nvcc_takes_is_too_new(cuda: str, newest: int) -> None:
    assert reason_compiler_too_new(_cuda(cuda), gcc_major=newest) is None
    assert reason_compiler_too_new(_cuda(cuda), gcc_major=newest + 1) == (
        f"gcc {newest + 1} is too new for CUDA {cuda}: its nvcc takes gcc up to {newest}."
    )


@pytest.mark.parametrize(("torch", "oldest"), [("2.11.0+cu130", 9), ("2.12.0+cu130", 10)])
def test_gcc_before_the_oldest_that_torch_takes_is_too_old(torch: str, oldest: int) -> None:
    build = TorchBuild.parse(torch)
    assert reason_compiler_too_old(build, gcc_major=oldest) is None
    assert reason_compiler_too_old(build, gcc_major=oldest - 1) == (
        f"gcc {oldest - 1} is too old for torch {build.version}: it needs gcc {oldest} or later."
    )


def test_cpp_extension_may_refuse_a_gcc_that_nvcc_takes() -> None:
    build = TorchBuild.parse("2.11.0+cu128")
    assert reason_compiler_too_new(build.cuda, gcc_major=14) is None
    assert reason_compiler_refused(build, gcc_major=13) is None
    assert reason_compiler_refused(build, gcc_major=14) == (
        "cpp_extension of torch 2.11.0+cu128 refuses gcc 14 (it takes 6 to 13), unless "
        "TORCH_DONT_CHECK_COMPILER_ABI is set."
    )


def test_cpp_extension_that_only_warns_refuses_no_gcc() -> None:
    assert reason_compiler_refused(TorchBuild.parse("2.10.0+cu128"), gcc_major=99) is None


@pytest.mark.parametrize(
    ("cuda", "driver", "old"),
    [
        pytest.param("13.0", "580.65.06", False, id="shipped-with-it"),
        pytest.param("13.2", "580", False, id="minor-versions-are-compatible"),
        pytest.param("13.0", "579.99.99", True, id="one-before"),
        pytest.param("12.9", "525.60.13", False, id="older-than-the-toolkit"),
        pytest.param("12.4", "1000.1", False, id="numbers-not-text"),
        pytest.param("12.4", "515.105.01", True, id="previous-major"),
    ],
)
def test_driver_is_held_against_the_oldest_of_the_cuda_major(
    cuda: str, driver: str, *, old: bool
) -> None:
    reason = reason_driver_too_old(_cuda(cuda), driver=driver)
    assert (reason is not None) is old
    assert reason is None or f"Driver {driver} is too old for CUDA {cuda}: it needs 5" in reason


@pytest.mark.parametrize("driver", ["", "N/A", "580.", "580-server"])
def test_driver_that_is_no_version_is_refused(driver: str) -> None:
    with pytest.raises(UsageError, match=rf"{driver!r} is not a driver version.*580\.65\.06"):
        reason_driver_too_old(_cuda("13.0"), driver=driver)
