"""Check that a wheel's compiled modules are for the Pythons that its tag names."""

from __future__ import annotations

import dataclasses
import functools
import importlib
import re
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Final

from wheelyard.model.cell import MACHINES
from wheelyard.model.known_libraries import bringer
from wheelyard.model.policies import manylinux_policies
from wheelyard.wheels.findings import Finding, FindingKind, Severity

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from wheelyard.wheels.check_binaries import Binary
    from wheelyard.wheels.labels import Labels

_SUFFIX = re.compile(r"(?P<module>.+)\.cpython-(?P<python>\d+[a-z]*)-(?P<platform>[\w-]+)\.so")
_LIMITED_SUFFIX = re.compile(r".+\.abi3t?\.so")
_CPYTHON_TAG = re.compile(r"cp(\d+t?)")
_MINIMUM = re.compile(r"(?:cp|py)(\d)(\d*)")
# What Python itself defines; modules define their own ``PyInit_`` functions.
_OF_PYTHON = re.compile(r"_?Py(?!Init_)[A-Z_]\w*")
_LIMITED_ABIS: Final = frozenset({"abi3", "abi3t"})
_OLDEST: Final = (3, 2)
_SHOWN: Final = 4


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class _Pythons:
    """The Pythons that the wheel's tags name."""

    exact: frozenset[str]
    """For example ``312`` and ``314t``; empty where any will do."""
    minimum: tuple[int, int] | None
    """Where later ones will do as well."""
    is_limited: bool
    """Whether the tag says that all its modules keep to the limited API."""

    def __str__(self) -> str:
        return ", ".join(f"cp{one}" for one in sorted(self.exact))


def python_findings(
    binaries: Iterable[Binary], labels: Labels, *, severity: Severity
) -> Iterator[Finding]:
    """Compare the suffixes of modules, and what they need of Python, with the tags.

    ``severity`` is for what some of the promised Pythons load all the same.
    """
    binaries = tuple(binary for binary in binaries if binary.is_shared_object)
    pythons = _pythons(labels)
    for binary in binaries:
        yield from _suffix_findings(binary, pythons, severity)
        yield from _triplet_findings(binary, labels)
    if pythons.minimum is not None:
        yield from _single_python_findings(binaries, pythons, severity)
        for binary in binaries:
            if _keeps_to_limited_api(binary, pythons):
                names = _names_of_python(binary, binaries)
                yield from _limited_api_findings(binary, pythons.minimum, names, severity)


def _pythons(labels: Labels) -> _Pythons:
    exact = {found[1] for tag in labels.tags if (found := _CPYTHON_TAG.fullmatch(tag.abi))}
    open_tags = [
        tag for tag in labels.tags if tag.abi in {*_LIMITED_ABIS, "none"} and tag.platform != "any"
    ]
    minimums = [
        (int(found[1]), int(found[2] or 0))
        for tag in open_tags
        if (found := _MINIMUM.fullmatch(tag.interpreter))
    ]
    minimum = max(min(minimums), _oldest_required(labels)) if minimums else None
    return _Pythons(
        exact=frozenset(exact),
        minimum=minimum,
        is_limited=any(tag.abi in _LIMITED_ABIS for tag in labels.tags),
    )


def _oldest_required(labels: Labels) -> tuple[int, int]:
    """Return the first Python that Requires-Python lets in; an installer heeds that as well."""
    wanted = labels.metadata.requires_python if labels.metadata is not None else None
    if wanted is None:
        return _OLDEST
    minors = (minor for minor in range(_OLDEST[1], 40) if wanted.contains(f"3.{minor}.99"))
    return 3, next(minors, _OLDEST[1])


def _triplet_findings(binary: Binary, labels: Labels) -> Iterator[Finding]:
    """Find modules that Python passes over, because their names are for another machine."""
    match = _SUFFIX.fullmatch(PurePosixPath(binary.member).name)
    named = match["platform"].partition("-")[0] if match else None
    if named in MACHINES and binary.elf.machine == labels.machine != named:
        yield Finding(
            kind=FindingKind.WRONG_PYTHON,
            message=(
                f"{binary.member!r} is called a module for {named}, but compiled for "
                f"{binary.elf.machine}: Python there does not look for that name. Build it again"
            ),
            member=binary.member,
        )


def _suffix_findings(binary: Binary, pythons: _Pythons, severity: Severity) -> Iterator[Finding]:
    name = PurePosixPath(binary.member).name
    match = _SUFFIX.fullmatch(name)
    if pythons.minimum is not None or not pythons.exact:
        return
    if match and match["python"] not in pythons.exact:
        yield _wrong_python(binary, f"is for cp{match['python']}, the tag for {pythons}")
    if name.endswith(".abi3.so") and all(one.endswith("t") for one in pythons.exact):
        yield dataclasses.replace(
            _wrong_python(
                binary,
                f"keeps to the limited API of Pythons with a GIL, the tag is for {pythons}, whose "
                "objects are laid out differently",
            ),
            severity=severity,
        )


