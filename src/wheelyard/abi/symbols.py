"""Which symbols of an extension nobody provides, and why."""

from __future__ import annotations

import dataclasses
import itertools
import re
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from wheelyard.abi.libraries import Origin
from wheelyard.errors import MachineError, ProcessError
from wheelyard.model.known_libraries import Bringer, bringer, cuda_major
from wheelyard.run import run

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from wheelyard.abi.elf import UndefinedSymbol
    from wheelyard.abi.libraries import Library
    from wheelyard.abi.loading import Scope

_TOOL_ENV: Final = {"PATH": "/usr/bin:/bin", "LC_ALL": "C"}
_NAMES_PER_CALL: Final = 200

_OF_TORCH = re.compile(
    r"_Z\w*?(?<!\d)(?:3c10|2at|5torch|6caffe2)\w*|(?:aoti_torch_|torch_|THP)\w+|_Z\d+THP\w+"
)
_OF_CUDA = re.compile(
    r"(?:__cuda|cuda|cublas|cudnn|cufft|curand|cusolver|cusparse|nccl|nvrtc)[A-Z]\w*"
)
_OF_PYTHON = re.compile(r"_?Py[A-Z_]\w*")
_SYSTEM_VERSION = re.compile(r"(?:GLIBC|GLIBCXX|CXXABI|GCC)_[\d.]+")

# std::string under the new ABI of libstdc++ (_GLIBCXX_USE_CXX11_ABI=1) and under the old one.
_NEW_ABI = re.compile(r"__cxx11|B5cxx11")
_OLD_ABI = re.compile(r"\bstd::(?:string\b|basic_string<char|list<)")
_NEW_STRING: Final = "NSt7__cxx1112basic_stringIcSt11char_traitsIcESaIcEEE"
_OLD_STRING: Final = "Ss"
_CHECK_FAIL: Final = "_ZN3c106detail14torchCheckFailEPKcS2_jRK{}"

_OWN_RELEASES: Final = {"cudnn": "cuDNN", "nccl": "NCCL", "cusparseLt": "cuSPARSELt"}
# gcc 13's <iostream> names it without any relocation, so that the loader never looks for it.
_NEVER_LOOKED_UP: Final = "_ZSt21ios_base_library_initv"
_OTHER_MINOR: Final = "compiled for another minor version of torch"


class Reason(StrEnum):
    """Why a symbol is missing."""

    CXX11_ABI = "cxx11-abi"
    TORCH_MINOR = "torch-minor"
    CUDA_MAJOR = "cuda-major"
    PYTHON = "python"
    NOT_LINKED = "not-linked"
    MISSING_LIBRARY = "missing-library"
    ABSENT_LIBRARY = "absent-library"
    OLD_SYSTEM = "old-system"
    PRELOADED = "preloaded"
    UNKNOWN = "unknown"


OPEN_REASONS: Final = frozenset({Reason.ABSENT_LIBRARY, Reason.OLD_SYSTEM, Reason.PRELOADED})
"""It depends on the machine, or on what the package loads first: no fault of the wheel."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class MissingSymbol:
    """An undefined symbol that no library provides."""

    name: str
    version: str | None
    demangled: str
    reason: Reason
    explanation: str


def find_missing_symbols(
    undefined: Iterable[UndefinedSymbol],
    scope: Scope,
    demangle: Demangler,
    *,
    has_python: bool = True,
) -> tuple[MissingSymbol, ...]:
    """Return every undefined symbol, weak ones aside, that no library in scope exports.

    Those of Python are not looked for when it is not known (``has_python``).
    """
    missing = sorted(
        {
            symbol.name: symbol
            for symbol in undefined
            if not symbol.weak
            and symbol.name != _NEVER_LOOKED_UP
            and not scope.provides(symbol.name, symbol.version)
            and not scope.is_of_driver(symbol.name)
            and (has_python or not _OF_PYTHON.fullmatch(symbol.name))
        }.items()
    )
    readable = demangle([name for name, _ in missing])
    return tuple(
        _explain(symbol, demangled=readable[name], scope=scope) for name, symbol in missing
    )


def asks_python(undefined: Iterable[UndefinedSymbol]) -> bool:
    """Tell whether any of the symbols is Python's."""
    return any(_OF_PYTHON.fullmatch(one.name) for one in undefined)


class Demangler:
    """Writes C++ names as people do, with binutils' c++filt where there is one; each name once.

    In a process of its own: a name in a hostile file may bring a demangler down.
    """

    def __init__(self) -> None:
        self._known: dict[str, str] = {}

    def __call__(self, names: Iterable[str]) -> Mapping[str, str]:
        names = tuple(names)
        for batch in _batches(name for name in names if name not in self._known):
            mangled = [name for name in batch if name.startswith("_Z")]
            self._known |= {name: name for name in batch}
            self._known |= _demangled(mangled) if mangled else {}
        return {name: self._known[name] for name in names}


def _demangled(names: list[str]) -> Mapping[str, str]:
    try:
        output = run(["c++filt", "--", *names], env=_TOOL_ENV).output.splitlines()
    except (MachineError, ProcessError):
        output = []
    return dict(zip(names, output if len(output) == len(names) else names, strict=True))


def _batches(names: Iterable[str]) -> Iterator[list[str]]:
    iterator = iter(names)
    while batch := list(itertools.islice(iterator, _NAMES_PER_CALL)):
        yield batch


