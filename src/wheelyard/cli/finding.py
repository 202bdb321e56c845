"""`find`: which combinations have everything, and why the others do not."""

from __future__ import annotations

import contextlib
import itertools
import logging
import platform
import sys
from typing import TYPE_CHECKING

from wheelyard.cli.answering import (
    answer_to_json,
    commands,
    here_to_json,
    print_answer,
    print_here,
)
from wheelyard.cli.output import print_json
from wheelyard.cli.session import open_farm, open_workshop
from wheelyard.errors import ImpossibleCellError, MachineError, UsageError
from wheelyard.finding.answer import answer
from wheelyard.finding.here import look_here
from wheelyard.finding.offering import gather
from wheelyard.finding.question import Question, parse_requirements
from wheelyard.finding.resolution import Resolver
from wheelyard.machine.libc import find_libc
from wheelyard.missing import Places
from wheelyard.model.cell import (
    Cell,
    CudaVersion,
    GpuArch,
    PythonVersion,
    TorchBuild,
    parse_gpu_archs,
    parse_version,
)
from wheelyard.model.matrix import parse_machine
from wheelyard.model.releases import default_torch_build, torch_release
from wheelyard.toolchain.interpreters import find_all_interpreters

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from packaging.requirements import Requirement
    from packaging.specifiers import SpecifierSet

    from wheelyard.farm import Farm
    from wheelyard.finding.answer import Answer
    from wheelyard.finding.here import Here
    from wheelyard.model.cell import Machine
    from wheelyard.workshop import Workshop

__all__ = ["ask", "ask_about", "commands", "find", "make_question", "make_resolver"]

DEFAULT_GLIBC = (2, 28)
"""Where nothing is known of the machine: what torch's own wheels ask for."""


def find(arguments: argparse.Namespace, env: Mapping[str, str]) -> None:
    """Answer the question, and end with an error where no combination has everything."""
    farm = open_farm(arguments)
    workshop = open_workshop(arguments, farm, env, needs_yard=False)
    here = look_here(workshop.env) if arguments.here else None
    question = make_question(arguments, workshop, here)
    if here is not None and not arguments.json:
        print_here(here, question)
    found = ask(question, workshop, places_of(arguments))
    if arguments.json:
        told = {} if here is None else {"here": here_to_json(here)}
        print_json(answer_to_json(found) | told)
    else:
        print_answer(found)
    if found.best is None:
        asked = " ".join(str(item) for item in question.requirements)
        msg = f"No combination has all of {asked}. The reasons are above."
        raise ImpossibleCellError(msg)


def places_of(arguments: argparse.Namespace) -> Places:
    """Return where to look beside the yard."""
    return Places(
        indexes=tuple(arguments.index),
        upstream=arguments.upstream,
        trust_index=True,
        has_index=True,
    )


def ask_about(
    arguments: argparse.Namespace, workshop: Workshop, here: Here | None
) -> tuple[Question, Answer]:
    """Ask what the command line asks, of whatever command."""
    question = make_question(arguments, workshop, here)
    return question, ask(question, workshop, places_of(arguments))


def ask(question: Question, workshop: Workshop, places: Places) -> Answer:
    """Gather what there is and resolve it."""
    if places.upstream:
        sys.stderr.write("asking upstream for its releases\n")
    with _quiet_network():
        offers = gather(question, workshop, places)
    return answer(question, offers, make_resolver(workshop), tell=make_counter())


@contextlib.contextmanager
def _quiet_network() -> Iterator[None]:
    """Say nothing of each attempt: what comes of them all is a part of the answer."""
    network = logging.getLogger("wheelyard.network")
    level = network.level
    if not network.isEnabledFor(logging.DEBUG):
        network.setLevel(logging.WARNING)
    try:
        yield
    finally:
        network.setLevel(level)


def make_resolver(workshop: Workshop) -> Resolver:
    return Resolver(
        settings=workshop.indexes,
        env=workshop.env,
        scratch=workshop.cache / "resolving",
        ours=frozenset(recipe.name for recipe in workshop.farm.recipes),
        pythons={
            str(item.version): item.executable
            for item in find_all_interpreters(workshop.env)
            if item.version.free_threaded
        },
    )


