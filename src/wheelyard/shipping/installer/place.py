"""An environment that changes all at once: a copy of it is changed, and the two are exchanged.

The copy is made of hard links, so it takes no space; what installs into it replaces files and
never writes into them. Whoever is killed at any instant leaves the environment as it was, or as
it should become, and a copy beside it that the next run removes.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import os
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from wheelyard.shipping.installer.archive import disk_problem
from wheelyard.shipping.installer.problems import FullDiskError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

_AT_FDCWD = -100
_EXCHANGE = 2
_SMALL = 1 << 20
_SYSTEM = ("/", "/usr", "/usr/local", "/opt")


class Place:
    """Where the environment is or will be, and a scratch folder on the same disk."""

    def __init__(self, path: Path, scratch: Path, lock: int) -> None:
        self.path = path
        self.scratch = scratch
        self.lock = lock
        """The descriptor that children are given, so that they hold the lock too."""

    @property
    def copy(self) -> Path:
        return self.scratch / "environment"

    @property
    def exists(self) -> bool:
        return (self.path / "bin" / "python").exists()


@contextlib.contextmanager
def hold(path: Path) -> Iterator[Place]:
    """Hold an environment alone; remove what a killed run left beside it, and our own."""
    path = Path(os.path.realpath(path))  # a link to it stays a link
    if str(path) in _SYSTEM or (path.exists() and not path.is_dir()):
        msg = f"{path} is no place for an environment. Name a new folder, or one of python -m venv."
        raise UsageError(msg)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = _lock(path.with_name(f".{path.name}.lock"))
    except BlockingIOError:
        msg = f"Another run is installing into {path}. Wait for it to end."
        raise UsageError(msg) from None
    except OSError as error:
        raise disk_problem(error, path) from error
    try:
        _recover(path)
        scratch = Path(tempfile.mkdtemp(dir=str(path.parent), prefix=f".{path.name}.installing-"))
        try:
            yield Place(path, scratch, handle)
        except OSError as error:
            raise disk_problem(error, path) from error
        finally:
            remove(scratch)
            with contextlib.suppress(OSError):
                os.unlink(path.with_name(f".{path.name}.lock"))
    finally:
        os.close(handle)


def _lock(path: Path) -> int:
    """Open and lock a file; one that its holder removed meanwhile does not count."""
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.exists(path) and os.path.samestat(os.stat(path), os.fstat(handle)):
                return handle
        except BaseException:
            os.close(handle)
            raise
        os.close(handle)


def _recover(path: Path) -> None:
    """Put back what a kill between two renames left aside, and remove other leftovers."""
    old = path.with_name(f".{path.name}.before")
    if old.is_dir() and not path.exists():
        old.rename(path)
    remove(old)
    for leftover in path.parent.glob(f".{path.name}.installing-*"):
        remove(leftover)


def remove(folder: Path) -> None:
    """Remove a folder if it is there, whatever its modes."""
    if not folder.is_dir():
        return
    for current, names, _ in os.walk(folder):
        for name in names:
            with contextlib.suppress(OSError):
                if not os.path.islink(os.path.join(current, name)):
                    os.chmod(os.path.join(current, name), 0o700)
    shutil.rmtree(folder, ignore_errors=True)


def copy_environment(place: Place) -> None:
    """Make the copy: the same files under another name, with nothing written twice."""
    shutil.copytree(place.path, place.copy, symlinks=True, copy_function=_link)


def _link(source: str, target: str) -> str:
    try:
        os.link(source, target, follow_symlinks=False)
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise
        shutil.copy2(source, target, follow_symlinks=False)
    return target


def rename_inside(place: Place) -> list[Path]:
    """Let scripts and configuration of the copy name the place where it will be."""
    own, final = os.fsencode(place.copy), os.fsencode(place.path)
    changed = []
    for path in [place.copy / "pyvenv.cfg", *sorted((place.copy / "bin").iterdir())]:
        if not path.is_file() or path.is_symlink() or path.stat().st_size > _SMALL:
            continue
        content = path.read_bytes()
        if own in content:
            replace(path, content.replace(own, final))
            changed.append(path)
    return changed


def replace(path: Path, content: bytes) -> None:
    """Write a file anew; one that is linked elsewhere stays there as it is."""
    new = path.with_name(f".{path.name}.new")
    new.write_bytes(content)
    if path.exists():
        shutil.copymode(path, new)
    os.replace(new, path)


def put_in_place(place: Place) -> None:
    """Let the copy become the environment, at one instant."""
    if not place.path.exists() or not any(place.path.iterdir()):
        os.rename(place.copy, place.path)
        return
    if _exchange(place.copy, place.path):
        return
    old = place.path.with_name(f".{place.path.name}.before")
    os.rename(place.path, old)
    os.rename(place.copy, place.path)
    remove(old)


def take_away(place: Place) -> None:
    """Remove the environment, at one instant."""
    os.rename(place.path, place.scratch / "removed")


def _exchange(one: Path, other: Path) -> bool:
    """Exchange two folders atomically; false where kernel or file system cannot."""
    function = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if function is None:
        return False
    function.argtypes = (
        ctypes.c_int,
        ctypes.c_char_p,
        ctypes.c_int,
        ctypes.c_char_p,
        ctypes.c_uint,
    )
    code = function(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _EXCHANGE)
    return bool(code == 0)


def require_space(place: Place, needed: int, free: int | None = None) -> None:
    """Refuse to begin where the disk will not do."""
    have = shutil.disk_usage(place.scratch).free if free is None else free
    if have < needed:
        msg = (
            f"Installing takes about {needed / 1e9:.1f} GB on the disk of {place.path}, which has "
            f"{have / 1e9:.1f} GB free. Nothing was changed. Free some space, or name a folder on "
            "a larger disk with --into."
        )
        raise FullDiskError(msg)
