"""What is installed in an environment: its Python, its torch, its CUDA runtime wheels."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from wheelyard.errors import MachineError, ProcessError
from wheelyard.run import run
from wheelyard.toolchain.torch_environment import read_torch_build
from wheelyard.wheels.smoke import installed_versions

if TYPE_CHECKING:
    from collections.abc import Mapping

    from packaging.version import Version

    from wheelyard.model.cell import TorchBuild

_ASK = (
    "import json, platform, sys, sysconfig; print(json.dumps([platform.python_version(), "
    "sys.prefix, sysconfig.get_path('platlib'), sysconfig.get_path('purelib')]))"
)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Environment:
    """A Python and the distributions beside it."""

    python: Path
    prefix: Path
    """The folder that it is in."""
    version: str
    """In full, for example ``3.12.1``."""
    sites: tuple[Path, ...]
    installed: Mapping[str, Version]

    def torch(self) -> tuple[TorchBuild, str] | None:
        """Return the torch that is installed, and its version in full; one without CUDA raises."""
        return read_torch_build(self.sites[0]) if "torch" in self.installed else None

    def runtime(self) -> tuple[Version, ...]:
        """Return the versions of the CUDA runtime that are installed as wheels, ascending."""
        found = {
            version
            for name, version in self.installed.items()
            if name == "nvidia-cuda-runtime" or name.startswith("nvidia-cuda-runtime-cu")
        }
        return tuple(sorted(found))


def find_environment(env: Mapping[str, str]) -> Path | None:
    """Return the Python of the active environment, or the one on PATH."""
    for variable in ("VIRTUAL_ENV", "CONDA_PREFIX"):
        python = Path(env.get(variable) or "/nonexistent", "bin", "python")
        if python.exists():
            return python
    found = shutil.which("python3", path=env.get("PATH", ""))
    return None if found is None else Path(found)


def read_environment(python: Path, env: Mapping[str, str]) -> Environment:
    """Ask a Python where its distributions lie, and read which there are."""
    try:
        version, prefix, *folders = json.loads(run([python, "-I", "-c", _ASK], env=env).output)
    except (ProcessError, MachineError, OSError, ValueError) as error:
        msg = f"{python} does not run: {str(error).partition(chr(10))[0]}"
        raise MachineError(msg) from None
    sites = tuple(Path(folder) for folder in dict.fromkeys(folders))
    return Environment(
        python=python,
        prefix=Path(prefix),
        version=version,
        sites=sites,
        installed=installed_versions(sites),
    )
