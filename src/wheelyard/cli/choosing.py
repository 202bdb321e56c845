"""From words of the command line to a job, with the reasons for what they leave open."""

from __future__ import annotations

import platform
from typing import TYPE_CHECKING

from wheelyard.errors import UsageError
from wheelyard.machine.gpu import find_driver
from wheelyard.model.cell import (
    Cell,
    CudaVersion,
    Machine,
    PythonVersion,
    TorchBuild,
    parse_gpu_archs,
    parse_version,
)
from wheelyard.model.matrix import parse_machine
from wheelyard.model.releases import default_torch_build, torch_release
from wheelyard.planning.choice import Choice, Offer, Wish, choose_cell
from wheelyard.planning.locks import toolkit_lock, torch_lock
from wheelyard.planning.naming import job_named
from wheelyard.planning.plan import make_job
from wheelyard.toolchain.installed_toolkits import find_installed_toolkits
from wheelyard.toolchain.interpreters import find_all_interpreters
from wheelyard.toolchain.torch_environment import find_foreign_torch

if TYPE_CHECKING:
    import argparse

    from wheelyard.farm import Farm
    from wheelyard.model.job import Job
    from wheelyard.workshop import Workshop

_CELL_WORDS = {
    "RECIPE": "recipe",
    "--version": "recipe_version",
    "--python": "python",
    "--torch": "torch",
    "--cuda": "cuda",
    "--gpu-archs": "gpu_archs",
    "--lineinfo": "lineinfo",
}


def job_asked_for(arguments: argparse.Namespace, workshop: Workshop) -> tuple[Job, tuple[str, ...]]:
    """Return the job of ``--job``, or the one that recipe and cell mean, with the reasons."""
    if arguments.job is None:
        if arguments.recipe is None:
            msg = "Name a recipe, or a job with --job ID. `wheelyard list` shows the recipes."
            raise UsageError(msg)
        return choose_job(arguments, workshop)
    given = [name for name, key in _CELL_WORDS.items() if getattr(arguments, key)]
    if given:
        msg = f"--job names recipe and cell; leave out {', '.join(given)}."
        raise UsageError(msg)
    job = job_named(arguments.job, workshop.farm.recipes)
    if job.foreign_torch != (arguments.env is not None):
        how = "leave out" if arguments.env else "name its interpreter with"
        msg = f"{job.identifier}: {how} --env. Names that end in -env are of foreign torches."
        raise UsageError(msg)
    return job, ()


def choose_job(arguments: argparse.Namespace, workshop: Workshop) -> tuple[Job, tuple[str, ...]]:
    """Return the job that the command line means, and why where it left something open."""
    version = workshop.farm.recipe_version(arguments.recipe, arguments.recipe_version)
    archs = parse_gpu_archs(arguments.gpu_archs) if arguments.gpu_archs else None
    if workshop.options.foreign_python is not None:
        return _foreign_job(arguments, workshop)
    choice = _choose(arguments, workshop)
    reasons = list(choice.reasons)
    if arguments.recipe_version is None:
        reasons.insert(0, f"{version.label}: newest version of the recipe")
    job = make_job(version, choice.cell, gpu_archs=archs, lineinfo=arguments.lineinfo)
    return job, tuple(reasons)


def _choose(arguments: argparse.Namespace, workshop: Workshop) -> Choice:
    farm = workshop.farm
    version = farm.recipe_version(arguments.recipe, arguments.recipe_version)
    machine = parse_machine(platform.machine())
    driver = find_driver(workshop.env)
    wish = Wish(
        python=PythonVersion.parse(arguments.python) if arguments.python else None,
        torch=str(parse_version(arguments.torch).public) if arguments.torch else None,
        cuda=_wished_cuda(arguments),
    )
    offer = Offer(
        machine=machine,
        pythons={item.version for item in find_all_interpreters(workshop.env)},
        driver=None if driver is None else driver.version,
        has_toolkit=lambda cuda: _has_toolkit(cuda, workshop),
        has_lock=lambda torch: _has_lock(torch, farm),
    )
    known = _known_torches(wish, machine)
    return choose_cell(version, farm.matrix, wish=wish, offer=offer, known_torches=known)


def _wished_cuda(arguments: argparse.Namespace) -> CudaVersion | None:
    """Read --cuda, or the local part of --torch 2.11.0+cu130."""
    if arguments.cuda:
        return CudaVersion.parse(arguments.cuda)
    local = (arguments.torch or "").partition("+")[2]
    return CudaVersion.parse(local) if local else None


def _known_torches(wish: Wish, machine: Machine) -> tuple[TorchBuild, ...]:
    """Return the builds of the torch that the user names, the index's default first."""
    if wish.torch is None:
        return ()
    release = torch_release(parse_version(wish.torch))
    default = default_torch_build(release.version, machine)
    builds = [TorchBuild(release.version, cuda) for cuda in reversed(release.cudas(machine))]
    return tuple(dict.fromkeys([default, *builds] if default else builds))


def _has_lock(torch: TorchBuild, farm: Farm) -> bool:
    return (farm.folder / torch_lock(torch).path).is_file()


def _has_toolkit(cuda: CudaVersion, workshop: Workshop) -> bool:
    """Whether the provider that is asked for, or any, has a toolkit of this CUDA."""
    asked = workshop.options.toolkit
    if asked == "image":
        return True  # what the image has it tells when it is opened
    if asked in {"auto", "index"} and toolkit_lock(cuda) is not None:
        return True
    if asked in {"auto", "redistributable"} and workshop.farm.redist_lock(cuda) is not None:
        return True
    installed = find_installed_toolkits(workshop.env)
    return asked in {"auto", "installed"} and any(found.version == cuda for found in installed)


def _foreign_job(arguments: argparse.Namespace, workshop: Workshop) -> tuple[Job, tuple[str, ...]]:
    """Return the job for a torch that is there already: it alone decides the cell."""
    python = workshop.options.foreign_python
    assert python is not None
    version, torch, site = find_foreign_torch(python, env=workshop.env)
    refused = [name for name in ("python", "torch", "cuda") if getattr(arguments, name)]
    if refused:
        msg = f"--env decides the cell; leave out --{', --'.join(refused)}."
        raise UsageError(msg)
    recipe_version = workshop.farm.recipe_version(arguments.recipe, arguments.recipe_version)
    cell = Cell(version, torch, parse_machine(platform.machine()))
    archs = parse_gpu_archs(arguments.gpu_archs) if arguments.gpu_archs else None
    job = make_job(
        recipe_version, cell, gpu_archs=archs, lineinfo=arguments.lineinfo, foreign_torch=True
    )
    return job, (f"torch {torch} as it lies in {site}",)
