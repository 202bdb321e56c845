"""Read a bundle (an archive, its parts, or an unpacked folder) and verify its every byte."""

from __future__ import annotations

import concurrent.futures
import errno
import hashlib
import os
import re
import tarfile
from typing import TYPE_CHECKING, Callable

from wheelyard.shipping.installer.layout import (
    BLOCK,
    DELTA,
    SUMS,
    digest_of,
    end_of,
    padding,
    parse_sums,
    require_safe,
    tar_header,
)
from wheelyard.shipping.installer.problems import DamageError, FullDiskError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CHUNK = 1 << 22
_PART = re.compile(r"(?P<stem>.+)\.(?P<number>\d{3})")
_BASE = re.compile(rb"base ([0-9a-f]{64})\n")
_LARGEST_TEXT = 1 << 28


class Pieces:
    """The bytes of an archive, whether it lies in one file or in parts."""

    def __init__(self, paths: list[Path]) -> None:
        self.paths = paths
        self._handles: list[tuple[int, int, int]] = []
        self.size = 0
        for path in paths:
            handle = os.open(path, os.O_RDONLY)
            size = os.fstat(handle).st_size
            self._handles.append((self.size, size, handle))
            self.size += size

    def read(self, offset: int, size: int) -> bytes:
        """Return up to ``size`` bytes; less where the archive ends."""
        found = []
        for start, length, handle in self._handles:
            if size and start <= offset < start + length:
                chunk = os.pread(handle, min(size, start + length - offset), offset - start)
                found.append(chunk)
                offset += len(chunk)
                size -= len(chunk)
        return found[0] if len(found) == 1 else b"".join(found)

    def name_at(self, offset: int) -> str:
        """Say where a byte lies, for people."""
        for (start, length, _), path in zip(self._handles, self.paths):
            if offset < start + length:
                return f"{path} at byte {offset - start}"
        return f"{self.paths[-1]} at its end"

    def close(self) -> None:
        for _, _, handle in self._handles:
            os.close(handle)


class Slice:
    """Where the bytes of one member lie."""

    def __init__(self, pieces: Pieces, offset: int, size: int) -> None:
        self.pieces = pieces
        self.offset = offset
        self.size = size

    def chunks(self) -> Iterator[bytes]:
        done = 0
        while done < self.size:
            chunk = self.pieces.read(self.offset + done, min(CHUNK, self.size - done))
            if not chunk:
                return
            done += len(chunk)
            yield chunk

    def where(self) -> str:
        return self.pieces.name_at(self.offset)


