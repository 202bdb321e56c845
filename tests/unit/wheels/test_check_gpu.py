"""GPU code is compared with a user's GPU, and code that is known to go wrong is told."""

from __future__ import annotations

import re

import pytest

from wheelyard.abi.gpu_code import GpuCode
from wheelyard.model.cell import GpuArch
from wheelyard.wheels.check_gpu import gpu_findings_for, suspicious_gpu_findings
from wheelyard.wheels.findings import FindingKind, Severity


def code(cubins: str = "", ptx: str = "") -> GpuCode:
    return GpuCode(
        cubins=frozenset(map(GpuArch.parse, cubins.split())),
        ptx=frozenset(map(GpuArch.parse, ptx.split())),
    )


def test_gpu_with_machine_code_has_no_findings() -> None:
    assert not list(gpu_findings_for(GpuArch(8, 6), {"a.so": code("8.0", "8.0")}))


def test_wheel_without_gpu_code_runs_anywhere() -> None:
    assert not list(gpu_findings_for(GpuArch(8, 6), {}))


def test_gpu_that_nothing_runs_on_is_an_error() -> None:
    (finding,) = gpu_findings_for(GpuArch(12, 0), {"a.so": code("8.0 9.0"), "b.so": code("9.0")})
    assert (finding.kind, finding.severity) == (FindingKind.GPU_CODE_MISSING, Severity.ERROR)
    assert finding.message == (
        "Nothing in it runs on RTX 50, RTX PRO Blackwell (12.0): its GPU code is for 8.0 9.0. Take "
        "a wheel that was built for 12.0, or build one"
    )
    assert finding.details == ("a.so", "b.so")


def test_severity_of_a_gpu_without_code_is_asked_for() -> None:
    (finding,) = gpu_findings_for(GpuArch(12, 0), {"a.so": code("8.0")}, Severity.WARNING)
    assert finding.severity is Severity.WARNING


def test_gpu_by_ptx_alone_is_a_warning() -> None:
    (finding,) = gpu_findings_for(GpuArch(12, 0), {"a.so": code("9.0", "9.0")})
    assert (finding.kind, finding.severity) == (FindingKind.GPU_CODE_BY_PTX, Severity.WARNING)
    assert re.search(r"compiled it, from 9\.0\+PTX: .* at least as new", finding.message)


def test_members_that_a_gpu_cannot_use_are_a_warning() -> None:
    gpu_code = {"a.so": code("8.0"), "b.so": code("9.0a"), "c.so": code("7.5", "7.5")}
    partial, by_ptx = gpu_findings_for(GpuArch(8, 0), gpu_code)
    assert (partial.kind, partial.severity) == (FindingKind.GPU_CODE_MISSING, Severity.WARNING)
    assert "'b.so' cannot be used: its GPU code is for 9.0a. The rest" in partial.message
    assert partial.details == ("b.so",)
    assert by_ptx.kind is FindingKind.GPU_CODE_BY_PTX


@pytest.mark.parametrize(
    ("member", "cubins", "count"),
    [
        ("demo/_C.so", "9.0 10.0 10.3", 1),
        ("demo/_C.so", "9.0 10.0", 0),
        ("demo/_C.so", "10.3a", 0),
        ("demo.libs/libnvjpeg-0a1b2c3d.so.13", "10.3", 0),
    ],
)
def test_code_for_b300_is_told(member: str, cubins: str, count: int) -> None:
    found = list(suspicious_gpu_findings({member: code(cubins)}))
    assert len(found) == count
    assert all(one.kind is FindingKind.GPU_CODE_SUSPICIOUS for one in found)
    assert all(one.severity is Severity.WARNING and "B300" in one.message for one in found)


def test_one_finding_names_all_members_with_code_for_b300() -> None:
    gpu_code = {"a.so": code("10.3"), "b.so": code("10.0 10.3"), "c.so": code("10.0")}
    (finding,) = suspicious_gpu_findings(gpu_code)
    assert finding.details == ("a.so", "b.so")
    assert finding.message.startswith("'a.so' and 1 more have machine code for 10.3")
    assert finding.message.endswith("or build for 10.0 instead")
