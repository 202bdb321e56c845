"""Torch environments: a locked one that uv makes, or one that is there already."""

from __future__ import annotations

import functools
import json
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

from wheelyard.errors import MachineError, ProcessError
from wheelyard.folders import make_once
from wheelyard.model.cell import CudaVersion, PythonVersion, TorchBuild
from wheelyard.run import run
from wheelyard.toolchain.installing import install_locked
from wheelyard.toolchain.values import TorchEnvironment

if TYPE_CHECKING:
    from collections.abc import Mapping

    from wheelyard.model.cell import Cell
    from wheelyard.model.lock import Lock
    from wheelyard.toolchain.interpreters import Interpreter

SITE = "torch"
"""The folder of distributions; builds see it beside ``links`` under the same name."""

_IMPORTED = ("torch", "torch.utils.cpp_extension")
_VERSION = re.compile(r"^__version__\s*=\s*['\"]([^'\"]+)['\"]", re.MULTILINE)
_CUDA = re.compile(r"^cuda\s*:.*=\s*['\"]([\d.]+)['\"]", re.MULTILINE)
_LIBRARY = re.compile(r"^(?P<name>lib.+\.so)\.\d+(?:\.\d+)*$")
_ASK = """
import json, pathlib, sysconfig, sys
import importlib.util
spec = importlib.util.find_spec("torch")
site = None if spec is None or spec.origin is None else str(pathlib.Path(spec.origin).parent.parent)
free = bool(sysconfig.get_config_var("Py_GIL_DISABLED"))
print(json.dumps({"site": site, "python": list(sys.version_info[:2]), "free": free}))
"""


def provide_torch(
    cell: Cell,
    *,
    lock: Lock,
    interpreter: Interpreter,
    cache: Path,
    env: Mapping[str, str],
    copy: bool,
) -> TorchEnvironment:
    """Return the locked environment of the cell, made on first use.

    ``copy`` makes it without hard links to uv's cache, for builds that could write into it.
    """
    kind = "copied" if copy else "linked"
    name = f"{cell.torch.label}-{cell.python.abi_tag}-{cell.machine}-{lock.sha256[:12]}-{kind}"
    folder = cache / "torch" / name
    folder.parent.mkdir(parents=True, exist_ok=True)
    fill = functools.partial(_fill, lock=lock, interpreter=interpreter, env=env, copy=copy)
    make_once(folder, fill, what=f"torch {cell.torch} for Python {cell.python}")
    return _describe(folder, folder / SITE, origin="locked", digest=lock.sha256, cell=cell)


def _fill(
    folder: Path, *, lock: Lock, interpreter: Interpreter, env: Mapping[str, str], copy: bool
) -> None:
    install_locked(
        lock.text,
        target=folder / SITE,
        interpreter=interpreter,
        env=env,
        scratch=folder,
        options=["--link-mode", "copy"] if copy else [],
    )
    if interpreter.container_libc is None:
        _precompile(folder / SITE, interpreter, env)
    link_libraries(folder / SITE, folder / "links")


def _precompile(site: Path, interpreter: Interpreter, env: Mapping[str, str]) -> None:
    """Give what builds import its bytecode: they see the folder read-only and import it often."""
    script = Path(__file__).with_name("precompile.py")
    command: list[str | Path] = [interpreter.executable, "-I", "-S", script, site, *_IMPORTED]
    run(command, env={"LC_ALL": "C.UTF-8", "PATH": env.get("PATH", os.defpath)})


def link_libraries(site: Path, links: Path) -> None:
    """Give libraries that wheels ship as ``libX.so.N`` only the name that ``-lX`` looks for."""
    links.mkdir()
    for folder in sorted(site.glob("nvidia/*/lib")):
        for path in sorted(folder.iterdir()):
            match = _LIBRARY.match(path.name)
            if match is not None and not (links / match["name"]).is_symlink():
                # relative, so that it holds wherever the two folders are shown side by side
                (links / match["name"]).symlink_to(Path("..", SITE, path.relative_to(site)))


def _describe(
    folder: Path, site: Path, *, origin: str, digest: str, cell: Cell
) -> TorchEnvironment:
    build, text = read_torch_build(site)
    if build.version != cell.torch.version or build.cuda != cell.torch.cuda:
        msg = (
            f"The torch in {site} is {text} with CUDA {build.cuda}, wanted is {cell.torch}. "
            f"Run `wheelyard update torch {cell.torch}` if the lock is wrong, or name the other "
            "build with --torch and --cuda."
        )
        raise MachineError(msg)
    return TorchEnvironment(
        path=folder,
        site=site,
        origin="foreign" if origin == "foreign" else "locked",
        digest=digest,
        torch_version=text,
    )


def read_torch_build(site: Path) -> tuple[TorchBuild, str]:
    """Read what torch says of itself, without importing it."""
    try:
        text = (site / "torch" / "version.py").read_text(encoding="utf-8")
    except FileNotFoundError:
        msg = f"There is no torch in {site}."
        raise MachineError(msg) from None
    version, cuda = _VERSION.search(text), _CUDA.search(text)
    if version is None:
        msg = f"{site}/torch/version.py tells no version."
        raise MachineError(msg)
    if cuda is None:
        msg = f"The torch {version[1]} in {site} was built without CUDA. Install a CUDA build."
        raise MachineError(msg)
    public = version[1].partition("+")[0]
    return TorchBuild.parse(f"{public}+{CudaVersion.parse(cuda[1]).label}"), version[1]


def find_foreign_torch(
    python: Path, *, env: Mapping[str, str]
) -> tuple[PythonVersion, TorchBuild, Path]:
    """Ask an existing interpreter for its version, its torch build and where that lies."""
    try:
        answer = json.loads(run([python, "-I", "-c", _ASK], env=env).output)
    except (ProcessError, ValueError) as error:
        msg = f"{python} did not tell where its torch is: {error}"
        raise MachineError(msg) from None
    if answer["site"] is None:
        msg = f"{python} has no torch. Install it there, or leave out --env."
        raise MachineError(msg)
    major, minor = answer["python"]
    version = PythonVersion(major, minor, free_threaded=answer["free"])
    site = Path(answer["site"])
    return version, read_torch_build(site)[0], site


def adopt_foreign_torch(cell: Cell, *, site: Path, cache: Path) -> TorchEnvironment:
    """Return the environment of a torch that is there already (``--env``)."""
    digest = re.sub(r"[^A-Za-z0-9]+", "-", str(site)).strip("-")
    folder = cache / "foreign" / f"{cell.torch.label}-{cell.python.abi_tag}-{digest[-80:]}"
    folder.parent.mkdir(parents=True, exist_ok=True)
    make_once(folder, functools.partial(_fill_foreign, site=site), what="library links")
    text = read_torch_build(site)[1]
    return _describe(folder, folder / SITE, origin="foreign", digest=text, cell=cell)


def _fill_foreign(folder: Path, *, site: Path) -> None:
    (folder / SITE).symlink_to(site)
    link_libraries(site, folder / "links")
