"""Read a wheel without trusting it: nothing outside its folder, nothing twice, no links."""

from __future__ import annotations

import contextlib
import dataclasses
import re
import stat
import zipfile
import zlib
from typing import TYPE_CHECKING, Final

from wheelyard.errors import CheckError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

_CHUNK: Final = 1 << 20
_ENCRYPTED: Final = 1
_COMPRESSIONS: Final = frozenset({zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED})
_ODD_CHARACTERS = re.compile(r"[\\\x00-\x1f\x7f]|^[A-Za-z]:")


class ArchiveError(CheckError):
    """A file is no archive that can be read, or holds what no installer may unpack."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class UnsafeMember:
    """A member that must not be unpacked."""

    name: str
    why: str

    def __str__(self) -> str:
        return f"{self.name!r} {self.why}"


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class WheelArchive:
    """An open wheel; only members that are safe to unpack can be read from it."""

    path: Path
    members: Mapping[str, zipfile.ZipInfo]
    unsafe: tuple[UnsafeMember, ...]
    _archive: zipfile.ZipFile

    def read(self, name: str) -> bytes:
        """Return the whole content of a member."""
        return b"".join(self.chunks(name))

    def chunks(self, name: str) -> Iterator[bytes]:
        """Yield the content of a member piece by piece."""
        try:
            with self._archive.open(self.members[name]) as stream:
                while chunk := stream.read(_CHUNK):
                    yield chunk
        except (zipfile.BadZipFile, zlib.error, EOFError, OSError) as error:
            msg = (
                f"{name!r} of {self.path.name!r} cannot be unpacked: {error}. "
                "Build or download the wheel again."
            )
            raise ArchiveError(msg) from error

    def refuse_unsafe(self) -> None:
        """Raise when there is anything that no installer may unpack."""
        if self.unsafe:
            members = "; ".join(str(member) for member in self.unsafe)
            msg = f"{self.path.name!r} must not be unpacked: {members}. Do not use this wheel."
            raise ArchiveError(msg)


@contextlib.contextmanager
def open_wheel(path: Path) -> Iterator[WheelArchive]:
    """Open a wheel for reading; what is unsafe in it is told apart, not raised."""
    try:
        archive = zipfile.ZipFile(path)
    except (OSError, ValueError, zipfile.BadZipFile, NotImplementedError) as error:
        msg = f"{str(path)!r} cannot be read as a wheel: {error}. Build or download it again."
        raise ArchiveError(msg) from error
    with archive:
        members, unsafe = _sort_out(archive.infolist())
        yield WheelArchive(path=path, members=members, unsafe=unsafe, _archive=archive)


def _sort_out(
    infos: list[zipfile.ZipInfo],
) -> tuple[Mapping[str, zipfile.ZipInfo], tuple[UnsafeMember, ...]]:
    """Part what may be unpacked from what may not; folders are neither."""
    members: dict[str, zipfile.ZipInfo] = {}
    names: set[str] = set()
    unsafe: list[UnsafeMember] = []
    folders = {parent for info in infos for parent in _parents(info.filename)}
    for info in infos:
        name = info.filename
        why = _why_unsafe(info)
        if not why and name in names:
            why = "is there more than once"
        if not why and name in folders and not info.is_dir():
            why = "is a file and a folder at once"
        names.add(name)
        if why:
            unsafe.append(UnsafeMember(name=info.orig_filename, why=why))
        elif not info.is_dir():
            members[name] = info
    return members, tuple(unsafe)


def _parents(name: str) -> Iterator[str]:
    while name := name.rpartition("/")[0]:
        yield name


def _why_unsafe(info: zipfile.ZipInfo) -> str:
    name = info.orig_filename
    mode = info.external_attr >> 16
    parts = name.removesuffix("/").split("/")
    if name.startswith("/") or ".." in parts:
        return "climbs out of the wheel's folder"
    if _ODD_CHARACTERS.search(name) or "" in parts or "." in parts:
        return "is not a plain relative path"
    if stat.S_IFMT(mode) and not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        return "is a link" if stat.S_ISLNK(mode) else "is neither file nor folder"
    if info.flag_bits & _ENCRYPTED:
        return "is encrypted"
    if info.compress_type not in _COMPRESSIONS:
        return "is compressed in a way that not every installer knows"
    return ""
