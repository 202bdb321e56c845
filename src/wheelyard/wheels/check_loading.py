"""Check that a wheel's compiled files load after torch: every library and symbol is there."""

from __future__ import annotations

import collections
import dataclasses
import re
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Final

from wheelyard.abi.libraries import (
    SystemLibraries,
    interpreter_libraries,
    tabled_interpreter,
    wheel_libraries,
)
from wheelyard.abi.loading import Process
from wheelyard.abi.symbols import (
    OPEN_REASONS,
    Demangler,
    Reason,
    asks_python,
    explain_missing_library,
    find_missing_symbols,
)
from wheelyard.abi.tables import python_table
from wheelyard.errors import UsageError
from wheelyard.model.cell import PythonVersion
from wheelyard.wheels.check_contents import installed_files
from wheelyard.wheels.findings import FileVerdict, Finding, FindingKind, Severity

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from wheelyard.abi.elf import UndefinedSymbol
    from wheelyard.abi.libraries import Library
    from wheelyard.abi.loading import Scope
    from wheelyard.abi.symbols import MissingSymbol
    from wheelyard.model.cell import Machine
    from wheelyard.wheels.check_binaries import Binary
    from wheelyard.wheels.findings import Surroundings
    from wheelyard.wheels.labels import Labels

_PYTHON_SUFFIX = re.compile(r".+\.cpython-(\d{2,3}t?)-[\w-]+\.so")
_NAMES_TORCH = re.compile(r"torch_?\d")
_CUDA_NUMBER = re.compile(r"[_-]cu(?:da)?#")
_LINKS_TORCH = re.compile(r"lib(?:torch|c10)\w*\.so")
_WITH_LIBRARY: Final = frozenset({Reason.MISSING_LIBRARY, Reason.CUDA_MAJOR})
_OF_TORCH: Final = frozenset({Reason.CXX11_ABI, Reason.TORCH_MINOR, Reason.NOT_LINKED})
_NEWEST_MINOR: Final = 14
_TABLED_PYTHON: Final = PythonVersion(3, 12)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class _File:
    """A compiled file as it will lie in site-packages."""

    binary: Binary
    library: Library
    python: PythonVersion
    is_entry: bool
    """Whether it is loaded by itself: a module, or a library of operators for torch."""
    undefined: tuple[UndefinedSymbol, ...]
    family: str
    """Equal for files whose names differ in digits only: one of them is chosen at run time."""

    @property
    def member(self) -> str:
        return self.binary.member


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class _Judged:
    """What was found about one file."""

    file: _File
    scope: Scope
    missing: tuple[MissingSymbol, ...]
    unasked_python: bool
    """Whether it asks for symbols of a Python that is not known here."""

    @property
    def loads(self) -> bool | None:
        """None where it depends on what the package loads beforehand, or on the system."""
        other_cuda = any(
            explain_missing_library(name, self.scope)[0] is Reason.CUDA_MAJOR
            for name in self.scope.missing
        )
        if other_cuda or any(_is_missing_for_sure(one, self) for one in self.missing):
            return False
        scope = self.scope
        is_open = self.missing or scope.missing or scope.unreached or scope.absent
        return None if is_open or self.unasked_python else True

    @property
    def is_usable(self) -> bool:
        """Whether it can load without anything that no wheel brings."""
        return self.loads is not False and not self.scope.missing

    @property
    def why(self) -> tuple[str, ...]:
        libraries = [f"{name} is missing" for name in self.scope.missing]
        unreached = [
            f"{name} is in {place.parent}, where the loader does not look"
            for name, place in self.scope.unreached.items()
        ]
        counted = collections.Counter((one.explanation, one.reason) for one in self.missing)
        symbols = [f"{_count(number)} missing, {why}" for (why, _), number in counted.items()]
        return (*libraries, *unreached, *symbols)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Loading:
    """What becomes of a wheel's compiled files in one surrounding."""

    findings: tuple[Finding, ...]
    files: tuple[FileVerdict, ...]

    @property
    def fits(self) -> bool:
        return not any(finding.severity is Severity.ERROR for finding in self.findings)

    @property
    def problems(self) -> int:
        """How many symbols and libraries are missing."""
        return sum(max(1, len(finding.details)) for finding in self.findings)


