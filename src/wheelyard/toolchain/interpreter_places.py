"""The places where people keep Python interpreters."""

from __future__ import annotations

import logging
import os
import re
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

from findpython.providers.asdf import AsdfProvider
from findpython.providers.pyenv import PyenvProvider
from findpython.providers.rye import RyeProvider
from findpython.providers.uv import UvProvider
from findpython.utils import path_is_python

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from findpython.providers.base import BaseProvider

logger = logging.getLogger(__name__)

PYTHONS_VARIABLE = "WHEELYARD_PYTHONS"
_CONDA_ROOTS = ("miniforge3", "mambaforge", "miniconda3", "anaconda3", "micromamba")


def list_interpreters(
    env: Mapping[str, str], *, running: Path, root: Path = Path("/")
) -> tuple[Path, ...]:
    """Return every file that looks like an interpreter, once, the preferred ones first.

    Nothing is started. ``running`` is the interpreter that runs wheelyard.
    """
    home = Path(env["HOME"]) if env.get("HOME") else root
    listed = (running, *_installed(env, home=home, root=root))
    programs = [path.resolve() for path in listed if not _is_script(path)]
    named = [path.resolve() for path in _named(env)]
    # conda's Pythons link extensions with the linker and the libraries of their environment
    return tuple(dict.fromkeys((*named, *sorted(programs, key=_is_of_conda))))


def _named(env: Mapping[str, str]) -> Iterator[Path]:
    """Yield what ``WHEELYARD_PYTHONS`` names: executables, and those in its folders."""
    for entry in map(Path, _split(env.get(PYTHONS_VARIABLE, ""))):
        if entry.is_dir():
            yield from _in_folders((entry, entry / "bin", *_bins(entry)))
        else:
            yield entry


def _installed(env: Mapping[str, str], *, home: Path, root: Path) -> Iterator[Path]:
    data = _data_folder(env, home)
    yield from _in_folders(map(Path, _split(env.get("PATH", ""))))
    for provider in (
        UvProvider(_at(env, "UV_PYTHON_INSTALL_DIR", data / "uv/python")),
        PyenvProvider(_at(env, "PYENV_ROOT", home / ".pyenv")),
        AsdfProvider(_at(env, "MISE_DATA_DIR", data / "mise")),
        AsdfProvider(_at(env, "ASDF_DATA_DIR", home / ".asdf")),
        RyeProvider(_at(env, "RYE_PY_ROOT", home / ".rye/py")),
    ):
        yield from _newest_first(provider)
    yield from _in_folders(_bins(root / "opt/python"))
    yield from _in_folders((root / "usr/local/bin", root / "usr/bin"))
    yield from _in_folders(prefix / "bin" for prefix in _conda_prefixes(env, home, root))


def _data_folder(env: Mapping[str, str], home: Path) -> Path:
    return _at(env, "XDG_DATA_HOME", home / ".local/share")


def _at(env: Mapping[str, str], variable: str, default: Path) -> Path:
    return Path(env.get(variable) or default)


def _conda_prefixes(env: Mapping[str, str], home: Path, root: Path) -> list[Path]:
    """Return the environments of conda, mamba and micromamba; findpython knows none of them."""
    bases = [home / name for name in _CONDA_ROOTS]
    bases += [_data_folder(env, home) / "mamba", root / "opt/conda", home / ".conda"]
    bases += [Path(env["MAMBA_ROOT_PREFIX"])] if env.get("MAMBA_ROOT_PREFIX") else []
    bases += [Path(env["CONDA_EXE"]).parent.parent] if env.get("CONDA_EXE") else []
    folders = [base / "envs" for base in bases]
    folders += map(Path, _split(env.get("CONDA_ENVS_PATH", "")))
    active = [Path(env["CONDA_PREFIX"])] if env.get("CONDA_PREFIX") else []
    registered = map(Path, _read(home / ".conda/environments.txt").splitlines())
    return [*active, *bases, *chain.from_iterable(map(_children, folders)), *registered]


def _in_folders(folders: Iterable[Path]) -> Iterator[Path]:
    """Yield what lies in the folders; a relative one would depend on where we were started."""
    places = dict.fromkeys(folder.resolve() for folder in folders if folder.is_absolute())
    for folder in places:
        # findpython would look at each of the thousand files of a folder like /usr/bin
        yield from filter(path_is_python, sorted(_matching(folder, "python*")))


def _newest_first(provider: BaseProvider) -> list[Path]:
    """Return what findpython lists, passing over folders that we may not read."""
    try:
        found = [python.executable for python in provider.find_pythons()]
    except OSError as error:
        logger.debug("%s: %s", type(provider).__name__, error)
        return []
    return sorted(found, key=_numbers, reverse=True)


def _numbers(path: Path) -> list[int]:
    return [int(digits) for digits in re.findall(r"\d+", str(path))]


def _bins(folder: Path) -> list[Path]:
    return [child / "bin" for child in _children(folder)]


def _children(folder: Path) -> list[Path]:
    return sorted(_matching(folder, "*"), key=_numbers, reverse=True)


def _matching(folder: Path, pattern: str) -> list[Path]:
    try:
        return list(folder.glob(pattern))
    except OSError:
        return []


def _split(text: str) -> Iterable[str]:
    return filter(None, text.split(os.pathsep))


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError:
        return ""


def _is_script(path: Path) -> bool:
    """Say whether the file is a version manager's shim, whose targets are listed themselves."""
    try:
        with path.open("rb") as stream:
            return stream.read(2) == b"#!"
    except OSError:
        return True


def _is_of_conda(path: Path) -> bool:
    return (path.parent.parent / "conda-meta").is_dir()
