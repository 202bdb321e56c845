"""CUDA toolkits that are assembled, without root, from NVIDIA's redistributable archives."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from wheelyard.errors import IntegrityError, MachineError, ProcessError
from wheelyard.files import file_sha256
from wheelyard.folders import make_once, remove_tree
from wheelyard.machine.compilers import find_gxx
from wheelyard.model.redistributables import (
    MANIFEST_LIMIT,
    manifest_filename,
    parse_redist_lock,
    parse_release,
    read_manifest,
    redist_text,
)
from wheelyard.model.source import UrlSource
from wheelyard.network.redistributables import fetch_manifest, redist_url
from wheelyard.progress import QUIET
from wheelyard.run import run
from wheelyard.sources.fetch import fetch_source
from wheelyard.sources.unpack import unpack
from wheelyard.toolchain.installed_toolkits import PROGRAMS, read_toolkit
from wheelyard.toolchain.values import Toolkit

if TYPE_CHECKING:
    from collections.abc import Mapping

    from wheelyard.model.lock import Lock, LockRequest
    from wheelyard.model.redistributables import RedistArchive
    from wheelyard.network.indexes import IndexSettings
    from wheelyard.progress import Transfers

_LICENSES = "licenses"
_TOLD = ("#$ INCLUDES=", "#$ LIBRARIES=")
_FOLDERS = ("-I", "-L")
_NEEDED = (*PROGRAMS, "bin/nvcc.profile", "include/cuda_runtime.h")


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Redistributables:
    """A lock of NVIDIA's archives, and how they are reached."""

    lock: Lock
    settings: IndexSettings
    env: Mapping[str, str] = dataclasses.field(repr=False)
    transfers: Transfers = QUIET
    """Who is told how a download goes."""

    def archives_for(self, machine: str) -> tuple[RedistArchive, ...]:
        """Return what the lock has for a machine: everything, or nothing."""
        return parse_redist_lock(self.lock).archives_for(machine)


def resolve_redist_lock(
    request: LockRequest, *, settings: IndexSettings, env: Mapping[str, str]
) -> str:
    """Return the text of a lock, made from the release's manifest."""

    def read(content: bytes, origin: str) -> str:
        sha256 = hashlib.sha256(content).hexdigest()
        return redist_text(request, read_manifest(content, request, sha256=sha256, origin=origin))

    return fetch_manifest(
        manifest_filename(request.name),
        read=read,
        limit=MANIFEST_LIMIT,
        settings=settings,
        env=env,
    )


def fetch_archive(archive: RedistArchive, redist: Redistributables, *, cache: Path) -> Path:
    """Bring one archive into the cache, its bytes verified, or find it there."""
    source = UrlSource(
        url=redist_url(archive.path),
        filename=archive.filename,
        sha256=archive.sha256,
        size=archive.size,
    )
    fetched = fetch_source(
        source,
        cache=cache,
        farm=cache,
        settings=redist.settings,
        env=redist.env,
        transfers=redist.transfers,
    )
    return fetched.path


def assemble_redistributables(
    redist: Redistributables, *, machine: str, cache: Path, env: Mapping[str, str]
) -> Toolkit:
    """Return the toolkit that the lock's archives make together, made once."""
    lock = redist.lock
    folder = cache / "toolkits" / f"{lock.request.name}-{machine}-redist-{lock.sha256[:12]}"
    folder.parent.mkdir(parents=True, exist_ok=True)
    fill = functools.partial(_fill, redist=redist, machine=machine, cache=cache, env=env)
    make_once(folder, fill, what=f"the CUDA {lock.request.name} toolkit")
    return Toolkit(
        path=folder,
        cuda=parse_release(lock.request.name),
        provider="redistributable",
        digest=f"sha256:{lock.sha256}",
    )