def make_counter() -> Callable[[int, int], None]:
    """Return what tells how far a question is: in place on a terminal, else once."""

    def tell(done: int, total: int) -> None:
        if sys.stderr.isatty():
            end = "\r\033[K" if done == total else ""
            sys.stderr.write(f"\rresolved {done} of {total} combinations{end}")
            sys.stderr.flush()
        elif done == 0 and total > 1:
            sys.stderr.write(f"resolving {total} combinations\n")

    return tell


def make_question(arguments: argparse.Namespace, workshop: Workshop, here: Here | None) -> Question:
    """Return the question that the command line asks, of this machine where ``here`` is given."""
    machine = parse_machine(arguments.machine or platform.machine())
    archs = parse_gpu_archs(arguments.gpu_archs) if arguments.gpu_archs else ()
    driver = None if here is None else here.driver
    if driver is not None and not archs:
        archs = tuple(sorted({GpuArch.parse(gpu.arch) for gpu in driver.gpus}))
    requirements = parse_requirements(arguments.requirements)
    return Question(
        requirements=requirements,
        cells=_cells(arguments, workshop.farm, here, machine, asked=requirements),
        glibc=_glibc(arguments, machine),
        gpu_archs=archs,
        driver=arguments.driver or (None if driver is None else driver.version),
    )


def _cells(
    arguments: argparse.Namespace,
    farm: Farm,
    here: Here | None,
    machine: Machine,
    *,
    asked: tuple[Requirement, ...],
) -> tuple[Cell, ...]:
    pythons = _pythons(arguments, farm, here)
    specifiers = [one.specifier for one in asked if one.name == "torch"]
    torches = [
        torch
        for torch in _torches(arguments, farm, machine, pinned=_pinned(specifiers))
        if all(one.contains(str(torch)) for one in specifiers)
    ]
    cells = (Cell(python, torch, machine) for torch, python in itertools.product(torches, pythons))
    wanted = tuple(
        cell
        for cell in cells
        if arguments.python or farm.matrix.reason_excluded(f"any-{cell.identifier}") is None
    )
    if not wanted:
        msg = (
            "The matrix has no such combination. `wheelyard matrix` shows what it has; --python "
            "and --torch name others."
        )
        raise UsageError(msg)
    return wanted


def _pythons(
    arguments: argparse.Namespace, farm: Farm, here: Here | None
) -> tuple[PythonVersion, ...]:
    if arguments.python:
        return tuple(map(PythonVersion.parse, arguments.python))
    if here is None:
        return tuple(sorted(farm.matrix.pythons, reverse=True))
    if not here.pythons:
        msg = "There is no CPython here. `wheelyard doctor` says what was looked at."
        raise MachineError(msg)
    return here.pythons


def _pinned(specifiers: Iterable[SpecifierSet]) -> list[str]:
    """Return the torch that a requirement pins, which the matrix need not have."""
    texts = [spec.version for one in specifiers for spec in one if spec.operator == "=="]
    return [text for text in texts if not text.endswith(".*")]


def _torches(
    arguments: argparse.Namespace, farm: Farm, machine: Machine, *, pinned: Iterable[str]
) -> list[TorchBuild]:
    cuda = CudaVersion.parse(arguments.cuda) if arguments.cuda else None
    texts = [*(arguments.torch or pinned)]
    if not texts:
        known = sorted(farm.matrix.torches, reverse=True)
        return [torch for torch in known if cuda is None or torch.cuda == cuda]
    found = []
    for text in texts:
        public, plus, _ = text.partition("+")
        if plus:
            found.append(TorchBuild.parse(text))
            continue
        version = parse_version(public)
        default = default_torch_build(version, machine)
        if cuda is not None:
            found.append(TorchBuild(version, cuda))
        elif default is not None:
            found.append(default)
        else:
            found += [TorchBuild(version, one) for one in torch_release(version).cudas(machine)]
    return found


def _glibc(arguments: argparse.Namespace, machine: Machine) -> tuple[int, int]:
    if arguments.glibc:
        major, _, minor = arguments.glibc.partition(".")
        if not (major.isdigit() and minor.isdigit()):
            msg = f"{arguments.glibc!r} is not a glibc version. Write it as in 2.36."
            raise UsageError(msg)
        return int(major), int(minor)
    libc = find_libc()
    if machine == platform.machine() and libc.name == "glibc":
        return libc.version
    return DEFAULT_GLIBC
