"""Check that the systems which a wheel's platform tag promises to run on have what it needs."""

from __future__ import annotations

import dataclasses
import re
import struct
from typing import TYPE_CHECKING, Final

from wheelyard.model.cell import MACHINES
from wheelyard.model.known_libraries import bringer
from wheelyard.model.policies import (
    distributions_with,
    first_distributions,
    glibc_number,
    oldest_policy_with,
    policy_for,
)
from wheelyard.wheels.check_labels import promised_glibc
from wheelyard.wheels.excess import Excess, find_excess, needed_versions, own_libraries
from wheelyard.wheels.findings import Finding, FindingKind, Severity

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from wheelyard.abi.elf import ElfFile
    from wheelyard.model.cell import Machine
    from wheelyard.model.policies import Policy
    from wheelyard.wheels.check_binaries import Binary
    from wheelyard.wheels.labels import Labels

_LOADERS: Final = re.compile(r"ld-linux-.+|ld64\.so\.\d|linux-vdso\.so\.1")
_PYTHON: Final = re.compile(r"libpython\d.*")

# A note's name size, size and type, and its name; then properties: type, size and padded content.
_NOTE: Final = struct.Struct("<III4s")
_PROPERTY: Final = struct.Struct("<III")
_GNU_PROPERTIES, _X86_ISA_NEEDED = 5, 0xC0008002
_ISA_LEVELS: Final = {2: "x86-64-v2", 4: "x86-64-v3", 8: "x86-64-v4"}


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class _Promise:
    """What the oldest platform tag for one machine says."""

    machine: Machine
    glibc: tuple[int, int]
    policy: Policy

    @property
    def tag(self) -> str:
        return f"manylinux_{self.glibc[0]}_{self.glibc[1]}_{self.machine}"


def policy_findings(
    binaries: Iterable[Binary], labels: Labels, *, severity: Severity
) -> Iterator[Finding]:
    """Compare what the compiled files need with what the platform tags promise to suffice."""
    binaries = tuple(binaries)
    if not binaries:
        return
    own = own_libraries(binaries)
    yield from _unjudged(labels)
    yield from _musl_findings(binaries, labels)
    for machine in MACHINES:
        of_machine = [binary for binary in binaries if binary.elf.machine == machine]
        promise = _promise(labels, machine)
        if of_machine and promise is None and severity is Severity.WARNING:
            yield from _unpromising(of_machine, labels, machine, own)
        if of_machine and promise is not None:
            yield from _version_findings(of_machine, promise, own, severity)
            yield from _library_findings(of_machine, promise, own)
            yield from _forbidden_findings(of_machine, promise, severity)
        if of_machine and machine == "x86_64":
            yield from _processor_findings(of_machine, severity)


def _promise(labels: Labels, machine: Machine) -> _Promise | None:
    """Return what the oldest of the tags says: an installer goes by any of them."""
    promises = [
        glibc
        for tag in labels.tags
        if tag.platform.endswith(f"_{machine}") and (glibc := promised_glibc(tag.platform))
    ]
    if not promises:
        return None
    oldest = min(promises)
    return _Promise(machine=machine, glibc=oldest, policy=policy_for(oldest, machine))


def _musl_findings(binaries: Sequence[Binary], labels: Labels) -> Iterator[Finding]:
    platforms = sorted({tag.platform for tag in labels.tags})
    is_for_musl = bool(platforms) and all(one.startswith("musllinux_") for one in platforms)
    for binary in binaries if is_for_musl else ():
        needed = (version for needs in binary.elf.version_needs.values() for version in needs)
        if any(version.startswith("GLIBC_") for version in needed):
            yield Finding(
                kind=FindingKind.PLATFORM_TAG,
                message=(
                    f"{binary.member!r} needs glibc, the tag {platforms[0]!r} promises musl. "
                    "It loads on neither; build it again on the system of its tag"
                ),
                member=binary.member,
            )


def _unjudged(labels: Labels) -> Iterator[Finding]:
    for platform in sorted({tag.platform for tag in labels.tags}):
        if platform.startswith("musllinux_"):
            yield Finding(
                kind=FindingKind.NOT_CHECKED,
                message=f"What the tag {platform!r} promises is not judged here: only manylinux is",
                severity=Severity.WARNING,
            )


