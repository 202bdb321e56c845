"""Compiler wrappers and the compile cache's client, laid out once for the sandbox."""

from __future__ import annotations

import functools
import hashlib
import os
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from wheelyard.errors import MachineError
from wheelyard.folders import make_once
from wheelyard.machine.libc import find_libc
from wheelyard.model.matrix import parse_machine
from wheelyard.run import run
from wheelyard.toolchain.floors import floor_sources, prepare_link_libraries

if TYPE_CHECKING:
    from collections.abc import Mapping

    from wheelyard.machine.compilers import Compiler
    from wheelyard.model.platform import PlatformFloor
    from wheelyard.toolchain.containers import ContainerSandbox

_WRAPPERS = Path(__file__).with_name("wrappers")
_HOST_COMPILERS = ("c++", "cc", "g++", "gcc")


def find_tool(name: str, env: Mapping[str, str]) -> Path:
    """Return a program that was installed with wheelyard, or one on PATH."""
    beside = Path(sys.prefix, "bin", name)
    if beside.is_file():
        return beside
    found = shutil.which(name, path=env.get("PATH", os.defpath))
    if found is None:
        msg = (
            f"There is no {name!r} beside this Python or on PATH. "
            f"Install wheelyard again, or `pip install {name}`."
        )
        raise MachineError(msg)
    return Path(found)


def provide_tools(
    compiler: Compiler,
    *,
    cache: Path,
    env: Mapping[str, str],
    compile_cache: str | None,
    floor: PlatformFloor | None = None,
    container: ContainerSandbox | None = None,
) -> Path:
    """Return the folder with the wrappers (``nvcc``, ``g++`` ...), ``drive-build`` and the cache.

    ``compiler`` makes the program that asks the budget; ``compile_cache`` is its program's name.
    With ``floor`` there is what holds compiles to that platform. They are made in the ``container``
    if that is where they are used.
    """
    sources = {
        **dict.fromkeys(_HOST_COMPILERS, _WRAPPERS / "host-compiler.sh"),
        "nvcc": _WRAPPERS / "nvcc.sh",
        "drive-build": _WRAPPERS / "drive-build.sh",
        "budget/admit.c": _WRAPPERS / "admit.c",
        "budget/fresh": _WRAPPERS / "fresh.sh",
        "probe/choose": _WRAPPERS / "choose.sh",
    }
    if compile_cache is not None:
        # not beside the others, which are on PATH: the wrappers alone call it
        sources[f"cache/{compile_cache}"] = find_tool(compile_cache, env)
    if floor is not None:
        sources |= {f"floor/{name}": path for name, path in floor_sources().items()}
    # what it compiles runs with this C library or a later one
    libc = find_libc() if container is None else container.image.libc
    about = f"{compiler} {compiler.target} {libc} {floor}\n"
    digest = hashlib.sha256(about.encode())
    for name, source in sources.items():
        digest.update(f"{name}\n{source.stat().st_size}\n".encode() + source.read_bytes())
    folder = cache / "tools" / digest.hexdigest()[:16]
    folder.parent.mkdir(parents=True, exist_ok=True)
    fill = functools.partial(
        _fill, sources=sources, compiler=compiler, env=env, floor=floor, container=container
    )
    return make_once(folder, fill, what="the tools")


def _fill(
    folder: Path,
    *,
    sources: Mapping[str, Path],
    compiler: Compiler,
    env: Mapping[str, str],
    floor: PlatformFloor | None,
    container: ContainerSandbox | None,
) -> None:
    for name, source in sources.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, path)
        path.chmod(0o755)
    commands = [_admit_command(folder / "budget", compiler)]
    if floor is not None:
        machine = parse_machine(compiler.machine)
        python = (
            Path(sys.executable) if container is None else container.image.interpreter.executable
        )
        commands.append(
            prepare_link_libraries(
                floor, machine, folder=folder / "floor", compiler=compiler, python=python
            )
        )
    for command in commands:
        if container is None:
            run(command, env={"LC_ALL": "C", "PATH": env.get("PATH", os.defpath)})
        else:
            container.call(command, folder=folder)


def _admit_command(folder: Path, compiler: Compiler) -> list[str | Path]:
    """Return what makes the program that asks the budget."""
    return [compiler.path, "-x", "c", "-O2", folder / "admit.c", "-o", folder / "admit"]
