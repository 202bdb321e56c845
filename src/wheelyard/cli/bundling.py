"""Commands that carry wheels to where there is no network: bundle, install, uninstall."""

from __future__ import annotations

import contextlib
import re
import sys
from typing import TYPE_CHECKING

from wheelyard.cli.output import print_json, print_lines
from wheelyard.cli.session import open_farm, open_workshop
from wheelyard.cli.telling import make_transfers
from wheelyard.errors import (
    BreakageError,
    DiskError,
    ImpossibleCellError,
    IntegrityError,
    MachineError,
    SmokeTestError,
    UsageError,
    WheelyardError,
)
from wheelyard.machine.disk import readable_size
from wheelyard.shipping.installer import flow
from wheelyard.shipping.installer.problems import InstallError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from wheelyard.finding.answer import Answer, Fit

_SIZE = re.compile(r"(\d+(?:\.\d+)?)([KMG]?)B?", re.IGNORECASE)
_UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9}
_KINDS: dict[int, type[WheelyardError]] = {
    kind.exit_code: kind
    for kind in (
        *(UsageError, MachineError, IntegrityError, SmokeTestError),
        *(DiskError, BreakageError),
    )
}


def bundle(arguments: argparse.Namespace, env: Mapping[str, str]) -> None:
    """Resolve, collect and write one archive, or its parts."""
    from wheelyard.bundling import Collector  # noqa: PLC0415 - imports every room
    from wheelyard.cli.finding import ask_about, make_resolver  # noqa: PLC0415
    from wheelyard.shipping.bundle import sign_bundle, write_bundle  # noqa: PLC0415
    from wheelyard.shipping.installer.archive import open_bundle  # noqa: PLC0415

    part_size = None if arguments.parts is None else parse_size(arguments.parts)
    workshop = open_workshop(arguments, open_farm(arguments), env)
    with installing():
        earlier = None if arguments.base is None else open_bundle(arguments.base)
    question, found = ask_about(arguments, workshop, None)
    fits = _chosen(found, several=bool(arguments.python or arguments.torch))
    _say(f"bundling {', '.join(fit.cell.identifier for fit in fits)}")
    collector = Collector(
        workshop=workshop,
        resolver=make_resolver(workshop),
        question=question,
        with_interpreter=arguments.interpreter,
        transfers=make_transfers(),
    )
    members = collector.collect(fits)
    output = arguments.output.absolute()
    left_out = frozenset() if earlier is None else frozenset(earlier.sums.values())
    written = write_bundle(
        members,
        output,
        part_size=part_size,
        base="" if earlier is None else earlier.digest,
        left_out=left_out,
    )
    signature = None
    if arguments.sign is not None:
        with installing():
            opened = open_bundle(written.paths[0], arguments.base)
        signature = sign_bundle(opened.sums_text, key=arguments.sign, path=output, env=env)
    if arguments.json:
        print_json(
            {
                "cells": [fit.cell.identifier for fit in fits],
                "digest": written.digest,
                "paths": [str(path) for path in written.paths],
                "signature": None if signature is None else str(signature),
                "size": written.size,
            }
        )
        return
    print_lines(
        *(f"{path}" for path in written.paths),
        f"{readable_size(written.size)}, {len(members)} files, digest sha256:{written.digest}",
        "",
        "install it where there is no network, with the Python that it is for:",
        f"  tar -xf {written.paths[0].name} install.py   # the first part has it too",
        f"  python3 install.py {written.paths[0].name} --into ENV",
    )


def _chosen(found: Answer, *, several: bool) -> Sequence[Fit]:
    """Return the combinations to bundle: those that were named, or the best; all have to exist."""
    if not found.fits or (several and found.left_out):
        reasons = "\n".join(f"  {item.cell.identifier}: {item.reason}" for item in found.left_out)
        msg = f"Not every combination has everything:\n{reasons}\n`wheelyard find` says more."
        raise ImpossibleCellError(msg)
    fits = found.fits if several else found.fits[:1]
    for fit in fits:
        if not fit.works_now:
            from wheelyard.cli.finding import commands  # noqa: PLC0415

            lines = "\n".join(f"  {line}" for line in commands(fit, found.question)[:-1])
            msg = f"{fit.cell.identifier} lacks wheels of ours. Make them first:\n{lines}"
            raise UsageError(msg)
    return fits


def install(arguments: argparse.Namespace, _env: Mapping[str, str]) -> None:
    """Install a bundle, or only verify it."""
    with installing():
        if arguments.verify:
            flow.verify(
                arguments.bundle, _say, base=arguments.base, allowed=arguments.allowed_signers
            )
            return
        if arguments.into is None:
            msg = "Name the environment to install into: --into ENV, a new or an existing folder."
            raise UsageError(msg)
        order = make_order(arguments, bundle=arguments.bundle, python=arguments.python)
        flow.install(order, _say)


def make_order(
    arguments: argparse.Namespace, *, bundle: Path, python: Path | None, made_here: bool = False
) -> flow.Order:
    """Return what the options of `install`, or of `get`, ask of the installer."""
    return flow.Order(
        bundle=bundle,
        into=arguments.into,
        python=python,
        base=getattr(arguments, "base", None),
        cell=getattr(arguments, "cell", ""),
        tool=arguments.tool,
        allowed_signers=getattr(arguments, "allowed_signers", None),
        smoke=not arguments.no_smoke,
        force=arguments.force,
        made_here=made_here,
    )


def uninstall(arguments: argparse.Namespace, _env: Mapping[str, str]) -> None:
    """Take out of an environment what was put in last."""
    with installing():
        flow.uninstall(arguments.into, _say)


def parse_size(text: str) -> int:
    """For example ``4G`` or ``700M``."""
    match = _SIZE.fullmatch(text)
    size = 0 if match is None else int(float(match[1]) * _UNITS[match[2].upper()])
    if size < _UNITS["M"]:
        msg = f"{text!r} is no size of a part. Write it as in 4G or 700M, at least 1M."
        raise UsageError(msg)
    return size


@contextlib.contextmanager
def installing() -> Iterator[None]:
    """Turn what the installer says into errors of ours, with the same exit code."""
    try:
        yield
    except InstallError as error:
        raise _KINDS.get(error.exit_code, WheelyardError)(str(error)) from error


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")
