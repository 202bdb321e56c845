"""Unpacking of source archives that nobody has to trust."""

from __future__ import annotations

import bz2
import contextlib
import dataclasses
import errno
import functools
import gzip
import lzma
import shutil
import stat
import struct
import tarfile
import zipfile
import zlib
from pathlib import Path, PurePosixPath
from typing import IO, TYPE_CHECKING, Any, Literal, cast

from wheelyard.errors import IntegrityError
from wheelyard.sources.tree import settle_tree

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from contextlib import AbstractContextManager

# Since Python 3.11.4; the checks below do not depend on it.
_data_filter = getattr(tarfile, "data_filter", None)
_BROKEN = (
    ArithmeticError,
    EOFError,
    LookupError,
    OSError,  # what gzip and bz2 raise
    RuntimeError,  # a zip entry that is encrypted, headers that follow each other without end
    ValueError,  # a number or a name that is none
    lzma.LZMAError,
    struct.error,
    tarfile.TarError,
    zipfile.BadZipFile,
    zlib.error,
)


_DECODERS: tuple[tuple[bytes, Callable[..., Any]], ...] = (
    (b"\x1f\x8b", gzip.open),
    (b"BZh", bz2.open),
    (b"\xfd7zXZ\x00", lzma.open),
    (b"\x5d\x00\x00", lzma.open),
)
_LARGEST_HEADER = 1 << 20
"""In bytes; what tar keeps of an entry beside its content, all of which is read into memory."""
_LONGEST_NAME = 2048
_LONGEST_PART = 255
_ARCHIVES_FAULT = frozenset({None, errno.EINVAL})
"""Errors of reading that come from an offset that is none."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """How much an archive may hold; far above any real source, far below a full disk."""

    entries: int = 200_000
    size: int = 4 << 30
    """In bytes, unpacked."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class _Entry:
    name: str
    kind: Literal["file", "folder", "link"]
    open: Callable[[], IO[bytes]]
    size: int = 0
    executable: bool = False
    target: str = ""


def unpack(
    archive: Path, folder: Path, *, strip_top: bool = True, limits: Limits | None = None
) -> None:
    """Unpack a tar (plain, gz, bz2, xz) or zip archive into an empty or new ``folder``.

    ``strip_top`` leaves out the one top folder that every source distribution has. Whatever is
    not a plain file, folder or inner link, lies elsewhere, or comes twice is refused.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.iterdir()):
        msg = f"{folder} is not empty; {archive.name} is only unpacked into an empty folder."
        raise IntegrityError(msg)
    if zipfile.is_zipfile(archive):
        _unpack_zip(archive, folder, strip_top=strip_top, limits=limits or Limits())
    else:
        _unpack_tar(archive, folder, strip_top=strip_top, limits=limits or Limits())
    settle_tree(folder)


def _unpack_tar(archive: Path, folder: Path, *, strip_top: bool, limits: Limits) -> None:
    with (
        _whole(archive),
        _decoder(archive)(archive) as stream,
        tarfile.open(fileobj=cast("IO[bytes]", _Guarded(stream)), mode="r:") as tar,
    ):
        entries = _tar_entries(tar, archive, folder)
        _write(entries, archive, folder, strip_top=strip_top, limits=limits)


def _decoder(archive: Path) -> Callable[[Path], AbstractContextManager[IO[bytes]]]:
    with archive.open("rb") as stream:
        begin = stream.read(8)
    return next((opened for magic, opened in _DECODERS if begin.startswith(magic)), _open_plain)


def _open_plain(archive: Path) -> IO[bytes]:
    return archive.open("rb")


class _Guarded:
    """A tar's bytes; a header that claims to be as large as a bomb is not read into memory."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self.seek, self.tell, self.close = stream.seek, stream.tell, stream.close

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= _LARGEST_HEADER:
            msg = f"a header of {size} bytes"
            raise tarfile.ReadError(msg)
        return self._stream.read(size)


def _unpack_zip(archive: Path, folder: Path, *, strip_top: bool, limits: Limits) -> None:
    with _whole(archive), zipfile.ZipFile(archive) as zipped:
        entries = _zip_entries(zipped, archive)
        _write(entries, archive, folder, strip_top=strip_top, limits=limits)


@contextlib.contextmanager
def _whole(archive: Path) -> Iterator[None]:
    """Say of a decoder's error that the archive is broken; the disk's errors pass through."""
    try:
        yield
    except _BROKEN as error:
        if isinstance(error, OSError) and error.errno not in _ARCHIVES_FAULT:
            raise
        reason = str(error) or type(error).__name__
        msg = f"{archive} is not a whole archive ({reason}). Look at what the recipe pins."
        raise IntegrityError(msg) from error


def _tar_entries(tar: tarfile.TarFile, archive: Path, folder: Path) -> Iterator[_Entry]:
    for member in tar:
        if not (member.isreg() or member.isdir() or member.issym() or member.islnk()):
            raise _refused(archive, member.name, "is neither file, folder nor link")
        if _data_filter is not None and not member.name.startswith("/"):
            try:
                _data_filter(member, str(folder))
            except tarfile.FilterError as error:
                raise _refused(archive, member.name, f"is refused ({error})") from error
        kind: Literal["file", "folder", "link"] = "file"
        if member.isdir():
            kind = "folder"
        elif member.issym():
            kind = "link"
        yield _Entry(
            name=member.name,
            kind=kind,
            open=functools.partial(_open_tar_member, tar, member, archive),
            size=_tar_size(tar, member, archive),
            executable=bool(member.mode & stat.S_IXUSR),
            target=member.linkname if member.issym() else "",
        )


