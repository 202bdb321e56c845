"""CUDA toolkits that somebody installed on this machine."""

from __future__ import annotations

import dataclasses
import logging
import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from wheelyard.errors import MachineError, ProcessError
from wheelyard.model.cell import CudaVersion
from wheelyard.model.decode import UNREADABLE
from wheelyard.run import run

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

logger = logging.getLogger(__name__)

TOOLKIT_VARIABLES = ("CUDA_HOME", "CUDA_PATH")
PROGRAMS = ("bin/nvcc", "bin/ptxas", "bin/cudafe++", "bin/fatbinary", "nvvm/bin/cicc")
"""Without which a toolkit compiles nothing."""
_PATTERNS = (
    "usr/local/cuda",
    "usr/local/cuda-*",
    "opt/cuda",
    "opt/nvidia/hpc_sdk/Linux_*/*/cuda/*.*",
)
_RELEASE = re.compile(r"release (\d+)\.(\d+), V([\d.]+)")
_VERSION = re.compile(r"(\d+)\.(\d+)(?:\.\d+)*")


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class InstalledToolkit:
    """A folder with nvcc and the headers of the CUDA runtime."""

    path: Path
    """Behind all links, so that it stays the same when /usr/local/cuda moves on."""
    version: CudaVersion
    full_version: str
    """For example ``12.4.1`` (the release), or ``12.4.131`` where only nvcc tells."""


class _Component(msgspec.Struct, frozen=True):
    version: str


class _VersionFile(msgspec.Struct, frozen=True):
    cuda: _Component


def find_installed_toolkits(
    env: Mapping[str, str], *, root: Path = Path("/")
) -> tuple[InstalledToolkit, ...]:
    """Return the toolkits of this machine, the ones that ``env`` names first."""
    found: dict[Path, InstalledToolkit] = {}
    for path in map(Path.resolve, _places(env, root)):
        toolkit = read_toolkit(path, env) if path not in found and is_toolkit(path) else None
        if toolkit is not None:
            found[path] = toolkit
    return tuple(found.values())


def is_toolkit(path: Path) -> bool:
    """Say whether nvcc and the runtime's headers are there; images "for running" lack both."""
    headers = (path / "include", *path.glob("targets/*/include"))
    return (path / "bin/nvcc").is_file() and any(
        (folder / "cuda_runtime.h").is_file() for folder in headers
    )


def read_toolkit(path: Path, env: Mapping[str, str]) -> InstalledToolkit | None:
    """Return the toolkit in a folder with the version that it tells, if it tells one."""
    full_version = _told_by_file(path) or _told_by_nvcc(path, env)
    match = _VERSION.fullmatch(full_version)
    if match is None:
        return None
    version = CudaVersion(int(match[1]), int(match[2]))
    return InstalledToolkit(path=path, version=version, full_version=full_version)


def _places(env: Mapping[str, str], root: Path) -> Iterator[Path]:
    yield from (Path(env[name]) for name in TOOLKIT_VARIABLES if env.get(name))
    nvcc = shutil.which("nvcc", path=env.get("PATH", ""))
    if nvcc is not None:
        # a distribution links /usr/bin/nvcc to the toolkit, or splits the toolkit over /usr
        yield Path(nvcc).resolve().parent.parent
        yield Path(nvcc).parent.parent
    for pattern in _PATTERNS:
        yield from sorted(root.glob(pattern))


def _told_by_file(path: Path) -> str:
    try:
        content = (path / "version.json").read_bytes()
        return msgspec.json.decode(content, type=_VersionFile).cuda.version
    except (OSError, *UNREADABLE):
        return ""


def _told_by_nvcc(path: Path, env: Mapping[str, str]) -> str:
    try:
        output = run([path / "bin/nvcc", "--version"], env=env).output
    except (MachineError, ProcessError, OSError) as error:
        logger.debug("%s: %s", path, error)
        return ""
    match = _RELEASE.search(output)
    return match[3] if match else ""
