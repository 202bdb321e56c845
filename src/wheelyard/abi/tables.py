"""The symbol tables that there are: those that ship with the package, and the user's own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from wheelyard.abi.symbol_table import SUFFIX, SymbolTable
from wheelyard.errors import UsageError
from wheelyard.model.cell import MACHINES, TorchBuild
from wheelyard.model.releases import FACTS_DIR

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from wheelyard.abi.symbol_table import NameHashes
    from wheelyard.model.cell import Machine, PythonVersion

SHIPPED_DIR: Final = FACTS_DIR / "symbols"


def torch_table_filename(torch: TorchBuild, machine: Machine) -> str:
    """For example ``torch-2.11.0+cu130-x86_64.symbols``."""
    return f"torch-{torch}-{machine}{SUFFIX}"


def python_table_filename(python: PythonVersion, machine: Machine) -> str:
    """For example ``python-cp312-x86_64.symbols``."""
    return f"python-{python.abi_tag}-{machine}{SUFFIX}"


def own_tables_folder(cache: Path) -> Path:
    """Return where tables lie that this user's wheelyard made."""
    return cache / "symbols"


def shipped_torch_tables(machine: Machine, folder: Path = SHIPPED_DIR) -> Mapping[TorchBuild, Path]:
    """Return the torch builds that have a table for ``machine``, oldest first."""
    suffix = f"-{machine}{SUFFIX}"
    found: dict[TorchBuild, Path] = {}
    for path in folder.glob(f"torch-*{suffix}"):
        try:
            torch = TorchBuild.parse(path.name.removeprefix("torch-").removesuffix(suffix))
        except UsageError:
            continue
        found[torch] = path
    return dict(sorted(found.items()))


def load_torch_table(
    torch: TorchBuild,
    machine: Machine,
    folders: Sequence[Path] = (SHIPPED_DIR,),
    *,
    hashes: NameHashes | None = None,
) -> SymbolTable | None:
    """Load the table of a torch build from the first folder that has it."""
    for folder in folders:
        path = folder / torch_table_filename(torch, machine)
        if path.is_file():
            return SymbolTable.load(path, hashes=hashes)
    return None


def python_table(
    python: PythonVersion,
    machine: Machine,
    folders: Sequence[Path] = (SHIPPED_DIR,),
    *,
    hashes: NameHashes | None = None,
) -> SymbolTable | None:
    """Load what a Python exports, of another machine where there is no table of this one.

    CPython exports the same names on both: they are those of its sources.
    """
    for one in (machine, *(other for other in MACHINES if other != machine)):
        for folder in folders:
            path = folder / python_table_filename(python, one)
            if path.is_file():
                return SymbolTable.load(path, hashes=hashes)
    return None
