"""Check that a wheel installs what the recipe declares, and nothing else."""

from __future__ import annotations

import configparser
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Final

from packaging.utils import canonicalize_name

from wheelyard.wheels.findings import Finding, FindingKind, Severity

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from wheelyard.wheels.findings import Expectation
    from wheelyard.wheels.labels import Labels

_LIBRARY_SCHEMES: Final = ("purelib", "platlib")
_TORCH: Final = "torch"
_ASSET_LIMIT: Final = 2 << 30
_COMMON_NAMES: Final = frozenset(
    {"benchmark", "benchmarks", "build", "csrc", "dist", "doc", "docs", "example", "examples"}
    | {"script", "scripts", "src", "test", "tests", "tools", "utils"}
)
"""Top levels that so many projects have by mistake that they overwrite one another's files."""


def installed_files(members: Iterable[str], labels: Labels) -> Mapping[str, str]:
    """Map what lands in site-packages, the dist-info folder aside, to the member it comes from."""
    files: dict[str, str] = {}
    for member in members:
        top, _, rest = member.partition("/")
        if top == labels.data_folder:
            scheme, _, path = rest.partition("/")
            if scheme in _LIBRARY_SCHEMES:
                files[path] = member
        elif not top.endswith(".dist-info"):
            files[member] = member
    return files


def content_findings(
    members: Iterable[str],
    labels: Labels,
    expectation: Expectation | None,
    *,
    severity: Severity,
) -> Iterator[Finding]:
    """Find files that a wheel should not install, and what the recipe declares in vain."""
    members = sorted(members)
    files = installed_files(members, labels)
    for path, member in files.items():
        if path.endswith(".pth") and "/" not in path:
            yield Finding(
                kind=FindingKind.PATH_FILE,
                message=f"{path!r} runs at every start of Python",
                member=member,
                severity=severity,
            )
    if expectation is not None:
        yield from _unexpected_top_levels(files, expectation)
        yield from _unexpected_entry_points(labels, expectation)
        yield from _unexpected_data(members, labels, expectation)
    elif labels.name != _TORCH:
        yield from _torch_folder(files)
    if expectation is None:
        yield from _common_names(files)


def size_findings(size: int, *, severity: Severity) -> Iterator[Finding]:
    """Compare the size of a wheel with what can be published."""
    if size >= _ASSET_LIMIT:
        yield Finding(
            kind=FindingKind.SIZE,
            message=(
                f"It is {size / 2**30:.2f} GiB large; the asset of a GitHub release must be "
                "smaller than 2 GiB. Build it for fewer GPU targets, or let nvcc compress its code"
            ),
            severity=severity,
        )


def _torch_folder(files: Mapping[str, str]) -> Iterator[Finding]:
    inside = [path for path in files if path.startswith(f"{_TORCH}/")]
    if inside:
        yield Finding(
            kind=FindingKind.TOP_LEVEL,
            message=(
                f"It writes {inside[0]!r} into the folder of torch, whose next installation "
                "removes or overwrites it. Do not install it beside torch"
            ),
            member=files[inside[0]],
            details=tuple(inside),
        )


def _common_names(files: Mapping[str, str]) -> Iterator[Finding]:
    """Warn of folders that other projects install too, so that one overwrites the other's."""
    for top in sorted({path.partition("/")[0] for path in files if "/" in path} & _COMMON_NAMES):
        members = [member for path, member in files.items() if path.startswith(f"{top}/")]
        yield Finding(
            kind=FindingKind.TOP_LEVEL,
            message=(
                f"It installs the top level {top!r}, which other projects install as well: they "
                "overwrite one another. Its build should leave that folder out"
            ),
            member=members[0],
            severity=Severity.WARNING,
            details=tuple(members),
        )


def _unexpected_top_levels(files: Mapping[str, str], expectation: Expectation) -> Iterator[Finding]:
    found: dict[str, str] = {}
    for path, member in files.items():
        top = _top_level(path)
        if top and not _is_own_library_folder(top, expectation):
            found.setdefault(top, member)
    for top in sorted(expectation.top_levels - found.keys()):
        message = f"The recipe declares the top level {top!r}, the wheel does not have it"
        yield Finding(kind=FindingKind.TOP_LEVEL, message=message)
    for top in sorted(found.keys() - expectation.top_levels):
        message = f"The wheel installs the top level {top!r}, which the recipe does not declare"
        yield Finding(kind=FindingKind.TOP_LEVEL, message=message, member=found[top])


def _top_level(path: str) -> str:
    """Return what can be imported, for example ``apex`` or ``amp_C``; nothing for path files."""
    top, slash, _ = path.partition("/")
    if slash:
        return top
    suffix = PurePosixPath(top).suffix
    if suffix == ".pth":
        return ""
    return top.partition(".")[0] if suffix in {".py", ".so"} else top


def _is_own_library_folder(top: str, expectation: Expectation) -> bool:
    """Whether it is the folder that auditwheel grafts libraries into."""
    return (
        top.endswith(".libs") and canonicalize_name(top.removesuffix(".libs")) == expectation.name
    )


def _unexpected_entry_points(labels: Labels, expectation: Expectation) -> Iterator[Finding]:
    try:
        found = _entry_points(labels.entry_points)
    except configparser.Error as error:
        message = f"entry_points.txt cannot be read: {error}"
        yield Finding(kind=FindingKind.ENTRY_POINT, message=message)
        return
    yield from _compare(FindingKind.ENTRY_POINT, "entry point", found, expectation.entry_points)


def _entry_points(text: str) -> frozenset[str]:
    parser = configparser.ConfigParser(delimiters=("=",), interpolation=None)
    # Names of entry points are told apart by case, which configparser changes unless told.
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read_string(text)
    return frozenset(f"{group}:{name}" for group in parser.sections() for name in parser[group])


def _unexpected_data(
    members: Iterable[str], labels: Labels, expectation: Expectation
) -> Iterator[Finding]:
    prefix = f"{labels.data_folder}/"
    data = [name.removeprefix(prefix) for name in members if name.startswith(prefix)]
    scripts = {name.removeprefix("scripts/") for name in data if name.startswith("scripts/")}
    yield from _compare(FindingKind.SCRIPT, "script", scripts, expectation.scripts)
    for name in data:
        if name.partition("/")[0] not in (*_LIBRARY_SCHEMES, "scripts"):
            message = f"The wheel installs {name!r} outside of site-packages"
            yield Finding(kind=FindingKind.DATA_FILE, message=message, member=f"{prefix}{name}")


def _compare(
    kind: FindingKind, noun: str, found: Iterable[str], declared: frozenset[str]
) -> Iterator[Finding]:
    has = set(found)
    for name in sorted(declared - has):
        message = f"The recipe declares the {noun} {name!r}, the wheel does not have it"
        yield Finding(kind=kind, message=message)
    for name in sorted(has - declared):
        message = f"The wheel has the {noun} {name!r}, which the recipe does not declare"
        yield Finding(kind=kind, message=message)
