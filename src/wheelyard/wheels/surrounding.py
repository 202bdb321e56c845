"""The torch builds that a wheel can be put beside: those whose symbol tables are here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from wheelyard.abi.libraries import tabled_libraries
from wheelyard.abi.symbol_table import NameHashes, SymbolTable
from wheelyard.abi.tables import shipped_torch_tables
from wheelyard.wheels.findings import Surroundings

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from wheelyard.abi.libraries import Library
    from wheelyard.model.cell import Machine


def torch_candidates(
    machine: Machine,
    *,
    own_tables: Path | None = None,
    beside: tuple[Library, ...] = (),
    unseen: tuple[str, ...] = (),
) -> Iterator[Surroundings]:
    """Yield every torch build that has a symbol table, oldest first; loaded when asked for."""
    tables = dict(shipped_torch_tables(machine))
    if own_tables is not None:
        tables |= shipped_torch_tables(machine, own_tables)
    hashes = NameHashes()
    for torch, path in sorted(tables.items()):
        table = SymbolTable.load(path, hashes=hashes)
        yield tabled_surroundings(table, torch=str(torch), beside=beside, unseen=unseen)


def tabled_surroundings(
    table: SymbolTable,
    *,
    torch: str,
    beside: tuple[Library, ...] = (),
    unseen: tuple[str, ...] = (),
) -> Surroundings:
    """Return what a symbol table says of a torch build, without its files."""
    return Surroundings(
        torch=torch,
        machine=table.machine,
        libraries=tabled_libraries(table),
        beside=beside,
        unseen=unseen,
    )
