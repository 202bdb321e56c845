"""Check that what a wheel requires brings what it links, and the Pythons that it is tagged for."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from packaging.markers import UndefinedEnvironmentName
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from wheelyard.errors import UsageError
from wheelyard.model.cell import CudaVersion
from wheelyard.model.known_libraries import Bringer, bringer, cuda_major
from wheelyard.model.releases import torch_releases
from wheelyard.wheels.findings import Finding, FindingKind, Severity

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from packaging.requirements import Requirement
    from packaging.specifiers import SpecifierSet

    from wheelyard.model.cell import Machine
    from wheelyard.model.releases import TorchRelease
    from wheelyard.wheels.labels import Labels

_OF_CUDA_MAJOR = re.compile(r"nvidia-[\w-]+-cu(\d\d)")
_TOOLKIT: Final = frozenset({"cuda-toolkit", "nvidia-cuda-runtime", "nvidia-cublas"})
_CPYTHON_TAG = re.compile(r"cp(\d)(\d+)t?")
_CUDA_LABEL = re.compile(r"cu\d{3}")
_SHOWN: Final = 3


def requirement_findings(
    labels: Labels, external_libraries: Iterable[str], *, severity: Severity
) -> Iterator[Finding]:
    """Compare Requires-Dist and Requires-Python with the libraries that are linked and the tags.

    ``severity`` is for what does not hinder who has installed the missing part already.
    """
    if labels.metadata is None:
        return
    libraries = tuple(external_libraries)
    requires = _unconditional(labels)
    yield from _python_findings(labels)
    yield from _missing_torch(labels, requires, libraries, severity)
    majors = _linked_majors(libraries)
    if len(majors) == 1:
        # With several it chooses among its files at run time, and which ones is not known here.
        ((major, library),) = majors.items()
        yield from _other_cuda_packages(requires, major, library)
        for requirement in requires.get("torch", ()):
            yield from _other_cuda_torch(requirement, major, library, labels.machine)
    if not labels.metadata.requires and not any(map(_is_of_torch, libraries)):
        yield from _nothing_brings(labels, libraries)


def _unconditional(labels: Labels) -> Mapping[str, tuple[Requirement, ...]]:
    """Return by name what an installation on the wheel's machine requires without extras."""
    found: dict[str, list[Requirement]] = {}
    for requirement in labels.metadata.requires if labels.metadata else ():
        if _applies(requirement, labels.machine):
            found.setdefault(canonicalize_name(requirement.name), []).append(requirement)
    return {name: tuple(requirements) for name, requirements in found.items()}


def _applies(requirement: Requirement, machine: Machine | None) -> bool:
    if requirement.marker is None:
        return True
    environment = {
        "extra": "",
        "os_name": "posix",
        "platform_machine": machine or "x86_64",
        "platform_system": "Linux",
        "sys_platform": "linux",
    }
    try:
        return requirement.marker.evaluate(environment)
    except (UndefinedEnvironmentName, InvalidVersion):
        return False


def _python_findings(labels: Labels) -> Iterator[Finding]:
    """Find tags for Pythons that Requires-Python refuses."""
    wanted = labels.metadata.requires_python if labels.metadata else None
    if wanted is None:
        return
    pythons = {(tag.interpreter, tag.abi) for tag in labels.tags}
    refused = []
    for interpreter, abi in sorted(pythons):
        match = _CPYTHON_TAG.fullmatch(interpreter)
        if match is None:
            continue
        # abi3 is for that Python and all later ones: one that is let in will do
        last = 40 if abi.startswith("abi3") or abi == "none" else int(match[2])
        minors = range(int(match[2]), last + 1)
        if not any(_lets_in(wanted, int(match[1]), minor) for minor in minors):
            refused.append(f"{interpreter}-{abi}")
    if refused:
        yield Finding(
            kind=FindingKind.REQUIRES_PYTHON,
            message=(
                f"The tag says {', '.join(refused)}, and METADATA lets Python {wanted} alone "
                "install it. Build it again for a Python that the project supports"
            ),
        )


def _lets_in(wanted: SpecifierSet, major: int, minor: int) -> bool:
    return any(wanted.contains(f"{major}.{minor}.{micro}") for micro in range(40))


def _missing_torch(
    labels: Labels,
    requires: Mapping[str, tuple[Requirement, ...]],
    libraries: Iterable[str],
    severity: Severity,
) -> Iterator[Finding]:
    linked = [library for library in libraries if _is_of_torch(library)]
    if not linked or labels.name == "torch" or "torch" in requires:
        return
    assert labels.metadata is not None
    of_extra = [one for one in labels.metadata.requires if canonicalize_name(one.name) == "torch"]
    how = f"requires it only as {str(of_extra[0])!r}" if of_extra else "does not require torch"
    yield Finding(
        kind=FindingKind.REQUIREMENT,
        message=(
            f"It links {_listed(linked)}, and METADATA {how}: no installer brings it, or "
            "keeps it at the release that this was compiled for. Install torch yourself"
        ),
        severity=severity,
        details=tuple(linked),
    )


