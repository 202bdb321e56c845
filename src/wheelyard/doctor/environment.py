"""What is wrong with an environment that extensions are used in: torch, runtimes, namesakes."""

from __future__ import annotations

import re
import shlex
from typing import TYPE_CHECKING

import uv

from wheelyard.doctor.extensions import extension_lines
from wheelyard.doctor.line import Line
from wheelyard.doctor.remedies import pip, uninstall
from wheelyard.errors import MachineError, ProcessError, UnknownNameError
from wheelyard.finding.cuda_versions import still_run_by
from wheelyard.finding.environment import read_environment
from wheelyard.model.possibility import reason_driver_too_old
from wheelyard.model.releases import default_torch_build, torch_release, torch_releases
from wheelyard.run import run
from wheelyard.toolchain.installed_toolkits import find_installed_toolkits

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Mapping
    from pathlib import Path

    from packaging.version import Version

    from wheelyard.finding.environment import Environment
    from wheelyard.model.cell import Machine, TorchBuild

_RUNTIME = re.compile(
    r"nvidia-(?:cuda-|cublas|cudnn|cufft|curand|cusolver|cusparse|nccl|nvjitlink)"
)
_SUFFIX = re.compile(r"-cu(\d\d)$")
_HEADERS = ("nccl.h", "cudnn.h")
_UNMET = re.compile(
    r"The package `(?P<name>[^`]+)` requires `(?P<wanted>[^`]+)`, but (?P<found>.+)"
)
_TOLD = ("torch", "setuptools")
_MANY = 6
"""So many unmet requirements are told one by one."""


def environment_lines(
    python: Path, env: Mapping[str, str], *, driver: str | None, machine: Machine, root: Path
) -> Iterator[Line]:
    """Yield what is found in the environment of ``python``; what is missing there is no fault."""
    try:
        environment = read_environment(python, env)
    except MachineError as error:
        yield Line(status="warn", subject="environment", finding=str(error))
        return
    count = len(environment.installed)
    finding = f"Python {environment.version} at {python}, {count} distributions"
    yield Line(status="ok", subject="environment", finding=finding)
    torch = yield from _torch(environment, driver=driver, machine=machine)
    yield from _toolkit(torch, env, root)
    yield from _mixed_runtimes(environment, torch)
    yield from extension_lines(environment, torch)
    yield from _setuptools(environment, torch)
    yield from _unmet(environment, env)
    yield from _headers(environment.sites, env, root)


def _torch(
    environment: Environment, *, driver: str | None, machine: Machine
) -> Generator[Line, None, TorchBuild | None]:
    """Tell of the torch, and return its build where it has CUDA."""
    try:
        found = environment.torch()
    except MachineError as error:
        public = environment.installed["torch"].public
        remedy = pip(environment, "install", "--reinstall", f"torch=={public}")
        yield Line(status="warn", subject="torch", finding=str(error), remedy=remedy)
        return None
    if found is None:
        return None
    build, text = found
    reason = None if driver is None else _too_old(build, driver)
    if reason is not None and driver is not None:
        having = [default_torch_build(one.version, machine) for one in torch_releases()]
        still = still_run_by(driver, [one for one in having if one is not None])
        finding = f"{text}: {reason}"
        remedy = ""
        if still:
            finding += f" It still runs torch {still[-1]}."
            remedy = pip(environment, "install", f"torch=={still[-1].version}")
        yield Line(status="warn", subject="torch", finding=finding, remedy=remedy)
        return build
    runtime = " and ".join(map(str, environment.runtime()))
    finding = f"{text}, CUDA {build.cuda}"
    finding += f", runtime wheels {runtime}" if runtime else ""
    yield Line(status="ok", subject="torch", finding=finding)
    return build


def _toolkit(torch: TorchBuild | None, env: Mapping[str, str], root: Path) -> Iterator[Line]:
    """Tell of a toolkit that extensions would be compiled with here, and torch was not."""
    toolkits = find_installed_toolkits(env, root=root)
    if torch is None or not toolkits or toolkits[0].version == torch.cuda:
        return
    first = toolkits[0]
    fitting = [one.path for one in toolkits if one.version == torch.cuda]
    finding = (
        f"{first.full_version} at {first.path} comes first, torch {torch} was built with CUDA "
        f"{torch.cuda}: what pip compiles here fails or does not load"
    )
    remedy = f"export CUDA_HOME={shlex.quote(str(fitting[0]))}" if fitting else ""
    finding += "" if fitting else "; wheelyard build brings the right one"
    yield Line(status="warn", subject="CUDA toolkit", finding=finding, remedy=remedy)


