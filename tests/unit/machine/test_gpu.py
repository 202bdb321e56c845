from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from wheelyard.machine.gpu import DriverFacts, Gpu, find_driver, parse_rows

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Program = Callable[[str, str], Path]

H100 = "NVIDIA H100 80GB HBM3, 9.0, 580.95.05, 81559 MiB"
OPEN_MODULE = (
    "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.65.06  Release Build  (root@x)\n"
    "GCC version:  gcc version 12.2.0 (Debian 12.2.0-14)\n"
)
CLOSED_MODULE = "NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.54.14  Thu Feb 22 2024\n"


def write_module(proc: Path, text: str) -> Path:
    (proc / "driver/nvidia").mkdir(parents=True)
    (proc / "driver/nvidia/version").write_text(text)
    return proc


def test_row_of_nvidia_smi() -> None:
    gpu = Gpu(name="NVIDIA H100 80GB HBM3", arch="9.0", memory=81559 * 2**20)
    assert parse_rows([H100]) == DriverFacts(version="580.95.05", gpus=(gpu,))


def test_name_may_hold_a_comma() -> None:
    facts = parse_rows(["Vendor, Inc. X1, 12.0, 580.65.06, 1024 MiB"])
    assert facts is not None
    assert (facts.gpus[0].name, facts.gpus[0].arch) == ("Vendor, Inc. X1", "12.0")


@pytest.mark.parametrize(
    "row",
    [
        pytest.param("No devices were found", id="no-devices"),
        pytest.param("Broken, [N/A], 580.65.06, [N/A]", id="not-a-usable-gpu"),
        pytest.param('Field "compute_cap" is not a valid field to query.', id="old-driver"),
    ],
)
def test_rows_without_a_usable_gpu_tell_nothing(row: str) -> None:
    assert parse_rows([row]) is None


def test_nvidia_smi_is_asked(program: Program, tmp_path: Path) -> None:
    program("nvidia-smi", f'case "$1" in --query-gpu=*) echo "{H100}"; echo "{H100}";; esac')
    facts = find_driver({"PATH": str(tmp_path / "bin")}, proc=tmp_path)
    assert facts is not None
    assert [gpu.arch for gpu in facts.gpus] == ["9.0", "9.0"]


@pytest.mark.parametrize(
    ("text", "version"),
    [
        pytest.param(OPEN_MODULE, "580.65.06", id="open"),
        pytest.param(CLOSED_MODULE, "550.54.14", id="closed"),
    ],
)
def test_kernel_module_tells_the_driver_where_nvidia_smi_fails(
    program: Program, tmp_path: Path, text: str, version: str
) -> None:
    program("nvidia-smi", "echo couldn't communicate with the driver; exit 9")
    proc = write_module(tmp_path / "proc", text)
    facts = find_driver({"PATH": str(tmp_path / "bin")}, proc=proc)
    assert facts == DriverFacts(version=version, gpus=())


def test_no_gpu_is_a_normal_answer(tmp_path: Path) -> None:
    assert find_driver({"PATH": str(tmp_path)}, proc=tmp_path) is None
