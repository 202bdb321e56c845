"""What an extension meets when it is loaded is decided as the dynamic loader decides it."""

from __future__ import annotations

import sys
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from wheelyard.abi.elf import ElfFile
from wheelyard.abi.libraries import (
    Origin,
    SystemLibraries,
    interpreter_libraries,
    site_libraries,
    wheel_libraries,
)
from wheelyard.abi.loading import Process

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from wheelyard.abi.loading import Scope

PYTHON = interpreter_libraries(Path(sys.executable))
SYSTEM = SystemLibraries(ElfFile.open(Path(sys.executable).resolve()).machine)


def scope(site: Path, files: Mapping[str, Path], *, beside: tuple[Path, ...] = ()) -> Scope:
    """Load the first of the wheel's files, given by where they are installed."""
    wheel = wheel_libraries({PurePosixPath(name): ElfFile.open(p) for name, p in files.items()})
    others = wheel_libraries({PurePosixPath(path.name): ElfFile.open(path) for path in beside})
    process = Process(wheel=wheel, torch=site_libraries(site), system=SYSTEM, beside=others)
    return process.scope(wheel[0], PYTHON)


def alone(site: Path, extension: Path) -> Scope:
    return scope(site, {"_C.so": extension})


def origin(found: Scope, name: str, version: str | None = None) -> Origin | None:
    library = found.find(name, version)
    assert (library is not None) == found.provides(name, version)
    return None if library is None else library.origin


def test_each_library_says_who_brings_it(
    link_c: Callable[..., Path], make_torch_site: Callable[..., Path]
) -> None:
    site = make_torch_site()
    found = alone(site, link_c("_C.so", needs=[site / "torch/lib/libtorch_cpu.so"]))
    assert origin(found, "_ZN2at5emptyEv") is Origin.TORCH
    assert origin(found, "cudaMalloc", "libcudart.so.13") is Origin.CUDA
    assert origin(found, "PyList_New") is Origin.INTERPRETER
    assert origin(found, "printf") is Origin.SYSTEM
    assert origin(found, "nobody_has_it") is None


def test_libraries_that_are_needed_by_needed_ones_are_met(
    link_c: Callable[..., Path], make_torch_site: Callable[..., Path]
) -> None:
    site = make_torch_site()
    found = alone(site, link_c("_C.so", needs=[site / "torch/lib/libtorch_cpu.so"]))
    assert origin(found, "_ZN3c104warnEv") is Origin.TORCH


def test_library_of_torch_that_is_not_asked_for_is_not_met(
    link_c: Callable[..., Path], make_torch_site: Callable[..., Path]
) -> None:
    found = alone(make_torch_site(), link_c("_C.so"))
    assert origin(found, "_ZN3c104warnEv") is None
    assert "libc10.so" in {one.name for one in found.unlinked}


def test_what_torch_loads_for_everybody_is_met_without_asking(
    link_c: Callable[..., Path], make_torch_site: Callable[..., Path]
) -> None:
    found = alone(make_torch_site(), link_c("_C.so"))
    assert origin(found, "cudaMalloc", "libcudart.so.13") is Origin.CUDA


def test_symbol_of_another_version_is_not_met(
    link_c: Callable[..., Path], make_torch_site: Callable[..., Path]
) -> None:
    found = alone(make_torch_site(), link_c("_C.so"))
    assert origin(found, "cudaMalloc", "libcudart.so.12") is None


def test_files_of_the_wheel_do_not_provide_for_one_another_unasked(
    link_c: Callable[..., Path], make_torch_site: Callable[..., Path]
) -> None:
    extension = link_c("_C.so")
    other = link_c("_D.so", defines=["of_extension"])
    library = link_c("libcommon.so", defines=["of_library"])
    found = scope(make_torch_site(), {"_C.so": extension, "_D.so": other, "libcommon.so": library})
    assert origin(found, "of_library") is None
    assert found.is_own("of_library")
    assert not found.is_own("of_extension")


def test_needed_library_that_nobody_brings_is_missing(
    link_c: Callable[..., Path], make_torch_site: Callable[..., Path]
) -> None:
    site = make_torch_site()
    old = link_c("elsewhere/libcudart.so.12")
    lost = link_c("elsewhere/liblost.so.1")
    found = alone(site, link_c("_C.so", needs=[old, lost, site / "torch/lib/libc10.so"]))
    assert found.missing == ("libcudart.so.12", "liblost.so.1")
    assert found.other_versions == {"libcudart.so.12": "libcudart.so.13"}