def _unpromising(
    binaries: Sequence[Binary], labels: Labels, machine: Machine, own: frozenset[str]
) -> Iterator[Finding]:
    """Say what systems a wheel runs on whose tag leaves that open."""
    if f"linux_{machine}" not in {tag.platform for tag in labels.tags}:
        return
    versions = {version for one in binaries for _, version in needed_versions(one.elf, own)}
    numbers = [number for version in versions if (number := glibc_number(version))]
    policy = oldest_policy_with(versions, machine)
    if numbers:
        glibc = max(numbers)
        would = f"; {policy.name}_{machine} would be true of its symbols" if policy else ""
        yield Finding(
            kind=FindingKind.PLATFORM_TAG,
            message=(
                f"Its tag linux_{machine} promises nothing of the system. It needs glibc "
                f"{_dotted(glibc)}: {_and_newer(glibc)}{would}"
            ),
            severity=Severity.WARNING,
        )


def _version_findings(
    binaries: Sequence[Binary], promise: _Promise, own: frozenset[str], severity: Severity
) -> Iterator[Finding]:
    """Yield one finding for each set of versions, about the file that needs the newest one."""
    sets: dict[str, list[Excess]] = {}
    for excess in find_excess(binaries, promise.policy, glibc=promise.glibc, own=own):
        sets.setdefault(excess.set_name, []).append(excess)
    versions = {one.version for found in sets.values() for one in found}
    policy = oldest_policy_with(versions, promise.machine)
    for _, found in sorted(sets.items()):
        found.sort(key=lambda one: (one.rank, one.binary.member))
        worst = found[-1]
        yield Finding(
            kind=FindingKind.PLATFORM_TAG,
            message=f"{_what_is_needed(worst, promise)}. {_what_to_do(policy, promise.machine)}",
            member=worst.binary.member,
            severity=severity,
            details=tuple(_detail(one) for one in reversed(found)),
        )


def _what_is_needed(worst: Excess, promise: _Promise) -> str:
    member, symbols = worst.binary.member, _counted(worst.symbols)
    glibc = glibc_number(worst.version) or _introduced(worst.version, promise.machine)
    if worst.set_name != "GLIBC":
        name = f"{worst.version} of {worst.library}"
        if glibc is None:
            return f"{member!r} needs {name}, which no manylinux policy knows ({symbols})"
        return (
            f"{member!r} needs {name}, which the tag {promise.tag} does not promise ({symbols}). "
            f"{_and_newer(glibc)} have it, {_not_on(promise, glibc)}"
        )
    if glibc is None:
        return (
            f"{member!r} needs {worst.version}, which the platform tag does not promise and glibc "
            f"changes from one release to the next ({symbols})"
        )
    return (
        f"{member!r} needs glibc {_dotted(glibc)}, the platform tag promises that "
        f"{_dotted(promise.glibc)} is enough ({symbols}). It loads on {_and_newer(glibc)}, "
        f"{_not_on(promise, glibc)}"
    )


def _introduced(version: str, machine: Machine) -> tuple[int, int] | None:
    """Return the glibc of the first systems that have this version of another library's."""
    policy = oldest_policy_with([version], machine)
    return None if policy is None else policy.glibc


def _what_to_do(policy: Policy | None, machine: Machine) -> str:
    if policy is None:
        return "Build it on an older distribution"
    return f"{policy.name}_{machine} would be true; else build it on an older distribution"


def _detail(excess: Excess) -> str:
    return f"{excess.version} in {excess.binary.member}: {_counted(excess.symbols)}"


def _counted(symbols: Sequence[str]) -> str:
    """For example ``pthread_create and 3 more symbols``."""
    if not symbols:
        return "by its format, not for a symbol"
    more = len(symbols) - 1
    return f"{symbols[0]}" + (f" and {more} more symbol{'s' * (more > 1)}" if more else "")


def _and_newer(glibc: tuple[int, int]) -> str:
    names = first_distributions(glibc)
    return f"{', '.join(names)} and newer" if names else "newer systems than any known here"


def _not_on(promise: _Promise, glibc: tuple[int, int]) -> str:
    names = distributions_with(promise.glibc, before=glibc)
    return f"not on {', '.join(names)}" if names else "not on all that the tag promises"


def _dotted(glibc: tuple[int, int]) -> str:
    return f"{glibc[0]}.{glibc[1]}"


