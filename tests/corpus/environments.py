"""Torch environments made by uv, a few at a time, with stubs of the driver's libraries."""

from __future__ import annotations

import ctypes
import dataclasses
import os
import re
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING, Final

import findpython

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from wheelyard.model.cell import PythonVersion, TorchBuild

GIB: Final = 1 << 30
# What the driver brings, so that a machine without a GPU has it not, and how its functions begin.
DRIVER_LIBRARIES: Final = {
    "libcuda.so.1": re.compile(r"cu[A-Z]\w*"),
    "libnvcuvid.so.1": re.compile(r"cuvid[A-Z]\w*"),
    "libnvidia-encode.so.1": re.compile(r"NvEncodeAPI\w+"),
    "libnvidia-ml.so.1": re.compile(r"nvml[A-Z]\w*"),
}
NO_DEVICE: Final = 100


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class TorchEnvironment:
    """A virtual environment that holds one torch build as the index has it."""

    folder: Path
    site: Path
    python: PythonVersion
    torch: TorchBuild
    uv: Path
    env: Mapping[str, str]

    @property
    def interpreter(self) -> Path:
        return self.folder / "bin" / "python"

    def install(self, *requirements: str, keep: bool = False) -> None:
        """Install; ``keep`` for what the environment of another Python will want too."""
        self._pip("install", *(() if keep else ("--no-cache",)), *requirements)

    def uninstall(self, names: Iterable[str]) -> None:
        self._pip("uninstall", *sorted(names))

    def installed(self) -> dict[str, str]:
        """Return the version of each distribution, by name."""
        lines = self._pip("freeze").splitlines()
        pairs = (re.split(r"==| @ ", line, maxsplit=1) for line in lines)
        return {name: version for name, version in pairs if not name.startswith("-")}

    def _pip(self, verb: str, *arguments: str) -> str:
        command = [str(self.uv), "pip", verb, "--python", str(self.interpreter), *arguments]
        return _output(command, self.env)


class TorchEnvironments:
    """Makes environments, and deletes those unused for longest when there are too many."""

    def __init__(self, folder: Path, *, limit: int, keep_free: int, uv: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._limit = limit
        self._keep_free = keep_free
        self._uv = uv

    def provide(self, torch: TorchBuild, python: PythonVersion) -> TorchEnvironment:
        """Return the environment of a torch build and a Python; make it where it is missing."""
        folder = self._folder / f"{torch}-{python}"
        made = folder / "made"
        if not made.exists():
            self._make_room(torch)
        environment = self._environment(folder, torch, python)
        if not made.exists():
            executable = _find_python(python)
            _output([str(self._uv), "venv", "--python", executable, str(folder)], environment.env)
            environment.install(f"torch=={torch.version}", keep=True)
            self._require_build(environment)
            made.write_text("\n".join(environment.installed()), encoding="utf-8")
        left = environment.installed().keys() - set(made.read_text(encoding="utf-8").split())
        if left:  # by a run that was interrupted
            environment.uninstall(left)
        made.touch()
        return environment

    def _environment(
        self, folder: Path, torch: TorchBuild, python: PythonVersion
    ) -> TorchEnvironment:
        scratch = self._folder / "scratch"
        scratch.mkdir(parents=True, exist_ok=True)
        # A cache for each CUDA, not for ever: links to it keep gigabytes on the disk.
        cache = self._folder / f"{torch.cuda.label}-cache"
        own = {"TMPDIR": str(scratch), "UV_CACHE_DIR": str(cache), "UV_NO_PROGRESS": "1"}
        site = folder / "lib" / f"python{python}" / "site-packages"
        return TorchEnvironment(
            folder=folder,
            site=site,
            python=python,
            torch=torch,
            uv=self._uv,
            env={**os.environ, **own},
        )

    def _make_room(self, torch: TorchBuild) -> None:
        """Delete what interrupted runs left, the caches of other CUDAs and old environments."""
        for folder in self._folder.glob("*/"):
            if not (folder / "made").exists() and folder.name != f"{torch.cuda.label}-cache":
                shutil.rmtree(folder)
        marks = sorted(self._folder.glob("*/made"), key=lambda mark: mark.stat().st_mtime)
        while marks and (len(marks) >= self._limit or self._free() < self._keep_free):
            shutil.rmtree(marks.pop(0).parent)
            for cache in self._folder.glob("*-cache"):
                env = {**os.environ, "UV_CACHE_DIR": str(cache)}
                _output([str(self._uv), "cache", "clean", "torch"], env)
        if self._free() < self._keep_free:
            sys.exit(f"Less than {self._keep_free / GIB:.0f} GiB are free: not enough for torch.")

    def _free(self) -> int:
        return shutil.disk_usage(self._folder).free

    def _require_build(self, environment: TorchEnvironment) -> None:
        """Refuse a torch for another CUDA: an index may have builds of its own."""
        question = "from torch.version import cuda; print(cuda)"
        command = [str(environment.interpreter), "-c", question]
        found = _output(command, environment.env).strip()
        if found != str(environment.torch.cuda):
            sys.exit(f"The index's torch {environment.torch.version} is for CUDA {found}.")


def undefined_symbols(path: Path) -> frozenset[str]:
    """Return what a shared object asks of others, by the tool of the system."""
    command = ["nm", "--dynamic", "--undefined-only", "--format=posix", str(path)]
    lines = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return frozenset(line.split()[0].partition("@")[0] for line in lines.splitlines())


def driver_symbols(paths: Iterable[Path]) -> frozenset[str]:
    """Return what shared objects ask of the driver."""
    asked = {symbol for path in paths for symbol in undefined_symbols(path)}
    patterns = DRIVER_LIBRARIES.values()
    return frozenset(one for one in asked if any(p.fullmatch(one) for p in patterns))


def write_driver_stubs(folder: Path, symbols: Iterable[str]) -> None:
    """Compile a library for each of the driver's that this machine lacks."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    wanted = sorted(symbols)
    for name, pattern in DRIVER_LIBRARIES.items():
        if _is_on_machine(name):
            continue
        functions = [symbol for symbol in wanted if pattern.fullmatch(symbol)]
        lines = [f"int {function}(void) {{ return {NO_DEVICE}; }}" for function in functions]
        command = ["gcc", "-shared", "-fPIC", "-x", "c", "-w", f"-Wl,-soname,{name}"]
        source = "\n".join([*lines, ""])
        subprocess.run([*command, "-o", folder / name, "-"], check=True, input=source, text=True)


def _is_on_machine(name: str) -> bool:
    try:
        ctypes.CDLL(name)
    except OSError:
        return False
    return True


def _find_python(python: PythonVersion) -> str:
    found = findpython.find(python.major, python.minor)
    if found is None:
        sys.exit(f"There is no Python {python} on this machine.")
    return str(found.real_path)


def _output(command: Sequence[str], env: Mapping[str, str]) -> str:
    done = subprocess.run(command, check=False, env=env, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(command)} failed:\n{done.stderr}")
    return done.stdout
