"""Check a wheel without installing it: labels, contents, compiled files, GPU code, symbols."""

from __future__ import annotations

import hashlib
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from wheelyard.errors import CheckError
from wheelyard.wheels.archive import ArchiveError, open_wheel
from wheelyard.wheels.check_binaries import binary_findings, external_libraries, read_binaries
from wheelyard.wheels.check_contents import content_findings
from wheelyard.wheels.check_labels import (
    expected_label_findings,
    label_findings,
    record_findings,
)
from wheelyard.wheels.check_symbols import symbol_findings
from wheelyard.wheels.findings import (
    CheckReport,
    Expectation,
    Finding,
    FindingKind,
    Severity,
    Surroundings,
)
from wheelyard.wheels.labels import read_labels
from wheelyard.wheels.unpack import unpack

if TYPE_CHECKING:
    from wheelyard.wheels.archive import UnsafeMember, WheelArchive

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
) -> CheckReport:
    """Find everything that is wrong with a wheel.

    Without ``expectation`` only what is wrong for any wheel is found; without ``surroundings`` no
    symbol is looked for. Compiled files are unpacked into a folder in ``scratch`` for the while.
    """
    try:
        with wheel.open("rb") as stream:
            sha256 = hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        msg = f"{str(wheel)!r} cannot be read: {error.strerror}. Name an existing wheel."
        raise CheckError(msg) from error
    scratch.mkdir(parents=True, exist_ok=True)
    try:
        with (
            open_wheel(wheel) as archive,
            tempfile.TemporaryDirectory(prefix="check-", dir=scratch) as folder,
        ):
            return _inspect(archive, sha256, expectation, surroundings, Path(folder))
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


def _inspect(
    archive: WheelArchive,
    sha256: str,
    expectation: Expectation | None,
    surroundings: Surroundings | None,
    folder: Path,
) -> CheckReport:
    labels = read_labels(archive)
    rows = labels.record or ()
    algorithms = {row.path: row.digest.partition("=")[0] for row in rows}
    unpacked = unpack(archive, folder, algorithms=algorithms)
    binaries, damaged = read_binaries(unpacked.elf_paths)
    # What does no harm to who installs a wheel is an error in ours only.
    minor = Severity.WARNING if expectation is None else Severity.ERROR
    findings = [
        *(_unsafe_finding(member) for member in archive.unsafe),
        *label_findings(labels, severity=minor),
        *record_findings(labels, unpacked),
        *(expected_label_findings(labels, expectation) if expectation else ()),
        *content_findings(archive.members, labels, expectation, severity=minor),
        *damaged,
        *binary_findings(binaries, labels, expectation, severity=minor),
    ]
    if surroundings is not None:
        findings += symbol_findings(binaries, surroundings)
    return CheckReport(
        filename=archive.path.name,
        sha256=sha256,
        findings=tuple(findings),
        gpu_code={binary.member: binary.gpu_code for binary in binaries if binary.gpu_code},
        external_libraries=external_libraries(binaries),
        platform_tag=".".join(sorted({tag.platform for tag in labels.tags})),
    )


def _unsafe_finding(member: UnsafeMember) -> Finding:
    message = f"The member {member}"
    return Finding(kind=FindingKind.UNSAFE_MEMBER, message=message, member=member.name)
