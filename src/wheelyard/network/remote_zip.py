"""Members of a zip archive read while it streams by: the archive itself is never kept.

The central directory is asked for first, by range; then the whole file comes once, from its
beginning to its end, so that its digest is known when the last member was read.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import io
import struct
import zipfile
import zlib
from typing import TYPE_CHECKING, Final

from wheelyard.errors import FetchError, IntegrityError
from wheelyard.files import disk_errors
from wheelyard.network.masking import mask_url

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path
    from typing import BinaryIO

    import requests

    from wheelyard.network.wheel_index import IndexWheel

_CHUNK: Final = 1 << 18
_INFLATED: Final = 1 << 20
"""At most so much is inflated at once: deflate can make a thousand bytes of one."""
_LARGEST: Final = 8 << 30
_TAIL: Final = 1 << 16
_LOCAL_HEADER = struct.Struct("<4sHHHHHIIIHH")
_LOCAL_MAGIC: Final = b"PK\x03\x04"
_PARTIAL_CONTENT: Final = 206


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class ReadMember:
    """A member that was unpacked to a file, which goes away when the next one is asked for."""

    name: str
    path: Path


class RemoteZip:
    """One wheel of an index, whose members can be read once, in the order of the file."""

    def __init__(self, wheel: IndexWheel, *, session: requests.Session, scratch: Path) -> None:
        self._wheel = wheel
        self._session = session
        self._scratch = scratch
        self.sha256: str | None = None
        """Of all bytes; known when the last member was read."""

    def read(self, wanted: Callable[[str], bool]) -> Iterator[ReadMember]:
        """Yield the wanted members; at the end the digest is held against that of the index."""
        with self._open() as (archive, stream):
            for member in self._members(archive, wanted):
                path = self._scratch / "member"
                with disk_errors(path):
                    self._unpack(member, stream, path)
                    try:
                        yield ReadMember(name=member.filename, path=path)
                    finally:
                        path.unlink(missing_ok=True)
            self.sha256 = stream.finish()
        if self._wheel.sha256 not in {None, self.sha256}:
            msg = (
                f"{self._wheel.filename} from {mask_url(self._wheel.url)} is not the file that "
                f"its index lists:\n  expected: sha256 {self._wheel.sha256}\n"
                f"  found:    sha256 {self.sha256}\n"
                "A mirror or proxy in between may have changed it: try another index."
            )
            raise IntegrityError(msg)

    def _members(self, archive: BinaryIO, wanted: Callable[[str], bool]) -> list[zipfile.ZipInfo]:
        try:
            with zipfile.ZipFile(archive) as directory:
                members = [item for item in directory.infolist() if wanted(item.filename)]
        except (zipfile.BadZipFile, NotImplementedError, ValueError, struct.error) as error:
            msg = (
                f"{self._wheel.filename} from {mask_url(self._wheel.url)} is not a zip archive "
                f"({error}). Try again, or another index."
            )
            raise IntegrityError(msg) from error
        return sorted(members, key=lambda item: item.header_offset)

    @contextlib.contextmanager
    def _open(self) -> Iterator[tuple[BinaryIO, _Stream]]:
        """Open the archive twice: to jump about in its directory, and to read it through."""
        path = self._wheel.path
        if path is None:
            url, session = self._wheel.url, self._session
            ranges = _Ranges(session, url)
            if ranges.size is not None:
                with contextlib.closing(_Body(session, url, size=ranges.size)) as body:
                    yield io.BufferedReader(ranges, _TAIL), _Stream(body.chunks(), url)
                return
            # A server that does not know ranges: the whole file is put down for a while.
            path = self._scratch / "archive"
            body = _Body(session, url, size=None)
            with disk_errors(path), path.open("wb") as file, contextlib.closing(body):
                for chunk in body.chunks():
                    file.write(chunk)
        try:
            with disk_errors(path), path.open("rb") as archive, path.open("rb") as file:
                yield archive, _Stream(iter(lambda: file.read(_CHUNK), b""), self._wheel.url)
        finally:
            if self._wheel.path is None:
                path.unlink(missing_ok=True)

    def _unpack(self, member: zipfile.ZipInfo, stream: _Stream, path: Path) -> None:
        stream.skip_to(member.header_offset)
        header = _LOCAL_HEADER.unpack(stream.take(_LOCAL_HEADER.size))
        if header[0] != _LOCAL_MAGIC:
            self._refuse(member, "there is no member where the directory says")
        stream.take(header[9] + header[10])
        if member.flag_bits & 1 or member.compress_type not in {
            zipfile.ZIP_STORED,
            zipfile.ZIP_DEFLATED,
        }:
            self._refuse(member, "it is encrypted, or packed in a way that wheels are not")
        pieces = stream.pieces(member.compress_size)
        if member.compress_type == zipfile.ZIP_DEFLATED:
            pieces = _inflate(pieces)
        if member.file_size > _LARGEST:
            self._refuse(member, f"it claims {member.file_size} bytes, more than any library has")
        checksum = size = 0
        with path.open("wb") as file:
            try:
                for piece in pieces:
                    size += len(piece)
                    if size > member.file_size:
                        break
                    checksum = zlib.crc32(piece, checksum)
                    file.write(piece)
            except zlib.error as error:
                self._refuse(member, str(error))
        if (size, checksum) != (member.file_size, member.CRC):
            self._refuse(member, "its size or checksum is wrong")

    def _refuse(self, member: zipfile.ZipInfo, why: str) -> None:
        msg = (
            f"{member.filename} in {self._wheel.filename} from {mask_url(self._wheel.url)} cannot "
            f"be read: {why}. Try again, or another index."
        )
        raise IntegrityError(msg)


class _Stream:
    """The bytes of a file in order, digested as they go by."""

    def __init__(self, chunks: Iterator[bytes], url: str) -> None:
        self._chunks = chunks
        self._url = url
        self._rest = memoryview(b"")
        self._position = 0
        self._digest = hashlib.sha256()

    def pieces(self, size: int) -> Iterator[bytes | memoryview]:
        """Yield the next ``size`` bytes."""
        while size:
            if not self._rest and not self._advance():
                msg = f"{mask_url(self._url)} ends too early. Try again, or another index."
                raise IntegrityError(msg)
            piece, self._rest = self._rest[:size], self._rest[size:]
            self._position += len(piece)
            size -= len(piece)
            yield piece

    def take(self, size: int) -> bytes:
        return b"".join(self.pieces(size))

    def skip_to(self, position: int) -> None:
        if position < self._position:
            msg = f"{mask_url(self._url)} has members that overlap. Try another index."
            raise IntegrityError(msg)
        for _ in self.pieces(position - self._position):
            pass

    def finish(self) -> str:
        """Read to the end and return the digest of everything."""
        while self._advance():
            pass
        return self._digest.hexdigest()

    def _advance(self) -> bool:
        chunk = next(self._chunks, b"")
        self._digest.update(chunk)
        self._rest = memoryview(chunk)
        return bool(chunk)


class _Body:
    """The body of a URL; what is cut off is asked for again from there."""

    def __init__(self, session: requests.Session, url: str, *, size: int | None) -> None:
        self._session = session
        self._url = url
        self._size = size
        self._response: requests.Response | None = None

    def chunks(self) -> Iterator[bytes]:
        from urllib3.exceptions import HTTPError  # noqa: PLC0415 - most commands need no network

        from wheelyard.network.session import retry_policy  # noqa: PLC0415

        position, retry = 0, retry_policy()
        while True:
            headers = {"Range": f"bytes={position}-"} if position else {}
            self.close()
            self._response = _get(self._session, self._url, headers, partial=bool(position))
            try:
                for chunk in self._response.raw.stream(_CHUNK, decode_content=False):
                    position += len(chunk)
                    yield chunk
            except HTTPError as error:
                if retry.total == 0 or self._size is None:
                    msg = f"{mask_url(self._url)} was cut off ({error}). Run the command again."
                    raise FetchError(msg) from error
                retry = retry.increment(method="GET", url=self._url)
                retry.sleep()
            else:
                return

    def close(self) -> None:
        if self._response is not None:
            self._response.close()


class _Ranges(io.RawIOBase):
    """A file on a server, read wherever it is asked for."""

    def __init__(self, session: requests.Session, url: str) -> None:
        super().__init__()
        self._session = session
        self._url = url
        self._position = 0
        self._cached_from = 0
        self._cached = b""
        self.size: int | None = self._ask_size()
        """Nothing where the server does not know ranges."""

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self.size or 0}
        self._position = max(0, base[whence] + offset)
        return self._position

    def tell(self) -> int:
        return self._position

    def readinto(self, buffer: object) -> int:
        view = memoryview(buffer).cast("B")  # type: ignore[arg-type]
        end = min(self._position + len(view), self.size or 0)
        if end <= self._position:
            return 0
        if self._position < self._cached_from:
            # once for all: what is asked for lies between here and the end
            self._fetch(self._position)
        start = self._position - self._cached_from
        piece = self._cached[start : start + end - self._position]
        view[: len(piece)] = piece
        self._position += len(piece)
        return len(piece)

    def _ask_size(self) -> int | None:
        headers = {"Range": f"bytes=-{_TAIL}"}
        with _get(self._session, self._url, headers) as response:
            if response.status_code != _PARTIAL_CONTENT:
                return None
            self._cached = _content(response, self._url)
            total = response.headers.get("Content-Range", "").rpartition("/")[2]
        if not total.isdigit():
            return None
        self._cached_from = int(total) - len(self._cached)
        return int(total)

    def _fetch(self, start: int) -> None:
        headers = {"Range": f"bytes={start}-{self._cached_from - 1}"}
        with _get(self._session, self._url, headers, partial=True) as response:
            self._cached = _content(response, self._url) + self._cached
        self._cached_from = start


def _inflate(pieces: Iterator[bytes | memoryview]) -> Iterator[bytes]:
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    for piece in pieces:
        rest: bytes | memoryview = piece
        while rest:
            yield inflater.decompress(rest, _INFLATED)
            rest = inflater.unconsumed_tail
    yield inflater.flush()


def _get(
    session: requests.Session, url: str, headers: dict[str, str], *, partial: bool = False
) -> requests.Response:
    from requests import RequestException  # noqa: PLC0415 - most commands need no network

    from wheelyard.network.session import TIMEOUT  # noqa: PLC0415

    # not as decoded content: digest and ranges are those of the file
    headers = {"Accept-Encoding": "identity", **headers}
    try:
        response = session.get(url, headers=headers, stream=True, timeout=TIMEOUT)
    except RequestException as error:
        raise _not_to_be_had(url, error) from error
    try:
        response.raise_for_status()
    except RequestException as error:
        response.close()
        raise _not_to_be_had(url, error) from error
    if partial and response.status_code != _PARTIAL_CONTENT:
        response.close()
        msg = f"{mask_url(url)}: the server did not go on where it was cut off. Run it again."
        raise FetchError(msg)
    return response


def _content(response: requests.Response, url: str) -> bytes:
    from requests import RequestException  # noqa: PLC0415 - most commands need no network

    try:
        return response.content
    except RequestException as error:
        raise _not_to_be_had(url, error) from error


def _not_to_be_had(url: str, error: Exception) -> FetchError:
    reason = mask_url(" ".join(str(error).split())[:300])
    return FetchError(f"{mask_url(url)} cannot be had ({reason}). Try again, or another index.")
