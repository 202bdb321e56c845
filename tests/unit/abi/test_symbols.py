"""Missing symbols are found and explained; the last test does it on a real torch."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

import pytest

from wheelyard.abi.elf import ElfFile
from wheelyard.abi.libraries import (
    SystemLibraries,
    interpreter_libraries,
    site_libraries,
    wheel_libraries,
)
from wheelyard.abi.loading import Process
from wheelyard.abi.symbols import (
    Demangler,
    Reason,
    explain_missing_library,
    find_missing_symbols,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from wheelyard.abi.loading import Scope
    from wheelyard.abi.symbols import MissingSymbol

PYTHON = interpreter_libraries(Path(sys.executable))
SYSTEM = SystemLibraries(ElfFile.open(Path(sys.executable).resolve()).machine)
NEW_STRING = "NSt7__cxx1112basic_stringIcSt11char_traitsIcESaIcEEE"
CHECK_FAIL = "_ZN3c106detail14torchCheckFailEPKcS2_jRK{}"
ERROR = "_ZN3c105ErrorC2ENS_14SourceLocationE{}"
NOT_IN_TORCH = "_ZN5torch7LibraryC1ENS0_4KindE{}"


def scope(site: Path, extension: Path) -> Scope:
    wheel = wheel_libraries({PurePosixPath("_C.so"): ElfFile.open(extension)})
    process = Process(wheel=wheel, torch=site_libraries(site), system=SYSTEM)
    return process.scope(wheel[0], PYTHON)


def missing(site: Path, extension: Path) -> dict[str, MissingSymbol]:
    found = find_missing_symbols(
        ElfFile.open(extension).undefined_symbols(), scope(site, extension), Demangler()
    )
    return {symbol.name: symbol for symbol in found}


def test_extension_for_this_torch_misses_nothing(
    link_c: Callable[..., Path], make_torch_site: Callable[..., Path]
) -> None:
    site = make_torch_site()
    libraries = [site / "torch/lib/libtorch_cpu.so", site / "nvidia/cu13/lib/libcudart.so.13"]
    asks = [CHECK_FAIL.format(NEW_STRING), "_ZN2at5emptyEv", "cudaMalloc", "PyList_New", "printf"]
    extension = link_c("_C.so", asks=asks, needs=libraries)
    assert missing(site, extension) == {}


@pytest.mark.parametrize(
    ("torch_abi", "symbol"),
    [
        pytest.param(0, CHECK_FAIL.format(NEW_STRING), id="new in old, same function"),
        pytest.param(1, CHECK_FAIL.format("Ss"), id="old in new, same function"),
        pytest.param(1, ERROR.format("Ss"), id="old in new, constructor"),
        pytest.param(
            0, NOT_IN_TORCH.format(NEW_STRING), id="new in old, function of another torch"
        ),
        pytest.param(0, "_ZN3c104nameB5cxx11Ev", id="new in old, told by the return value"),
    ],
)
def test_wrong_cxx11_abi_is_explained(
    link_c: Callable[..., Path],
    make_torch_site: Callable[..., Path],
    torch_abi: int,
    symbol: str,
) -> None:
    site = make_torch_site(cxx11_abi=torch_abi)
    extension = link_c("_C.so", asks=[symbol], needs=[site / "torch/lib/libc10.so"])
    found = missing(site, extension)[symbol]
    assert found.reason is Reason.CXX11_ABI
    assert f"_GLIBCXX_USE_CXX11_ABI={1 - torch_abi}, this torch with {torch_abi}" in (
        found.explanation
    )


@pytest.mark.parametrize(
    "symbol",
    [
        pytest.param("_ZN3c104cuda9SetDeviceEa", id="c10"),
        pytest.param("_ZNK2at10TensorBase3newEv", id="const member of at"),
        pytest.param("_ZTVN5torch3jit4NodeE", id="vtable of torch"),
        pytest.param("aoti_torch_no_such_call", id="C interface"),
        pytest.param(NOT_IN_TORCH.format(NEW_STRING), id="same ABI, other function"),
    ],
)
def test_symbol_of_another_torch_is_explained(
    link_c: Callable[..., Path], make_torch_site: Callable[..., Path], symbol: str
) -> None:
    site = make_torch_site(cxx11_abi=1)
    extension = link_c("_C.so", asks=[symbol], needs=[site / "torch/lib/libc10.so"])
    assert missing(site, extension)[symbol].reason is Reason.TORCH_MINOR


def test_other_cuda_major_is_explained(
    link_c: Callable[..., Path], make_torch_site: Callable[..., Path]
) -> None:
    site = make_torch_site(cuda=13)
    runtime = link_c("elsewhere/libcudart.so.12", defines=["cudaMalloc"], version="libcudart.so.12")
    extension = link_c("_C.so", asks=["cudaMalloc"], needs=[runtime])
    found = missing(site, extension)["cudaMalloc"]
    assert found.reason is Reason.CUDA_MAJOR
    assert "libcudart.so.12 instead of libcudart.so.13" in found.explanation
    reason, why = explain_missing_library("libcudart.so.12", scope(site, extension))
    assert reason is Reason.CUDA_MAJOR
    assert "libcudart.so.13" in why


def test_library_of_another_cuda_that_torch_does_not_load_is_explained(
    link_c: Callable[..., Path], make_torch_site: Callable[..., Path]
) -> None:
    name = "libcublas.so.12"
    library = link_c(f"elsewhere/{name}", defines=["cublasCreate_v2"], version=name)
    extension = link_c("_C.so", asks=["cublasCreate_v2"], needs=[library])
    found = missing(make_torch_site(cuda=13), extension)["cublasCreate_v2"]
    assert found.reason is Reason.CUDA_MAJOR


def test_symbol_of_a_missing_library_is_explained(
    link_c: Callable[..., Path], make_torch_site: Callable[..., Path]
) -> None:
    site = make_torch_site()
    lost = link_c("elsewhere/liblost.so.1", defines=["lost_call"])
    extension = link_c("_C.so", asks=["lost_call"], needs=[lost])
    found = missing(site, extension)["lost_call"]
    assert found.reason is Reason.MISSING_LIBRARY
    assert "liblost.so.1" in found.explanation
    reason, _ = explain_missing_library("liblost.so.1", scope(site, extension))
    assert reason is Reason.MISSING_LIBRARY


@pytest.mark.parametrize(
    ("symbol", "reason"),
    [
        pytest.param("_ZN3c104warnEv", Reason.NOT_LINKED, id="in a library that is not asked for"),
        pytest.param("_PyNoSuchFunction", Reason.PYTHON, id="of another Python"),
        pytest.param("nobody_has_it", Reason.UNKNOWN, id="of nobody"),
        pytest.param("_ZN12at_elsewhere4callEv", Reason.UNKNOWN, id="named a little like torch's"),
    ],
)
def test_other_reasons_are_told_apart(
    link_c: Callable[..., Path],
    make_torch_site: Callable[..., Path],
    symbol: str,
    reason: Reason,
) -> None:
    extension = link_c("_C.so", asks=[symbol])
    assert missing(make_torch_site(), extension)[symbol].reason is reason


def test_newer_system_library_is_explained(
    link_c: Callable[..., Path], make_torch_site: Callable[..., Path]
) -> None:
    newer = link_c("elsewhere/libm.so.6", defines=["cosh"], version="GLIBC_9.99")
    extension = link_c("_C.so", asks=["cosh"], needs=[newer])
    found = missing(make_torch_site(), extension)["cosh"]
    assert found.reason is Reason.OLD_SYSTEM
    assert "GLIBC_9.99" in found.explanation


def test_weak_symbols_and_those_of_the_driver_may_be_missing(
    compile_c: Callable[..., Path],
    link_c: Callable[..., Path],
    make_torch_site: Callable[..., Path],
) -> None:
    driver = link_c("elsewhere/libcuda.so.1")
    source = (
        "extern void weak_call(void) __attribute__((weak));\nextern void cuModuleLoad(void);\n"
        "void *table[] = {weak_call, cuModuleLoad};\n"
    )
    extension = compile_c("_C.so", source, "-Wl,--no-as-needed", str(driver))
    assert missing(make_torch_site(), extension) == {}


def test_names_are_demangled_many_at_a_time() -> None:
    if shutil.which("c++filt") is None:
        pytest.skip("binutils' c++filt is not there")
    names = [f"_ZN2at{len(str(number)) + 1}f{number}Ev" for number in range(500)]
    readable = Demangler()([*names, "plain"])
    assert readable["_ZN2at2f7Ev"] == "at::f7()"
    assert readable["_ZN2at4f499Ev"] == "at::f499()"
    assert readable["plain"] == "plain"


def test_missing_symbols_of_a_real_torch_are_explained(link_c: Callable[..., Path]) -> None:
    site = os.environ.get("WHEELYARD_TEST_TORCH_SITE")
    if not site:
        pytest.skip("WHEELYARD_TEST_TORCH_SITE names no folder with torch")
    lib = Path(site, "torch/lib")
    there = [CHECK_FAIL.format(NEW_STRING), ERROR.format(NEW_STRING), "_ZNK3c104Type3strB5cxx11Ev"]
    wrong_abi = [CHECK_FAIL.format("Ss"), ERROR.format("Ss")]
    extension = link_c(
        "_C.so",
        asks=[*there[:2], *wrong_abi, "_ZN2at16no_such_functionEv"],
        needs=[lib / "libc10.so", lib / "libtorch_cpu.so", lib / "libtorch_cuda.so"],
    )
    found = missing(Path(site), extension)
    assert {name: symbol.reason for name, symbol in found.items()} == {
        wrong_abi[0]: Reason.CXX11_ABI,
        wrong_abi[1]: Reason.CXX11_ABI,
        "_ZN2at16no_such_functionEv": Reason.TORCH_MINOR,
    }
