"""What a check compares a wheel with, and what it reports."""

from __future__ import annotations

import dataclasses
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Literal, Self

from wheelyard.abi.gpu_code import GpuCode
from wheelyard.errors import UsageError
from wheelyard.model.cell import GpuArch

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from packaging.requirements import Requirement
    from packaging.tags import Tag
    from packaging.utils import NormalizedName
    from packaging.version import Version

    from wheelyard.abi.libraries import Library
    from wheelyard.model.cell import Machine

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
    libraries: tuple[str, ...] = ()
    """Compiled files that the package loads itself, as they are installed."""
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

    torch: str
    """The torch build, for example ``2.11.0+cu130``, or the folder where one was found."""
    machine: Machine
    libraries: tuple[Library, ...]
    """Of torch and of the CUDA that it brings."""
    interpreter: Path | None = None
    """The Python program itself; without one, the tables of the Pythons that files are for."""
    beside: tuple[Library, ...] = ()
    """Of other wheels, which load them before."""
    unseen: tuple[str, ...] = ()
    """Names of distributions whose libraries are loaded before, and are not here."""
    is_here: bool = False
    """Whether all libraries of this machine's system count, not only those of every system."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class FileVerdict:
    """Whether one compiled file loads."""

    member: str
    loads: bool | None
    """None where it depends on what the package or the system loads beforehand."""
    why: tuple[str, ...] = ()

    def to_json(self) -> dict[str, object]:
        return {"loads": self.loads, "member": self.member, "why": list(self.why)}

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Self:
        return cls(member=document["member"], loads=document["loads"], why=tuple(document["why"]))


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
    REQUIRES_PYTHON = "requires-python"
    TOP_LEVEL = "top-level"
    ENTRY_POINT = "entry-point"
    SCRIPT = "script"
    DATA_FILE = "data-file"
    PATH_FILE = "path-file"
    NO_EXTENSIONS = "no-extensions"
    MISSING_EXTENSION = "missing-extension"
    WRONG_PYTHON = "wrong-python"
    LIMITED_API = "limited-api"
    MACHINE = "machine"
    DAMAGED_BINARY = "damaged-binary"
    GRAFTED_LIBRARY = "grafted-library"
    RPATH = "rpath"
    PLATFORM_TAG = "platform-tag"
    UNPROMISED_LIBRARY = "unpromised-library"
    PROCESSOR = "processor"
    SIZE = "size"
    GPU_CODE_MISSING = "gpu-code-missing"
    GPU_CODE_UNASKED = "gpu-code-unasked"
    GPU_CODE_BY_PTX = "gpu-code-by-ptx"
    GPU_CODE_SUSPICIOUS = "gpu-code-suspicious"
    MISSING_LIBRARY = "missing-library"
    MISSING_SYMBOL = "missing-symbol"
    TORCH = "torch"
    HERE = "here"
    ALTERNATIVE = "alternative"
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

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Self:
        return cls(
            kind=FindingKind(document["kind"]),
            message=document["message"],
            severity=Severity(document["severity"]),
            member=document["member"],
            details=tuple(document["details"]),
        )


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
    torch: str = ""
    """The torch that it was put beside, for example ``2.11.0+cu130``; empty for none."""
    files: tuple[FileVerdict, ...] = ()
    """Whether each compiled file loads beside that torch."""
    links_torch: bool = False
    fits: tuple[str, ...] | None = None
    """The torch builds beside which it loads, of those that were tried; None where none was."""

    @property
    def passed(self) -> bool:
        return not any(finding.severity is Severity.ERROR for finding in self.findings)

    def to_json(self) -> dict[str, object]:
        return {
            "external_libraries": list(self.external_libraries),
            "filename": self.filename,
            "files": [file.to_json() for file in self.files],
            "findings": [finding.to_json() for finding in self.findings],
            "fits": None if self.fits is None else list(self.fits),
            "format": REPORT_FORMAT,
            "gpu_code": {
                member: {
                    "cubins": [str(arch) for arch in sorted(code.cubins)],
                    "ptx": [str(arch) for arch in sorted(code.ptx)],
                }
                for member, code in sorted(self.gpu_code.items())
            },
            "links_torch": self.links_torch,
            "passed": self.passed,
            "platform_tag": self.platform_tag,
            "sha256": self.sha256,
            "torch": self.torch,
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Self:
        """Rebuild a report from what ``to_json`` returned; ``ValueError`` if it is not that."""
        try:
            if document["format"] != REPORT_FORMAT:
                msg = f"a check report of format {document['format']!r}"
                raise ValueError(msg)
            fits = document["fits"]
            return cls(
                filename=document["filename"],
                sha256=document["sha256"],
                findings=tuple(Finding.from_json(one) for one in document["findings"]),
                gpu_code={
                    member: GpuCode(cubins=_archs(code["cubins"]), ptx=_archs(code["ptx"]))
                    for member, code in document["gpu_code"].items()
                },
                external_libraries=tuple(document["external_libraries"]),
                platform_tag=document["platform_tag"],
                torch=document["torch"],
                files=tuple(FileVerdict.from_json(one) for one in document["files"]),
                links_torch=document["links_torch"],
                fits=None if fits is None else tuple(fits),
            )
        except (KeyError, TypeError, AttributeError, UsageError) as error:
            msg = f"not a check report: {error!r}"
            raise ValueError(msg) from error


def _archs(texts: list[str]) -> frozenset[GpuArch]:
    return frozenset(GpuArch.parse(text) for text in texts)
