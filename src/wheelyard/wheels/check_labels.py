"""Check that a wheel's labels agree with one another, with its files and with the recipe."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from wheelyard.wheels.findings import Finding, FindingKind
from wheelyard.wheels.labels import split_dist_info
from wheelyard.wheels.unpack import DIGESTS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from packaging.requirements import Requirement
    from packaging.tags import Tag

    from wheelyard.wheels.findings import Expectation, Severity
    from wheelyard.wheels.labels import Labels, WheelName
    from wheelyard.wheels.unpack import Unpacked

_MANYLINUX = re.compile(r"(?:manylinux_(\d+)_(\d+)|manylinux(1|2010|2014))_\w+")
_LEGACY: Final = {"1": (2, 5), "2010": (2, 12), "2014": (2, 17)}
_SIGNATURES: Final = ("RECORD.jws", "RECORD.p7s")


def promised_glibc(platform: str) -> tuple[int, int] | None:
    """Return the oldest glibc that a platform tag promises to run on; None for no promise.

    For example 2.28 for ``manylinux_2_28_x86_64`` and 2.17 for ``manylinux2014_x86_64``.
    """
    match = _MANYLINUX.fullmatch(platform)
    if match is None:
        return None
    return _LEGACY[match[3]] if match[3] else (int(match[1]), int(match[2]))


def label_findings(labels: Labels, *, severity: Severity) -> Iterator[Finding]:
    """Compare filename, dist-info folder, METADATA and WHEEL with one another.

    ``severity`` is for differences that no installer minds, so that other people's wheels have
    them.
    """
    yield from labels.findings
    if labels.filename is None:
        return
    if labels.dist_info:
        folder = split_dist_info(labels.dist_info)
        if folder is None or folder.identity != labels.filename.identity:
            yield _other_name(labels.filename, f"the folder is {labels.dist_info!r}")
    if labels.metadata is not None:
        name, version = labels.metadata.name, labels.metadata.version
        if (name, version) != labels.filename.identity:
            yield _other_name(labels.filename, f"METADATA says {name} {version}")
    if labels.info is None:
        return
    if labels.info.tags != labels.filename.tags:
        yield Finding(
            kind=FindingKind.TAG,
            message=(
                f"The filename says {_listed(labels.filename.tags)}, "
                f"WHEEL says {_listed(labels.info.tags)}"
            ),
            severity=severity,
        )
    if labels.info.build and labels.info.build != labels.filename.build:
        yield Finding(
            kind=FindingKind.BUILD_TAG,
            message=(
                f"The filename says build {labels.filename.build or 'none'}, "
                f"WHEEL says {labels.info.build}"
            ),
            severity=severity,
        )


def expected_label_findings(labels: Labels, expectation: Expectation) -> Iterator[Finding]:
    """Compare name, version, tags and requirements with what the job asked for."""
    if labels.filename is not None:
        yield from _unexpected_name(labels.filename, expectation)
        yield from _unexpected_tags(labels.tags, expectation)
    if labels.metadata is not None:
        yield from _unexpected_requirements(labels.metadata.requires, expectation.requires)


def record_findings(labels: Labels, unpacked: Unpacked) -> Iterator[Finding]:
    """Compare RECORD with the files: all of them listed, all digests right, nothing else."""
    for name, error in unpacked.damaged.items():
        yield Finding(kind=FindingKind.DAMAGED_MEMBER, message=str(error), member=name)
    if labels.record is None:
        return
    own = f"{labels.dist_info}/RECORD"
    unlisted = {own, *(f"{labels.dist_info}/{name}" for name in _SIGNATURES)}
    seen: set[str] = set()
    for row in labels.record:
        why = ""
        found = unpacked.members.get(row.path)
        if row.path in seen:
            why = "is listed twice"
        elif found is None and row.path not in unpacked.damaged:
            why = "is listed, but not there"
        elif found is not None and row.path != own:
            why = _why_not(row.digest, row.size, found.digest, found.size)
        seen.add(row.path)
        if why:
            yield _record_finding(row.path, why)
    for name in sorted(unpacked.members.keys() - seen - unlisted):
        yield _record_finding(name, "is not listed")


def _why_not(digest: str, size: int | None, real_digest: str, real_size: int) -> str:
    if digest.partition("=")[0] not in DIGESTS:
        return f"has no digest that counts ({digest or 'none'})"
    if digest != real_digest:
        return f"has another digest: {real_digest}"
    if size is not None and size != real_size:
        return f"is {real_size} bytes long, not {size}"
    return ""


def _record_finding(path: str, why: str) -> Finding:
    return Finding(kind=FindingKind.RECORD, message=f"RECORD: {path!r} {why}", member=path)


def _other_name(filename: WheelName, what: str) -> Finding:
    name, version = filename.identity
    return Finding(kind=FindingKind.NAME, message=f"The filename says {name} {version}, {what}")


def _unexpected_name(filename: WheelName, expectation: Expectation) -> Iterator[Finding]:
    if filename.identity != (expectation.name, expectation.version):
        yield Finding(
            kind=FindingKind.NAME,
            message=(
                f"It is {filename.name} {filename.version}, "
                f"not {expectation.name} {expectation.version}"
            ),
        )
    if filename.build != (expectation.build_tag or ""):
        yield Finding(
            kind=FindingKind.BUILD_TAG,
            message=(
                f"Its build tag is {filename.build or 'none'}, "
                f"not {expectation.build_tag or 'none'}"
            ),
        )


def _unexpected_tags(tags: frozenset[Tag], expectation: Expectation) -> Iterator[Finding]:
    wanted = expectation.tag
    for_python = {(tag.interpreter, tag.abi) for tag in tags}
    serves = any(_serves(tag.platform, wanted.platform, expectation.machine) for tag in tags)
    if for_python != {(wanted.interpreter, wanted.abi)} or not serves:
        yield Finding(kind=FindingKind.TAG, message=f"Its tags are {_listed(tags)}, not {wanted}")


def _serves(platform: str, wanted: str, machine: str) -> bool:
    """Whether every system that takes ``wanted`` takes ``platform`` too."""
    if not platform.endswith(f"_{machine}"):
        return False
    has, needs = promised_glibc(platform), promised_glibc(wanted)
    if has is None or needs is None:
        return platform == wanted or (needs is None and wanted.startswith("linux_"))
    return has <= needs


def _unexpected_requirements(
    declared: Iterable[Requirement], wanted: Iterable[Requirement]
) -> Iterator[Finding]:
    has, needs = set(declared), set(wanted)
    for requirement in sorted(needs - has, key=str):
        message = f"METADATA does not require {str(requirement)!r}"
        yield Finding(kind=FindingKind.REQUIREMENT, message=message)
    # who asks for an extra wants what it brings
    plain = {one for one in has if one.marker is None or "extra" not in str(one.marker)}
    for requirement in sorted(plain - needs, key=str):
        message = f"METADATA requires {str(requirement)!r}, which the recipe does not declare"
        yield Finding(kind=FindingKind.REQUIREMENT, message=message)


def _listed(tags: Iterable[Tag]) -> str:
    return ", ".join(sorted(str(tag) for tag in tags)) or "none"
