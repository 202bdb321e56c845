"""`fill` on the engine that the command line names."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping


def fill(arguments: argparse.Namespace, env: Mapping[str, str]) -> None:
    """Build what is missing: here, on a cluster, or by GitHub's workflow."""
    # ruff: noqa: PLC0415 - each pays for its own imports
    match arguments.engine:
        case "slurm":
            from wheelyard.cli.filling_slurm import fill_on_slurm

            fill_on_slurm(arguments, env)
        case "github":
            from wheelyard.cli.filling_github import fill_on_github

            fill_on_github(arguments, env)
        case _:
            from wheelyard.cli.filling import fill_here

            fill_here(arguments, env)