def _library_findings(
    binaries: Sequence[Binary], promise: _Promise, own: frozenset[str]
) -> Iterator[Finding]:
    """Find libraries that no such system has to have, and that torch and CUDA do not bring."""
    needing: dict[str, list[str]] = {}
    for binary in binaries:
        for library in binary.elf.needed:
            is_known = library in own or library in promise.policy.libraries
            if not (is_known or _LOADERS.fullmatch(library) or bringer(library)):
                needing.setdefault(library, []).append(binary.member)
    pythons = {name: members for name, members in needing.items() if _PYTHON.fullmatch(name)}
    if pythons:
        yield _library_finding(
            pythons,
            "many Pythons have no such library, and with another one a second interpreter is "
            "loaded. Link modules without libpython",
        )
    others = {name: members for name, members in needing.items() if name not in pythons}
    if others:
        yield _library_finding(
            others,
            f"the wheel does not bring it, and {promise.tag} does not promise it: it has to be "
            "installed with the system, or by a wheel that is imported before",
        )


def _library_finding(needing: Mapping[str, Sequence[str]], why: str) -> Finding:
    name = min(needing)
    member, *others = needing[name]
    count = f" and {len(others)} more need" if others else " needs"
    more = f" (and {len(needing) - 1} more libraries are like that)" if len(needing) > 1 else ""
    return Finding(
        kind=FindingKind.UNPROMISED_LIBRARY,
        message=f"{member!r}{count} {name}; {why}{more}",
        member=member,
        severity=Severity.WARNING,
        details=tuple(f"{name}: {', '.join(needing[name])}" for name in sorted(needing)),
    )


def _forbidden_findings(
    binaries: Sequence[Binary], promise: _Promise, severity: Severity
) -> Iterator[Finding]:
    """Find symbols that are private to a library, or that distributions leave out of it."""
    for binary in binaries:
        forbidden = _forbidden(binary, promise.policy.forbidden)
        used = (
            sorted({one.name for one in binary.elf.undefined_symbols() if not one.weak})
            if (forbidden)
            else []
        )
        found = tuple(name for name in used if name in forbidden)
        if found:
            yield Finding(
                kind=FindingKind.PLATFORM_TAG,
                message=(
                    f"{binary.member!r} uses {_counted(found)} of {forbidden[found[0]]}, which not "
                    f"every system that {promise.tag} speaks of has. Link that library into it"
                ),
                member=binary.member,
                severity=severity,
                details=found,
            )


def _forbidden(binary: Binary, forbidden: Mapping[str, frozenset[str]]) -> Mapping[str, str]:
    """Map the symbols that may not be used of the libraries that the file needs to the library."""
    return {
        symbol: library
        for library in binary.elf.needed
        for symbol in forbidden.get(library, frozenset())
    }


def _processor_findings(binaries: Sequence[Binary], severity: Severity) -> Iterator[Finding]:
    """Yield one finding for all files that are for newer processors than the tag says."""
    marked = {one.member: level for one in binaries if (level := _isa_level(one.elf))}
    if marked:
        member = max(marked, key=lambda name: (marked[name], name))
        others = len(marked) - 1
        yield Finding(
            kind=FindingKind.PROCESSOR,
            message=(
                f"{member!r} is marked as compiled for {marked[member]} processors"
                f"{f' ({others} more files are marked alike)' if others else ''}; the tag promises "
                "any x86_64, and glibc refuses to load it elsewhere. Build without -march"
            ),
            member=member,
            severity=severity,
            details=tuple(f"{name}: {level}" for name, level in marked.items()),
        )


def _isa_level(elf: ElfFile) -> str:
    """Return the level above the baseline that the linker noted as needed, if any."""
    section = elf.section(".note.gnu.property")
    if section is None or len(section) < _NOTE.size:
        return ""
    _, size, kind, name = _NOTE.unpack_from(section)
    if kind != _GNU_PROPERTIES or name != b"GNU\0":
        return ""
    at, end = _NOTE.size, min(_NOTE.size + size, len(section))
    while at + _PROPERTY.size <= end:
        found, length, value = _PROPERTY.unpack_from(section, at)
        if found == _X86_ISA_NEEDED:
            highest = max((bit for bit in _ISA_LEVELS if value & bit), default=0)
            return _ISA_LEVELS.get(highest, "")
        at += 8 + (length + 7) // 8 * 8
    return ""
