"""The command line: choose the command, turn errors into messages and exit codes."""

from __future__ import annotations

import os
import signal
import sys
from typing import TYPE_CHECKING, NoReturn

from wheelyard import log
from wheelyard.cli.arguments import make_parser
from wheelyard.errors import INTERRUPTED_EXIT_CODE, DiskError, WheelyardError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping


def main(words: list[str] | None = None) -> int:
    """Run one command and return its exit code."""
    arguments = make_parser().parse_args(words)
    log.set_up(verbose=arguments.verbose)
    signal.signal(signal.SIGTERM, _end)
    try:
        _run(arguments, os.environ)
        sys.stdout.flush()
    except WheelyardError as error:
        sys.stderr.write(f"wheelyard: {log.printable(str(error))}\n")
        return error.exit_code
    except KeyboardInterrupt:
        sys.stderr.write("wheelyard: interrupted; run the same command again to go on\n")
        return INTERRUPTED_EXIT_CODE
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        sys.stderr.write(
            f"wheelyard: {log.printable(str(error))}. Check the disk and the folder's owner.\n"
        )
        return DiskError.exit_code
    return 0


def _end(_number: int, _frame: object) -> NoReturn:
    raise KeyboardInterrupt


def _run(arguments: argparse.Namespace, env: Mapping[str, str]) -> None:
    """Call the command; each one's imports are paid for by itself only."""
    # ruff: noqa: PLC0415
    match arguments.command:
        case "list" if arguments.yard is not None:
            from wheelyard.cli import keeping

            keeping.list_yard(arguments, env)
        case "list" | "matrix" | "plan" | "schema":
            from wheelyard.cli import listing

            listing.COMMANDS[arguments.command](arguments, env)
        case "lint":
            from wheelyard.cli import linting

            linting.lint(arguments, env)
        case "build" | "probe":
            from wheelyard.cli import building

            building.COMMANDS[arguments.command](arguments, env)
        case "fill":
            from wheelyard.cli import engines

            engines.fill(arguments, env)
        case "check":
            from wheelyard.cli import checking

            checking.check(arguments, env)
        case "fetch":
            from wheelyard.cli import fetching

            fetching.fetch(arguments, env)
        case "update":
            from wheelyard.cli import updating

            updating.update(arguments, env)
        case "bundle" | "doctor" | "find" | "get" | "install" | "uninstall":
            _run_for_users(arguments, env)
        case _:
            _run_on_yard(arguments, env)


def _run_for_users(arguments: argparse.Namespace, env: Mapping[str, str]) -> None:
    match arguments.command:
        case "doctor":
            from wheelyard.cli import diagnosing

            diagnosing.doctor(arguments, env)
        case "find":
            from wheelyard.cli import finding

            finding.find(arguments, env)
        case "get":
            from wheelyard.cli import getting

            getting.get(arguments, env)
        case command:
            from wheelyard.cli import bundling

            bundling.COMMANDS[command](arguments, env)


def _run_on_yard(arguments: argparse.Namespace, env: Mapping[str, str]) -> None:
    match arguments.command:
        case "adopt":
            from wheelyard.cli import adopting

            adopting.adopt(arguments, env)
        case "accept":
            from wheelyard.cli import accepting

            accepting.accept(arguments, env)
        case "import" | "prune" | "remove" | "show" | "verify" | "yank":
            from wheelyard.cli import keeping

            keeping.COMMANDS[arguments.command](arguments, env)
        case "publish":
            from wheelyard.cli import publishing

            publishing.publish(arguments, env)
        case command:
            from wheelyard.cli import yarding

            yarding.COMMANDS[command](arguments, env)


if __name__ == "__main__":
    sys.exit(main())
