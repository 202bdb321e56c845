"""The command that takes in what other machines built for a plan."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from wheelyard.cli.output import print_json, print_lines
from wheelyard.cli.session import open_farm, yard_folder
from wheelyard.engines.accepting import accept as accept_folders
from wheelyard.engines.github import read_plan
from wheelyard.errors import CheckError, UsageError
from wheelyard.yard.index import write_index
from wheelyard.yard.store import open_yard

if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping

logger = logging.getLogger(__name__)


def accept(arguments: argparse.Namespace, env: Mapping[str, str]) -> None:
    """Take the plan's wheels into the yard; one that does not hold is named and left out."""
    farm = open_farm(arguments)
    missing = [folder for folder in arguments.folders if not folder.is_dir()]
    if missing:
        msg = f"There is no folder {missing[0]}. Name the yards that were brought here."
        raise UsageError(msg)
    yard = open_yard(yard_folder(arguments, farm, env))
    found = accept_folders(arguments.folders, read_plan(arguments.plan), farm=farm, yard=yard)
    write_index(yard)
    for refusal in found.refused:
        logger.warning("refused %s: %s", refusal.path, refusal.reason)
    if arguments.json:
        refused = [{"path": str(one.path), "reason": one.reason} for one in found.refused]
        print_json(
            {
                "accepted": list(found.wheels),
                "left": list(found.left),
                "refused": refused,
                "reports": found.reports,
            }
        )
    else:
        print_lines(*(f"accepted {name}" for name in found.wheels))
        print_lines(
            "", f"{len(found.wheels)} wheels, {found.reports} reports, {len(found.left)} left"
        )
    if found.refused:
        msg = f"{len(found.refused)} files were refused; the others are in {yard.path}."
        raise CheckError(msg)
