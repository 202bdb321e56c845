"""Check a wheel's GPU code: what was asked for, what a GPU needs, what is known to go wrong."""

from __future__ import annotations

import dataclasses
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Final

from wheelyard.abi.gpu_code import GpuCode
from wheelyard.model.cell import GpuArch
from wheelyard.model.gpu_targets import How, gpu_coverage
from wheelyard.model.known_libraries import bringer
from wheelyard.wheels.findings import Finding, FindingKind, Severity

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from wheelyard.model.gpu_targets import GpuCoverage

# Reports of wrong results on B300: causal-conv1d issue 105. The same chip runs code for 10.0.
_B300: Final = GpuArch(10, 3)


def expected_gpu_findings(
    gpu_code: Mapping[str, GpuCode], wanted: tuple[GpuArch, ...]
) -> Iterator[Finding]:
    """Compare every member that has GPU code with the targets that were asked for."""
    asked = GpuCode(
        cubins=frozenset(dataclasses.replace(arch, ptx=False) for arch in wanted),
        ptx=frozenset(dataclasses.replace(arch, ptx=False) for arch in wanted if arch.ptx),
    )
    if asked and not gpu_code:
        message = f"There is no GPU code in it; asked for: {asked}. Look into the build's log"
        yield Finding(kind=FindingKind.GPU_CODE_MISSING, message=message)
    for member, code in sorted(gpu_code.items()):
        for kind, different, what in (
            (FindingKind.GPU_CODE_MISSING, asked - code, "has no GPU code for"),
            (FindingKind.GPU_CODE_UNASKED, code - asked, "has unasked GPU code for"),
        ):
            if different:
                message = f"{member!r} {what} {different}"
                yield Finding(kind=kind, message=message, member=member)


def gpu_findings_for(
    arch: GpuArch, gpu_code: Mapping[str, GpuCode], severity: Severity = Severity.ERROR
) -> Iterator[Finding]:
    """Tell what a GPU of this compute capability cannot run, or only after compiling it.

    ``severity`` is for a wheel of which nothing runs; where some of it does, the package may know
    not to use the rest.
    """
    for coverage in gpu_coverage(gpu_code, [arch]):
        if coverage.is_partial:
            yield _partial_finding(coverage, gpu_code)
        elif coverage.how is How.NONE:
            yield _uncovered_finding(coverage, gpu_code, severity)
        if any(target.ptx for target in coverage.by):
            yield _ptx_finding(coverage)


def uncoded_gpu_findings(
    registering: Iterable[str], gpu_code: Mapping[str, GpuCode], *, severity: Severity
) -> Iterator[Finding]:
    """Find files that hand GPU code to the CUDA runtime, by member, and have none."""
    for member in registering:
        if member not in gpu_code:
            yield Finding(
                kind=FindingKind.GPU_CODE_MISSING,
                message=(
                    f"{member!r} registers GPU code with the CUDA runtime, but there is no GPU "
                    "code in it: its kernels cannot run. Look into how it was stripped or repaired"
                ),
                member=member,
                severity=severity,
            )


def suspicious_gpu_findings(gpu_code: Mapping[str, GpuCode]) -> Iterator[Finding]:
    """Find code that runs, but is reported to compute wrong results."""
    members = [
        member
        for member, code in sorted(gpu_code.items())
        if _B300 in code.cubins and bringer(PurePosixPath(member).name) is None
    ]
    if members:
        has_other = all(GpuArch(10, 0) in gpu_code[member].cubins for member in members)
        instead = "leave 10.3 out" if has_other else "build for 10.0 instead"
        more = f" and {len(members) - 1} more have" if len(members) > 1 else " has"
        yield Finding(
            kind=FindingKind.GPU_CODE_SUSPICIOUS,
            message=(
                f"{members[0]!r}{more} machine code for 10.3 (B300); what nvcc 13 makes for it is "
                "reported to compute wrong results. Compare them on a B300 with those of code for "
                f"10.0, which runs there too, or {instead}"
            ),
            member=members[0],
            severity=Severity.WARNING,
            details=tuple(members),
        )


def _uncovered_finding(
    coverage: GpuCoverage, gpu_code: Mapping[str, GpuCode], severity: Severity
) -> Finding:
    return Finding(
        kind=FindingKind.GPU_CODE_MISSING,
        message=(
            f"Nothing in it runs on {coverage.gpu} ({coverage.arch}): {_held(gpu_code)}. "
            f"Take a wheel that was built for {coverage.arch}, or build one"
        ),
        severity=severity,
        details=coverage.missing_in,
    )


def _partial_finding(coverage: GpuCoverage, gpu_code: Mapping[str, GpuCode]) -> Finding:
    members = coverage.missing_in
    named = ", ".join(repr(member) for member in members)
    missing = {member: gpu_code[member] for member in members}
    return Finding(
        kind=FindingKind.GPU_CODE_MISSING,
        message=(
            f"On {coverage.gpu} ({coverage.arch}) {named} cannot be used: {_held(missing)}. "
            "The rest of the wheel runs there"
        ),
        member=members[0],
        severity=Severity.WARNING,
        details=members,
    )


def _ptx_finding(coverage: GpuCoverage) -> Finding:
    used = ", ".join(str(target) for target in coverage.by if target.ptx)
    return Finding(
        kind=FindingKind.GPU_CODE_BY_PTX,
        message=(
            f"On {coverage.gpu} ({coverage.arch}) it runs only after the driver has compiled it, "
            f"from {used}: the first use is slow, and the driver must be at least as new as the "
            "compiler that wrote the PTX"
        ),
        severity=Severity.WARNING,
    )


def _held(gpu_code: Mapping[str, GpuCode]) -> str:
    every = GpuCode(
        cubins=frozenset(arch for code in gpu_code.values() for arch in code.cubins),
        ptx=frozenset(arch for code in gpu_code.values() for arch in code.ptx),
    )
    return f"its GPU code is for {every}"
