"""The tables that ship say of a real torch what binutils say of its libraries."""

from __future__ import annotations

import os
import random
import shutil
import string
import subprocess
from typing import TYPE_CHECKING

import pytest

from wheelyard.abi.symbol_table import SymbolTable
from wheelyard.abi.tables import shipped_torch_tables
from wheelyard.machine.folders import cache_folder

if TYPE_CHECKING:
    from pathlib import Path

NAMES = 10_000


def _sites() -> list[tuple[Path, Path]]:
    """Return tables and the site-packages, made by wheelyard for Python 3.12, that they are of."""
    machine = os.uname().machine
    folder = cache_folder(os.environ) / "torch"
    return [
        (table, site)
        for torch, table in shipped_torch_tables(machine).items()
        for site in folder.glob(f"{torch.label}-cp312-{machine}-*/torch")
    ]


@pytest.fixture(params=_sites() or [None], ids=lambda it: it[0].stem if it else "none")
def pair(request: pytest.FixtureRequest) -> tuple[SymbolTable, Path]:
    if request.param is None:
        pytest.skip("no torch that wheelyard ships a table of is installed in its cache")
    if shutil.which("nm") is None:
        pytest.skip("binutils' nm is not there to compare with")
    table, site = request.param
    return SymbolTable.load(table), site


def test_all_that_nm_lists_is_found_in_its_library(pair: tuple[SymbolTable, Path]) -> None:
    table, site = pair
    numbers = {str(library.path): number for number, library in enumerate(table.libraries)}
    count = 0
    for path in sorted(site.glob("torch/lib/*.so*")):
        number = numbers[str(path.relative_to(site))]
        done = subprocess.run(
            ["nm", "-D", "--defined-only", "--with-symbol-versions", path],
            check=True,
            capture_output=True,
            text=True,
        )
        for line in done.stdout.splitlines():
            name, _, version = line.split()[-1].partition("@")
            wanted = version.lstrip("@") or None
            assert number in table.exporters(name, wanted), (path.name, name, wanted)
            count += 1
    assert count > 50_000


def test_names_that_nobody_has_are_not_found(pair: tuple[SymbolTable, Path]) -> None:
    table, _ = pair
    chance = random.Random(7)  # noqa: S311
    names = ["".join(chance.choices(string.ascii_letters, k=20)) for _ in range(NAMES)]
    assert not [name for name in names if table.exporters(name)]
    assert not [name for name in names if table.exporters(name, "GLIBC_2.2.5")]
