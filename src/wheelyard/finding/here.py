"""What this machine brings to a combination: C library, Pythons, GPUs, and its CUDA versions."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from wheelyard.errors import MachineError
from wheelyard.finding.environment import find_environment, read_environment
from wheelyard.machine.gpu import driver_cuda, find_driver
from wheelyard.machine.libc import find_libc
from wheelyard.toolchain.installed_toolkits import find_installed_toolkits
from wheelyard.toolchain.interpreters import find_all_interpreters

if TYPE_CHECKING:
    from collections.abc import Mapping

    from wheelyard.finding.environment import Environment
    from wheelyard.machine.gpu import DriverFacts
    from wheelyard.machine.libc import Libc
    from wheelyard.model.cell import PythonVersion
    from wheelyard.toolchain.installed_toolkits import InstalledToolkit


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Here:
    """This machine, as far as it decides what runs on it."""

    libc: Libc
    pythons: tuple[PythonVersion, ...]
    """The newest first."""
    driver: DriverFacts | None
    driver_cuda: str
    """The CUDA that the driver was made for, where it tells."""
    toolkits: tuple[InstalledToolkit, ...]
    environment: Environment | None
    """The active one, or that of the Python on PATH."""
    torch: str
    """The one that is installed there, in full; empty if there is none with CUDA."""
    torch_cuda: str


def look_here(env: Mapping[str, str]) -> Here:
    """Look at this machine; what it does not have is no error."""
    driver = find_driver(env)
    environment = _environment(env)
    torch, torch_cuda = _torch(environment)
    return Here(
        libc=find_libc(),
        pythons=tuple(sorted({item.version for item in find_all_interpreters(env)}, reverse=True)),
        driver=driver,
        driver_cuda="" if driver is None else driver_cuda(env),
        toolkits=find_installed_toolkits(env),
        environment=environment,
        torch=torch,
        torch_cuda=torch_cuda,
    )


def _environment(env: Mapping[str, str]) -> Environment | None:
    python = find_environment(env)
    try:
        return None if python is None else read_environment(python, env)
    except MachineError:
        return None  # `doctor` says what is wrong with it


def _torch(environment: Environment | None) -> tuple[str, str]:
    try:
        found = None if environment is None else environment.torch()
    except MachineError:
        return "", ""  # one for the CPU only
    return ("", "") if found is None else (found[1], str(found[0].cuda))
