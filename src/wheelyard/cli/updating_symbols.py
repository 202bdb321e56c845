"""The part of `update` that makes symbol tables, of torch builds and of this machine's Pythons."""

from __future__ import annotations

import dataclasses
import functools
from typing import TYPE_CHECKING

from wheelyard.abi.making_tables import make_python_table, make_torch_table, python_machine
from wheelyard.abi.tables import (
    SHIPPED_DIR,
    own_tables_folder,
    python_table_filename,
    torch_table_filename,
)
from wheelyard.cli.output import print_json, print_lines
from wheelyard.cli.session import open_farm, open_workshop
from wheelyard.cli.telling import make_progress
from wheelyard.errors import MachineError, UnknownNameError, UsageError
from wheelyard.machine.disk import readable_size
from wheelyard.model.cell import MACHINES, TorchBuild
from wheelyard.model.releases import default_torch_build, torch_releases
from wheelyard.model.words import nearest
from wheelyard.toolchain.interpreters import find_all_interpreters

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from wheelyard.model.cell import Machine
    from wheelyard.toolchain.interpreters import Interpreter
    from wheelyard.workshop import Workshop


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class _Wanted:
    """A table that can be made, and how."""

    filename: str
    names: tuple[str, ...]
    """What people call it, for example ``2.11.0+cu130`` or ``cp312``."""
    make: Callable[[Path], None]


def update_symbols(arguments: argparse.Namespace, env: Mapping[str, str]) -> None:
    """Make every symbol table that is missing; with a name, the tables of that name."""
    farm = open_farm(arguments)
    workshop = open_workshop(arguments, farm, env)
    source = farm.folder / "src" / "wheelyard" / "facts"
    folder = source / "symbols" if source.is_dir() else own_tables_folder(workshop.cache)
    there = {folder} if source.is_dir() else {folder, SHIPPED_DIR}
    wanted = _select(arguments.name, workshop, make_progress().say)
    made = []
    for one in wanted:
        if not arguments.again and any((place / one.filename).is_file() for place in there):
            continue
        path = folder / one.filename
        one.make(path)
        made.append(one.filename)
        if not arguments.json:
            print_lines(f"made {path} ({readable_size(path.stat().st_size)})")
    if arguments.json:
        print_json({"folder": str(folder), "made": made, "wanted": len(wanted)})
    elif not made:
        print_lines(f"all {len(wanted)} symbol tables are there")


def _select(name: str | None, workshop: Workshop, say: Callable[[str], None]) -> list[_Wanted]:
    """Return the tables of that name, or all that the index and this machine can give."""
    everything = [*_torch_tables(workshop, say), *_python_tables(workshop.env)]
    selected = [one for one in everything if name is None or name in one.names]
    if not selected and name is not None:
        selected = _other_torch(name, workshop, say)
    if not selected:
        names = [known for one in everything for known in one.names]
        msg = (
            f"No symbol table of {name!r} can be made: neither a torch build nor a Python of this "
            f"machine.{nearest(name or '', names)}"
        )
        raise UnknownNameError(msg)
    return selected


def _torch_tables(workshop: Workshop, say: Callable[[str], None]) -> Iterator[_Wanted]:
    for release in reversed(torch_releases()):
        for machine in MACHINES:
            torch = default_torch_build(release.version, machine)
            if torch is not None:
                yield _torch_table(torch, machine, workshop, say)


def _other_torch(name: str, workshop: Workshop, say: Callable[[str], None]) -> list[_Wanted]:
    """Return the tables of a torch build that only another index has."""
    try:
        torch = TorchBuild.parse(name)
    except UsageError:
        return []
    release = next((one for one in torch_releases() if one.version == torch.version), None)
    machines = [] if release is None else [m for m in MACHINES if torch.cuda in release.cudas(m)]
    return [_torch_table(torch, machine, workshop, say) for machine in machines]


def _torch_table(
    torch: TorchBuild, machine: Machine, workshop: Workshop, say: Callable[[str], None]
) -> _Wanted:
    return _Wanted(
        filename=torch_table_filename(torch, machine),
        names=(str(torch), f"{torch}-{machine}"),
        make=functools.partial(_make_torch_table, torch, machine, workshop=workshop, say=say),
    )


def _make_torch_table(
    torch: TorchBuild,
    machine: Machine,
    path: Path,
    *,
    workshop: Workshop,
    say: Callable[[str], None],
) -> None:
    say(f"making the symbol table of torch {torch} for {machine}")
    make_torch_table(
        torch,
        machine,
        path,
        cache=workshop.cache,
        settings=workshop.indexes,
        env=workshop.env,
        say=lambda text: say(f"  {text}"),
    )


def _python_tables(env: Mapping[str, str]) -> Iterator[_Wanted]:
    """Yield a table for each Python of this machine, made from the preferred interpreter."""
    seen = set()
    for interpreter in find_all_interpreters(env):
        filename = _python_filename(interpreter)
        if filename is not None and filename not in seen:
            seen.add(filename)
            yield _Wanted(
                filename=filename,
                names=(interpreter.version.abi_tag, str(interpreter.version)),
                make=functools.partial(make_python_table, interpreter),
            )


def _python_filename(interpreter: Interpreter) -> str | None:
    try:
        return python_table_filename(interpreter.version, python_machine(interpreter))
    except MachineError:
        return None
