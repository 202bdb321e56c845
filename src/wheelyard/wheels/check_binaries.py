"""Check a wheel's compiled files: for which machine, Python, system, GPU and libraries they are."""

from __future__ import annotations

import dataclasses
import re
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Final

from wheelyard.abi.elf import ElfError, ElfFile
from wheelyard.abi.gpu_code import GpuCode, gpu_code_of
from wheelyard.model.cell import MACHINES
from wheelyard.model.known_libraries import Bringer, bringer
from wheelyard.wheels.check_contents import installed_files
from wheelyard.wheels.check_gpu import expected_gpu_findings
from wheelyard.wheels.findings import Finding, FindingKind, Severity

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

    from wheelyard.wheels.findings import Expectation
    from wheelyard.wheels.labels import Labels
    from wheelyard.wheels.unpack import UnpackedMember

_SHARED_OBJECT = re.compile(r".+\.so(?:\.[\w.]+)?")
_REGISTER: Final = "__cudaRegisterFatBinary"
_LINKER_SCRIPT = re.compile(rb"\s*(?:/\*|INPUT|GROUP|OUTPUT_FORMAT)")
_ELSEWHERE = re.compile(r"win|macosx|ios|android")


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


def gpu_code_of_members(binaries: Iterable[Binary]) -> Mapping[str, GpuCode]:
    """Return the GPU code of each file that has any."""
    return {binary.member: binary.gpu_code for binary in binaries if binary.gpu_code}


def registering_members(binaries: Iterable[Binary]) -> tuple[str, ...]:
    """Return the files that hand GPU code to the CUDA runtime."""
    return tuple(
        binary.member
        for binary in binaries
        if any(one.name == _REGISTER for one in binary.elf.undefined_symbols())
    )


def impostor_findings(members: Mapping[str, UnpackedMember]) -> Iterator[Finding]:
    """Find files that are called modules or libraries, and that nothing can load."""
    for name, member in sorted(members.items()):
        is_library = _SHARED_OBJECT.fullmatch(PurePosixPath(name).name) is not None
        if is_library and member.elf_path is None and not _LINKER_SCRIPT.match(member.beginning):
            what = "is empty" if not member.size else "is not an ELF file"
            if member.beginning.startswith(b"version https://git-lfs"):
                what = "is the pointer of git-lfs to a file that was not fetched, not an ELF file"
            yield Finding(
                kind=FindingKind.DAMAGED_BINARY,
                message=f"{name!r} {what}: Python cannot import it. Build the wheel again",
                member=name,
            )


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
    yield from _rpath_findings(binaries, severity)
    for binary in binaries:
        yield from _machine_findings(binary, labels)
        yield from _graft_findings(binary, labels, severity)
    if expectation is not None and binaries:
        by_member = {binary.member: binary for binary in binaries}
        files = installed_files(by_member, labels)
        for module in expectation.extensions:
            yield from _extension_findings(module, files, by_member)
        for library in sorted({*expectation.libraries} - {*files}):
            message = f"The library {library!r} is not there"
            yield Finding(kind=FindingKind.MISSING_EXTENSION, message=message)
    if expectation is not None:
        yield from expected_gpu_findings(gpu_code_of_members(binaries), expectation.gpu_archs)


def _compiled_or_not(
    binaries: tuple[Binary, ...],
    labels: Labels,
    expectation: Expectation | None,
    severity: Severity,
) -> Iterator[Finding]:
    is_for_any = all(tag.platform == "any" for tag in labels.tags)
    if labels.tags and all(_ELSEWHERE.match(tag.platform) for tag in labels.tags):
        message = "It is not for Linux; compiled files of other systems are not judged here"
        yield Finding(kind=FindingKind.NOT_CHECKED, message=message, severity=Severity.WARNING)
        return
    expected = () if expectation is None else (*expectation.extensions, *expectation.libraries)
    if not binaries and expected:
        message = f"Nothing in it is compiled; expected: {', '.join(expected)}"
        yield Finding(kind=FindingKind.NO_EXTENSIONS, message=message)
    elif not binaries and not is_for_any:
        message = (
            "Nothing in it is compiled, though its tag is for one machine: look into its build's "
            "log for a skipped extension"
        )
        yield Finding(kind=FindingKind.NO_EXTENSIONS, message=message, severity=severity)
    elif binaries and labels.tags and is_for_any:
        message = f"Its tag is for any machine, but {binaries[0].member!r} is compiled for one"
        yield Finding(kind=FindingKind.TAG, message=message, severity=severity)


def _rpath_findings(binaries: Iterable[Binary], severity: Severity) -> Iterator[Finding]:
    """Yield one finding about all files that look outside of where the wheel is installed."""
    outside = {
        binary.member: tuple(dict.fromkeys(_outside(binary.elf)))
        for binary in binaries
        if any(_outside(binary.elf))
    }
    if outside:
        member, parts = next(iter(outside.items()))
        more = f" ({len(outside) - 1} more files are like that)" if len(outside) > 1 else ""
        yield Finding(
            kind=FindingKind.RPATH,
            message=(
                f"{member!r} looks for libraries in {parts[0]!r}, not beside itself{more}: on "
                "other machines that folder is missing, or holds other libraries. Take it out of "
                "the RPATH"
            ),
            member=member,
            severity=severity,
            details=tuple(f"{name}: {':'.join(parts)}" for name, parts in outside.items()),
        )


def _outside(elf: ElfFile) -> Iterator[str]:
    """Yield the folders that do not move with the wheel."""
    for parts in (elf.rpath, elf.runpath):
        # The loader takes no notice of a path that is empty, but does of an empty part of one.
        for part in parts if any(parts) else ():
            if not part.startswith(("$ORIGIN", "${ORIGIN}")):
                yield part or "."


def _machine_findings(binary: Binary, labels: Labels) -> Iterator[Finding]:
    promised = [
        machine
        for machine in MACHINES
        if any(tag.platform.endswith(f"_{machine}") for tag in labels.tags)
    ]
    if promised and binary.elf.machine not in promised:
        found = binary.elf.machine or "another machine"
        yield Finding(
            kind=FindingKind.MACHINE,
            message=(
                f"{binary.member!r} is compiled for {found}, the tag says "
                f"{' and '.join(promised)}. Take the wheel for {found}, or build it again"
            ),
            member=binary.member,
        )


def _graft_findings(binary: Binary, labels: Labels, severity: Severity) -> Iterator[Finding]:
    """Find libraries that come with torch or the driver, and must be in a process only once.

    A private copy of a CUDA library works, at the price of its size: other people's wheels may.
    """
    filename = PurePosixPath(binary.member).name
    if labels.name is None or labels.name == "torch" or labels.name.startswith("nvidia-"):
        return
    known = bringer(filename)
    if known is None or known is Bringer.FABRIC:
        return
    harm = "a second copy costs its size, and may not suit the first"
    if known is not Bringer.CUDA:
        severity = Severity.ERROR
        harm = "two copies in one process do not work together"
    yield Finding(
        kind=FindingKind.GRAFTED_LIBRARY,
        message=(
            f"{filename!r} is inside the wheel; {known} brings it, and {harm}. "
            "Exclude it from repair"
        ),
        member=binary.member,
        severity=severity,
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