def _tar_size(tar: tarfile.TarFile, member: tarfile.TarInfo, archive: Path) -> int:
    """Return the bytes that the entry takes; a hard link is unpacked as a copy."""
    if not member.islnk():
        return member.size
    try:
        return tar.getmember(member.linkname).size
    except KeyError:
        raise _refused(archive, member.name, f"links to {member.linkname!r}, not there") from None


def _open_tar_member(tar: tarfile.TarFile, member: tarfile.TarInfo, archive: Path) -> IO[bytes]:
    stream = tar.extractfile(member)
    if stream is None:
        raise _refused(archive, member.name, "links to what is no file")
    return stream


def _zip_entries(zipped: zipfile.ZipFile, archive: Path) -> Iterator[_Entry]:
    for info in zipped.infolist():
        mode = info.external_attr >> 16
        if stat.S_IFMT(mode) not in {0, stat.S_IFREG, stat.S_IFDIR, stat.S_IFLNK}:
            raise _refused(archive, info.filename, "is neither file, folder nor link")
        kind: Literal["file", "folder", "link"] = "file"
        target = ""
        if info.is_dir():
            kind = "folder"
        elif stat.S_ISLNK(mode):
            kind, target = "link", _read_target(zipped, info, archive)
        yield _Entry(
            name=info.filename,
            kind=kind,
            open=functools.partial(zipped.open, info),
            size=info.file_size,
            executable=bool(mode & stat.S_IXUSR),
            target=target,
        )


def _read_target(zipped: zipfile.ZipFile, info: zipfile.ZipInfo, archive: Path) -> str:
    if info.file_size > _LONGEST_NAME:
        raise _refused(archive, info.filename, "links to what can be no path")
    return zipped.read(info).decode("utf-8", "surrogateescape")


def _write(
    entries: Iterable[_Entry], archive: Path, folder: Path, *, strip_top: bool, limits: Limits
) -> None:
    """Write files and folders as they come, and the links when nothing is written any more."""
    seen: set[PurePosixPath] = set()
    links: dict[PurePosixPath, str] = {}
    tops: set[str] = set()
    size = 0
    for number, entry in enumerate(entries, start=1):
        size += entry.size
        if number > limits.entries or size > limits.size:
            most = f"{limits.entries} entries, {limits.size} bytes"
            raise _refused(archive, entry.name, f"is one too many (the limit: {most})")
        path = _safe_path(archive, entry.name)
        tops.update(path.parts[:1])
        if strip_top and (len(tops) > 1 or (len(path.parts) == 1 and entry.kind != "folder")):
            raise _refused(archive, entry.name, "lies outside the one top folder of an sdist")
        path = PurePosixPath(*path.parts[1:]) if strip_top else path
        if ".git" in path.parts:  # a tree that knows its repository builds differently
            continue
        if entry.kind == "folder":
            _make_folder(archive, folder / path)
            continue
        if path in seen:
            raise _refused(archive, entry.name, "comes twice")
        seen.add(path)
        if entry.kind == "link":
            links[path] = _safe_target(archive, entry, path)
        else:
            _write_file(archive, entry, folder / path)
    for path, target in links.items():
        _make_folder(archive, (folder / path).parent)
        _make_link(archive, folder / path, target)


def _safe_path(archive: Path, name: str) -> PurePosixPath:
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\0" in name:
        raise _refused(archive, name, "would be written outside the folder")
    length = len(name.encode("utf-8", "replace"))
    longest = max((len(part.encode("utf-8", "replace")) for part in path.parts), default=0)
    if length > _LONGEST_NAME or longest > _LONGEST_PART:
        raise _refused(archive, f"{name[:80]}...", "has a longer name than file systems take")
    return path


def _safe_target(archive: Path, entry: _Entry, path: PurePosixPath) -> str:
    """Check the words of a link; where it really leads is checked when the tree is complete."""
    depth = len(path.parts) - 1
    for part in PurePosixPath(entry.target).parts:
        depth += -1 if part == ".." else 1
        if part == "/" or depth < 0:
            raise _refused(archive, entry.name, f"links out of the folder, to {entry.target!r}")
    if not entry.target:
        raise _refused(archive, entry.name, "links to nothing")
    if len(entry.target) > _LONGEST_NAME or "\0" in entry.target:
        raise _refused(archive, entry.name, "links to what can be no path")
    return entry.target


def _write_file(archive: Path, entry: _Entry, path: Path) -> None:
    _make_folder(archive, path.parent)
    if path.is_dir():
        raise _refused(archive, entry.name, "is a file and a folder")
    with entry.open() as stream, path.open("xb") as file:
        shutil.copyfileobj(stream, file, 1 << 18)
    path.chmod(0o755 if entry.executable else 0o644)


def _make_folder(archive: Path, path: Path) -> None:
    try:
        path.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise _refused(archive, path.name, "is a file and a folder") from None


def _make_link(archive: Path, path: Path, target: str) -> None:
    try:
        path.symlink_to(target)
    except FileExistsError:
        raise _refused(archive, path.name, "is a link and a folder") from None


def _refused(archive: Path, name: str, why: str) -> IntegrityError:
    msg = (
        f"{archive} is not unpacked: its entry {name!r} {why}. "
        "Do not build from this archive; tell its project."
    )
    return IntegrityError(msg)