def _is_of_torch(library: str) -> bool:
    return bringer(library) is Bringer.TORCH


def _linked_majors(libraries: Iterable[str]) -> Mapping[int, str]:
    """Return the CUDA majors whose libraries are linked, each with one of them."""
    found: dict[int, str] = {}
    for library in sorted(libraries):
        major = cuda_major(library)
        if major is not None:
            found.setdefault(major, library)
    return found


def _other_cuda_packages(
    requires: Mapping[str, tuple[Requirement, ...]], linked: int, library: str
) -> Iterator[Finding]:
    """Find packages of CUDA libraries, all of another release than what is linked."""
    required = {
        name: major
        for name, requirements in requires.items()
        if (major := _package_major(name, requirements)) is not None
    }
    if required and linked not in required.values():
        names = sorted(required)
        majors = " and ".join(str(major) for major in sorted(set(required.values())))
        yield Finding(
            kind=FindingKind.REQUIREMENT,
            message=(
                f"It links {library}, of CUDA {linked}, and METADATA requires {_listed(names)}, of "
                f"CUDA {majors}. Take the wheel for CUDA {majors}, or one that requires CUDA "
                f"{linked}"
            ),
            details=tuple(names),
        )


def _package_major(name: str, requirements: Iterable[Requirement]) -> int | None:
    match = _OF_CUDA_MAJOR.fullmatch(name)
    if match:
        return int(match[1])
    if name not in _TOOLKIT:
        return None
    majors = {pin.major for one in requirements if (pin := _pin(one)) is not None}
    return majors.pop() if len(majors) == 1 else None


def _pin(requirement: Requirement) -> Version | None:
    """Return the version that alone is accepted, for example 13.0 of ``==13.0.*``."""
    for one in requirement.specifier:
        if one.operator in {"==", "===", "~="}:
            try:
                return Version(one.version.removesuffix(".*"))
            except InvalidVersion:
                return None
    return None


def _other_cuda_torch(
    requirement: Requirement, linked: int, library: str, machine: Machine | None
) -> Iterator[Finding]:
    """Find a pin to a torch that is for another CUDA than what is linked."""
    accepted = [
        release for release in torch_releases() if requirement.specifier.contains(release.version)
    ]
    local = _pinned_cuda(requirement)
    if local is not None:
        if local.major != linked:
            yield _torch_finding(requirement, linked, library, f"is for CUDA {local.major}")
        return
    if not accepted:
        return
    majors = {cuda.major for one in accepted for cuda in one.cudas(machine or "x86_64")}
    if majors and linked not in majors:
        built = " and ".join(str(major) for major in sorted(majors))
        yield _torch_finding(requirement, linked, library, f"is for CUDA {built}")
    elif len(accepted) == 1:
        yield from _other_default(accepted[0], requirement, linked, library, machine)


def _pinned_cuda(requirement: Requirement) -> CudaVersion | None:
    """Return the CUDA that a pin's local part names, as in ``torch==2.11.0+cu130``."""
    pin = _pin(requirement)
    if pin is None or pin.local is None or not _CUDA_LABEL.fullmatch(pin.local):
        return None
    try:
        return CudaVersion.parse(pin.local)
    except UsageError:
        return None


def _other_default(
    release: TorchRelease,
    requirement: Requirement,
    linked: int,
    library: str,
    machine: Machine | None,
) -> Iterator[Finding]:
    """Warn where an installer takes the index's own build, and only another one would do."""
    machine = machine or "x86_64"
    default = release.default_cuda(machine)
    if default is None or default.major == linked:
        return
    fitting = [cuda for cuda in release.cudas(machine) if cuda.major == linked]
    yield Finding(
        kind=FindingKind.REQUIREMENT,
        message=(
            f"It links {library}, of CUDA {linked}, and METADATA requires {str(requirement)!r}, "
            f"which an installer takes for CUDA {default.major}. Install torch "
            f"{release.version}+{fitting[-1].label} before"
        ),
        severity=Severity.WARNING,
    )


def _torch_finding(requirement: Requirement, linked: int, library: str, what: str) -> Finding:
    return Finding(
        kind=FindingKind.REQUIREMENT,
        message=(
            f"It links {library}, of CUDA {linked}, and METADATA requires {str(requirement)!r}, "
            f"which {what}. Take the wheel for that CUDA, or build one"
        ),
    )


def _nothing_brings(labels: Labels, libraries: Iterable[str]) -> Iterator[Finding]:
    """Warn of CUDA libraries in a wheel that requires nothing at all."""
    linked = [library for library in libraries if bringer(library) is Bringer.CUDA]
    linked = [library for library in linked if not library.startswith("libnvidia-")]
    if linked and not (labels.name or "").startswith("nvidia-"):
        yield Finding(
            kind=FindingKind.REQUIREMENT,
            message=(
                f"It links {_listed(linked)}, and METADATA requires nothing that brings it. "
                "Install CUDA, or torch, beside it"
            ),
            severity=Severity.WARNING,
            details=tuple(linked),
        )


def _listed(names: Iterable[str]) -> str:
    names = tuple(names)
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
