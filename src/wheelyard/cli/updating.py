"""The command that makes locks and symbol tables."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from wheelyard.cli.output import print_json, print_lines
from wheelyard.cli.session import open_farm, open_workshop
from wheelyard.errors import LockError, UnknownNameError, UsageError
from wheelyard.files import appearing
from wheelyard.model.cell import MACHINES, TorchBuild
from wheelyard.model.lock import LockRequest, build_lock_request, runtime_lock_request
from wheelyard.model.releases import default_torch_build, torch_release
from wheelyard.model.words import nearest
from wheelyard.network.children import uv_environment
from wheelyard.planning.locks import toolkit_lock, torch_lock
from wheelyard.toolchain.resolving import resolve_lock

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator, Mapping

    from wheelyard.farm import Farm


def update(arguments: argparse.Namespace, env: Mapping[str, str]) -> None:
    """Make every lock that is missing or stale; with a name, that one in any case."""
    if arguments.kind == "symbols":
        from wheelyard.cli.updating_symbols import update_symbols  # noqa: PLC0415 - locks need not

        update_symbols(arguments, env)
        return
    farm = open_farm(arguments)
    workshop = open_workshop(arguments, farm, env)
    resolving = uv_environment(workshop.indexes, env, resolving=True)
    wanted = _select(wanted_locks(farm), arguments)
    made = []
    for request in wanted:
        if not (arguments.again or arguments.name) and _is_current(farm, request):
            continue
        with tempfile.TemporaryDirectory(prefix="wheelyard-lock-") as scratch:
            text = resolve_lock(request, env=resolving, scratch=Path(scratch))
        path = farm.folder / request.path
        path.parent.mkdir(parents=True, exist_ok=True)
        with appearing(path) as stream:
            stream.write(text.encode())
        made.append(str(request.path))
        if not arguments.json:
            print_lines(f"locked {request.path}")
    if arguments.json:
        print_json({"locked": made, "wanted": len(wanted)})
    elif not made:
        print_lines(f"all {len(wanted)} locks are up to date")


def wanted_locks(farm: Farm) -> Iterator[LockRequest]:
    """Yield every lock that the farm's matrix and recipes need and the index can give."""
    torches = [
        torch
        for torch in farm.matrix.torches
        if any(
            default_torch_build(torch.version, machine) == torch for machine in farm.matrix.machines
        )
    ]
    for torch in torches:
        yield torch_lock(torch)
    for cuda in sorted({torch.cuda for torch in torches}):
        request = toolkit_lock(cuda)
        if request is not None:
            yield request
    for recipe in farm.recipes:
        for version in recipe.versions:
            yield build_lock_request(version)
            yield runtime_lock_request(version)


def _select(requests: Iterator[LockRequest], arguments: argparse.Namespace) -> list[LockRequest]:
    found = list(requests)
    kind, name = arguments.kind, arguments.name
    selected = [
        item
        for item in found
        if (kind is None or item.kind == kind) and (name is None or item.name == name)
    ]
    if not selected and kind == "torch":
        selected = _unwanted_torch(name)
    if not selected:
        names = [item.name for item in found if kind is None or item.kind == kind]
        msg = f"No lock {kind or ''} {name!r} is wanted.{nearest(name or '', names)}"
        raise UnknownNameError(msg)
    return selected


def _unwanted_torch(name: str | None) -> list[LockRequest]:
    """Return the lock of a torch build that somebody asks for, although the matrix does not."""
    try:
        torch = TorchBuild.parse(name or "")
        release = torch_release(torch.version)
    except (UsageError, UnknownNameError):
        return []
    is_known = any(torch.cuda in release.cudas(machine) for machine in MACHINES)
    return [torch_lock(torch)] if is_known else []


def _is_current(farm: Farm, request: LockRequest) -> bool:
    try:
        farm.lock(request)
    except LockError:
        return False
    return True
