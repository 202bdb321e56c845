"""Make symbol tables: of a torch build on the index, of a torch in a folder, of a Python.

The table of a torch build is made from the wheel of one Python, 3.12 where there is one, and
serves all of them. The wheels of torch 2.11.0 for 3.10, 3.12, 3.13, 3.13t, 3.14 and 3.14t hold the
same libraries with the same NEEDED, RPATH and exports, but for names that no extension asks for:
in libtorch_python.so what torch copies out of one CPython (``_PyOpcode_*``, ``THP_PyFrame_*``,
``THP_PyStackRef_*``, ``THP_PyThreadState_*``, ``THP_PyObject_Virtual*``,
``_PyFunction_CopyWithNewCode``), and in libtorch_nvshmem.so what nvcc makes up for each file
(``__fatbinwrap_*``, ``__cudaRegisterLinkedBinary_*``). In torch 2.6.0, compared for 3.11 and 3.12,
libtorch_cuda.so also differs in names with nvcc's digest of each file (``_GLOBAL__N__*``), and
libtorch_python.so in inline functions, which whoever uses them has compiled in.
"""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Final

from wheelyard.abi.elf import ElfFile
from wheelyard.abi.pinned_wheels import collect_wheels
from wheelyard.abi.symbol_table import (
    TableLibrary,
    TableSource,
    hash_symbols,
    write_symbol_table,
)
from wheelyard.abi.tables import (
    SHIPPED_DIR,
    load_torch_table,
    own_tables_folder,
    torch_table_filename,
)
from wheelyard.abi.wheel_symbols import is_elf, is_library, read_library
from wheelyard.errors import FetchError, MachineError
from wheelyard.files import disk_errors, file_sha256
from wheelyard.locking import held
from wheelyard.model.cell import MACHINES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from wheelyard.abi.symbol_table import NameHashes, SymbolTable
    from wheelyard.model.cell import Machine, TorchBuild
    from wheelyard.network.indexes import IndexSettings
    from wheelyard.toolchain.interpreters import Interpreter

_OF_PYTHON = re.compile(r"_*P[yY]\w*")
# What an extension may rely on because every Python needs it; others differ from build to build.
_NEEDED_BY_PYTHON: Final = frozenset(
    {"libc.so.6", "libdl.so.2", "libm.so.6", "libpthread.so.0", "libutil.so.1"}
)


def provide_torch_table(
    torch: TorchBuild,
    machine: Machine,
    *,
    cache: Path,
    settings: IndexSettings,
    env: Mapping[str, str],
    say: Callable[[str], None],
    hashes: NameHashes | None = None,
) -> SymbolTable:
    """Return the table that ships with wheelyard, or the user's own; make it once from the index.

    The wheels stream by, some gigabytes of them: nothing is imported, and nothing is kept but the
    table and the hashes of each wheel.
    """
    own = own_tables_folder(cache)
    folders = (SHIPPED_DIR, own)
    table = load_torch_table(torch, machine, folders, hashes=hashes)
    if table is None:
        path = own / torch_table_filename(torch, machine)
        with held(own / f"{path.name}.lock", what=f"the symbol table of torch {torch}"):
            if not path.is_file():
                make_torch_table(
                    torch, machine, path, cache=cache, settings=settings, env=env, say=say
                )
        table = load_torch_table(torch, machine, folders, hashes=hashes)
    assert table is not None
    return table


def make_torch_table(
    torch: TorchBuild,
    machine: Machine,
    path: Path,
    *,
    cache: Path,
    settings: IndexSettings,
    env: Mapping[str, str],
    say: Callable[[str], None],
) -> None:
    """Make the table of a torch build from its wheel and the wheels that it pins."""
    kept = own_tables_folder(cache) / "wheels"
    try:
        wheels = collect_wheels(torch, machine, kept=kept, settings=settings, env=env, say=say)
    except FetchError as error:
        msg = (
            f"There is no symbol table of torch {torch} for {machine}, and none can be made: "
            f"{error}\nOr install this torch somewhere and name its folder with --torch-site."
        )
        raise FetchError(msg) from error
    with disk_errors(path):
        write_symbol_table(
            path,
            name=f"torch-{torch}",
            machine=machine,
            libraries=sorted(
                (library for wheel in wheels for library in wheel.libraries),
                key=lambda one: _place(one.library.path),
            ),
            sources=[wheel.source for wheel in wheels if wheel.libraries],
        )


