"""Which libraries an extension meets is decided as the dynamic loader decides it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from wheelyard.abi.elf import ElfFile
from wheelyard.abi.libraries import Origin, Surrounding, survey
from wheelyard.errors import MachineError

if TYPE_CHECKING:
    from collections.abc import Callable

    from wheelyard.abi.libraries import Providers

PYTHON = Path(sys.executable)


def around(site: Path, *wheel_files: Path) -> Surrounding:
    return survey(wheel_files=wheel_files, torch_site=site, interpreter=PYTHON)


def providers(site: Path, extension: Path, *wheel_files: Path) -> Providers:
    return around(site, extension, *wheel_files).providers(ElfFile.open(extension))


def origin(found: Providers, name: str, version: str | None = None) -> Origin | None:
    provider = found.find(name, version)
    return None if provider is None else provider.library.origin


def test_each_library_says_who_brings_it(
    link_c: Callable[..., Path], make_torch_site: Callable[..., Path]
) -> None:
    site = make_torch_site()
    extension = link_c("_C.so", needs=[site / "torch/lib/libtorch_cpu.so"])
    found = providers(site, extension)
    assert origin(found, "_ZN2at5emptyEv") is Origin.TORCH
    assert origin(found, "cudaMalloc", "libcudart.so.13") is Origin.CUDA
    assert origin(found, "PyList_New") is Origin.INTERPRETER
    assert origin(found, "printf") is Origin.SYSTEM
    assert origin(found, "nobody_has_it") is None


def test_libraries_that_are_needed_by_needed_ones_are_met(
    link_c: Callable[..., Path], make_torch_site: Callable[..., Path]
) -> None:
    site = make_torch_site()
    extension = link_c("_C.so", needs=[site / "torch/lib/libtorch_cpu.so"])
    assert origin(providers(site, extension), "_ZN3c104warnEv") is Origin.TORCH


def test_library_of_torch_that_is_not_asked_for_is_not_met(
    link_c: Callable[..., Path], make_torch_site: Callable[..., Path]
) -> None:
    site = make_torch_site()
    found = providers(site, link_c("_C.so"))
    assert origin(found, "_ZN3c104warnEv") is None
    assert "libc10.so" in {one.library.name for one in found.unlinked}


def test_what_torch_loads_for_everybody_is_met_without_asking(
    link_c: Callable[..., Path], make_torch_site: Callable[..., Path]
) -> None:
    found = providers(make_torch_site(), link_c("_C.so"))
    assert origin(found, "cudaMalloc", "libcudart.so.13") is Origin.CUDA


def test_symbol_of_another_version_is_not_met(
    link_c: Callable[..., Path], make_torch_site: Callable[..., Path]
) -> None:
    found = providers(make_torch_site(), link_c("_C.so"))
    assert origin(found, "cudaMalloc", "libcudart.so.12") is None


def test_extensions_do_not_provide_for_one_another_but_libraries_of_the_wheel_do(
    link_c: Callable[..., Path], make_torch_site: Callable[..., Path]
) -> None:
    site = make_torch_site()
    extension = link_c("_C.so")
    other = link_c("_D.so", defines=["of_extension"])
    library = link_c("libcommon.so", defines=["of_library"])
    found = providers(site, extension, other, library)
    assert origin(found, "of_library") is Origin.WHEEL
    assert origin(found, "of_extension") is None


def test_needed_library_that_nobody_brings_is_missing(
    link_c: Callable[..., Path], make_torch_site: Callable[..., Path]
) -> None:
    site = make_torch_site()
    old = link_c("elsewhere/libcudart.so.12")
    lost = link_c("elsewhere/liblost.so.1")
    extension = link_c("_C.so", needs=[old, lost, site / "torch/lib/libc10.so"])
    found = providers(site, extension)
    assert found.missing == ("libcudart.so.12", "liblost.so.1")
    assert found.other_versions == {"libcudart.so.12": "libcudart.so.13"}


def test_grafted_library_is_found_by_its_filename_only(
    link_c: Callable[..., Path], make_torch_site: Callable[..., Path]
) -> None:
    soname = "-Wl,-soname,libjpeg.so.8"
    grafted = link_c("demo.libs/libjpeg-0a1b2c3d.so.8", options=[soname])
    extension = link_c("_C.so", needs=[grafted])
    assert providers(make_torch_site(), extension, grafted).missing == ("libjpeg.so.8",)


def test_driver_is_taken_to_be_there_when_it_is_asked_for(
    link_c: Callable[..., Path], make_torch_site: Callable[..., Path]
) -> None:
    site = make_torch_site()
    driver = link_c("elsewhere/libcuda.so.1")
    asking = providers(site, link_c("_C.so", needs=[driver]))
    assert asking.missing == ()
    assert asking.is_of_driver("cuModuleLoad")
    assert not asking.is_of_driver("cudaMalloc")
    assert not asking.is_of_driver("custom")
    assert not providers(site, link_c("_D.so")).is_of_driver("cuModuleLoad")


def test_promised_library_that_is_not_here_is_no_fault_of_the_wheel(
    link_c: Callable[..., Path], make_torch_site: Callable[..., Path]
) -> None:
    site = make_torch_site()
    extension = link_c("_C.so", needs=[link_c("elsewhere/libGL.so.1")])
    interpreter = ElfFile.open(PYTHON.resolve())
    found = Surrounding([], interpreter=interpreter).providers(ElfFile.open(extension))
    assert "libGL.so.1" in found.absent
    assert found.missing == ()
    assert site.is_dir()


def test_folder_without_torch_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MachineError, match=r"no torch in .* torch/lib"):
        around(tmp_path)


def test_script_in_place_of_the_interpreter_is_refused(
    make_torch_site: Callable[..., Path], tmp_path: Path
) -> None:
    script = tmp_path / "python"
    script.write_text("#!/bin/sh\n")
    with pytest.raises(MachineError, match="not a Python executable"):
        survey(wheel_files=(), torch_site=make_torch_site(), interpreter=script)