class LoadingCheck:
    """A wheel's compiled files, ready to be put beside one torch after the other."""

    def __init__(self, binaries: Iterable[Binary], labels: Labels, *, is_ours: bool) -> None:
        shared = {one.member: one for one in binaries if one.is_shared_object}
        places = {
            member: PurePosixPath(path) for path, member in installed_files(shared, labels).items()
        }
        libraries = wheel_libraries(
            {places.get(name, PurePosixPath(name)): one.elf for name, one in shared.items()}
        )
        self._files = tuple(
            _File(
                binary=binary,
                library=library,
                python=_python_of(library.name, labels),
                is_entry=_is_entry(library),
                undefined=tuple(binary.elf.undefined_symbols()),
                family=_family(library),
            )
            for binary, library in zip(shared.values(), libraries, strict=True)
        )
        self._wheel = libraries
        self._is_ours = is_ours
        self._demangle = Demangler()
        self._system: dict[tuple[Machine, bool], SystemLibraries] = {}

    @property
    def links_torch(self) -> bool:
        """Whether any file asks for torch's or CUDA's libraries."""
        return any(file.is_entry and _links_torch(file.library) for file in self._files)

    def beside(self, surroundings: Surroundings) -> Loading:
        """Find what is missing when the files are loaded after this torch, and say why."""
        files = [one for one in self._files if one.binary.elf.machine == surroundings.machine]
        others = [one for one in self._files if one.binary.elf.machine != surroundings.machine]
        process = Process(
            wheel=self._wheel,
            torch=surroundings.libraries,
            system=self._system_of(surroundings),
            beside=surroundings.beside,
            unseen=surroundings.unseen,
        )
        pythons = _Pythons(surroundings)
        judged = [_judge(file, process, pythons, self._demangle) for file in files]
        return Loading(
            findings=(
                *map(_of_other_machine, others),
                *_Verdict(judged, is_ours=self._is_ours).findings(),
            ),
            files=tuple(_verdicts(judged)),
        )

    def _system_of(self, surroundings: Surroundings) -> SystemLibraries:
        key = (surroundings.machine, surroundings.is_here)
        if key not in self._system:
            needed = (name for one in self._wheel for name in one.contents.needed)
            asked = needed if surroundings.is_here else ()
            self._system[key] = SystemLibraries(surroundings.machine, asked)
        return self._system[key]


class _Pythons:
    """The Python that each file is for, from an interpreter or from the tables of all."""

    def __init__(self, surroundings: Surroundings) -> None:
        self._machine = surroundings.machine
        self._given = (
            interpreter_libraries(surroundings.interpreter) if surroundings.interpreter else ()
        )
        self._tabled: dict[PythonVersion, tuple[Library, ...]] = {}

    def __call__(self, version: PythonVersion) -> tuple[Library, ...]:
        if self._given:
            return self._given
        if version not in self._tabled:
            table = python_table(version, self._machine)
            self._tabled[version] = (tabled_interpreter(table),) if table else ()
        return self._tabled[version]


class _Verdict:
    """Weighs what is missing: a part that is there for another machine does no harm."""

    def __init__(self, judged: Sequence[_Judged], *, is_ours: bool) -> None:
        self._judged = judged
        self._is_ours = is_ours
        self._usable_families = {one.file.family for one in judged if one.is_usable}
        entries = [one for one in judged if one.file.is_entry] or judged
        self._works_without = any(one.is_usable for one in entries)

    def findings(self) -> Iterator[Finding]:
        spare = [one for one in self._judged if self._is_spare(one)]
        for one in self._judged:
            if one not in spare:
                yield from self._library_findings(one)
                yield from _grouped(one)
        if spare:
            yield _spare_finding(spare)

    def _is_spare(self, one: _Judged) -> bool:
        """Whether another file of its family loads in its place."""
        has_other = one.file.family in self._usable_families
        # Alternatives are for another CUDA or system; for another torch only if their names say so.
        names_torch = _NAMES_TORCH.search(one.file.library.name) is not None
        of_torch = any(symbol.reason in _OF_TORCH for symbol in one.missing) and not names_torch
        return not self._is_ours and not one.is_usable and has_other and not of_torch

    def _library_findings(self, one: _Judged) -> Iterator[Finding]:
        member, scope = one.file.member, one.scope
        symbols = tuple(symbol.demangled for symbol in one.missing if _is_of_library(symbol, one))
        for name in scope.missing:
            reason, why = explain_missing_library(name, scope)
            is_grave = self._is_ours or reason is Reason.CUDA_MAJOR or not self._works_without
            yield Finding(
                kind=FindingKind.MISSING_LIBRARY,
                message=f"{member!r} needs {name}: {why}",
                member=member,
                details=symbols,
                severity=Severity.ERROR if is_grave else Severity.WARNING,
            )
            symbols = ()
        for name, place in scope.unreached.items():
            yield Finding(
                kind=FindingKind.MISSING_LIBRARY,
                message=(
                    f"{member!r} needs {name}, which is in {str(place.parent)!r}, but its RUNPATH "
                    "does not lead there: it loads only if the package loads that one before"
                ),
                member=member,
                severity=Severity.ERROR if self._is_ours else Severity.WARNING,
            )
        for name in scope.absent:
            yield _open_finding(member, f"needs {name}, which this machine does not have")
        if one.unasked_python:
            python = one.file.python
            yield _open_finding(member, f"is for Python {python}, whose symbols are not known here")