def _wrong_python(binary: Binary, what: str) -> Finding:
    return Finding(
        kind=FindingKind.WRONG_PYTHON,
        message=f"{binary.member!r} {what}. Take the wheel for your Python, or build it again",
        member=binary.member,
    )


def _single_python_findings(
    binaries: Iterable[Binary], pythons: _Pythons, severity: Severity
) -> Iterator[Finding]:
    """Find modules that one Python alone imports, in a wheel that others may install."""
    found: dict[str, list[tuple[str, Binary]]] = {}
    modules = {_module(binary.member) for binary in binaries}
    for binary in binaries:
        match = _SUFFIX.fullmatch(binary.member)
        if match:
            found.setdefault(match["module"], []).append((match["python"], binary))
    for module, versions in sorted(found.items()):
        if len(versions) == 1 and module not in modules:
            (version, binary), *_ = versions
            assert pythons.minimum is not None
            yield Finding(
                kind=FindingKind.WRONG_PYTHON,
                message=(
                    f"{binary.member!r} can be imported by cp{version} alone, the tag lets every "
                    f"Python from {pythons.minimum[0]}.{pythons.minimum[1]} on install it. Use "
                    f"cp{version}, or build a wheel for yours"
                ),
                member=binary.member,
                severity=severity,
            )


def _module(member: str) -> str:
    """Return the path of a module that is for no Python in particular; else nothing."""
    if _SUFFIX.fullmatch(member):
        return ""
    return re.sub(r"(?:\.abi3t?)?\.so$", "", member)


def _keeps_to_limited_api(binary: Binary, pythons: _Pythons) -> bool:
    """Whether every later Python is going to load this very file."""
    if _SUFFIX.fullmatch(binary.member):
        return False
    return pythons.is_limited or _LIMITED_SUFFIX.fullmatch(binary.member) is not None


def _limited_api_findings(
    binary: Binary, minimum: tuple[int, int], names: Iterable[str], severity: Severity
) -> Iterator[Finding]:
    outside: list[str] = []
    later: dict[str, tuple[int, int]] = {}
    for name in sorted(names):
        added = _limited_api().get(name)
        if added is None:
            outside.append(name)
        elif added > minimum:
            later[name] = added
    if outside:
        yield Finding(
            kind=FindingKind.LIMITED_API,
            message=(
                f"{binary.member!r} is for every Python from {_dotted(minimum)} on, but uses "
                f"{_listed(outside)}, outside of the limited API: a Python that changes or drops "
                "that cannot load it. Build it for one Python, or with Py_LIMITED_API"
            ),
            member=binary.member,
            severity=severity,
            details=tuple(outside),
        )
    if later:
        newest = max(later.values())
        yield Finding(
            kind=FindingKind.LIMITED_API,
            message=(
                f"{binary.member!r} is for every Python from {_dotted(minimum)} on, but uses "
                f"{_listed(tuple(later))}, which the limited API has since {_dotted(newest)} only: "
                f"nothing promises that an older Python loads it. Tag it cp{newest[0]}{newest[1]}"
                "-abi3"
            ),
            member=binary.member,
            severity=severity,
            details=tuple(f"{name} since {_dotted(added)}" for name, added in later.items()),
        )


def _names_of_python(binary: Binary, binaries: Iterable[Binary]) -> Iterator[str]:
    """Yield what a file needs of Python itself, as far as that can be told.

    What is weak may be missing. A library of another wheel may define names that look like
    Python's, as PySide's does, so beside one only the names of the limited API are sure.
    """
    binaries = tuple(binaries)
    is_alone = all(_is_known(library, binaries) for library in binary.elf.needed)
    for symbol in binary.elf.undefined_symbols():
        name = symbol.name
        if symbol.weak or not _OF_PYTHON.fullmatch(name):
            continue
        if (is_alone or name in _limited_api()) and not _defines(binaries, name):
            yield name


def _is_known(library: str, binaries: Iterable[Binary]) -> bool:
    """Whether a library comes with the system, torch or this very wheel."""
    return (
        library in manylinux_policies("x86_64")[-1].libraries
        or library.startswith(("ld-linux", "libpython"))
        or bringer(library) is not None
        or any(library in {PurePosixPath(one.member).name, one.elf.soname} for one in binaries)
    )


def _defines(binaries: Iterable[Binary], name: str) -> bool:
    return any(binary.elf.exports(name) for binary in binaries)


@functools.cache
def _limited_api() -> Mapping[str, tuple[int, int]]:
    """Return every symbol of the limited API with the Python that had it first."""
    # Imported late: its tables are large, and few wheels need them.
    tables = importlib.import_module("abi3info")
    return {
        symbol.name: (entry.added.major, entry.added.minor)
        for table in (tables.FUNCTIONS, tables.DATAS)
        for symbol, entry in table.items()
    }


def _dotted(version: tuple[int, int]) -> str:
    return f"{version[0]}.{version[1]}"


def _listed(names: Iterable[str]) -> str:
    names = tuple(names)
    return ", ".join(names[:_SHOWN]) + (
        f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    )
