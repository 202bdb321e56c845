"""Check a wheel's compiled files: for which machine, Python, system, GPU and libraries they are."""

from __future__ import annotations

import dataclasses
import re
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Final

from wheelyard.abi.elf import ElfError, ElfFile
from wheelyard.abi.gpu_code import GpuCode, gpu_code_of
from wheelyard.wheels.check_contents import installed_files
from wheelyard.wheels.check_labels import promised_glibc
from wheelyard.wheels.findings import Finding, FindingKind, Severity

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

    from wheelyard.model.cell import GpuArch
    from wheelyard.wheels.findings import Expectation
    from wheelyard.wheels.labels import Labels

_SHARED_OBJECT = re.compile(r".+\.so(?:\.[\w.]+)?")
_PYTHON_SUFFIX = re.compile(r".+\.cpython-(\d+[a-z]*)-\w+-linux-gnu\.so")
_CPYTHON_TAG = re.compile(r"cp(\d+t?)")
_GLIBC = re.compile(r"GLIBC_(\d+)\.(\d+)(?:\.\d+)?")
# Asks for the loader of glibc 2.36, though it is not written like a version.
_RELR: Final = "GLIBC_ABI_DT_RELR"

_TORCH_LIBRARY = re.compile(r"lib(?:torch(?:_\w+)?|c10(?:_\w+)?|caffe2\w*|shm)[.-].+")
_DRIVER_LIBRARY = re.compile(r"libcuda[.-].+")
_CUDA_LIBRARY = re.compile(
    r"lib(?:cud\w+|cublas\w*|cufft\w*|curand|cusolver\w*|cusparse\w*|cupti|cufile\w*|nccl\w*|nv\w+)"
    r"[.-].+"
)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Binary:
    """One file that the dynamic loader can load."""

    member: str
    path: Path
    elf: ElfFile
    gpu_code: GpuCode

    @property
    def is_shared_object(self) -> bool:
        return _SHARED_OBJECT.fullmatch(PurePosixPath(self.member).name) is not None


def read_binaries(elf_paths: Mapping[str, Path]) -> tuple[tuple[Binary, ...], tuple[Finding, ...]]:
    """Open every unpacked ELF file; object files and GPU binaries are not for the loader."""
    binaries: list[Binary] = []
    findings: list[Finding] = []
    for member, path in sorted(elf_paths.items()):
        try:
            elf = ElfFile.open(path)
            if elf.is_dynamic:
                elf.read_through()
                code = gpu_code_of(elf)
                binaries.append(Binary(member=member, path=path, elf=elf, gpu_code=code))
        except ElfError as error:
            message = str(error).replace(str(path), member)
            findings.append(
                Finding(kind=FindingKind.DAMAGED_BINARY, message=message, member=member)
            )
    return tuple(binaries), tuple(findings)


def external_libraries(binaries: Iterable[Binary]) -> tuple[str, ...]:
    """Return what the wheel needs and does not bring."""
    binaries = tuple(binaries)
    own = {PurePosixPath(binary.member).name for binary in binaries}
    return tuple(sorted({name for binary in binaries for name in binary.elf.needed} - own))


def binary_findings(
    binaries: Iterable[Binary],
    labels: Labels,
    expectation: Expectation | None,
    *,
    severity: Severity,
) -> Iterator[Finding]:
    """Check what needs no library beside the wheel."""
    binaries = tuple(binaries)
    yield from _compiled_or_not(binaries, labels, expectation, severity)
    for binary in binaries:
        yield from _rpath_findings(binary, severity)
        yield from _machine_findings(binary, labels)
        yield from _graft_findings(binary, labels, severity)
        yield from _glibc_findings(binary, labels, severity)
        yield from _python_findings(binary, labels)
    if expectation is not None and binaries:
        by_member = {binary.member: binary for binary in binaries}
        files = installed_files(by_member, labels)
        for module in expectation.extensions:
            yield from _extension_findings(module, files, by_member)
    if expectation is not None:
        yield from _gpu_findings(binaries, expectation.gpu_archs)


def _compiled_or_not(
    binaries: tuple[Binary, ...],
    labels: Labels,
    expectation: Expectation | None,
    severity: Severity,
) -> Iterator[Finding]:
    is_for_any = all(tag.platform == "any" for tag in labels.tags)
    if not binaries and expectation is not None and expectation.extensions:
        message = f"Nothing in it is compiled; expected: {', '.join(expectation.extensions)}"
        yield Finding(kind=FindingKind.NO_EXTENSIONS, message=message)
    elif not binaries and not is_for_any:
        message = "Nothing in it is compiled, though its tag is for one machine"
        yield Finding(kind=FindingKind.NO_EXTENSIONS, message=message, severity=severity)
    elif binaries and labels.tags and is_for_any:
        message = f"Its tag is for any machine, but {binaries[0].member!r} is compiled for one"
        yield Finding(kind=FindingKind.TAG, message=message, severity=severity)


