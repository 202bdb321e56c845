"""Write a bundle: the same members give the same bytes, each copied and verified in one pass."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import os
import queue
import shutil
import threading
from pathlib import Path
from typing import IO, TYPE_CHECKING, Self, assert_never

from wheelyard.errors import IntegrityError, ProcessError, UsageError
from wheelyard.files import PART, disk_errors, sync_folder
from wheelyard.run import run
from wheelyard.shipping.installer.layout import (
    DELTA,
    NAMESPACE,
    SUMS,
    digest_of,
    end_of,
    format_sums,
    padding,
    require_safe,
    tar_header,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

_CHUNK = 1 << 22


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Member:
    """A file of the bundle: its bytes, or where they lie."""

    name: str
    source: Path | bytes
    sha256: str
    size: int


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Written:
    """A finished bundle."""

    paths: tuple[Path, ...]
    """One file, or its parts in order."""
    digest: str
    size: int


def text_member(name: str, content: bytes) -> Member:
    """Return a member whose bytes were made here."""
    digest = hashlib.sha256(content).hexdigest()
    return Member(name=require_safe(name), source=content, sha256=digest, size=len(content))


def file_member(name: str, path: Path, *, sha256: str) -> Member:
    """Return a member that is copied from ``path``, where it has to have that digest."""
    size = path.stat().st_size
    return Member(name=require_safe(name), source=path, sha256=sha256, size=size)


def write_bundle(
    members: Sequence[Member],
    path: Path,
    *,
    part_size: int | None = None,
    base: str = "",
    left_out: Collection[str] = (),
) -> Written:
    """Write the archive, or its parts ``path.001`` and on; nothing is there before it is whole.

    With ``base``, the digest of an earlier bundle, members whose sha256 is in ``left_out`` are
    named but not written.
    """
    ordered = sorted(members, key=lambda member: (member.name.startswith("wheels/"), member.name))
    sums = format_sums([(member.name, member.sha256) for member in ordered])
    written = [text_member(SUMS, sums)]
    if base:
        written.append(text_member(DELTA, f"base {base}\n".encode()))
    written += [member for member in ordered if member.sha256 not in left_out]
    with disk_errors(path), _Output(path, part_size) as output:
        for member in written:
            output.write(tar_header(member.name, member.size))
            _copy(member, output)
            output.write(bytes(padding(member.size)))
        output.write(bytes(end_of(output.size)))
        paths = output.finish()
    return Written(paths=paths, digest=digest_of(sums), size=output.size)


class _Output:
    """Files that get their names when everything is written."""

    def __init__(self, path: Path, part_size: int | None) -> None:
        self._path = path
        self._part_size = part_size
        self._streams: list[tuple[Path, IO[bytes]]] = []
        self._left = 0
        self.size = 0

    def __enter__(self) -> Self:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        return self

    def __exit__(self, *_: object) -> None:
        for part, stream in self._streams:
            stream.close()
            part.unlink(missing_ok=True)

    def write(self, chunk: bytes | memoryview) -> None:
        self.size += len(chunk)
        rest = memoryview(chunk)
        while rest:
            if not self._streams or (self._part_size is not None and self._left == 0):
                self._open()
            taken = rest if self._part_size is None else rest[: self._left]
            self._streams[-1][1].write(taken)
            self._left -= len(taken)
            rest = rest[len(taken) :]

    def _open(self) -> None:
        if self._streams:
            self._streams[-1][1].flush()
        number = len(self._streams) + 1
        part = self._path.with_name(f"{PART}{self._path.name}.{number:03}")
        stream = part.open("wb", buffering=0)
        self._streams.append((part, stream))
        self._left = self._part_size or 0

    def finish(self) -> tuple[Path, ...]:
        """Sync, and give every file its name."""
        names: list[Path] = []
        for number, (part, stream) in enumerate(self._streams, start=1):
            os.fsync(stream.fileno())
            name = self._path
            if self._part_size is not None:
                name = self._path.with_name(f"{self._path.name}.{number:03}")
            part.replace(name)
            names.append(name)
        sync_folder(self._path.parent)
        return tuple(names)


def _copy(member: Member, output: _Output) -> None:
    """Copy the bytes of one member; what is digested is what is written."""
    digest = hashlib.sha256()
    size = 0
    with _hashing(digest.update) as hash_chunk:
        for chunk in _chunks(member.source):
            hash_chunk(chunk)
            output.write(chunk)
            size += len(chunk)
    if (digest.hexdigest(), size) != (member.sha256, member.size):
        msg = (
            f"{member.source if isinstance(member.source, Path) else member.name} has sha256 "
            f"{digest.hexdigest()}, pinned is {member.sha256}. Nothing was written. Delete the "
            "file, so that it is fetched again."
        )
        raise IntegrityError(msg)


def _chunks(source: Path | bytes) -> Iterator[bytes]:
    match source:
        case bytes():
            yield source
        case Path():
            with source.open("rb", buffering=0) as stream:
                while chunk := stream.read(_CHUNK):
                    yield chunk
        case _ as never:
            assert_never(never)


@contextlib.contextmanager
def _hashing(update: Callable[[bytes], None]) -> Iterator[Callable[[bytes], None]]:
    """Digest beside the writing, in a thread: both leave the interpreter to the other."""
    chunks: queue.Queue[bytes | None] = queue.Queue(maxsize=4)

    def take() -> None:
        while (chunk := chunks.get()) is not None:
            update(chunk)

    thread = threading.Thread(target=take, daemon=True)
    thread.start()
    try:
        yield chunks.put
    finally:
        chunks.put(None)
        thread.join()


def write_folder(members: Sequence[Member], folder: Path) -> str:
    """Lay a bundle out as a folder, of hard links where that can be; returns its digest."""
    ordered = sorted(members, key=lambda member: (member.name.startswith("wheels/"), member.name))
    sums = format_sums([(member.name, member.sha256) for member in ordered])
    with disk_errors(folder):
        for member in [text_member(SUMS, sums), *ordered]:
            path = folder / member.name
            path.parent.mkdir(parents=True, exist_ok=True)
            if isinstance(member.source, bytes):
                path.write_bytes(member.source)
                continue
            try:
                path.hardlink_to(member.source)
            except OSError:
                shutil.copyfile(member.source, path)
    return digest_of(sums)


def sign_bundle(sums: bytes, *, key: Path, path: Path, env: Mapping[str, str]) -> Path:
    """Sign the list of digests with a key of OpenSSH; returns the signature beside the bundle."""
    target = path.with_name(f"{path.name}.sig")
    listing = path.with_name(f"{PART}{path.name}.sums")
    signature = listing.with_name(f"{listing.name}.sig")
    with disk_errors(path):
        listing.write_bytes(sums)
        try:
            run(["ssh-keygen", "-Y", "sign", "-f", key, "-n", NAMESPACE, listing], env=env)
            signature.replace(target)
        except ProcessError as error:
            msg = f"The bundle could not be signed with {key}: {error.tail.strip()}"
            raise UsageError(msg) from error
        finally:
            listing.unlink()
            signature.unlink(missing_ok=True)
    return target
