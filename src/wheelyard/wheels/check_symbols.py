"""Check that a wheel's compiled files find all their symbols beside the torch they are for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from wheelyard.abi.libraries import survey
from wheelyard.abi.symbols import Reason, explain_missing_library, find_missing_symbols
from wheelyard.wheels.findings import Finding, FindingKind, Severity

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from wheelyard.abi.libraries import Providers
    from wheelyard.abi.symbols import MissingSymbol
    from wheelyard.wheels.check_binaries import Binary
    from wheelyard.wheels.findings import Surroundings

_SHOWN = 3


def symbol_findings(binaries: Iterable[Binary], surroundings: Surroundings) -> Iterator[Finding]:
    """Find what is missing when the files are loaded after torch, and say why."""
    shared = [binary for binary in binaries if binary.is_shared_object]
    around = survey(
        wheel_files=[binary.path for binary in shared],
        torch_site=surroundings.torch_site,
        interpreter=surroundings.interpreter,
    )
    for binary in shared:
        if binary.elf.machine != around.machine:
            yield Finding(
                kind=FindingKind.NOT_CHECKED,
                message=f"{binary.member!r} is for another machine than the torch beside it",
                member=binary.member,
                severity=Severity.WARNING,
            )
            continue
        providers = around.providers(binary.elf)
        yield from _library_findings(binary, providers)
        yield from _grouped(binary, find_missing_symbols(binary.elf, providers))


def _library_findings(binary: Binary, providers: Providers) -> Iterator[Finding]:
    for name in providers.missing:
        _, why = explain_missing_library(name, providers)
        yield Finding(
            kind=FindingKind.MISSING_LIBRARY,
            message=f"{binary.member!r} needs {name}: {why}",
            member=binary.member,
        )
    for name in providers.absent:
        yield Finding(
            kind=FindingKind.NOT_CHECKED,
            message=f"{binary.member!r} needs {name}, which this machine does not have",
            member=binary.member,
            severity=Severity.WARNING,
        )


def _grouped(binary: Binary, missing: Iterable[MissingSymbol]) -> Iterator[Finding]:
    """Yield one finding for all symbols that are missing for the same reason."""
    groups: dict[tuple[Reason, str], list[MissingSymbol]] = {}
    for symbol in missing:
        groups.setdefault((symbol.reason, symbol.explanation), []).append(symbol)
    for (reason, explanation), symbols in groups.items():
        names = tuple(symbol.demangled for symbol in symbols)
        shown = "; ".join(names[:_SHOWN]) + ("; ..." if len(names) > _SHOWN else "")
        count = "1 symbol is" if len(names) == 1 else f"{len(names)} symbols are"
        is_open = reason is Reason.ABSENT_LIBRARY
        yield Finding(
            kind=FindingKind.NOT_CHECKED if is_open else FindingKind.MISSING_SYMBOL,
            message=f"{binary.member!r}: {count} missing, {explanation}: {shown}",
            member=binary.member,
            details=names,
            severity=Severity.WARNING if is_open else Severity.ERROR,
        )
