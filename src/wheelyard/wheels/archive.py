"""Read a wheel without trusting it: nothing outside its folder, nothing twice, no links."""

from __future__ import annotations

import contextlib
import dataclasses
import re
import stat
import struct
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
_BROKEN: Final = (
    EOFError,
    NotImplementedError,  # a compression or encryption that the entry's own head names
    OSError,
    RuntimeError,
    ValueError,  # a name that is not what its flag says
    struct.error,
    zipfile.BadZipFile,
    zlib.error,
)
_TEXT_LIMIT: Final = 64 << 20
"""In bytes; a RECORD of half a million files is smaller."""
_TEXTS: Final = frozenset({"METADATA", "RECORD", "WHEEL", "entry_points.txt"})
_MOST_MEMBERS: Final = 500_000
_LARGEST: Final = 32 << 30
_ALWAYS_FINE: Final = 1 << 30
_HIGHEST_RATIO: Final = 100
"""Of what a wheel unpacks to and what it is, above the size that needs no excuse; GPU code has 2
to 20, and zlib cannot do more than 1032."""
_LONGEST_NAME: Final = 1024
_LONGEST_PART: Final = 255
"""What file systems take."""
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
        """Return the whole content of a member that is a text of the wheel."""
        size = self.members[name].file_size
        if size > _TEXT_LIMIT:
            msg = (
                f"{name!r} of {self.path.name!r} unpacks to {size} bytes, more than any text of a "
                "wheel. Do not use this wheel."
            )
            raise ArchiveError(msg)
        return b"".join(self.chunks(name))

    def chunks(self, name: str) -> Iterator[bytes]:
        """Yield the content of a member piece by piece."""
        try:
            with self._archive.open(self.members[name]) as stream:
                while chunk := stream.read(_CHUNK):
                    yield chunk
        except _BROKEN as error:
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
    except _BROKEN as error:
        msg = f"{str(path)!r} cannot be read as a wheel: {error}. Build or download it again."
        raise ArchiveError(msg) from error
    with archive:
        _refuse_bomb(path, archive.infolist())
        members, unsafe = _sort_out(archive.infolist())
        yield WheelArchive(path=path, members=members, unsafe=unsafe, _archive=archive)


def _refuse_bomb(path: Path, infos: list[zipfile.ZipInfo]) -> None:
    """Raise where unpacking would take more than any wheel; no member gives more than it says."""
    size, packed = sum(info.file_size for info in infos), path.stat().st_size
    allowed = min(_LARGEST, max(_ALWAYS_FINE, packed * _HIGHEST_RATIO))
    if size > allowed or len(infos) > _MOST_MEMBERS:
        msg = (
            f"{str(path)!r} is not unpacked: {packed} bytes hold {len(infos)} members of {size} "
            f"bytes, more than any wheel (at most {allowed}). Do not use this wheel."
        )
        raise ArchiveError(msg)


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
    if len(name.encode("utf-8", "replace")) > _LONGEST_NAME or any(
        len(part.encode("utf-8", "replace")) > _LONGEST_PART for part in parts
    ):
        return "has a longer name than file systems take"
    if _ODD_CHARACTERS.search(name) or "" in parts or "." in parts:
        return "is not a plain relative path"
    if stat.S_IFMT(mode) and not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        return "is a link" if stat.S_ISLNK(mode) else "is neither file nor folder"
    if parts[-1] in _TEXTS and parts[-2:-1] == [parts[0]] and info.file_size > _TEXT_LIMIT:
        return f"unpacks to {info.file_size} bytes, more than any text of a wheel"
    if info.flag_bits & _ENCRYPTED:
        return "is encrypted"
    if info.compress_type not in _COMPRESSIONS:
        return "is compressed in a way that not every installer knows"
    return ""
