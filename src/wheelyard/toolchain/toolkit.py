"""CUDA toolkits: one that is installed, or one assembled without root from wheels or archives."""

from __future__ import annotations

import functools
import re
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from wheelyard.errors import LockError, MachineError
from wheelyard.folders import make_once
from wheelyard.model.releases import cuda_release
from wheelyard.toolchain.installed_toolkits import PROGRAMS, find_installed_toolkits
from wheelyard.toolchain.installing import install_locked
from wheelyard.toolchain.redistributables import assemble_redistributables
from wheelyard.toolchain.values import Toolkit

if TYPE_CHECKING:
    from collections.abc import Mapping

    from wheelyard.model.cell import CudaVersion
    from wheelyard.model.lock import Lock
    from wheelyard.toolchain.interpreters import Interpreter
    from wheelyard.toolchain.redistributables import Redistributables

Provider = Literal["auto", "installed", "index", "redistributable", "image"]
_LIBRARY = re.compile(r"^(?P<name>lib.+\.so)\.\d+(?:\.\d+)*$")


def provide_toolkit(
    cuda: CudaVersion,
    *,
    provider: Provider,
    prefer_installed: bool,
    lock: Lock | None,
    interpreter: Interpreter,
    cache: Path,
    env: Mapping[str, str],
    uv_env: Mapping[str, str],
    redist: Redistributables | None = None,
) -> Toolkit:
    """Return a toolkit of exactly this CUDA minor version.

    ``auto`` takes the one that CUDA_HOME names, then the index's, then the one of NVIDIA's
    redistributable archives where the farm has their lock, then any installed one; beside a torch
    that is there already (``prefer_installed``) an installed one comes first.
    """
    machine = interpreter.machine
    if provider == "redistributable" and redist is None:
        raise LockError(_no_redist_lock(cuda))
    installed = _installed(cuda, env) if provider in {"auto", "installed"} else None
    if installed is not None and (
        provider == "installed" or prefer_installed or _is_named(installed, env)
    ):
        return installed
    if lock is not None and provider in {"auto", "index"}:
        return _assemble(cuda, lock=lock, interpreter=interpreter, cache=cache, env=uv_env)
    if redist is not None and provider in {"auto", "redistributable"}:
        if redist.archives_for(machine):
            return assemble_redistributables(redist, machine=machine, cache=cache, env=env)
        if provider == "redistributable":
            msg = f"The lock {redist.lock.request.path} has no archives for {machine}."
            raise MachineError(msg)
    if installed is not None:
        return installed
    raise MachineError(_no_toolkit(cuda, env, on_index=lock is not None))


def _is_named(installed: Toolkit, env: Mapping[str, str]) -> bool:
    """Whether the user names it; one that was found bears its name behind all links."""
    named = env.get("CUDA_HOME") or env.get("CUDA_PATH") or ""
    return bool(named) and installed.path == Path(named).resolve()


def _installed(cuda: CudaVersion, env: Mapping[str, str]) -> Toolkit | None:
    for found in find_installed_toolkits(env):
        if found.version == cuda:
            return Toolkit(
                path=found.path, cuda=cuda, provider="installed", digest=found.full_version
            )
    return None


def _no_toolkit(cuda: CudaVersion, env: Mapping[str, str], *, on_index: bool) -> str:
    found = ", ".join(f"{item.version} at {item.path}" for item in find_installed_toolkits(env))
    index = (
        "The index's wheels make a whole one: leave out --toolkit installed."
        if on_index
        else f"The index has no complete toolkit of this CUDA. {_no_redist_lock(cuda)}"
    )
    return (
        f"No CUDA toolkit {cuda} is installed (found: {found or 'none'}). {index} "
        f"Or install CUDA {cuda} and set CUDA_HOME to its folder."
    )


def _no_redist_lock(cuda: CudaVersion) -> str:
    release = cuda_release(cuda).redistributable_release
    name = release or f"{cuda}.N (N: a patch level that NVIDIA published)"
    return (
        f"The farm has no lock of NVIDIA's redistributable archives of CUDA {cuda}: "
        f"make it with `wheelyard update redist {name}`."
    )


def _assemble(
    cuda: CudaVersion,
    *,
    lock: Lock,
    interpreter: Interpreter,
    cache: Path,
    env: Mapping[str, str],
) -> Toolkit:
    folder = cache / "toolkits" / f"{cuda}-{interpreter.machine}-{lock.sha256[:12]}"
    folder.parent.mkdir(parents=True, exist_ok=True)
    fill = functools.partial(_fill, lock=lock, interpreter=interpreter, env=env)
    make_once(folder, fill, what=f"the CUDA {cuda} toolkit")
    return Toolkit(path=_tree(folder), cuda=cuda, provider="index", digest=f"sha256:{lock.sha256}")


def _tree(folder: Path) -> Path:
    """Return the one ``nvidia/cuNN`` tree that the wheels unpack into."""
    match sorted(folder.glob("nvidia/cu[0-9]*")):
        case [tree]:
            return tree
        case []:
            msg = f"The toolkit wheels in {folder} made no nvidia/cuNN tree. Delete the folder."
        case many:
            msg = f"The toolkit wheels in {folder} made several trees: {many}"
    raise MachineError(msg)


def _fill(folder: Path, *, lock: Lock, interpreter: Interpreter, env: Mapping[str, str]) -> None:
    install_locked(
        lock.text,
        target=folder,
        interpreter=interpreter,
        env=env,
        scratch=folder,
    )
    tree = _tree(folder)
    missing = [name for name in PROGRAMS if not (tree / name).is_file()]
    if missing:
        msg = f"The toolkit of {lock.request.path} is not complete: no {', '.join(missing)}."
        raise MachineError(msg)
    (tree / "lib64").symlink_to("lib")
    for path in sorted((tree / "lib").iterdir()):
        match = _LIBRARY.match(path.name)
        if match is not None and not (tree / "lib" / match["name"]).exists():
            (tree / "lib" / match["name"]).symlink_to(path.name)
