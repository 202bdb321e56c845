"""`find`: which combinations have everything, and why the others do not."""

from __future__ import annotations

import itertools
import platform
import shlex
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from wheelyard.cli.output import print_json, print_lines, print_table, readable_seconds
from wheelyard.cli.session import open_farm, open_workshop
from wheelyard.errors import ImpossibleCellError, MachineError, UsageError
from wheelyard.finding.answer import answer
from wheelyard.finding.cuda_versions import cuda_versions, runnable_cudas, still_run_by
from wheelyard.finding.offer import Offer, Origin
from wheelyard.finding.offering import gather
from wheelyard.finding.question import Question, parse_requirements
from wheelyard.finding.resolution import Resolver
from wheelyard.machine.gpu import find_driver
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
from wheelyard.toolchain.torch_environment import find_foreign_torch

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable, Mapping, Sequence

    from wheelyard.farm import Farm
    from wheelyard.finding.answer import Answer, Fit, HeldBack, LeftOut
    from wheelyard.machine.gpu import DriverFacts
    from wheelyard.model.cell import Machine
    from wheelyard.workshop import Workshop

DEFAULT_GLIBC = (2, 28)
"""Where nothing is known of the machine: what torch's own wheels ask for."""


def find(arguments: argparse.Namespace, env: Mapping[str, str]) -> None:
    """Answer the question, and end with an error where no combination has everything."""
    farm = open_farm(arguments)
    workshop = open_workshop(arguments, farm, env)
    driver = find_driver(env) if arguments.here else None
    question, found = ask_about(arguments, workshop, driver)
    if arguments.json:
        print_json(_answer_to_json(found))
    else:
        if arguments.here:
            _print_here(question, driver, workshop)
        _print_answer(found)
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
    )


def ask_about(
    arguments: argparse.Namespace, workshop: Workshop, driver: DriverFacts | None
) -> tuple[Question, Answer]:
    """Ask what the command line asks, of whatever command."""
    question = make_question(arguments, workshop.farm, workshop, driver)
    return question, ask(question, workshop, places_of(arguments))


def ask(question: Question, workshop: Workshop, places: Places) -> Answer:
    """Gather what there is and resolve it."""
    offers = gather(question, workshop, places)
    return answer(question, offers, make_resolver(workshop), say=_say)


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


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")


def make_question(
    arguments: argparse.Namespace,
    farm: Farm,
    workshop: Workshop,
    driver: DriverFacts | None,
) -> Question:
    """Return the question that the command line asks."""
    machine = parse_machine(arguments.machine or platform.machine())
    archs = parse_gpu_archs(arguments.gpu_archs) if arguments.gpu_archs else ()
    if arguments.here and not archs and driver is not None:
        archs = tuple(sorted({GpuArch.parse(gpu.arch) for gpu in driver.gpus}))
    return Question(
        requirements=parse_requirements(arguments.requirements),
        cells=_cells(arguments, farm, workshop, machine),
        glibc=_glibc(arguments, machine),
        gpu_archs=archs,
        driver=driver.version if driver is not None else arguments.driver,
    )


def _cells(
    arguments: argparse.Namespace, farm: Farm, workshop: Workshop, machine: Machine
) -> tuple[Cell, ...]:
    pythons = _pythons(arguments, farm, workshop)
    torches = _torches(arguments, farm, machine)
    cells = (Cell(python, torch, machine) for torch, python in itertools.product(torches, pythons))
    wanted = tuple(
        cell
        for cell in cells
        if arguments.python or farm.matrix.reason_excluded(f"any-{cell.identifier}") is None
    )
    if not wanted:
        msg = "The matrix has no such combination. `wheelyard matrix --impossible` says why."
        raise UsageError(msg)
    return wanted


def _pythons(
    arguments: argparse.Namespace, farm: Farm, workshop: Workshop
) -> tuple[PythonVersion, ...]:
    if arguments.python:
        return tuple(map(PythonVersion.parse, arguments.python))
    if not arguments.here:
        return tuple(sorted(farm.matrix.pythons, reverse=True))
    here = {item.version for item in find_all_interpreters(workshop.env)}
    if not here:
        msg = "There is no CPython here. `wheelyard doctor` says what was looked at."
        raise MachineError(msg)
    return tuple(sorted(here, reverse=True))


def _torches(arguments: argparse.Namespace, farm: Farm, machine: Machine) -> list[TorchBuild]:
    cuda = CudaVersion.parse(arguments.cuda) if arguments.cuda else None
    if not arguments.torch:
        known = sorted(farm.matrix.torches, reverse=True)
        return [torch for torch in known if cuda is None or torch.cuda == cuda]
    found = []
    for text in arguments.torch:
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


def _print_here(question: Question, driver: DriverFacts | None, workshop: Workshop) -> None:
    libc = ".".join(map(str, question.glibc))
    rows = [("glibc", libc)]
    if driver is None:
        rows.append(("driver", "none: wheels can be imported here, not run"))
    else:
        cudas = runnable_cudas(driver.version)
        runs = f"runs wheels of CUDA up to {cudas[-1]}" if cudas else "too old for any torch"
        rows.append(("driver", f"{driver.version}, {runs}"))
        rows += [("GPU", f"{gpu.name}, {gpu.arch}") for gpu in driver.gpus]
        old = [cell.torch for cell in question.cells if cell.torch.cuda not in cudas]
        if old:
            still = still_run_by(driver.version, dict.fromkeys(c.torch for c in question.cells))
            text = ", ".join(map(str, still)) or "none of the matrix"
            rows.append(("", f"too old for torch {old[0]}; it still runs: {text}"))
    pythons = dict.fromkeys(str(cell.python) for cell in question.cells)
    rows.append(("Python", ", ".join(pythons)))
    rows.append(("torch", _installed_torch(workshop)))
    print_table(("HERE", ""), rows)
    print_lines("")


