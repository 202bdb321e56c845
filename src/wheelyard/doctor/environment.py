"""What is wrong with an environment that extensions are used in: torch, runtimes, namesakes."""

from __future__ import annotations

import json
import re
import shlex
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from wheelyard.doctor.line import Line
from wheelyard.errors import MachineError, ProcessError, UnknownNameError
from wheelyard.finding.cuda_versions import still_run_by
from wheelyard.model.cell import TorchBuild
from wheelyard.model.possibility import reason_driver_too_old
from wheelyard.model.releases import default_torch_build, torch_release, torch_releases
from wheelyard.run import run
from wheelyard.toolchain.installed_toolkits import find_installed_toolkits
from wheelyard.toolchain.torch_environment import read_torch_build
from wheelyard.wheels.smoke import installed_versions

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Mapping

    from packaging.version import Version

    from wheelyard.model.cell import Machine

_ASK = (
    "import json, platform, sysconfig; print(json.dumps("
    "[platform.python_version(), sysconfig.get_path('platlib'), sysconfig.get_path('purelib')]))"
)
_RUNTIME = re.compile(
    r"nvidia-(?:cuda-|cublas|cudnn|cufft|curand|cusolver|cusparse|nccl|nvjitlink)"
)
_SUFFIX = re.compile(r"-cu(\d\d)$")
_OURS = re.compile(r"cu(?P<cuda>\d{3})\.torch(?P<torch>\d+\.\d+\.\d+)")
_HEADERS = ("nccl.h", "cudnn.h")


def find_environment(env: Mapping[str, str]) -> Path | None:
    """Return the Python of the active environment, or the one on PATH."""
    for variable in ("VIRTUAL_ENV", "CONDA_PREFIX"):
        python = Path(env.get(variable) or "/nonexistent", "bin", "python")
        if python.exists():
            return python
    found = shutil.which("python3", path=env.get("PATH", ""))
    return None if found is None else Path(found)


def environment_lines(
    python: Path, env: Mapping[str, str], *, driver: str | None, machine: Machine, root: Path
) -> Iterator[Line]:
    """Yield what is found in the environment of ``python``; what is missing there is no fault."""
    try:
        answer = json.loads(run([python, "-I", "-c", _ASK], env=env).output)
    except (ProcessError, MachineError, OSError, ValueError) as error:
        finding = f"{python} does not run: {str(error).partition(chr(10))[0]}"
        yield Line(status="warn", subject="environment", finding=finding)
        return
    version, *folders = answer
    sites = tuple(Path(folder) for folder in dict.fromkeys(folders))
    installed = installed_versions(sites)
    finding = f"Python {version} at {python}, {len(installed)} distributions"
    yield Line(status="ok", subject="environment", finding=finding)
    torch = yield from _torch(python, sites[0], installed, driver=driver, machine=machine)
    yield from _mixed_runtimes(python, installed, torch)
    yield from _namesake(python, sites[0], installed)
    yield from _extensions_of_other_torches(installed, torch)
    yield from _setuptools(python, installed, torch)
    yield from _headers(sites, env, root)


def _pip(python: Path, *words: str) -> str:
    return shlex.join([str(python), "-m", "pip", *words])


def _torch(
    python: Path,
    site: Path,
    installed: Mapping[str, Version],
    *,
    driver: str | None,
    machine: Machine,
) -> Generator[Line, None, TorchBuild | None]:
    """Tell of the torch, and return its build where it has CUDA."""
    if "torch" not in installed:
        return None
    public = installed["torch"].public
    try:
        build, text = read_torch_build(site)
    except MachineError as error:
        remedy = _pip(python, "install", "--force-reinstall", f"torch=={public}")
        yield Line(status="warn", subject="torch", finding=str(error), remedy=remedy)
        return None
    reason = None if driver is None else _too_old(build, driver)
    if reason is not None and driver is not None:
        having = [default_torch_build(one.version, machine) for one in torch_releases()]
        still = still_run_by(driver, [one for one in having if one is not None])
        finding = f"{text}: {reason}"
        remedy = ""
        if still:
            finding += f" It still runs torch {still[-1]}."
            remedy = _pip(python, "install", f"torch=={still[-1].version}")
        yield Line(status="warn", subject="torch", finding=finding, remedy=remedy)
        return build
    yield Line(status="ok", subject="torch", finding=f"{text}, CUDA {build.cuda}")
    return build


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


def _mixed_runtimes(
    python: Path, installed: Mapping[str, Version], torch: TorchBuild | None
) -> Iterator[Line]:
    majors: dict[int, list[str]] = {}
    for name, version in installed.items():
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
    remedy = _pip(python, "uninstall", "-y", *others)
    yield Line(status="warn", subject="CUDA runtime", finding=finding, remedy=remedy)


def _namesake(python: Path, site: Path, installed: Mapping[str, Version]) -> Iterator[Line]:
    """The index has an apex that is somebody else's."""
    if "apex" not in installed or (site / "apex" / "optimizers").is_dir():
        return
    finding = f"apex {installed['apex']} is another project of that name, not NVIDIA's"
    remedy = f"{_pip(python, 'uninstall', '-y', 'apex')} && wheelyard find apex --here"
    yield Line(status="warn", subject="apex", finding=finding, remedy=remedy)


def _extensions_of_other_torches(
    installed: Mapping[str, Version], torch: TorchBuild | None
) -> Iterator[Line]:
    if torch is None:
        return
    for name, version in sorted(installed.items()):
        match = _OURS.match(version.local or "")
        if match is None:
            continue
        own = TorchBuild.parse(f"{match['torch']}+cu{match['cuda']}")
        if own != torch:
            finding = f"{version} is for torch {own}, and {torch} is installed"
            remedy = f"wheelyard find {name} --here --torch {torch}"
            yield Line(status="warn", subject=name, finding=finding, remedy=remedy)


def _setuptools(
    python: Path, installed: Mapping[str, Version], torch: TorchBuild | None
) -> Iterator[Line]:
    if torch is None or "setuptools" not in installed:
        return
    try:
        wanted = torch_release(torch.version).setuptools
    except UnknownNameError:
        return
    if not wanted.contains(installed["setuptools"], prereleases=True):
        finding = f"{installed['setuptools']}, torch {torch.version} needs {wanted}"
        remedy = _pip(python, "install", f"setuptools{wanted}")
        yield Line(status="warn", subject="setuptools", finding=finding, remedy=remedy)


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
