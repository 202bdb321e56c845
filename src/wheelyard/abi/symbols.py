"""Which symbols of an extension nobody provides, and why."""

from __future__ import annotations

import dataclasses
import itertools
import re
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from wheelyard.abi.libraries import Origin
from wheelyard.errors import MachineError, ProcessError
from wheelyard.run import run

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from wheelyard.abi.elf import ElfFile, UndefinedSymbol
    from wheelyard.abi.libraries import Provider, Providers

_TOOL_ENV: Final = {"PATH": "/usr/bin:/bin", "LC_ALL": "C"}
_NAMES_PER_CALL: Final = 200

_OF_TORCH = re.compile(
    r"_Z\w*?(?<!\d)(?:3c10|2at|5torch|6caffe2)\w*|(?:aoti_torch_|torch_|THP)\w+|_Z\d+THP\w+"
)
_OF_CUDA = re.compile(
    r"(?:__cuda|cuda|cublas|cudnn|cufft|curand|cusolver|cusparse|nccl|nvrtc)[A-Z]\w*"
)
_CUDA_LIBRARY = re.compile(r"lib(?:cu(?:da|dnn|blas|fft|rand|solver|sparse|file|pti)|nccl|nv)")
_OF_PYTHON = re.compile(r"_?Py[A-Z_]\w*")
_SYSTEM_VERSION = re.compile(r"(?:GLIBC|GLIBCXX|CXXABI|GCC)_[\d.]+")

# std::string under the new ABI of libstdc++ (_GLIBCXX_USE_CXX11_ABI=1) and under the old one.
_NEW_ABI = re.compile(r"__cxx11|B5cxx11")
_OLD_ABI = re.compile(r"\bstd::(?:string\b|basic_string<char|list<)")
_NEW_STRING: Final = "NSt7__cxx1112basic_stringIcSt11char_traitsIcESaIcEEE"
_OLD_STRING: Final = "Ss"
_CHECK_FAIL: Final = "_ZN3c106detail14torchCheckFailEPKcS2_jRK{}"

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
    UNKNOWN = "unknown"


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class MissingSymbol:
    """An undefined symbol that no library provides."""

    name: str
    version: str | None
    demangled: str
    reason: Reason
    explanation: str


def find_missing_symbols(extension: ElfFile, providers: Providers) -> tuple[MissingSymbol, ...]:
    """Return every undefined symbol, weak ones aside, that no provider exports."""
    missing = sorted(
        {
            symbol.name: symbol
            for symbol in extension.undefined_symbols()
            if not symbol.weak
            and not providers.is_of_driver(symbol.name)
            and providers.find(symbol.name, symbol.version) is None
        }.items()
    )
    readable = demangle(name for name, _ in missing)
    return tuple(
        _explain(symbol, demangled=readable[name], providers=providers) for name, symbol in missing
    )


def demangle(names: Iterable[str]) -> Mapping[str, str]:
    """Write C++ names as people do, with binutils' c++filt where there is one."""
    readable: dict[str, str] = {}
    for batch in _batches(names):
        try:
            output = run(["c++filt", "--", *batch], env=_TOOL_ENV).output.splitlines()
        except (MachineError, ProcessError):
            output = []
        readable.update(zip(batch, output if len(output) == len(batch) else batch, strict=True))
    return readable


def _batches(names: Iterable[str]) -> Iterator[list[str]]:
    iterator = iter(names)
    while batch := list(itertools.islice(iterator, _NAMES_PER_CALL)):
        yield batch


def _explain(symbol: UndefinedSymbol, *, demangled: str, providers: Providers) -> MissingSymbol:
    reason, explanation = _diagnose(symbol, demangled, providers)
    return MissingSymbol(
        name=symbol.name,
        version=symbol.version,
        demangled=demangled,
        reason=reason,
        explanation=explanation,
    )


def _diagnose(symbol: UndefinedSymbol, demangled: str, providers: Providers) -> tuple[Reason, str]:
    name = symbol.name
    unlinked = _first_with(providers.unlinked, name, symbol.version)
    if unlinked is not None:
        return Reason.NOT_LINKED, f"{unlinked.library.name} has it, but is not asked for"
    if _OF_TORCH.fullmatch(name):
        return _diagnose_torch(name, demangled, providers)
    if _OF_PYTHON.fullmatch(name):
        return Reason.PYTHON, "compiled for another Python: this one does not have it"
    if symbol.version and _SYSTEM_VERSION.fullmatch(symbol.version):
        return Reason.OLD_SYSTEM, f"this machine's C or C++ library is older than {symbol.version}"
    if _OF_CUDA.fullmatch(name):
        return _diagnose_cuda(providers)
    if providers.missing:
        return Reason.MISSING_LIBRARY, f"nobody provides {', '.join(providers.missing)}"
    if providers.absent:
        return Reason.ABSENT_LIBRARY, f"this machine does not have {', '.join(providers.absent)}"
    return Reason.UNKNOWN, "no library that is loaded has it"


def _diagnose_torch(name: str, demangled: str, providers: Providers) -> tuple[Reason, str]:
    around = (*providers.loaded, *providers.unlinked)
    of_torch = [one for one in around if one.library.origin is Origin.TORCH]
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


def _cxx11_abi(of_torch: Iterable[Provider]) -> int | None:
    """Tell torch's ABI from a function that is in all of its versions."""
    for value, string in ((1, _NEW_STRING), (0, _OLD_STRING)):
        if _first_with(of_torch, _CHECK_FAIL.format(string)):
            return value
    return None


def _diagnose_cuda(providers: Providers) -> tuple[Reason, str]:
    for missing, other in providers.other_versions.items():
        if _CUDA_LIBRARY.match(missing):
            return Reason.CUDA_MAJOR, f"compiled for another CUDA: {missing} instead of {other}"
    if providers.missing:
        return Reason.MISSING_LIBRARY, f"nobody provides {', '.join(providers.missing)}"
    return Reason.UNKNOWN, "the CUDA libraries beside this torch do not have it"


def explain_missing_library(name: str, providers: Providers) -> tuple[Reason, str]:
    """Say why a library that the extension needs is not there."""
    other = providers.other_versions.get(name)
    if other is not None and _CUDA_LIBRARY.match(name):
        return Reason.CUDA_MAJOR, f"compiled for another CUDA: beside this torch is {other}"
    if other is not None:
        return Reason.MISSING_LIBRARY, f"there is {other} instead"
    return Reason.MISSING_LIBRARY, "neither the wheel nor torch nor the system brings it"


def _first_with(
    providers: Iterable[Provider], name: str, version: str | None = None
) -> Provider | None:
    return next((one for one in providers if one.exports(name, version)), None)
