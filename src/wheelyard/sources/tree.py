"""A source tree on disk: which files it has, its settled form, its digest."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import stat
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING

from wheelyard.errors import IntegrityError
from wheelyard.files import file_sha256

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

SOURCE_TIME = 315_532_800
"""The modification time of every source file: 1980-01-01, the first that a zip archive knows."""

# A tree that knows its repository builds differently (flash-attn updates submodules), and what
# an earlier build left behind must not get into a later one.
_LEFTOVERS = (
    ".git",
    ".mypy_cache",
    ".ninja_deps",
    ".ninja_log",
    ".pytest_cache",
    ".ruff_cache",
    "*.cpython-*.so",
    "*.egg-info",
    "*.o",
    "*.pyc",
    "__pycache__",
)
_TOP_LEFTOVERS = ("build", "dist")


def tree_files(tree: Path) -> Iterator[Path]:
    """Yield the relative path of every file and link, in no order."""
    for folder, _, names in _walk(tree):
        for name in names:
            yield (folder / name).relative_to(tree)


def tree_digest(tree: Path, files: Iterable[Path] | None = None) -> str:
    """Return ``sha256:...`` over the sorted paths, modes and bytes of all files and links."""
    digest = hashlib.sha256()
    for file in sorted(tree_files(tree) if files is None else files, key=os.fsencode):
        mode, content = _describe(tree / file)
        digest.update(b"%s %s %s\0" % (mode.encode(), content.encode(), os.fsencode(file)))
    return f"sha256:{digest.hexdigest()}"


def settle_tree(tree: Path) -> None:
    """Give every entry its constant mode and time; refuse devices and links out of the tree."""
    for folder, _, names in _walk(tree):
        for name in names:
            path = folder / name
            mode, _ = _describe(path)
            if mode == "120000":
                _check_link(path, tree)
            else:
                path.chmod(0o755 if mode == "100755" else 0o644)
            os.utime(path, (SOURCE_TIME, SOURCE_TIME), follow_symlinks=False)
        folder.chmod(0o755)
        os.utime(folder, (SOURCE_TIME, SOURCE_TIME))


def folder_files(folder: Path) -> tuple[Path, ...]:
    """Return the files of a project's folder that belong to its source, relative to it."""
    found = (file for file in tree_files(folder) if not _is_leftover(file))
    return tuple(sorted(found, key=os.fsencode))


def copy_folder(folder: Path, tree: Path) -> None:
    """Copy a project's own files into a new ``tree``."""
    tree.mkdir(parents=True)
    for file in folder_files(folder):
        (tree / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(folder / file, tree / file, follow_symlinks=False)
    settle_tree(tree)


def _is_leftover(file: Path) -> bool:
    if file.parts[0] in _TOP_LEFTOVERS and len(file.parts) > 1:
        return True
    return any(fnmatchcase(part, pattern) for part in file.parts for pattern in _LEFTOVERS)


def _walk(tree: Path) -> Iterator[tuple[Path, list[str], list[str]]]:
    """Walk from the leaves up, links to folders counting as files, never through a link."""
    try:
        for folder, folders, names in os.walk(tree, topdown=False, onerror=_raise):
            links = [name for name in folders if Path(folder, name).is_symlink()]
            real = [name for name in folders if name not in links]
            yield Path(folder), real, [*names, *links]
    except RecursionError:
        raise _too_deep(tree) from None


def _raise(error: OSError) -> None:
    if error.errno == errno.ENAMETOOLONG:
        raise _too_deep(Path(os.fspath(error.filename)[:200])) from None
    raise error


def _too_deep(path: Path) -> IntegrityError:
    msg = f"{path} has folders in folders without end. A source tree must not be so deep."
    return IntegrityError(msg)


def _describe(path: Path) -> tuple[str, str]:
    """Return git's mode of a file or link, and the digest of what is in it."""
    mode = path.lstat().st_mode
    if stat.S_ISLNK(mode):
        return "120000", hashlib.sha256(os.fsencode(path.readlink())).hexdigest()
    if stat.S_ISREG(mode):
        return "100755" if mode & stat.S_IXUSR else "100644", file_sha256(path)
    msg = f"{path} is neither file, folder nor link. A source tree must not have such an entry."
    raise IntegrityError(msg)


def _check_link(path: Path, tree: Path) -> None:
    target = path.readlink()
    inside = _resolve(path).is_relative_to(tree.resolve())
    if target.is_absolute() or not inside:
        msg = f"The link {path} leads out of its source tree, to {str(target)!r}."
        raise IntegrityError(msg)


def _resolve(path: Path) -> Path:
    try:
        # Path.resolve raises another error for a circle, or none, from version to version
        return Path(os.path.realpath(path, strict=True))
    except OSError as error:
        if error.errno in {errno.ELOOP, errno.ENAMETOOLONG}:
            msg = f"The link {path} leads into a circle of links. A source tree must not have one."
            raise IntegrityError(msg) from None
        return Path(os.path.realpath(path))
