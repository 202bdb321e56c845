"""The C++ compiler that nvcc and extensions are compiled with."""

from __future__ import annotations

import dataclasses
import os
import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from wheelyard.errors import MachineError, ProcessError
from wheelyard.run import run

if TYPE_CHECKING:
    from collections.abc import Mapping

_NAMES = ("g++", "c++")
_LAUNCHERS = frozenset({"ccache", "sccache", "distcc", "icecc"})
_INSTALL = "Install one, for example apt-get install g++ / dnf install gcc-c++."
_CLANG = re.compile(r"clang version (\d+)\.(\d+)\.(\d+)")
_GCC = re.compile(r"^(\d+)(?:\.(\d+))?(?:\.(\d+))?$", re.MULTILINE)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Compiler:
    """A C++ compiler that was asked what it is."""

    path: Path
    """As it was found, for example ``/usr/bin/g++``."""
    real_path: Path
    """Behind all links, for example ``/usr/bin/x86_64-linux-gnu-g++-12``."""
    name: Literal["gcc", "clang"]
    version: tuple[int, int, int]
    target: str
    """For example ``x86_64-linux-gnu``."""

    @property
    def major(self) -> int:
        return self.version[0]

    @property
    def machine(self) -> str:
        """The machine it compiles for, for example ``x86_64``."""
        return self.target.partition("-")[0]

    def __str__(self) -> str:
        return f"{self.name} {'.'.join(map(str, self.version))}"


def find_gxx(env: Mapping[str, str]) -> Compiler:
    """Return the compiler that ``CXX`` names, or the first g++ or c++ on PATH."""
    asked = _named_by_cxx(env)
    names = (asked,) if asked else _NAMES
    for name in names:
        path = _find(name, env)
        if path is not None:
            return _ask(path, env)
    where = f"looked for {', '.join(names)} on PATH {env.get('PATH', '')!r}"
    remedy = "Correct CXX, or unset it." if asked else _INSTALL
    msg = f"No C++ compiler: {where}{' as CXX says' if asked else ''}. {remedy}"
    raise MachineError(msg)


def _named_by_cxx(env: Mapping[str, str]) -> str:
    """Return the compiler in ``CXX``, without a launcher in front and without options."""
    words = env.get("CXX", "").split()
    return next((word for word in words if Path(word).name not in _LAUNCHERS), "")


def _find(name: str, env: Mapping[str, str]) -> Path | None:
    """Find a program, passing over links to a compiler cache that bear the compiler's name."""
    if "/" in name:
        return Path(name).absolute() if os.access(name, os.X_OK) else None
    for folder in env.get("PATH", "").split(os.pathsep):
        found = shutil.which(name, path=folder) if folder else None
        if found is not None and Path(found).resolve().name not in _LAUNCHERS:
            return Path(found)
    return None


def _ask(path: Path, env: Mapping[str, str]) -> Compiler:
    banner = _answer(path, "--version", env=env)
    version = ""
    if _CLANG.search(banner) is None:
        version = _answer(path, "-dumpfullversion", "-dumpversion", env=env)
    return read_compiler(
        path,
        real_path=path.resolve(),
        banner=banner,
        version=version,
        target=_answer(path, "-dumpmachine", env=env).strip(),
    )


def read_compiler(
    path: Path, *, real_path: Path, banner: str, version: str, target: str
) -> Compiler:
    """Return the compiler that answered so to ``--version``, ``-dumpversion`` and its like."""
    clang = _CLANG.search(banner)
    found = clang or _GCC.search(version)
    if found is None or not (clang or "Free Software Foundation" in banner):
        first_line = banner.partition("\n")[0]
        msg = f"{str(path)!r} is neither gcc nor clang: it calls itself {first_line!r}. {_INSTALL}"
        raise MachineError(msg)
    return Compiler(
        path=path,
        real_path=real_path,
        name="clang" if clang else "gcc",
        version=(int(found[1]), int(found[2] or 0), int(found[3] or 0)),
        target=target,
    )


def _answer(path: Path, *options: str, env: Mapping[str, str]) -> str:
    try:
        return run([path, *options], env={**env, "LC_ALL": "C"}).output
    except (ProcessError, OSError) as error:
        msg = f"The C++ compiler {str(path)!r} does not answer {options[0]}: {error}. {_INSTALL}"
        raise MachineError(msg) from error
