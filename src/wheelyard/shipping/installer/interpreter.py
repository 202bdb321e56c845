"""The interpreter of a bundle: unpacked into the environment that is made of it."""

from __future__ import annotations

import os
import shutil
import subprocess
import tarfile
from pathlib import Path
from typing import Any

from wheelyard.shipping.installer.layout import require_safe
from wheelyard.shipping.installer.machine import clean_environment
from wheelyard.shipping.installer.problems import DamageError, MisfitError

HOME = Path("share", "wheelyard", "python")
"""In an environment whose interpreter came with its bundle."""
MODULES = "import _bz2, _ctypes, _lzma, _socket, _sqlite3, _ssl, pyexpat, venv, zlib"
"""Those that need libraries of the system, if any do."""


def unpack_interpreter(archive: Path, folder: Path) -> None:
    """Unpack files, then the links between them; anything that leads out is refused."""
    links: dict[Path, str] = {}
    try:
        with tarfile.open(archive, "r:") as members:
            for member in members:
                path = folder / require_safe(member.name)
                path.parent.mkdir(parents=True, exist_ok=True)
                stream = members.extractfile(member) if member.isfile() else None
                if stream is not None:
                    with stream, path.open("wb") as target:
                        shutil.copyfileobj(stream, target, 1 << 20)
                    path.chmod(0o755 if member.mode & 0o100 else 0o644)
                elif member.issym():
                    links[path] = _inside(member, folder)
                else:
                    raise _refused(archive, member)
        # now nothing is written through one any more
        for path, leads_to in links.items():
            path.symlink_to(leads_to)
    except tarfile.TarError as error:
        msg = f"The interpreter {archive.name} cannot be unpacked: {error}. Get the bundle again."
        raise DamageError(msg) from None


def require_running(python: Path, brought: dict[str, Any]) -> None:
    """Refuse an interpreter that finds no C library, or not what it takes from the system."""
    command = [str(python), "-I", "-c", MODULES]
    done = subprocess.run(command, capture_output=True, env=clean_environment(), check=False)
    if done.returncode != 0:
        said = done.stderr.decode("utf-8", "replace").strip().splitlines()[-1:]
        borrowed = ", ".join(brought["borrowed"])
        msg = (
            f"The bundle's own Python {brought['version']} does not run on this machine "
            f"({' '.join(said)}). {f'It takes {borrowed} from the system. ' if borrowed else ''}"
            "Name a Python that is here with --python."
        )
        raise MisfitError(msg)


def _inside(member: tarfile.TarInfo, folder: Path) -> str:
    target = os.path.normpath(os.path.join(os.path.dirname(member.name), member.linkname))
    if os.path.isabs(target) or target.startswith(".."):
        raise _refused(folder, member)
    return member.linkname


def _refused(archive: Path, member: tarfile.TarInfo) -> DamageError:
    msg = (
        f"The interpreter {archive.name} holds {member.name!r}, which leads out of it or is no "
        "file. Do not use this bundle; get it again from who made it."
    )
    return DamageError(msg)


def keep_links_inside(environment: Path) -> None:
    """Let links of ``bin`` to the environment's own interpreter hold wherever it lies."""
    for path in sorted((environment / "bin").iterdir()):
        target = os.readlink(path) if path.is_symlink() else ""
        if target.startswith(f"{environment}/"):
            path.unlink()
            path.symlink_to(os.path.relpath(target, path.parent))
