"""`get`: find the best combination for this machine, bring it here and install it."""

from __future__ import annotations

import platform
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from wheelyard.bundling import Collector
from wheelyard.cli.answering import print_answer
from wheelyard.cli.bundling import installing, make_order
from wheelyard.cli.finding import ask_about, make_resolver
from wheelyard.cli.output import print_json
from wheelyard.cli.session import open_farm, open_workshop
from wheelyard.cli.telling import make_transfers
from wheelyard.errors import ImpossibleCellError, UsageError
from wheelyard.finding.here import look_here
from wheelyard.model.cell import PythonVersion
from wheelyard.shipping.bundle import write_folder
from wheelyard.shipping.installer import flow
from wheelyard.shipping.installer.machine import ask_python
from wheelyard.toolchain.interpreters import find_interpreter

if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping

    from wheelyard.finding.answer import Answer, Fit


def get(arguments: argparse.Namespace, env: Mapping[str, str]) -> None:
    """Find, download, check and install, with a receipt for `uninstall`."""
    if arguments.machine not in {None, platform.machine()}:
        msg = (
            f"This machine is {platform.machine()}. For another, make a bundle and carry it there."
        )
        raise UsageError(msg)
    arguments.into = arguments.into or _active(env)
    workshop = open_workshop(arguments, open_farm(arguments), env, needs_yard=False)
    python = arguments.into / "bin" / "python"
    if python.exists():
        arguments.python = [_version_of(python, arguments)]
    question, found = ask_about(arguments, workshop, look_here(workshop.env))
    fit = _best(found)
    _say(f"best for this machine: {fit.cell.identifier}")
    if not python.exists():
        python = find_interpreter(fit.cell.python, workshop.env).executable
    collector = Collector(
        workshop=workshop,
        resolver=make_resolver(workshop),
        question=question,
        transfers=make_transfers(),
    )
    members = collector.collect([fit])
    scratch = workshop.cache / "bundled"
    scratch.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=scratch, prefix="get-") as folder:
        write_folder(members, Path(folder))
        order = make_order(arguments, bundle=Path(folder), python=python, made_here=True)
        with installing():
            flow.install(order, _say)
    if arguments.json:
        versions = {name: str(item.version) for name, item in fit.resolved.packages.items()}
        told = {"cell": fit.cell.identifier, "into": str(arguments.into), "packages": versions}
        print_json(told)


def _active(env: Mapping[str, str]) -> Path:
    """Return the environment that is active, unless it is the one that wheelyard runs in."""
    for variable in ("VIRTUAL_ENV", "CONDA_PREFIX"):
        folder = Path(env.get(variable) or "/nonexistent")
        if folder.is_dir() and folder.resolve() != Path(sys.prefix).resolve():
            return folder
    msg = "Name the environment to install into: --into ENV, a new or an existing folder."
    raise UsageError(msg)


def _version_of(python: Path, arguments: argparse.Namespace) -> str:
    """Return the Python of an existing environment, which has to be one that is asked for."""
    with installing():
        version = ask_python(python)["version"]
    asked = [str(PythonVersion.parse(text)) for text in arguments.python or ()]
    if asked and version not in asked:
        msg = (
            f"{arguments.into} has Python {version}, asked for is {', '.join(asked)}. Leave out "
            "--python, or name a new folder with --into."
        )
        raise UsageError(msg)
    return version


def _best(found: Answer) -> Fit:
    """Return the best combination; all of it has to exist."""
    asked = " ".join(str(item) for item in found.question.requirements)
    if found.best is not None and found.best.works_now:
        return found.best
    print_answer(found)
    if found.best is None:
        msg = f"No combination of this machine has all of {asked}. The reasons are above."
        raise ImpossibleCellError(msg)
    msg = (
        f"No combination of this machine has all of {asked} yet. Run the commands above that make "
        "what the best one lacks, or name an index that has it with --index."
    )
    raise ImpossibleCellError(msg)


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")