def test_library_beside_it_is_found_by_runpath_only(
    link_c: Callable[..., Path], make_torch_site: Callable[..., Path]
) -> None:
    library = link_c("libcommon.so", defines=["of_library"])
    for number, (runpath, place) in enumerate(
        [
            ("$ORIGIN/../demo.libs", "demo.libs/libcommon.so"),
            ("/usr/lib:${ORIGIN}", "demo/libcommon.so"),
        ]
    ):
        options = [f"-Wl,--enable-new-dtags,-rpath,{runpath}"]
        extension = link_c(f"_C{number}.so", needs=[library], options=options)
        found = scope(make_torch_site(), {"demo/_C.so": extension, place: library})
        assert origin(found, "of_library") is Origin.WHEEL
        assert not found.unreached
    blind = link_c("_B.so", needs=[library])
    found = scope(make_torch_site(), {"demo/_B.so": blind, "demo.libs/libcommon.so": library})
    assert found.unreached == {"libcommon.so": PurePosixPath("demo.libs/libcommon.so")}
    assert found.missing == ()


def test_rpath_serves_the_libraries_that_are_loaded_for_a_file_and_runpath_does_not(
    link_c: Callable[..., Path], make_torch_site: Callable[..., Path]
) -> None:
    inner = link_c("libinner.so", defines=["of_inner"])
    outer = link_c("libouter.so", needs=[inner])
    places = {"demo.libs/libouter.so": outer, "demo.libs/libinner.so": inner}
    for number, tags in enumerate(["--disable-new-dtags", "--enable-new-dtags"]):
        options = [f"-Wl,{tags},-rpath,$ORIGIN/../demo.libs"]
        extension = link_c(f"_C{number}.so", needs=[outer], options=options)
        found = scope(make_torch_site(), {"demo/_C.so": extension, **places})
        assert list(found.unreached) == ([] if number == 0 else ["libinner.so"])


def test_library_of_cuda_that_torch_does_not_load_needs_a_runpath(
    link_c: Callable[..., Path], make_torch_site: Callable[..., Path]
) -> None:
    site = make_torch_site()
    cublas = site / "nvidia/cu13/lib/libcublas.so.13"
    blind = alone(site, link_c("_C.so", needs=[cublas]))
    assert list(blind.unreached) == ["libcublas.so.13"]
    options = ["-Wl,-rpath,$ORIGIN/../nvidia/cu13/lib"]
    seeing = link_c("_D.so", needs=[cublas], options=options)
    assert not scope(site, {"demo/_D.so": seeing}).unreached


def test_what_is_loaded_is_found_by_the_name_inside_it(
    link_c: Callable[..., Path], make_torch_site: Callable[..., Path]
) -> None:
    soname = "-Wl,-soname,libjpeg.so.8"
    grafted = link_c("demo.libs/libjpeg-0a1b2c3d.so.8", options=[soname])
    extension = link_c("_C.so", needs=[grafted])
    files = {"_C.so": extension, "demo.libs/libjpeg-0a1b2c3d.so.8": grafted}
    assert scope(make_torch_site(), files).missing == ("libjpeg.so.8",)
    assert scope(make_torch_site(), {"_C.so": extension}, beside=(grafted,)).missing == ()


def test_driver_is_taken_to_be_there_when_it_is_asked_for(
    link_c: Callable[..., Path], make_torch_site: Callable[..., Path]
) -> None:
    site = make_torch_site()
    driver = link_c("elsewhere/libcuda.so.1")
    asking = alone(site, link_c("_C.so", needs=[driver]))
    assert asking.missing == ()
    assert asking.is_of_driver("cuModuleLoad")
    assert not asking.is_of_driver("cudaMalloc")
    assert not asking.is_of_driver("custom")
    assert not alone(site, link_c("_D.so")).is_of_driver("cuModuleLoad")


def test_promised_library_that_is_not_here_is_no_fault_of_the_wheel(
    link_c: Callable[..., Path], make_torch_site: Callable[..., Path]
) -> None:
    extension = link_c("_C.so", needs=[link_c("elsewhere/libGL.so.1")])
    wheel = wheel_libraries({PurePosixPath("_C.so"): ElfFile.open(extension)})
    process = Process(
        wheel=wheel, torch=site_libraries(make_torch_site()), system=SystemLibraries(None)
    )
    found = process.scope(wheel[0], PYTHON)
    assert "libGL.so.1" in found.absent
    assert found.missing == ()
