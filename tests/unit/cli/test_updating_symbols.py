"""The command that makes symbol tables, of wheels that were written on the spot."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

import pytest

from wheelyard.abi.symbol_table import SymbolTable
from wheelyard.cli import updating_symbols

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from subprocess import CompletedProcess

    from wheelyard.toolchain.interpreters import Interpreter

    Run = Callable[..., CompletedProcess[str]]

MACHINE = os.uname().machine


@pytest.fixture
def update(
    wheelyard: Run,
    probe_farm: Path,
    make_wheel: Callable[..., Path],
    link_once: Callable[..., Path],
    interpreter: Interpreter,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> Run:
    """Return a function that makes tables, of an index with one torch, on a machine with Python."""
    library = link_once("libc10.so", defines=["_ZN3c104warnEv"])
    for machine in ("x86_64", "aarch64"):
        make_wheel(
            name="torch",
            version="2.11.0",
            tag=f"cp312-cp312-manylinux_2_28_{machine}",
            files={"torch/lib/libc10.so": library.read_bytes()},
        )

    def run(*words: str) -> CompletedProcess[str]:
        # the fixture of the command line has emptied the environment
        monkeypatch.setenv("PIP_NO_INDEX", "1")
        monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "wheels"))
        monkeypatch.setattr(
            updating_symbols, "find_all_interpreters", lambda _: (interpreter, interpreter)
        )
        return wheelyard("update", "symbols", *words, "--farm", probe_farm)

    return run


@pytest.fixture
def as_checkout(probe_farm: Path) -> Path:
    """Make the farm a checkout of wheelyard's sources, and return where its tables lie."""
    folder = probe_farm / "src" / "wheelyard" / "facts"
    folder.mkdir(parents=True)
    return folder / "symbols"


def test_tables_of_a_checkout_are_made_for_each_machine_among_its_facts(
    update: Run, as_checkout: Path
) -> None:
    done = update("2.11.0+cu130")
    assert done.returncode == 0, done.stderr
    paths = [as_checkout / f"torch-2.11.0+cu130-{one}.symbols" for one in ("x86_64", "aarch64")]
    assert [line.partition(" (")[0] for line in done.stdout.splitlines()] == [
        f"made {path}" for path in paths
    ]
    assert "making the symbol table of torch 2.11.0+cu130 for aarch64" in done.stderr
    for path in paths:
        table = SymbolTable.load(path)
        assert table.exporters("_ZN3c104warnEv") == {0}
        assert path.name == f"{table.name}-{table.machine}.symbols"


def test_table_that_is_there_is_made_again_only_if_asked(update: Run, as_checkout: Path) -> None:
    name = "2.11.0+cu130-x86_64"
    assert update(name).stdout.startswith("made ")
    assert update(name).stdout == "all 1 symbol tables are there\n"
    assert update(name, "--again").stdout.startswith("made ")


def test_tables_go_to_the_user_s_own_where_the_farm_is_no_checkout(
    update: Run, tmp_path: Path
) -> None:
    done = update("2.11.0+cu130-x86_64", "--again", "--json")
    folder = tmp_path / "cache" / "symbols"
    made = "torch-2.11.0+cu130-x86_64.symbols"
    assert json.loads(done.stdout) == {
        "folder": str(folder),
        "format": 1,
        "made": [made],
        "wanted": 1,
    }
    assert (folder / made).is_file()


def test_python_s_table_is_made_of_an_interpreter_found_here(
    update: Run, as_checkout: Path, interpreter: Interpreter
) -> None:
    tag = interpreter.version.abi_tag
    done = update(tag)
    assert done.returncode == 0, done.stderr
    (path,) = as_checkout.iterdir()
    assert path.name == f"python-{tag}-{MACHINE}.symbols"
    assert SymbolTable.load(path).exporters("PyObject_Call")
    assert update(str(interpreter.version)).stdout == "all 1 symbol tables are there\n"


def test_all_that_is_missing_is_made_without_a_name(
    update: Run, as_checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from wheelyard.model.releases import torch_releases  # noqa: PLC0415

    last = [one for one in torch_releases() if str(one.version) == "2.11.0"]
    monkeypatch.setattr(updating_symbols, "torch_releases", lambda: tuple(last))
    done = update()
    assert done.returncode == 0, done.stderr
    assert len(list(as_checkout.glob("*.symbols"))) == len(done.stdout.splitlines()) == 3
    assert update().stdout == "all 3 symbol tables are there\n"


def test_torch_that_only_another_index_has_may_be_named(update: Run, as_checkout: Path) -> None:
    done = update("2.11.0+cu126")
    assert done.returncode == 7
    assert "no index has a wheel of torch 2.11.0+cu126" in done.stderr


@pytest.mark.parametrize(
    ("name", "nearest"), [("2.11.0", "2.11.0+cu130"), ("9.9.9+cu130", ""), ("2.11.0+cu113", "")]
)
def test_table_that_cannot_be_made_gets_the_nearest_name(
    update: Run, name: str, nearest: str
) -> None:
    done = update(name)
    assert done.returncode == 4
    assert f"No symbol table of '{name}' can be made" in done.stderr
    assert nearest in done.stderr