def _too_old(build: TorchBuild, driver: str) -> str | None:
    try:
        return reason_driver_too_old(build.cuda, driver=driver)
    except UnknownNameError:
        return None


def _runtime_major(name: str, version: Version) -> int | None:
    """Return the CUDA major of a runtime wheel: from 13 on their names do not say it."""
    if not _RUNTIME.match(name) or name == "nvidia-cudnn-frontend":
        return None
    suffix = _SUFFIX.search(name)
    if suffix is not None:
        return int(suffix[1])
    return version.major if name.startswith("nvidia-cuda-") else None


def _mixed_runtimes(environment: Environment, torch: TorchBuild | None) -> Iterator[Line]:
    majors: dict[int, list[str]] = {}
    for name, version in environment.installed.items():
        major = _runtime_major(name, version)
        if major is not None:
            majors.setdefault(major, []).append(name)
    if len(majors) < 2:
        return
    wanted = max(majors) if torch is None else torch.cuda.major
    others = sorted(name for major, names in majors.items() if major != wanted for name in names)
    listed = " and ".join(str(major) for major in sorted(majors))
    finding = f"runtime wheels of CUDA {listed} are mixed: {', '.join(others)}"
    finding += "" if torch is None else f"; torch {torch} needs those of CUDA {wanted}"
    remedy = uninstall(environment, *others)
    yield Line(status="warn", subject="CUDA runtime", finding=finding, remedy=remedy)


def _setuptools(environment: Environment, torch: TorchBuild | None) -> Iterator[Line]:
    found = environment.installed.get("setuptools")
    if torch is None or found is None:
        return
    try:
        wanted = torch_release(torch.version).setuptools
    except UnknownNameError:
        return
    if not wanted.contains(found, prereleases=True):
        finding = f"{found}, torch {torch.version} needs {wanted}"
        remedy = pip(environment, "install", f"setuptools{wanted}")
        yield Line(status="warn", subject="setuptools", finding=finding, remedy=remedy)


def _unmet(environment: Environment, env: Mapping[str, str]) -> Iterator[Line]:
    """Tell which requirements of what is installed are not met, as uv finds them."""
    command = [uv.find_uv_bin(), "pip", "check", "--python", str(environment.python)]
    try:
        output = run([*command, "--no-config"], env={**env, "UV_NO_PROGRESS": "1"}).output
    except ProcessError as error:
        output = error.tail
    found = [match for line in output.splitlines() if (match := _UNMET.match(line))]
    # what torch needs of setuptools is told from the facts, for a torch that does not say it, too
    found = [match for match in found if (match["name"], match["wanted"][:10]) != _TOLD]
    for match in found[:_MANY]:
        having = match["found"].removesuffix(" is installed").strip("`")
        having = "nothing" if "not installed" in having else having
        finding = f"needs {match['wanted']}, and has {having}"
        remedy = pip(environment, "install", match["wanted"])
        yield Line(status="warn", subject=match["name"], finding=finding, remedy=remedy)
    if len(found) > _MANY:
        finding = f"{len(found) - _MANY} more requirements are not met"
        remedy = pip(environment, "check")
        yield Line(status="warn", subject="environment", finding=finding, remedy=remedy)


def _headers(sites: tuple[Path, ...], env: Mapping[str, str], root: Path) -> Iterator[Line]:
    toolkits = [toolkit.path / "include" for toolkit in find_installed_toolkits(env, root=root)]
    for header in _HEADERS:
        places = [place for site in sites for place in sorted(site.glob("nvidia/*/include"))]
        system = [root / "usr" / "include", root / "usr" / "local" / "include"]
        found = next(
            (one for one in (*places, *toolkits, *system) if (one / header).is_file()), None
        )
        finding = str(found / header) if found else "none here; builds take it from torch's lock"
        yield Line(status="ok", subject=header, finding=finding)