def _installed_torch(workshop: Workshop) -> str:
    """Say which torch the Python on PATH has."""
    python = shutil.which("python3", path=workshop.env.get("PATH", ""))
    if python is None:
        return "no python3 on PATH to look into"
    try:
        version, torch, site = find_foreign_torch(Path(python), env=workshop.env)
    except MachineError as error:
        return str(error).partition(". ")[0]
    return f"{torch} for Python {version} in {site}"


def _print_answer(found: Answer) -> None:
    if found.fits:
        rows = [
            (fit.cell.identifier, _state(fit), ", ".join(one.public for one in fit.resolved.ours))
            for fit in found.fits
        ]
        print_table(("COMBINATION", "STATE", "OURS"), rows)
    for group in _grouped(found.left_out):
        print_lines("", f"not {', '.join(item.cell.identifier for item in group)}:")
        print_lines(f"  {group[0].reason}")
    if found.elsewhere is not None:
        glibc = ".".join(map(str, found.elsewhere.glibc))
        print_lines("", f"With glibc {glibc} or later, {found.elsewhere.fit.cell.identifier} has:")
        ours = found.elsewhere.fit.resolved.ours
        print_lines(f"  {', '.join(one.public for one in ours) or 'everything'}")
        _print_held_back(found.elsewhere.held_back)
    if found.best is not None:
        _print_best(found, found.best)


def _state(fit: Fit) -> str:
    if fit.works_now:
        return "works now"
    building = sum(one.origin is Origin.build for one in fit.to_make)
    adopting = len(fit.to_make) - building
    parts = [f"adopt {adopting}"] if adopting else []
    parts += [f"build {building}"] if building else []
    return f"{', '.join(parts)} ({readable_seconds(fit.effort)} of CPU)"


def _grouped(items: Sequence[LeftOut]) -> list[list[LeftOut]]:
    groups: dict[str, list[LeftOut]] = {}
    for item in items:
        groups.setdefault(item.reason, []).append(item)
    return list(groups.values())


def _print_held_back(items: Iterable[HeldBack]) -> None:
    for item in items:
        print_lines(f"  not {item.offer.public} (taken: {item.taken}): {item.reason}")


def _print_best(found: Answer, best: Fit) -> None:
    print_lines("", f"best: {best.cell.identifier}, {_state(best)}")
    _print_held_back(found.held_back)
    versions = cuda_versions(best, driver=found.question.driver)
    driver = versions.driver or f"{versions.minimum_driver} or later"
    print_lines(
        f"  CUDA: torch {versions.torch}, toolkit {versions.toolkit}, runtime wheels "
        f"{versions.runtime or 'in torch'}, driver {driver}",
        f"  ({versions.rule})",
        "",
    )
    print_lines(*(f"  {line}" for line in commands(best, found.question)))


def commands(fit: Fit, question: Question) -> tuple[str, ...]:
    """Return the lines that make what does not exist, and install everything."""
    making = [_making(offer) for offer in fit.to_make]
    urls = dict.fromkeys(offer.index_url for offer in fit.resolved.ours)
    ours = {offer.name for offer in fit.resolved.ours}
    pins = [f"torch=={fit.resolved.version('torch')}"]
    pins += [f"{offer.name}=={offer.version}" for offer in fit.resolved.ours]
    others = [str(item) for item in question.requirements if item.name.lower() not in ours]
    indexes = [word for url in urls for word in ("--index", url)]
    # as pip does: what our index lacks is looked for in the next
    strategy = ["--index-strategy", "unsafe-best-match"]
    line = ["uv", "pip", "install", *indexes, *strategy, *pins, *others]
    return (*making, shlex.join(line))


def _making(offer: Offer) -> str:
    if offer.origin in {Origin.upstream, Origin.candidate}:
        return shlex.join(["wheelyard", "adopt", offer.place, "--recipe", offer.name])
    return shlex.join(["wheelyard", "build", "--job", offer.place])


def _answer_to_json(found: Answer) -> dict[str, object]:
    return {
        "elsewhere": None
        if found.elsewhere is None
        else {
            **_fit_to_json(found.elsewhere.fit, found.question),
            "glibc": ".".join(map(str, found.elsewhere.glibc)),
            "held_back": [_held_to_json(item) for item in found.elsewhere.held_back],
        },
        "fits": [_fit_to_json(fit, found.question) for fit in found.fits],
        "held_back": [_held_to_json(item) for item in found.held_back],
        "left_out": [
            {"cell": item.cell.identifier, "reason": item.reason} for item in found.left_out
        ],
    }


def _fit_to_json(fit: Fit, question: Question) -> dict[str, object]:
    versions = cuda_versions(fit, driver=question.driver)
    return {
        "cell": fit.cell.identifier,
        "commands": list(commands(fit, question)),
        "cpu_seconds": fit.effort,
        "cuda": {
            "driver": versions.driver or None,
            "minimum_driver": versions.minimum_driver,
            "runtime": versions.runtime or None,
            "toolkit": str(versions.toolkit),
            "torch": str(versions.torch),
        },
        "ours": [_offer_to_json(offer) for offer in fit.resolved.ours],
        "packages": {name: str(item.version) for name, item in fit.resolved.packages.items()},
        "works_now": fit.works_now,
    }


def _held_to_json(item: HeldBack) -> dict[str, str]:
    return {"reason": item.reason, "taken": item.taken, "wheel": item.offer.public}


def _offer_to_json(offer: Offer) -> dict[str, str]:
    return {
        "name": offer.name,
        "origin": str(offer.origin),
        "place": offer.place,
        "version": str(offer.version),
    }