def _rpath_findings(binary: Binary, severity: Severity) -> Iterator[Finding]:
    for part in dict.fromkeys((*binary.elf.rpath, *binary.elf.runpath)):
        if not part.startswith(("$ORIGIN", "${ORIGIN}")):
            yield Finding(
                kind=FindingKind.RPATH,
                message=f"{binary.member!r} looks for libraries in {part!r}, not beside itself",
                member=binary.member,
                severity=severity,
            )


def _machine_findings(binary: Binary, labels: Labels) -> Iterator[Finding]:
    if labels.machine is not None and binary.elf.machine != labels.machine:
        found = binary.elf.machine or "another machine"
        yield Finding(
            kind=FindingKind.MACHINE,
            message=f"{binary.member!r} is compiled for {found}, the tag says {labels.machine}",
            member=binary.member,
        )


def _graft_findings(binary: Binary, labels: Labels, severity: Severity) -> Iterator[Finding]:
    """Find libraries that come with torch or the driver, and must be in a process only once.

    A private copy of a CUDA library works, at the price of its size: other people's wheels may.
    """
    filename = PurePosixPath(binary.member).name
    if labels.name is None or labels.name == "torch" or labels.name.startswith("nvidia-"):
        return
    if _TORCH_LIBRARY.fullmatch(filename) or _DRIVER_LIBRARY.fullmatch(filename):
        severity = Severity.ERROR
    elif not _CUDA_LIBRARY.fullmatch(filename):
        return
    yield Finding(
        kind=FindingKind.GRAFTED_LIBRARY,
        message=f"{filename!r} is inside the wheel; torch or the driver brings it",
        member=binary.member,
        severity=severity,
    )


def _glibc_findings(binary: Binary, labels: Labels, severity: Severity) -> Iterator[Finding]:
    promises = [promise for tag in labels.tags if (promise := promised_glibc(tag.platform))]
    needed = max(_needed_glibc(binary.elf), default=None)
    if promises and needed is not None and needed > min(promises):
        promised = ".".join(str(part) for part in min(promises))
        yield Finding(
            kind=FindingKind.PLATFORM_TAG,
            message=(
                f"{binary.member!r} needs glibc {needed[0]}.{needed[1]}, "
                f"the platform tag promises that {promised} is enough"
            ),
            member=binary.member,
            severity=severity,
        )


def _needed_glibc(elf: ElfFile) -> Iterator[tuple[int, int]]:
    for versions in elf.version_needs.values():
        for version in versions:
            match = _GLIBC.fullmatch(version)
            if match:
                yield int(match[1]), int(match[2])
            elif version == _RELR:
                yield 2, 36


def _python_findings(binary: Binary, labels: Labels) -> Iterator[Finding]:
    match = _PYTHON_SUFFIX.fullmatch(binary.member)
    wanted = {found[1] for tag in labels.tags if (found := _CPYTHON_TAG.fullmatch(tag.abi))}
    if match and wanted and match[1] not in wanted:
        yield Finding(
            kind=FindingKind.WRONG_PYTHON,
            message=f"{binary.member!r} is for cp{match[1]}, the tag for cp{', cp'.join(wanted)}",
            member=binary.member,
        )


def _extension_findings(
    module: str, files: Mapping[str, str], by_member: Mapping[str, Binary]
) -> Iterator[Finding]:
    prefix = f"{module.replace('.', '/')}."
    found = [by_member[files[path]] for path in sorted(files) if path.startswith(prefix)]
    found = [binary for binary in found if binary.member.endswith(".so")]
    start = f"PyInit_{module.rpartition('.')[2]}"
    if not found:
        message = f"The extension {module!r} is not there"
        yield Finding(kind=FindingKind.MISSING_EXTENSION, message=message)
    elif not any(binary.elf.exports(start) for binary in found):
        message = f"{found[0].member!r} cannot be imported as {module!r}: it has no {start}"
        yield Finding(kind=FindingKind.MISSING_EXTENSION, message=message, member=found[0].member)


def _gpu_findings(binaries: Iterable[Binary], wanted: tuple[GpuArch, ...]) -> Iterator[Finding]:
    """Compare every file that has GPU code with the targets that were asked for."""
    coded = [binary for binary in binaries if binary.gpu_code]
    asked = GpuCode(
        cubins=frozenset(dataclasses.replace(arch, ptx=False) for arch in wanted),
        ptx=frozenset(dataclasses.replace(arch, ptx=False) for arch in wanted if arch.ptx),
    )
    if asked and not coded:
        message = f"There is no GPU code in it; asked for: {asked}"
        yield Finding(kind=FindingKind.GPU_CODE_MISSING, message=message)
    for binary in coded:
        for kind, code, what in (
            (FindingKind.GPU_CODE_MISSING, asked - binary.gpu_code, "has no GPU code for"),
            (FindingKind.GPU_CODE_UNASKED, binary.gpu_code - asked, "has unasked GPU code for"),
        ):
            if code:
                message = f"{binary.member!r} {what} {code}"
                yield Finding(kind=kind, message=message, member=binary.member)
