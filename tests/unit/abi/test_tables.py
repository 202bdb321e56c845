"""Which symbol tables there are, and where they are looked for."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from wheelyard.abi.symbol_table import SymbolTable, write_symbol_table
from wheelyard.abi.tables import (
    load_torch_table,
    python_table,
    python_table_filename,
    shipped_torch_tables,
    torch_table_filename,
)
from wheelyard.model.cell import MACHINES, PythonVersion, TorchBuild
from wheelyard.model.releases import default_torch_build, torch_releases

if TYPE_CHECKING:
    from pathlib import Path

    from wheelyard.model.cell import Machine

TORCH = TorchBuild.parse("2.11.0+cu130")
PYTHON = PythonVersion.parse("3.13t")


def _write(path: Path, name: str, machine: Machine = "x86_64") -> None:
    write_symbol_table(path, name=name, machine=machine, libraries=[], sources=[])


def test_tables_are_named_for_people() -> None:
    assert torch_table_filename(TORCH, "x86_64") == "torch-2.11.0+cu130-x86_64.symbols"
    assert python_table_filename(PYTHON, "aarch64") == "python-cp313t-aarch64.symbols"


def test_torch_tables_are_listed_by_machine_from_old_to_new(tmp_path: Path) -> None:
    for name in ("2.11.0+cu130-x86_64", "2.9.1+cu128-x86_64", "2.11.0+cu130-aarch64", "x-x86_64"):
        _write(tmp_path / f"torch-{name}.symbols", name)
    _write(tmp_path / "python-cp312-x86_64.symbols", "python-cp312")
    tables = shipped_torch_tables("x86_64", tmp_path)
    assert [str(torch) for torch in tables] == ["2.9.1+cu128", "2.11.0+cu130"]
    assert all(path.is_file() for path in tables.values())


def test_first_folder_that_has_a_table_gives_it(tmp_path: Path) -> None:
    folders = [tmp_path / "none", tmp_path / "first", tmp_path / "second"]
    for folder in folders[1:]:
        _write(folder / torch_table_filename(TORCH, "x86_64"), folder.name)
    table = load_torch_table(TORCH, "x86_64", folders)
    assert table is not None
    assert table.name == "first"
    assert load_torch_table(TORCH, "aarch64", folders) is None


def test_python_s_table_of_another_machine_serves(tmp_path: Path) -> None:
    _write(tmp_path / python_table_filename(PYTHON, "x86_64"), "python-cp313t")
    table = python_table(PYTHON, "aarch64", [tmp_path])
    assert table is not None
    assert table.machine == "x86_64"
    assert python_table(PythonVersion.parse("3.13"), "aarch64", [tmp_path]) is None
    _write(tmp_path / python_table_filename(PYTHON, "aarch64"), "python-cp313t", "aarch64")
    table = python_table(PYTHON, "aarch64", [tmp_path])
    assert table is not None
    assert table.machine == "aarch64"


@pytest.mark.parametrize("machine", MACHINES)
def test_every_torch_build_of_the_index_has_a_table_that_ships(machine: Machine) -> None:
    builds = [default_torch_build(release.version, machine) for release in torch_releases()]
    tables = shipped_torch_tables(machine)
    assert list(tables) == [torch for torch in builds if torch is not None]
    for torch, path in tables.items():
        table = SymbolTable.load(path)
        assert (table.name, table.machine) == (f"torch-{torch}", machine)
        assert path.stat().st_size < 1_000_000
        assert all(source.sha256 for source in table.sources)
        python = [one for one in table.libraries if one.path.name == "libtorch_python.so"]
        number = table.libraries.index(python[0])
        assert number in table.exporters("THPVariableClass")


@pytest.mark.parametrize(
    "tag", ["cp38", "cp39", "cp310", "cp311", "cp312", "cp313", "cp313t", "cp314"]
)
def test_every_python_has_a_table_that_ships(tag: str) -> None:
    table = python_table(PythonVersion.parse(tag), "x86_64")
    assert table is not None
    assert table.name == f"python-{tag}"
    assert table.exporters("PyObject_Call")
    assert not table.exporters("PyObject_NoSuchThing")
