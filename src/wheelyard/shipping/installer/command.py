"""The installer's command line."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from pathlib import Path
from typing import NoReturn

from wheelyard.shipping.installer import flow
from wheelyard.shipping.installer.problems import InstallError, UsageError

_EPILOG = """\
exit codes: 0 done, 2 usage, 6 not for this machine, 8 damaged, 13 smoke test, 15 disk, 20 would
break what is there, 130 interrupted; after any of them the environment is as it was
"""


def make_parser() -> argparse.ArgumentParser:
    """Return the parser."""
    parser = argparse.ArgumentParser(
        prog="install.py",
        description="Install a bundle of wheels where there is no network, all or nothing.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "bundle", nargs="?", type=Path, help="the archive, a part of it, or its folder"
    )
    parser.add_argument("--into", type=Path, metavar="ENV", help="a new or an existing environment")
    add_options(parser)
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--verify", action="store_true", help="verify every byte, install nothing")
    what.add_argument(
        "--uninstall", action="store_true", help="take out of ENV what was put in last"
    )
    return parser


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add what `wheelyard install` has too."""
    parser.add_argument("--base", type=Path, metavar="FILE", help="for a delta: the earlier bundle")
    parser.add_argument(
        "--python",
        type=Path,
        metavar="PYTHON",
        help="of a new environment; default: the bundle's own, or this one",
    )
    parser.add_argument("--cell", default="", metavar="ID", help="of a bundle with several")
    parser.add_argument("--with", dest="tool", choices=("uv", "pip"), default="uv",
                        help="what installs; default: the bundle's own uv")  # fmt: skip
    parser.add_argument(
        "--allowed-signers", type=Path, metavar="FILE", help="whose signatures count, as ssh has it"
    )
    parser.add_argument("--no-smoke", action="store_true", help="do not try what was installed")
    parser.add_argument("--force", action="store_true", help="install what does not fit, too")


def main(words: list[str]) -> int:
    """Run and return the exit code."""
    arguments = make_parser().parse_args(words)
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        run(arguments)
    except InstallError as error:
        sys.stderr.write(f"install.py: {error}\n")
        return error.exit_code
    except KeyboardInterrupt:
        sys.stderr.write("install.py: interrupted; the environment is as it was\n")
        return 130
    return 0


def _interrupt(_number: int, _frame: object) -> NoReturn:
    raise KeyboardInterrupt


def run(arguments: argparse.Namespace) -> None:
    """Do what the arguments ask for."""
    if arguments.uninstall:
        if arguments.into is None:
            msg = "Name the environment: --uninstall --into ENV."
            raise UsageError(msg)
        flow.uninstall(arguments.into, _say)
        return
    bundle = arguments.bundle or _beside()
    if arguments.verify:
        flow.verify(bundle, _say, base=arguments.base, allowed=arguments.allowed_signers)
        return
    if arguments.into is None:
        msg = "Name the environment to install into: --into ENV, a new folder or an existing one."
        raise UsageError(msg)
    flow.install(order_of(arguments, bundle), _say)


def order_of(arguments: argparse.Namespace, bundle: Path) -> flow.Order:
    """Return what the arguments order."""
    return flow.Order(
        bundle=bundle,
        into=arguments.into,
        python=arguments.python,
        base=arguments.base,
        cell=arguments.cell,
        tool=arguments.tool,
        allowed_signers=arguments.allowed_signers,
        smoke=not arguments.no_smoke,
        force=arguments.force,
    )


def _beside() -> Path:
    """Return the unpacked bundle that this installer lies in."""
    folder = Path(os.path.abspath(sys.argv[0])).parent
    if (folder / "SHA256SUMS").is_file():
        return folder
    msg = "Name the bundle: python install.py BUNDLE --into ENV."
    raise UsageError(msg)


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()
