"""Compiled files are compared with the machines of the tag, and must not look elsewhere."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import pytest

from wheelyard.wheels.archive import open_wheel
from wheelyard.wheels.check_binaries import binary_findings, read_binaries
from wheelyard.wheels.findings import FindingKind, Severity
from wheelyard.wheels.labels import read_labels

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from wheelyard.wheels.findings import Finding


@dataclasses.dataclass(frozen=True)
class Bench:
    make_wheel: Callable[..., Path]
    link: Callable[..., Path]

    def find(self, platforms: str, files: Mapping[str, Path]) -> list[Finding]:
        binaries, damaged = read_binaries(files)
        assert not damaged
        with open_wheel(self.make_wheel(tag=f"py3-none-{platforms}")) as archive:
            labels = read_labels(archive)
        return list(binary_findings(binaries, labels, None, severity=Severity.WARNING))

    def module(self, *options: str, machine: int = 62, name: str = "_C.so") -> Path:
        path = self.link(name, options=options)
        data = bytearray(path.read_bytes())
        data[18] = machine
        path.write_bytes(data)
        return path


@pytest.fixture
def bench(make_wheel: Callable[..., Path], link_c: Callable[..., Path]) -> Bench:
    return Bench(make_wheel=make_wheel, link=link_c)


@pytest.mark.parametrize(
    ("platforms", "found"),
    [
        ("manylinux_2_28_x86_64", ["demo/arm.so"]),
        ("manylinux_2_28_aarch64", ["demo/intel.so"]),
        ("manylinux_2_28_aarch64.manylinux_2_28_x86_64", []),
    ],
)
def test_each_file_is_for_one_of_the_machines_of_the_tag(
    bench: Bench, platforms: str, found: list[str]
) -> None:
    files = {
        "demo/arm.so": bench.module(machine=183, name="arm.so"),
        "demo/intel.so": bench.module(machine=62, name="intel.so"),
    }
    findings = bench.find(platforms, files)
    assert [(one.kind, one.member) for one in findings] == [
        (FindingKind.MACHINE, member) for member in found
    ]


@pytest.mark.parametrize("platforms", ["win_amd64", "macosx_11_0_arm64.macosx_12_0_x86_64"])
def test_wheel_for_another_system_is_not_judged(bench: Bench, platforms: str) -> None:
    (finding,) = bench.find(platforms, {})
    assert (finding.kind, finding.severity) == (FindingKind.NOT_CHECKED, Severity.WARNING)


def test_one_finding_tells_of_all_folders_that_are_looked_into(bench: Bench) -> None:
    files = {
        "demo/a.so": bench.module("-Wl,-rpath,$ORIGIN/../lib:/opt/a:/opt/b", name="a.so"),
        "demo/b.so": bench.module("-Wl,-rpath,/opt/c:", name="b.so"),
        "demo/c.so": bench.module("-Wl,-rpath,$ORIGIN", name="c.so"),
    }
    (finding,) = bench.find("linux_x86_64", files)
    assert finding.kind is FindingKind.RPATH
    assert (
        "'demo/a.so' looks for libraries in '/opt/a', not beside itself (1 more" in finding.message
    )
    assert finding.details == ("demo/a.so: /opt/a:/opt/b", "demo/b.so: /opt/c:.")


@pytest.mark.parametrize(
    ("name", "severity"),
    [
        ("libtorch_cpu-0a1b2c3d.so", Severity.ERROR),
        ("libcuda.so.1", Severity.ERROR),
        ("libcudart-0a1b2c3d.so.13", Severity.WARNING),
        ("libtorch_c_dlpack_addon_torch24-cuda.so", None),
        ("libnccl_ep.so", None),
        ("libibverbs-0a1b2c3d.so.1", None),
    ],
)
def test_library_that_others_bring_is_found_inside(
    bench: Bench, name: str, severity: Severity | None
) -> None:
    findings = bench.find("linux_x86_64", {f"demo.libs/{name}": bench.module()})
    assert [(one.kind, one.severity) for one in findings] == (
        [(FindingKind.GRAFTED_LIBRARY, severity)] if severity else []
    )
