"""The libraries around an extension are found where torch, Python and the system keep them."""

from __future__ import annotations

import sys
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

import pytest
from packaging.utils import canonicalize_name

from wheelyard.abi.elf import ElfFile
from wheelyard.abi.libraries import (
    Origin,
    SystemLibraries,
    distribution_libraries,
    folder_libraries,
    interpreter_libraries,
    site_libraries,
    tabled_libraries,
)
from wheelyard.abi.symbol_table import SymbolTable, write_symbol_table
from wheelyard.abi.wheel_symbols import read_library
from wheelyard.errors import MachineError

if TYPE_CHECKING:
    from collections.abc import Callable

    from wheelyard.model.cell import Machine

PYTHON = Path(sys.executable)


def test_libraries_of_a_site_have_the_place_where_they_are_installed(
    make_torch_site: Callable[..., Path],
) -> None:
    found = {one.name: one for one in site_libraries(make_torch_site())}
    assert found["libc10.so"].place == PurePosixPath("torch/lib/libc10.so")
    assert found["libc10.so"].origin is Origin.TORCH
    assert found["libcudart.so.13"].place == PurePosixPath("nvidia/cu13/lib/libcudart.so.13")
    assert found["libcudart.so.13"].origin is Origin.CUDA


def test_symbol_table_tells_the_same_as_the_site_that_it_was_read_from(
    make_torch_site: Callable[..., Path], tmp_path: Path
) -> None:
    site = make_torch_site()
    real = site_libraries(site)
    path = tmp_path / "torch.symbols"
    write_symbol_table(
        path,
        name="torch 2.11.0+cu130",
        machine="x86_64",
        libraries=[read_library(ElfFile.open(site / one.place), one.place) for one in real],
        sources=[],
    )
    tabled = tabled_libraries(SymbolTable.load(path))
    for one, other in zip(real, tabled, strict=True):
        assert (one.name, one.place, one.origin) == (other.name, other.place, other.origin)
        assert one.contents.needed == other.contents.needed
        assert one.names == other.names
        for symbol in ("_ZN3c104warnEv", "cudaMalloc", "THPVariable_Wrap", "nobody_has_it"):
            assert one.exports(symbol) == other.exports(symbol)
        version = "libcudart.so.13"
        assert one.exports("cudaMalloc", version) == other.exports("cudaMalloc", version)
        assert not other.exports("cudaMalloc", "libcudart.so.12")


def test_interpreter_comes_first_with_its_own_symbols() -> None:
    program = interpreter_libraries(PYTHON)[0]
    assert program.origin is Origin.INTERPRETER
    assert any(one.exports("PyList_New") for one in interpreter_libraries(PYTHON))


def test_only_what_every_system_promises_is_taken_from_this_one() -> None:
    machine = ElfFile.open(PYTHON.resolve()).machine
    system = SystemLibraries(machine)
    for name in ("libc.so.6", "libstdc++.so.6"):
        library = system.get(name)
        assert library is not None
        assert (library.name, library.origin) == (name, Origin.SYSTEM)
    assert system.get("libutil.so.9") is None
    other = "libcrypt.so.1"
    assert system.get(other) is None
    asked = SystemLibraries(machine, [other]).get(other)
    assert asked is None or asked.exports("crypt")


def test_libraries_of_another_machine_are_not_taken() -> None:
    machine = ElfFile.open(PYTHON.resolve()).machine
    other: Machine = "aarch64" if machine == "x86_64" else "x86_64"
    assert SystemLibraries(other).get("libc.so.6") is None


def test_other_wheels_libraries_are_found_in_their_folders(
    link_c: Callable[..., Path], tmp_path: Path
) -> None:
    library = link_c("beside/demo/lib/libdemo.so.1", defines=["of_demo"])
    (library.parent / "notes.so.txt").write_text("no library")
    (found,) = folder_libraries(library.parents[2])
    assert (found.name, found.origin) == ("libdemo.so.1", Origin.BESIDE)
    assert found.exports("of_demo")
    assert tmp_path.is_dir()


def test_libraries_of_a_distribution_are_told_from_those_of_others(
    link_c: Callable[..., Path],
) -> None:
    site = link_c("site/core/lib/libcore.so", defines=["of_core"]).parents[2]
    link_c("site/other/libother.so", defines=["of_other"])
    for name, file in (("Core_Cu13", "core/lib/libcore.so"), ("other", "other/libother.so")):
        folder = site / f"{name}-1.0.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        (folder / "RECORD").write_text(f"{file},,\n{folder.name}/RECORD,,\n")
    (found,) = distribution_libraries(site, {canonicalize_name("core-cu13")})
    assert (found.name, str(found.place)) == ("libcore.so", "core/lib/libcore.so")
    assert found.origin is Origin.BESIDE


def test_folder_without_torch_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MachineError, match=r"no torch in .* torch/lib"):
        site_libraries(tmp_path)


def test_script_in_place_of_the_interpreter_is_refused(tmp_path: Path) -> None:
    script = tmp_path / "python"
    script.write_text("#!/bin/sh\n")
    with pytest.raises(MachineError, match="not a Python executable"):
        interpreter_libraries(script)