def _fill(
    tree: Path, *, redist: Redistributables, machine: str, cache: Path, env: Mapping[str, str]
) -> None:
    archives = redist.archives_for(machine)
    for archive in archives:
        path = fetch_archive(archive, redist, cache=cache)
        unpacked = tree / f".{archive.component}"
        unpack(path, unpacked)
        _set_licenses_aside(unpacked, archive.component)
        _merge(unpacked, tree, archive=archive)
        remove_tree(unpacked)
    if not (tree / "lib64").exists():
        (tree / "lib64").symlink_to("lib")
    _check_tree(tree, redist=redist, archives=archives, env=env)


def _set_licenses_aside(unpacked: Path, component: str) -> None:
    """Every archive has its own LICENSE at the top, which would be in the others' way."""
    texts = [path for path in unpacked.iterdir() if path.is_file() and not path.is_symlink()]
    (unpacked / _LICENSES / component).mkdir(parents=True, exist_ok=True)
    for path in texts:
        path.rename(unpacked / _LICENSES / component / path.name)


def _merge(source: Path, target: Path, *, archive: RedistArchive) -> None:
    """Move what lies in ``source`` into ``target``; two components may share equal files only."""
    for path in sorted(source.iterdir()):
        place = target / path.name
        if path.is_dir() and not path.is_symlink() and not place.is_symlink():
            if place.exists() and not place.is_dir():
                raise _clash(path, archive)
            place.mkdir(exist_ok=True)
            _merge(path, place, archive=archive)
        elif not place.exists() and not place.is_symlink():
            path.rename(place)
        elif not _same(path, place):
            raise _clash(path, archive)


def _same(path: Path, place: Path) -> bool:
    if path.is_symlink() or place.is_symlink():
        both = path.is_symlink() and place.is_symlink()
        return both and path.readlink() == place.readlink()
    return place.is_file() and path.is_file() and file_sha256(path) == file_sha256(place)


def _clash(path: Path, archive: RedistArchive) -> IntegrityError:
    msg = (
        f"{archive.filename} brings another {path.name} than a component before it. "
        "These archives do not belong to one toolkit: make the lock again."
    )
    return IntegrityError(msg)


def _check_tree(
    tree: Path,
    *,
    redist: Redistributables,
    archives: tuple[RedistArchive, ...],
    env: Mapping[str, str],
) -> None:
    """See that it is a whole toolkit of that release, and that nvcc finds its parts."""
    lock = redist.lock.request.path
    missing = [name for name in _NEEDED if not (tree / name).is_file()]
    if missing:
        msg = f"The toolkit of {lock} is not complete: no {', '.join(missing)}."
        raise MachineError(msg)
    wanted = next(item.version for item in archives if item.component == "cuda_nvcc")
    found = read_toolkit(tree, env)
    if found is None or found.full_version != wanted:
        says = "does not run" if found is None else f"says {found.full_version}"
        msg = f"The nvcc of {lock} {says}, the lock says {wanted}. Make the lock again."
        raise MachineError(msg)
    folders = _searched_folders(tree, env)
    for name in ("cuda_runtime.h", "libcudadevrt.a"):
        if not any((folder / name).is_file() for folder in folders):
            where = ", ".join(str(folder) for folder in folders) or "nowhere"
            msg = f"The nvcc of {lock} does not find {name}; its nvcc.profile makes it look {where}"
            raise MachineError(msg)


def _searched_folders(tree: Path, env: Mapping[str, str]) -> list[Path]:
    """Return where nvcc itself says that it looks for headers and libraries."""
    gxx = find_gxx(env).path
    flags: list[str | Path] = [
        "--dryrun",
        "-ccbin",
        gxx,
        "-x",
        "cu",
        "-c",
        "/dev/null",
        "-o",
        "/dev/null",
    ]
    try:
        output = run([tree / "bin/nvcc", *flags], env=env).output
    except ProcessError as error:
        msg = f"The nvcc in {tree} cannot be used.\n{error.tail.strip()}"
        raise MachineError(msg) from error
    told = (line.partition("=")[2] for line in output.splitlines() if line.startswith(_TOLD))
    return [Path(word[2:]) for line in told for word in shlex.split(line) if word[:2] in _FOLDERS]
