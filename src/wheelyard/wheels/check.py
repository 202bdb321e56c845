"""Check a wheel without installing it: labels, contents, compiled files, GPU code, symbols."""

from __future__ import annotations

import dataclasses
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from wheelyard.errors import CheckError
from wheelyard.files import file_sha256
from wheelyard.wheels.archive import ArchiveError, open_wheel
from wheelyard.wheels.check_binaries import (
    binary_findings,
    external_libraries,
    gpu_code_of_members,
    impostor_findings,
    read_binaries,
    registering_members,
)
from wheelyard.wheels.check_contents import content_findings, size_findings
from wheelyard.wheels.check_gpu import (
    gpu_findings_for,
    suspicious_gpu_findings,
    uncoded_gpu_findings,
)
from wheelyard.wheels.check_here import here_findings
from wheelyard.wheels.check_labels import (
    expected_label_findings,
    label_findings,
    record_findings,
)
from wheelyard.wheels.check_loading import LoadingCheck
from wheelyard.wheels.check_policy import policy_findings
from wheelyard.wheels.check_python import python_findings
from wheelyard.wheels.check_requirements import requirement_findings
from wheelyard.wheels.findings import (
    CheckReport,
    Expectation,
    Finding,
    FindingKind,
    Severity,
    Surroundings,
)
from wheelyard.wheels.fitting import fit
from wheelyard.wheels.labels import read_labels
from wheelyard.wheels.unpack import unpack

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from wheelyard.model.cell import GpuArch
    from wheelyard.wheels.archive import UnsafeMember, WheelArchive
    from wheelyard.wheels.check_binaries import Binary
    from wheelyard.wheels.check_here import Here
    from wheelyard.wheels.labels import Labels
    from wheelyard.wheels.unpack import Unpacked

__all__ = [
    "CheckReport",
    "Expectation",
    "Finding",
    "FindingKind",
    "Severity",
    "Surroundings",
    "check",
    "require_passed",
]


def check(
    wheel: Path,
    *,
    expectation: Expectation | None,
    surroundings: Surroundings | None,
    scratch: Path,
    candidates: Iterable[Surroundings] = (),
    here: Here | None = None,
    gpus: Sequence[GpuArch] = (),
) -> CheckReport:
    """Find everything that is wrong with a wheel.

    Without ``expectation`` only what is wrong for any wheel is found. It has to load in
    ``surroundings``, or, where those are not given, in any of the ``candidates``; with neither, no
    symbol is looked for. Compiled files are unpacked into a folder in ``scratch`` for the while.
    """
    try:
        sha256 = file_sha256(wheel)
    except OSError as error:
        msg = f"{str(wheel)!r} cannot be read: {error.strerror}. Name an existing wheel."
        raise CheckError(msg) from error
    scratch.mkdir(parents=True, exist_ok=True)
    try:
        with (
            open_wheel(wheel) as archive,
            tempfile.TemporaryDirectory(prefix="check-", dir=scratch) as folder,
        ):
            against = _Against(
                expectation=expectation,
                surroundings=surroundings,
                candidates=candidates,
                here=here,
                gpus=gpus,
            )
            return _inspect(archive, sha256, against, Path(folder))
    except ArchiveError as error:
        return CheckReport(
            filename=wheel.name,
            sha256=sha256,
            findings=(Finding(kind=FindingKind.NOT_A_WHEEL, message=str(error)),),
            gpu_code={},
            external_libraries=(),
            platform_tag="",
        )


def require_passed(report: CheckReport) -> None:
    """Raise when the wheel must not be shipped, with everything that was found."""
    if not report.passed:
        found = "\n".join(f"  {one.severity}: {one.message}" for one in report.findings)
        msg = f"{report.filename} must not be shipped:\n{found}"
        raise CheckError(msg)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class _Against:
    """What a wheel is compared with."""

    expectation: Expectation | None
    surroundings: Surroundings | None
    candidates: Iterable[Surroundings]
    here: Here | None
    gpus: Sequence[GpuArch]

    @property
    def minor(self) -> Severity:
        """Of what does no harm to who installs a wheel: an error in ours only."""
        return Severity.WARNING if self.expectation is None else Severity.ERROR

    @property
    def has_torch(self) -> bool:
        return self.surroundings is not None or self.candidates != ()


def _inspect(archive: WheelArchive, sha256: str, against: _Against, folder: Path) -> CheckReport:
    labels = read_labels(archive)
    unpacked = unpack(archive, folder, algorithms=labels.record_algorithms)
    binaries, damaged = read_binaries(unpacked.elf_paths)
    loading = LoadingCheck(binaries, labels, is_ours=against.expectation is not None)
    placed = fit(loading, against.surroundings, against.candidates, labels)
    gpu_code, needs = gpu_code_of_members(binaries), external_libraries(binaries)
    findings = [
        *_packaging_findings(archive, labels, unpacked, against),
        *damaged,
        *impostor_findings(unpacked.members),
        *_binary_findings(binaries, labels, against),
        *uncoded_gpu_findings(
            registering_members(binaries),
            gpu_code,
            severity=Severity.ERROR if against.gpus else against.minor,
        ),
        *suspicious_gpu_findings(gpu_code),
        *(found for gpu in against.gpus for found in gpu_findings_for(gpu, gpu_code)),
        *placed.findings,
        *(here_findings(labels, needs, against.here) if against.here is not None else ()),
    ]
    return CheckReport(
        filename=archive.path.name,
        sha256=sha256,
        findings=tuple(findings),
        gpu_code=gpu_code,
        external_libraries=needs,
        platform_tag=".".join(sorted({tag.platform for tag in labels.tags})),
        torch=placed.torch,
        files=placed.files,
        links_torch=loading.links_torch,
        fits=placed.fits,
    )


def _packaging_findings(
    archive: WheelArchive, labels: Labels, unpacked: Unpacked, against: _Against
) -> Iterator[Finding]:
    expectation, minor = against.expectation, against.minor
    yield from map(_unsafe_finding, archive.unsafe)
    yield from label_findings(labels, severity=minor)
    yield from record_findings(labels, unpacked)
    if expectation is not None:
        yield from expected_label_findings(labels, expectation)
    yield from content_findings(archive.members, labels, expectation, severity=minor)
    yield from size_findings(archive.path.stat().st_size, severity=minor)


def _binary_findings(
    binaries: tuple[Binary, ...], labels: Labels, against: _Against
) -> Iterator[Finding]:
    minor = against.minor
    yield from binary_findings(binaries, labels, against.expectation, severity=minor)
    for finding in policy_findings(binaries, labels, severity=minor):
        # Beside a torch it is known which libraries are there; that is said file by file.
        if finding.kind is not FindingKind.UNPROMISED_LIBRARY or not against.has_torch:
            yield finding
    yield from python_findings(binaries, labels, severity=minor)
    yield from requirement_findings(labels, external_libraries(binaries), severity=minor)


def _unsafe_finding(member: UnsafeMember) -> Finding:
    message = f"The member {member}"
    return Finding(kind=FindingKind.UNSAFE_MEMBER, message=message, member=member.name)
