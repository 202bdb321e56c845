"""The command that makes locks and symbol tables."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from wheelyard.cli.output import print_json, print_lines
from wheelyard.cli.session import open_own_farm, open_workshop
from wheelyard.errors import LockError, UnknownNameError, UsageError
from wheelyard.files import disk_errors, replace_file
from wheelyard.model.cell import MACHINES, TorchBuild
from wheelyard.model.redistributables import redist_lock_request
from wheelyard.model.releases import cuda_release, torch_release
from wheelyard.model.words import nearest
from wheelyard.network.children import uv_environment, with_pytorch_index
from wheelyard.planning.locks import (
    needs_pytorch_index,
    toolkit_lock,
    torch_lock,
    wanted_locks,
)
from wheelyard.toolchain.redistributables import resolve_redist_lock
from wheelyard.toolchain.resolving import resolve_lock

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator, Mapping

    from wheelyard.farm import Farm
    from wheelyard.model.lock import LockRequest
    from wheelyard.workshop import Workshop


def update(arguments: argparse.Namespace, env: Mapping[str, str]) -> None:
    """Make every lock that is missing or stale; with a name, that one in any case."""
    if arguments.kind == "symbols":
        from wheelyard.cli.updating_symbols import update_symbols  # noqa: PLC0415 - locks need not

        update_symbols(arguments, env)
        return
    if arguments.kind == "releases":
        from wheelyard.cli.updating_releases import update_releases  # noqa: PLC0415 - as above

        update_releases(arguments, env)
        return
    farm = open_own_farm(arguments)
    workshop = open_workshop(arguments, farm, env)
    wanted = _select(farm, arguments)
    made = []
    for request in wanted:
        if not (arguments.again or arguments.name) and is_current(farm, request):
            continue
        write_lock(request, workshop)
        made.append(str(request.path))
        if not arguments.json:
            print_lines(f"locked {request.path}")
    if arguments.json:
        print_json({"locked": made, "wanted": len(wanted)})
    elif not made:
        print_lines(f"all {len(wanted)} locks are up to date")


def write_lock(request: LockRequest, workshop: Workshop) -> None:
    """Make a lock and put it into the farm."""
    text = _make(request, workshop)
    path = workshop.farm.folder / request.path
    with disk_errors(path):
        replace_file(path, text.encode())


def _make(request: LockRequest, workshop: Workshop) -> str:
    resolving = uv_environment(workshop.indexes, workshop.env, resolving=True)
    if request.kind == "redist":
        return resolve_redist_lock(request, settings=workshop.indexes, env=workshop.env)
    if request.kind == "torch" and needs_pytorch_index(request):
        label = TorchBuild.parse(request.name).cuda.label
        resolving = with_pytorch_index(resolving, workshop.indexes, label=label)
    with tempfile.TemporaryDirectory(prefix="wheelyard-lock-") as scratch:
        return resolve_lock(request, env=resolving, scratch=Path(scratch))


def redist_locks(farm: Farm) -> Iterator[LockRequest]:
    """Yield the locks of NVIDIA's archives for the CUDAs of the matrix that the index lacks.

    A job can do without: an installed toolkit serves too. So they are made when they are asked
    for, and from then on kept current with the others.
    """
    for cuda in sorted({torch.cuda for torch in farm.matrix.torches}):
        release = cuda_release(cuda).redistributable_release
        if toolkit_lock(cuda) is None and release is not None:
            yield redist_lock_request(release)


def _redist_locks_there(farm: Farm) -> Iterator[LockRequest]:
    for path in sorted(farm.folder.glob("locks/redist/*.toml")):
        yield redist_lock_request(path.stem)


def _select(farm: Farm, arguments: argparse.Namespace) -> list[LockRequest]:
    kind, name = arguments.kind, arguments.name
    optional = redist_locks(farm) if kind == "redist" else ()
    found = list(dict.fromkeys((*wanted_locks(farm), *_redist_locks_there(farm), *optional)))
    selected = [
        item
        for item in found
        if (kind is None or item.kind == kind) and (name is None or item.name == name)
    ]
    if not selected and kind == "torch":
        selected = _unwanted_torch(name)
    if not selected and kind == "redist" and name is not None:
        return [redist_lock_request(name)]
    if not selected:
        names = [item.name for item in found if kind is None or item.kind == kind]
        lock = " ".join(word for word in (kind, name and repr(name)) if word)
        msg = f"No lock {lock} is wanted.{nearest(name or '', names)}"
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


def is_current(farm: Farm, request: LockRequest) -> bool:
    """Whether the farm has a lock that answers this very request."""
    try:
        farm.lock(request)
    except LockError:
        return False
    return True