def _explain(symbol: UndefinedSymbol, *, demangled: str, scope: Scope) -> MissingSymbol:
    reason, explanation = _diagnose(symbol, demangled, scope)
    return MissingSymbol(
        name=symbol.name,
        version=symbol.version,
        demangled=demangled,
        reason=reason,
        explanation=explanation,
    )


def _diagnose(symbol: UndefinedSymbol, demangled: str, scope: Scope) -> tuple[Reason, str]:
    unasked = _diagnose_unasked(symbol, scope)
    if unasked is not None:
        return unasked
    name = symbol.name
    if _OF_TORCH.fullmatch(name):
        return _diagnose_torch(name, demangled, scope)
    if _OF_PYTHON.fullmatch(name):
        return Reason.PYTHON, "compiled for another Python: this one does not have it"
    if symbol.version and _SYSTEM_VERSION.fullmatch(symbol.version):
        return Reason.OLD_SYSTEM, f"this machine's C or C++ library has no {symbol.version}"
    if _OF_CUDA.fullmatch(name):
        return _diagnose_cuda(symbol, scope)
    if scope.missing:
        return Reason.MISSING_LIBRARY, f"nobody provides {', '.join(scope.missing)}"
    if scope.absent:
        return Reason.ABSENT_LIBRARY, f"this machine does not have {', '.join(scope.absent)}"
    if scope.unseen:
        return Reason.PRELOADED, f"unless {', '.join(scope.unseen)}, which is not here, brings it"
    return Reason.UNKNOWN, "no library that is loaded has it"


def _diagnose_unasked(symbol: UndefinedSymbol, scope: Scope) -> tuple[Reason, str] | None:
    """Tell what is in a library that is there, but that the extension does not ask for."""
    name, version = symbol.name, symbol.version
    own = _first_with(scope.own, name, version)
    if own is not None:
        return Reason.PRELOADED, f"unless the package loads its {own.name} before"
    other = _first_with((*scope.unlinked, *scope.beside), name, version)
    if other is None:
        return None
    if other.origin is Origin.TORCH:
        return Reason.NOT_LINKED, f"{other.name} has it, but is not asked for"
    return Reason.PRELOADED, f"unless the package loads {other.name} before"


def _diagnose_torch(name: str, demangled: str, scope: Scope) -> tuple[Reason, str]:
    around = (*scope.loaded, *scope.unlinked)
    of_torch = [one for one in around if one.origin is Origin.TORCH]
    is_old = _OLD_ABI.search(demangled) or (demangled == name and _OLD_STRING in name)
    if _NEW_ABI.search(name):
        spelling, wanted, has = name.replace(_NEW_STRING, _OLD_STRING), 1, 0
    elif is_old:
        spelling, wanted, has = name.replace(_OLD_STRING, _NEW_STRING, 1), 0, 1
    else:
        return Reason.TORCH_MINOR, _OTHER_MINOR
    if _first_with(of_torch, spelling) or _cxx11_abi(of_torch) == has:
        return Reason.CXX11_ABI, (
            f"wrong CXX11 ABI: compiled with _GLIBCXX_USE_CXX11_ABI={wanted}, this torch with {has}"
        )
    return Reason.TORCH_MINOR, _OTHER_MINOR


def _cxx11_abi(of_torch: Iterable[Library]) -> int | None:
    """Tell torch's ABI from a function that is in all of its versions."""
    for value, string in ((1, _NEW_STRING), (0, _OLD_STRING)):
        if _first_with(of_torch, _CHECK_FAIL.format(string)):
            return value
    return None


def _diagnose_cuda(symbol: UndefinedSymbol, scope: Scope) -> tuple[Reason, str]:
    for missing, other in scope.other_versions.items():
        if bringer(missing) is Bringer.CUDA:
            what = _release(missing)
            return Reason.CUDA_MAJOR, f"compiled for another {what}: {missing} instead of {other}"
    if symbol.version and _first_with((*scope.loaded, *scope.unlinked), symbol.name):
        return Reason.CUDA_MAJOR, (
            f"compiled for another {_release(symbol.version)}: it is asked for in version "
            f"{symbol.version}, and is there in another one"
        )
    if scope.missing:
        return Reason.MISSING_LIBRARY, f"nobody provides {', '.join(scope.missing)}"
    return Reason.UNKNOWN, "the CUDA libraries beside this torch do not have it"


def _release(library: str) -> str:
    """Return whose number stands in a SONAME: CUDA's, or that of a library with its own."""
    if cuda_major(library) is not None:
        return "CUDA"
    stem = library.partition(".so")[0].removeprefix("lib")
    return _OWN_RELEASES.get(stem.partition("_")[0], stem)


def explain_missing_library(name: str, scope: Scope) -> tuple[Reason, str]:
    """Say why a library that the extension needs is not there."""
    other = scope.other_versions.get(name)
    if other is not None and bringer(name) is Bringer.CUDA:
        what = _release(name)
        return Reason.CUDA_MAJOR, f"compiled for another {what}: beside this torch is {other}"
    if other is not None:
        return Reason.MISSING_LIBRARY, f"there is {other} instead"
    return Reason.MISSING_LIBRARY, "neither the wheel nor torch nor the system brings it"


def _first_with(
    libraries: Iterable[Library], name: str, version: str | None = None
) -> Library | None:
    return next((one for one in libraries if one.exports(name, version)), None)