class Bundle:
    """An opened bundle: its list of digests, and where each member lies."""

    def __init__(self, path: Path, sums: bytes, members: dict[str, Slice], base: str) -> None:
        self.path = path
        self.sums_text = sums
        self.sums = parse_sums(sums)
        self.digest = digest_of(sums)
        self.members = members
        self.base = base
        """Digest of the earlier bundle that a delta was made against; empty for a whole one."""

    @property
    def missing(self) -> list[str]:
        return [name for name in self.sums if name not in self.members]

    def complete(self, earlier: Bundle | None) -> None:
        """Take what a delta leaves out from the bundle that it was made against."""
        if not self.base:
            if self.missing:
                msg = (
                    f"{self.path} lacks {self.missing[0]}, which its {SUMS} names. "
                    "Copy the bundle again."
                )
                raise DamageError(msg)
            return
        if earlier is None:
            msg = (
                f"{self.path} is a delta against the bundle with digest {self.base}. Name that "
                "one too, with --base FILE."
            )
            raise UsageError(msg)
        if earlier.digest != self.base:
            msg = (
                f"{self.path} is a delta against the bundle with digest {self.base}, and "
                f"{earlier.path} has {earlier.digest}. Name the right one with --base."
            )
            raise UsageError(msg)
        by_digest = {sha256: name for name, sha256 in earlier.sums.items()}
        for name in self.missing:
            found = by_digest.get(self.sums[name])
            if found is None or found not in earlier.members:
                msg = f"Neither {self.path} nor {earlier.path} has {name}. Get the whole bundle."
                raise DamageError(msg)
            self.members[name] = earlier.members[found]

    @property
    def size(self) -> int:
        """The bytes of all members."""
        return sum(self.members[name].size for name in self.sums)

    def read(self, name: str) -> bytes:
        """Return a small member, verified."""
        member = self.members.get(name)
        if member is None or member.size > _LARGEST_TEXT:
            msg = f"{self.path} has no usable {name}. Get the bundle again."
            raise DamageError(msg)
        content = b"".join(member.chunks())
        if hashlib.sha256(content).hexdigest() != self.sums[name]:
            raise self._damaged(name)
        return content

    def verify(self, destination: Callable[[str], Path | None]) -> None:
        """Verify every member, and write those to disk that ``destination`` has a path for."""

        def one(name: str) -> None:
            path = destination(name)
            if path is None:
                self._hash(name, None)
            else:
                path.parent.mkdir(parents=True, exist_ok=True)
                with writing(path), path.open("wb") as stream:
                    self._hash(name, stream.fileno())

        largest = sorted(self.sums, key=lambda name: -self.members[name].size)
        with concurrent.futures.ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:
            futures = [pool.submit(one, name) for name in largest]
            try:
                for future in futures:
                    future.result()
            except BaseException:
                for future in futures:
                    future.cancel()
                raise

    def _hash(self, name: str, handle: int | None) -> None:
        digest = hashlib.sha256()
        for chunk in self.members[name].chunks():
            digest.update(chunk)
            if handle is not None:
                write_all(handle, chunk)
        if digest.hexdigest() != self.sums[name]:
            raise self._damaged(name)

    def _damaged(self, name: str) -> DamageError:
        where = self.members[name].where()
        msg = (
            f"{name} is not what was bundled: its sha256 differs ({where}). Nothing was touched. "
            "Copy the bundle again and compare its digest."
        )
        return DamageError(msg)


def write_all(handle: int, chunk: bytes) -> None:
    view = memoryview(chunk)
    while view:
        view = view[os.write(handle, view) :]


