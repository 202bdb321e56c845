"""What every command starts from: the farm, the yard and this machine, opened when needed."""

from __future__ import annotations

import logging
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from wheelyard.cli.arguments import HERE
from wheelyard.errors import UsageError
from wheelyard.farm import Farm, farm_around, find_farm_folder, is_packed, load_farm, make_farm
from wheelyard.machine.folders import state_folder
from wheelyard.machine.namespaces import SandboxLevel

if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping

    from wheelyard.workshop import Workshop
    from wheelyard.yard.folder import Yard

logger = logging.getLogger(__name__)

_MAKING = frozenset({"adopt", "build", "fill", "probe"})


def open_farm(arguments: argparse.Namespace) -> Farm:
    """Load the farm that ``--farm`` names, the one around this folder, or the one we ship."""
    return load_farm(farm_folder(arguments))


def farm_folder(arguments: argparse.Namespace) -> Path:
    """Return where the farm of the command lies, whether it can be used or not."""
    return Path(arguments.farm or find_farm_folder(Path.cwd()))


def open_own_farm(arguments: argparse.Namespace) -> Farm:
    """Load the farm that the command is to change; make one where ``--farm`` names nothing yet."""
    found = arguments.farm or farm_around(Path.cwd())
    if found is None or is_packed(found.absolute()):
        msg = (
            "There is no farm around this folder, and the recipes and locks that ship with "
            "wheelyard are only read. Name a folder for your own, which is made if it is not "
            f"there: `wheelyard {arguments.command} ... --farm DIR`."
        )
        raise UsageError(msg)
    folder = Path(found).absolute()
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        make_farm(folder)
    return load_farm(folder)


def yard_folder(arguments: argparse.Namespace, farm: Farm, env: Mapping[str, str]) -> Path:
    """Return the yard that ``--yard`` names, the farm's own, or the user's."""
    return yard_path(arguments, farm.folder, env)


def yard_path(arguments: argparse.Namespace, farm: Path, env: Mapping[str, str]) -> Path:
    """Return the same for the folder of a farm that may be of no use."""
    if arguments.yard is not None and arguments.yard is not HERE:
        return Path(arguments.yard).absolute()
    return state_folder(env) / "yard" if is_packed(farm) else farm / "yard"


def opened_yard(arguments: argparse.Namespace, env: Mapping[str, str]) -> Yard:
    """Open the yard, which has to be there."""
    from wheelyard.yard.store import open_yard  # noqa: PLC0415 - `list` must not pay for it

    return open_yard(yard_folder(arguments, open_farm(arguments), env), create=False)


def open_workshop(
    arguments: argparse.Namespace,
    farm: Farm,
    env: Mapping[str, str],
    *,
    needs_yard: bool = True,
) -> Workshop:
    """Open farm and yard with the options of the command line.

    Who only looks ``needs_yard`` not: one that is not there is an empty one, and none is made.
    """
    from wheelyard import workshop  # noqa: PLC0415 - `list` must not pay for it
    from wheelyard.yard.store import Yard, open_yard  # noqa: PLC0415

    sandbox = getattr(arguments, "sandbox", None)
    options = workshop.Options(
        compile_jobs=_positive(getattr(arguments, "jobs", None)),
        toolkit=getattr(arguments, "toolkit", "auto"),
        sandbox=SandboxLevel(sandbox) if sandbox else None,
        foreign_python=_find_python(getattr(arguments, "env", None), env),
        compile_cache=getattr(arguments, "compile_cache", "sccache"),
        shared_cache=getattr(arguments, "shared_cache", None),
        container=getattr(arguments, "container", None),
        container_engine=getattr(arguments, "container_engine", None),
        network=tuple(getattr(arguments, "network", ())),
    )
    folder = yard_folder(arguments, farm, env)
    is_new = not needs_yard and not folder.exists()
    if is_new and arguments.yard is not None:
        logger.info("there is no yard in %s yet", folder)
    yard = Yard(folder) if is_new else open_yard(folder, create=needs_yard)
    if arguments.command in _MAKING and is_packed(farm.folder):
        logger.info("recipes are those that ship with wheelyard; wheels go to %s", yard.path)
    return workshop.open_workshop(farm, yard, env=env, options=options)


def _positive(jobs: int | None) -> int | None:
    if jobs is not None and jobs < 1:
        msg = f"--jobs {jobs} compiles nothing. Give 1 or more, or leave it out."
        raise UsageError(msg)
    return jobs


def _find_python(path: Path | None, env: Mapping[str, str]) -> Path | None:
    """Return the interpreter of ``--env``; a bare name is looked for on PATH, as a shell does."""
    if path is None:
        return None
    found = shutil.which(path, path=env.get("PATH", os.defpath)) if len(path.parts) == 1 else None
    return Path(found or path).absolute()
