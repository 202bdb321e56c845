"""Tables are made from wheels, folders and interpreters, and provided once."""

from __future__ import annotations

import dataclasses
import re
import shutil
import sys
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

import pytest

from wheelyard.abi.elf import ElfFile
from wheelyard.abi.making_tables import (
    make_python_table,
    make_site_table,
    provide_torch_table,
)
from wheelyard.abi.symbol_table import SymbolTable
from wheelyard.errors import FetchError, MachineError
from wheelyard.model.cell import TorchBuild
from wheelyard.network.indexes import IndexSettings

if TYPE_CHECKING:
    from collections.abc import Callable

    from wheelyard.toolchain.interpreters import Interpreter

UNKNOWN = TorchBuild.parse("99.1.0+cu130")


def _names(table: SymbolTable, name: str, version: str | None = None) -> set[str]:
    return {table.libraries[number].path.name for number in table.exporters(name, version)}


@pytest.fixture
def provide(tmp_path: Path) -> Callable[..., tuple[SymbolTable, list[str]]]:
    def run(torch: TorchBuild = UNKNOWN) -> tuple[SymbolTable, list[str]]:
        said: list[str] = []
        settings = IndexSettings(no_index=True, find_links=(str(tmp_path / "wheels"),))
        table = provide_torch_table(
            torch, "x86_64", cache=tmp_path / "cache", settings=settings, env={}, say=said.append
        )
        return table, said

    return run


@pytest.fixture
def torch_wheels(make_wheel: Callable[..., Path], make_torch_site: Callable[..., Path]) -> None:
    """Write the wheels of a torch build: torch's, and those of its CUDA."""
    site = make_torch_site()
    tag = "manylinux_2_28_x86_64"
    for name, version, python, glob, requires in (
        ("torch", str(UNKNOWN), "cp312-cp312", "torch/lib/*", ["nvidia-cuda==13.0.1"]),
        ("nvidia-cuda", "13.0.1", "py3-none", "nvidia/*/lib/*", []),
    ):
        files = {
            str(path.relative_to(site)): path.read_bytes()
            for path in site.glob(f"{glob}.so*")
            if not path.name.endswith((".c", ".map"))
        }
        make_wheel(
            name=name, version=version, tag=f"{python}-{tag}", files=files, requires=requires
        )


def test_table_of_a_torch_build_is_made_from_its_wheels_once(
    provide: Callable[..., tuple[SymbolTable, list[str]]], torch_wheels: None, tmp_path: Path
) -> None:
    table, said = provide()
    assert table.name == "torch-99.1.0+cu130"
    assert table.machine == "x86_64"
    paths = [str(library.path) for library in table.libraries]
    assert paths == [
        "torch/lib/libc10.so",
        "torch/lib/libtorch_cpu.so",
        "torch/lib/libtorch_global_deps.so",
        "torch/lib/libtorch_python.so",
        "nvidia/cu13/lib/libcublas.so.13",
        "nvidia/cu13/lib/libcudart.so.13",
    ]
    assert table.libraries[1].needed[0] == "libc10.so"
    assert _names(table, "_ZN3c104warnEv") == {"libc10.so"}
    assert _names(table, "cudaMalloc", "libcudart.so.13") == {"libcudart.so.13"}
    assert not _names(table, "cudaMalloc", "libcudart.so.12")
    assert [source.filename.partition("-")[0] for source in table.sources] == [
        "torch",
        "nvidia_cuda",
    ]
    assert all(source.sha256 for source in table.sources)
    assert len(said) == 2
    shutil.rmtree(tmp_path / "wheels")
    again, said = provide()
    assert again.libraries == table.libraries
    assert not said


def test_table_that_ships_is_taken_before_anything_is_asked(
    provide: Callable[..., tuple[SymbolTable, list[str]]],
) -> None:
    table, said = provide(TorchBuild.parse("2.11.0+cu130"))
    assert table.name == "torch-2.11.0+cu130"
    assert not said


def test_torch_that_no_index_has_is_told_with_a_way_out(
    provide: Callable[..., tuple[SymbolTable, list[str]]], torch_wheels: None
) -> None:
    with pytest.raises(
        FetchError, match=r"no symbol table of torch 99\.2\.0\+cu130 for x86_64(.|\n)*--torch-site"
    ):
        provide(TorchBuild.parse("99.2.0+cu130"))


def test_table_of_a_folder_answers_as_the_libraries_in_it(
    make_torch_site: Callable[..., Path], tmp_path: Path
) -> None:
    site = make_torch_site(cxx11_abi=0, cuda=12)
    path = tmp_path / "site.symbols"
    make_site_table(site, path, name="mine")
    table = SymbolTable.load(path)
    assert table.libraries[0].path.name == "libc10.so"
    for library in table.libraries:
        for symbol in ElfFile.open(site / library.path).exported_symbols():
            assert library.path.name in _names(table, symbol.name, symbol.version)


def test_folder_without_torch_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MachineError, match="There is no torch in"):
        make_site_table(tmp_path, tmp_path / "x.symbols", name="none")


@pytest.fixture
def python(interpreter: Interpreter) -> Interpreter:
    """Return the interpreter itself, not the virtual environment that runs the tests."""
    return dataclasses.replace(interpreter, executable=Path(sys.executable).resolve())


def test_table_of_a_python_has_what_its_own_extensions_ask_for(
    python: Interpreter, tmp_path: Path
) -> None:
    path = tmp_path / "python.symbols"
    make_python_table(python, path)
    table = SymbolTable.load(path)
    assert table.name == f"python-{python.version.abi_tag}"
    (library,) = table.libraries
    assert (library.rpath, library.runpath) == ((), ())
    extensions = list(Path(sys.base_prefix).glob(f"lib/python{python.version}/lib-dynload/*.so"))
    if not extensions:
        pytest.skip("this Python has its extensions built in")
    asked = {
        symbol.name
        for extension in extensions
        for symbol in ElfFile.open(extension).undefined_symbols()
        if re.match("_?Py", symbol.name)
    }
    assert asked
    assert not [name for name in asked if not table.exporters(name)]
    assert not table.exporters("main")


def test_libpython_is_read_where_the_interpreter_links_one(
    python: Interpreter, link_c: Callable[..., Path], tmp_path: Path
) -> None:
    library = link_c("home/lib/libpython3.12.so.1.0", defines=["Py_Initialize", "XML_Parse"])
    executable = link_c("home/bin/python.so", defines=["Py_BytesMain"], needs=[library])
    linked = dataclasses.replace(
        python, executable=executable, base_prefix=library.parents[1], full_version="3.12.9"
    )
    path = tmp_path / "python.symbols"
    make_python_table(linked, path)
    table = SymbolTable.load(path)
    assert table.libraries[0].path == PurePosixPath("libpython3.12.so.1.0")
    assert table.exporters("Py_Initialize")
    assert not table.exporters("XML_Parse")
    assert not table.exporters("Py_BytesMain")
    assert table.sources[0].filename == "libpython3.12.so.1.0 of CPython 3.12.9"
    library.unlink()
    with pytest.raises(MachineError, match=r"needs libpython3\.12\.so\.1\.0, which is not beside"):
        make_python_table(linked, path)


def test_python_of_another_kind_of_machine_is_refused(python: Interpreter, tmp_path: Path) -> None:
    with pytest.raises(MachineError, match="'riscv64'"):
        make_python_table(dataclasses.replace(python, machine="riscv64"), tmp_path / "x.symbols")