class writing:  # noqa: N801 - used as a word of its block
    """Say what to do where the disk refuses."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        if isinstance(error, OSError):
            raise disk_problem(error, self._path) from error


def disk_problem(error: OSError, path: Path) -> FullDiskError:
    """Return what to tell of a disk that refuses."""
    cause = error.strerror or str(error)
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        cause = "the disk is full"
    msg = (
        f"Cannot write {error.filename or path}: {cause}. Nothing was changed. Free some space or "
        "make the folder yours, and run it again."
    )
    return FullDiskError(msg)


def open_bundle(path: Path, earlier: Path | None = None) -> Bundle:
    """Open a bundle and look at its outline; its content is verified later."""
    bundle = _open_one(path)
    before = None if earlier is None else open_bundle(earlier)
    bundle.complete(before)
    return bundle


def _open_one(path: Path) -> Bundle:
    if path.is_dir():
        return _open_folder(path)
    pieces = Pieces(find_parts(path))
    return _read_outline(path, pieces)


def find_parts(path: Path) -> list[Path]:
    """Return the file, or all parts of an archive of which one, or the common name, is given."""
    match = _PART.fullmatch(path.name)
    if path.is_file() and match is None:
        return [path]
    stem = match["stem"] if match else path.name
    found = sorted(path.parent.glob(f"{stem}.[0-9][0-9][0-9]"))
    if not found:
        msg = f"There is no bundle {path}. Name the file, or the first of its parts."
        raise UsageError(msg)
    for number, part in enumerate(found, start=1):
        expected = part.with_name(f"{stem}.{number:03}")
        if part != expected:
            msg = (
                f"{expected} is missing: the bundle has {len(found)} parts here and one between "
                "them is not. Copy it too."
            )
            raise DamageError(msg)
    return found


def _open_folder(path: Path) -> Bundle:
    """Open what was unpacked: every file of SHA256SUMS at its place."""
    try:
        sums = (path / SUMS).read_bytes()
    except OSError as error:
        msg = f"{path} holds no unpacked bundle: it has no {SUMS}. Name the archive itself."
        raise UsageError(msg) from error
    members = {}
    for name in parse_sums(sums):
        file = path / name
        if file.is_file():
            members[name] = Slice(Pieces([file]), 0, file.stat().st_size)
    return Bundle(path, sums, members, "")


def _read_outline(path: Path, pieces: Pieces) -> Bundle:
    name, size, offset = _read_header(pieces, 0)
    if name != SUMS or size > _LARGEST_TEXT:
        raise _no_bundle(path)
    sums = pieces.read(offset, size)
    offset = _skip(pieces, offset, size)
    expected = list(parse_sums(sums))
    members: dict[str, Slice] = {}
    base = ""
    while True:
        if not pieces.read(offset, BLOCK).strip(b"\0"):
            break
        name, size, content = _read_header(pieces, offset)
        if name == DELTA and not members:
            match = _BASE.fullmatch(pieces.read(content, min(size, BLOCK)))
            if match is None:
                raise _damaged(pieces, content)
            base = match[1].decode()
        elif name in expected and name not in members:
            members[name] = Slice(pieces, content, size)
        else:
            msg = f"{path} holds {name!r}, which its {SUMS} does not name. Do not use it."
            raise DamageError(msg)
        offset = _skip(pieces, content, size)
    order = [name for name in expected if name in members]
    if order != list(members):
        raise _damaged(pieces, offset)
    _require_end(pieces, offset)
    return Bundle(path, sums, members, base)


def _read_header(pieces: Pieces, offset: int) -> tuple[str, int, int]:
    """Return name, size and place of a member; a header must be what we would write."""
    try:
        block = pieces.read(offset, BLOCK)
        info = tarfile.TarInfo.frombuf(block, "utf-8", "strict")
        header = block
        if info.type == tarfile.GNUTYPE_LONGNAME and info.size <= RECORD_NAME:
            header = pieces.read(offset, 2 * BLOCK + info.size + padding(info.size))
            long_name = header[BLOCK : BLOCK + info.size].rstrip(b"\0").decode("utf-8")
            info = tarfile.TarInfo.frombuf(header[-BLOCK:], "utf-8", "strict")
            info.name = long_name
    except (tarfile.TarError, UnicodeDecodeError, ValueError):
        raise _damaged(pieces, offset) from None
    require_safe(info.name)
    if header != tar_header(info.name, info.size):
        raise _damaged(pieces, offset)
    return info.name, info.size, offset + len(header)


RECORD_NAME = 4096
"""Longer names than any that a wheel has."""


def _skip(pieces: Pieces, offset: int, size: int) -> int:
    zeros = pieces.read(offset + size, padding(size))
    if zeros.strip(b"\0") or len(zeros) != padding(size):
        raise _damaged(pieces, offset + size)
    return offset + size + padding(size)


def _require_end(pieces: Pieces, offset: int) -> None:
    rest = end_of(offset)
    if pieces.size < offset + rest:
        raise _cut_off(pieces)
    if pieces.size != offset + rest or pieces.read(offset, rest).strip(b"\0"):
        raise _damaged(pieces, offset)


def _cut_off(pieces: Pieces) -> DamageError:
    last = pieces.paths[-1]
    match = _PART.fullmatch(last.name)
    if match:
        following = last.with_name(f"{match['stem']}.{int(match['number']) + 1:03}")
        msg = f"{following} is missing, or {last} was cut off. Copy all parts again."
    else:
        msg = f"{last} was cut off after {pieces.size} bytes. Copy it again."
    return DamageError(msg)


def _damaged(pieces: Pieces, offset: int) -> DamageError:
    if offset + BLOCK > pieces.size:
        return _cut_off(pieces)
    msg = (
        f"The bundle is damaged: {pieces.name_at(offset)}. Nothing was touched. Copy it again and "
        "compare its digest."
    )
    return DamageError(msg)


def _no_bundle(path: Path) -> DamageError:
    msg = f"{path} is no bundle, or was damaged: it does not begin with {SUMS}. Get it again."
    return DamageError(msg)