def _judge(file: _File, process: Process, pythons: _Pythons, demangle: Demangler) -> _Judged:
    python = pythons(file.python)
    scope = process.scope(file.library, python)
    missing = find_missing_symbols(file.undefined, scope, demangle, has_python=bool(python))
    if missing:
        # A library that is loaded for another file of the wheel sees all that this one sees.
        scopes = [process.scope(one, python) for one in process.needing(file.library)]
        missing = tuple(
            one
            for one in missing
            if not any(scope.provides(one.name, one.version) for scope in scopes)
        )
    unasked = not python and asks_python(file.undefined)
    return _Judged(file=file, scope=scope, missing=missing, unasked_python=unasked)


def _verdicts(judged: Sequence[_Judged]) -> Iterator[FileVerdict]:
    """Say of each file whether it loads; what needs a file that does not, does not either."""
    failing = {one.file.library.place: one for one in judged if one.loads is False}
    for one in judged:
        needed = (failing.get(library.place) for library in one.scope.loaded)
        broken = next((other for other in needed if other is not None and other is not one), None)
        if broken is not None and one.loads is not False:
            why = f"it needs {broken.file.library.name}, which does not load"
            yield FileVerdict(member=one.file.member, loads=False, why=(*one.why, why))
        else:
            yield FileVerdict(member=one.file.member, loads=one.loads, why=one.why)


def _grouped(judged: _Judged) -> Iterator[Finding]:
    """Yield one finding for all symbols that are missing for the same reason."""
    member = judged.file.member
    groups: dict[tuple[Reason, str], list[MissingSymbol]] = {}
    for symbol in judged.missing:
        if _is_of_library(symbol, judged):
            continue
        groups.setdefault((symbol.reason, symbol.explanation), []).append(symbol)
    for (reason, explanation), symbols in groups.items():
        names = tuple(symbol.demangled for symbol in symbols)
        is_open = reason in OPEN_REASONS
        yield Finding(
            kind=FindingKind.NOT_CHECKED if is_open else FindingKind.MISSING_SYMBOL,
            message=f"{member!r}: {_count(len(names))} missing, {explanation}",
            member=member,
            details=names,
            severity=Severity.WARNING if is_open else Severity.ERROR,
        )


def _is_missing_for_sure(symbol: MissingSymbol, judged: _Judged) -> bool:
    return symbol.reason not in OPEN_REASONS and not _is_of_library(symbol, judged)


def _is_of_library(symbol: MissingSymbol, judged: _Judged) -> bool:
    """Whether it is missing with a library, which is said already."""
    return bool(judged.scope.missing) and symbol.reason in _WITH_LIBRARY


def _spare_finding(spare: Sequence[_Judged]) -> Finding:
    names = ", ".join(repr(one.file.library.name) for one in spare)
    count = "1 file is" if len(spare) == 1 else f"{len(spare)} files are"
    return Finding(
        kind=FindingKind.ALTERNATIVE,
        message=f"{count} not for this surrounding, but others of the same name are: {names}",
        details=tuple(f"{one.file.member}: {'; '.join(one.why)}" for one in spare),
        severity=Severity.WARNING,
    )


def _of_other_machine(file: _File) -> Finding:
    return _open_finding(file.member, "is for another machine than the torch beside it")


def _open_finding(member: str, what: str) -> Finding:
    return Finding(
        kind=FindingKind.NOT_CHECKED,
        message=f"{member!r} {what}",
        member=member,
        severity=Severity.WARNING,
    )


def _count(number: int) -> str:
    return "1 symbol is" if number == 1 else f"{number} symbols are"


def _python_of(filename: str, labels: Labels) -> PythonVersion:
    """Return the Python of the file's suffix, of the tag, or a usual one where any will do."""
    match = _PYTHON_SUFFIX.fullmatch(filename)
    texts = [match[1]] if match else sorted(_tag_pythons(labels))
    versions = []
    for text in texts:
        try:
            versions.append(PythonVersion.parse(text))
        except UsageError:
            continue
    python = min(versions, default=_TABLED_PYTHON)
    return python if match else _first_wanted(python, labels)


def _first_wanted(python: PythonVersion, labels: Labels) -> PythonVersion:
    """Return the oldest Python from this one on that Requires-Python lets in."""
    wanted = labels.metadata.requires_python if labels.metadata is not None else None
    minors = range(python.minor, _NEWEST_MINOR + 1) if wanted is not None else ()
    allowed = (one for one in minors if wanted and wanted.contains(f"{python.major}.{one}.99"))
    return python._replace(minor=next(allowed, python.minor))


def _tag_pythons(labels: Labels) -> Iterator[str]:
    for tag in labels.tags:
        yield tag.abi if tag.abi.startswith("cp") else tag.interpreter


def _is_entry(library: Library) -> bool:
    module = library.name.partition(".")[0]
    return library.exports(f"PyInit_{module}") or _links_torch(library)


def _links_torch(library: Library) -> bool:
    return any(_LINKS_TORCH.fullmatch(name) for name in library.contents.needed)


def _family(library: Library) -> str:
    """Return one name for the alternatives; what is for another Python is none."""
    place = str(library.place)
    if _PYTHON_SUFFIX.fullmatch(library.name):
        return place
    return _CUDA_NUMBER.sub("", re.sub(r"\d+", "#", place))
