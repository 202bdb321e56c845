"""The command line: choose the command, turn errors into messages and exit codes."""

from __future__ import annotations

import importlib
import io
import os
import signal
import sys
from typing import TYPE_CHECKING, NoReturn

from wheelyard import log
from wheelyard.cli.arguments import make_parser
from wheelyard.errors import INTERRUPTED_EXIT_CODE, DiskError, WheelyardError
from wheelyard.files import describe_disk_error

if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping


_PLACES = {
    "accept": "accepting.accept",
    "adopt": "adopting.adopt",
    "build": "building.build",
    "bundle": "bundling.bundle",
    "check": "checking.check",
    "clean": "yarding.clean",
    "completion": "completing.completion",
    "doctor": "diagnosing.doctor",
    "explain": "yarding.explain",
    "fetch": "fetching.fetch",
    "fill": "engines.fill",
    "find": "finding.find",
    "get": "getting.get",
    "import": "keeping.import_wheels",
    "index": "yarding.index",
    "install": "bundling.install",
    "lint": "linting.lint",
    "list": "listing.list_recipes",
    "list --yard": "keeping.list_yard",
    "log": "yarding.log",
    "matrix": "listing.show_matrix",
    "new": "drafting.new",
    "page": "yarding.page",
    "plan": "listing.show_plan",
    "probe": "probing.probe",
    "prune": "keeping.prune_yard",
    "publish": "publishing.publish",
    "remove": "keeping.remove",
    "schema": "listing.show_schema",
    "show": "keeping.show",
    "smoke": "yarding.smoke",
    "uninstall": "bundling.uninstall",
    "update": "updating.update",
    "verify": "keeping.verify_files",
    "yank": "keeping.yank",
}
"""The module of `wheelyard.cli` and the function of each command."""


def main(words: list[str] | None = None) -> int:
    """Run one command and return its exit code."""
    for stream in (sys.stdout, sys.stderr):
        # a path or a compiler's quote that the locale cannot write is no reason to stop
        if isinstance(stream, io.TextIOWrapper) and stream.errors == "strict":
            stream.reconfigure(errors="backslashreplace")
    arguments = make_parser().parse_args(words)
    log.set_up(verbose=arguments.verbose)
    signal.signal(signal.SIGTERM, _end)
    try:
        _run(arguments, os.environ)
        sys.stdout.flush()
    except WheelyardError as error:
        sys.stderr.write(f"wheelyard: {error}\n")
        return error.exit_code
    except KeyboardInterrupt:
        sys.stderr.write("wheelyard: interrupted; run the same command again to go on\n")
        return INTERRUPTED_EXIT_CODE
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        sys.stderr.write(f"wheelyard: {describe_disk_error(error)}\n")
        return DiskError.exit_code
    return 0


def _end(_number: int, _frame: object) -> NoReturn:
    raise KeyboardInterrupt


def _run(arguments: argparse.Namespace, env: Mapping[str, str]) -> None:
    """Call the command; each one's imports are paid for by itself only."""
    name = arguments.command
    if name == "list" and arguments.yard is not None:
        name = "list --yard"
    module, function = _PLACES[name].split(".")
    getattr(importlib.import_module(f"wheelyard.cli.{module}"), function)(arguments, env)


if __name__ == "__main__":
    sys.exit(main())