def make_site_table(site: Path, path: Path, *, name: str) -> None:
    """Make the table of the torch in a site-packages folder, and of the CUDA beside it."""
    files = {
        PurePosixPath(file.relative_to(site)): file
        for pattern in ("*/lib/*.so*", "*/*/lib/*.so*", "*.libs/*.so*")
        for file in site.glob(pattern)
    }
    elves = {
        place: ElfFile.open(files[place])
        for place in sorted(files, key=_place)
        if is_library(str(place)) and is_elf(files[place])
    }
    machine = next((elf.machine for elf in elves.values() if elf.machine is not None), None)
    if machine is None:
        msg = f"There is no torch in {str(site)!r}. Name the folder that holds torch/lib."
        raise MachineError(msg)
    distributions = (folder.stem for folder in site.glob("*.dist-info"))
    with disk_errors(path):
        write_symbol_table(
            path,
            name=name,
            machine=machine,
            libraries=[read_library(elf, place) for place, elf in elves.items()],
            sources=[
                TableSource(filename=one, sha256=None)
                for one in sorted(distributions)
                if re.match(r"(?:torch|nvidia_\w+)-\d", one)
            ],
        )


def make_python_table(interpreter: Interpreter, path: Path) -> None:
    """Make the table of what an interpreter exports to extensions."""
    file = _exporting_file(interpreter)
    elf = ElfFile.open(file)
    library = TableLibrary(
        path=PurePosixPath(file.name),
        soname=elf.soname or file.name,
        needed=tuple(name for name in elf.needed if name in _NEEDED_BY_PYTHON),
    )
    # A Python in one piece also exports the libraries that were linked into it, by accident.
    symbols = (one for one in elf.exported_symbols() if _OF_PYTHON.fullmatch(one.name))
    source = TableSource(
        filename=f"{file.name} of CPython {interpreter.full_version}", sha256=file_sha256(file)
    )
    with disk_errors(path):
        write_symbol_table(
            path,
            name=f"python-{interpreter.version.abi_tag}",
            machine=python_machine(interpreter),
            libraries=[hash_symbols(library, symbols)],
            sources=[source],
        )


def python_machine(interpreter: Interpreter) -> Machine:
    for machine in MACHINES:
        if machine == interpreter.machine:
            return machine
    msg = (
        f"{interpreter.executable} runs on {interpreter.machine!r}; there are symbol tables for "
        f"{' and '.join(MACHINES)} only."
    )
    raise MachineError(msg)


def _exporting_file(interpreter: Interpreter) -> Path:
    """Return libpython, if the interpreter links one, or else the executable."""
    executable = interpreter.executable.resolve()
    elf = ElfFile.open(executable)
    for name in elf.needed:
        if name.startswith("libpython"):
            for folder in _library_folders(elf, executable, interpreter.base_prefix):
                if (folder / name).is_file():
                    return (folder / name).resolve()
            msg = f"{executable} needs {name}, which is not beside it. Install this Python again."
            raise MachineError(msg)
    return executable


def _library_folders(elf: ElfFile, executable: Path, prefix: Path) -> Iterator[Path]:
    for part in (*elf.rpath, *elf.runpath):
        origin = str(executable.parent)
        yield Path(part.replace("${ORIGIN}", origin).replace("$ORIGIN", origin))
    for folder in (prefix, Path("/usr"), Path("/usr/local")):
        yield from (folder / "lib", folder / "lib64")
        yield from (folder / "lib" / f"{machine}-linux-gnu" for machine in MACHINES)


def _place(path: PurePosixPath) -> tuple[bool, PurePosixPath]:
    """Order libraries: those of torch before those of others."""
    return path.parts[0] != "torch", path
