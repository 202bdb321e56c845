"""What a check compares a wheel with, and what it reports."""

from __future__ import annotations

import dataclasses
from enum import StrEnum
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from packaging.requirements import Requirement
    from packaging.tags import Tag
    from packaging.utils import NormalizedName
    from packaging.version import Version

    from wheelyard.abi.gpu_code import GpuCode
    from wheelyard.model.cell import GpuArch, Machine

REPORT_FORMAT: Literal[1] = 1


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Expectation:
    """What the recipe and the job say that the wheel is."""

    name: NormalizedName
    version: Version
    """With its local part."""
    tag: Tag
    """Python and abi tag are met exactly; any platform tag that older systems take will do, and
    ``linux_x86_64`` is met by every one of that machine."""
    build_tag: str | None
    extensions: tuple[str, ...]
    """Importable modules that are compiled, for example ``causal_conv1d_cuda``."""
    top_levels: frozenset[str]
    requires: tuple[Requirement, ...]
    """All that METADATA declares, the torch pin included."""
    entry_points: frozenset[str] = frozenset()
    """For example ``console_scripts:nothing``."""
    scripts: frozenset[str] = frozenset()
    gpu_archs: tuple[GpuArch, ...] = ()
    machine: Machine


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Surroundings:
    """What the wheel is going to be installed beside."""

    torch_site: Path
    """The folder that holds ``torch`` and ``nvidia``."""
    interpreter: Path
    """The Python program itself, for the Python of the wheel's tag."""


class FindingKind(StrEnum):
    """What is wrong."""

    NOT_A_WHEEL = "not-a-wheel"
    UNSAFE_MEMBER = "unsafe-member"
    DAMAGED_MEMBER = "damaged-member"
    NAME = "name"
    TAG = "tag"
    BUILD_TAG = "build-tag"
    RECORD = "record"
    METADATA = "metadata"
    REQUIREMENT = "requirement"
    TOP_LEVEL = "top-level"
    ENTRY_POINT = "entry-point"
    SCRIPT = "script"
    DATA_FILE = "data-file"
    PATH_FILE = "path-file"
    NO_EXTENSIONS = "no-extensions"
    MISSING_EXTENSION = "missing-extension"
    WRONG_PYTHON = "wrong-python"
    MACHINE = "machine"
    DAMAGED_BINARY = "damaged-binary"
    GRAFTED_LIBRARY = "grafted-library"
    RPATH = "rpath"
    PLATFORM_TAG = "platform-tag"
    GPU_CODE_MISSING = "gpu-code-missing"
    GPU_CODE_UNASKED = "gpu-code-unasked"
    MISSING_LIBRARY = "missing-library"
    MISSING_SYMBOL = "missing-symbol"
    NOT_CHECKED = "not-checked"


class Severity(StrEnum):
    """Whether the wheel may be shipped all the same."""

    ERROR = "error"
    WARNING = "warning"


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """One thing that is wrong with a wheel."""

    kind: FindingKind
    message: str
    severity: Severity = Severity.ERROR
    member: str = ""
    """The file inside the wheel that it is about."""
    details: tuple[str, ...] = ()
    """For example every missing symbol that has the same reason."""

    def to_json(self) -> dict[str, object]:
        return {
            "details": list(self.details),
            "kind": str(self.kind),
            "member": self.member,
            "message": self.message,
            "severity": str(self.severity),
        }


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class CheckReport:
    """Everything that a check found out about one wheel."""

    filename: str
    sha256: str
    findings: tuple[Finding, ...]
    gpu_code: Mapping[str, GpuCode]
    """By member; compiled files without GPU code are left out."""
    external_libraries: tuple[str, ...]
    """What the wheel needs and does not bring."""
    platform_tag: str
    """As the filename has it, for example ``manylinux_2_28_x86_64``."""

    @property
    def passed(self) -> bool:
        return not any(finding.severity is Severity.ERROR for finding in self.findings)

    def describe(self) -> str:
        """Return the report for people, findings first."""
        verdict = "passed" if self.passed else "must not be used"
        lines = [f"{self.filename}: {verdict}"]
        for finding in self.findings:
            lines.append(f"  {finding.severity}: {finding.kind}: {finding.message}")
            lines += [f"    {detail}" for detail in finding.details]
        lines += [f"  GPU code: {member}: {code}" for member, code in self.gpu_targets.items()]
        if self.external_libraries:
            lines.append(f"  needs: {', '.join(self.external_libraries)}")
        return "\n".join(lines)

    @property
    def gpu_targets(self) -> Mapping[str, str]:
        """For example ``8.0 9.0 PTX 9.0`` for each member."""
        return {member: str(code) for member, code in self.gpu_code.items()}

    def to_json(self) -> dict[str, object]:
        return {
            "external_libraries": list(self.external_libraries),
            "filename": self.filename,
            "findings": [finding.to_json() for finding in self.findings],
            "format": REPORT_FORMAT,
            "gpu_code": {
                member: {
                    "cubins": [str(arch) for arch in sorted(code.cubins)],
                    "ptx": [str(arch) for arch in sorted(code.ptx)],
                }
                for member, code in sorted(self.gpu_code.items())
            },
            "passed": self.passed,
            "platform_tag": self.platform_tag,
            "sha256": self.sha256,
        }
