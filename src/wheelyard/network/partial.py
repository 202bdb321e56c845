"""The bytes of one file that are here and not verified yet; kept for the next run."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import queue
import threading
from typing import IO, TYPE_CHECKING

import msgspec

from wheelyard.model.decode import UNREADABLE

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_CHUNK = 1 << 20
_WORTH_KEEPING = 1 << 20
"""Bytes; less is fetched again sooner than it is looked after."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Wanted:
    """A file as it is pinned."""

    name: str
    sha256: str
    size: int | None
    """In bytes; ``None`` where only the digest is known."""


class _Source(msgspec.Struct):
    """By what a server's answer is known again."""

    url: str
    """Its digest: the URL itself may hold credentials."""
    validator: str


class _Digest:
    """A sha256 that is computed beside the receiving and writing, in a thread of its own."""

    def __init__(self) -> None:
        self._sha256 = hashlib.sha256()
        self._chunks: queue.Queue[bytes] = queue.Queue(maxsize=8)
        self._started = False

    def update(self, chunk: bytes) -> None:
        if not self._started:
            self._started = True
            threading.Thread(target=self._run, daemon=True).start()
        self._chunks.put(chunk)

    def hexdigest(self) -> str:
        """Return the digest of everything that was put in."""
        self._chunks.join()
        return self._sha256.hexdigest()

    def close(self) -> None:
        """Let the thread end."""
        if self._started:
            self._chunks.put(b"")

    def _run(self) -> None:
        while chunk := self._chunks.get():
            self._sha256.update(chunk)
            self._chunks.task_done()


class Partial:
    """A file that grows, with its digest so far and where its last bytes came from."""

    def __init__(self, path: Path, stream: IO[bytes]) -> None:
        self.path = path
        self._stream = stream
        self._source: _Source | None = _load(path)
        self._digest = _Digest()
        self.size = 0
        self._pieces = 0
        while chunk := stream.read(_CHUNK):
            self._digest.update(chunk)
            self.size += len(chunk)
        self._pieces += self.size > 0  # what an earlier run left

    @property
    def is_pieced(self) -> bool:
        """Whether the bytes came in more than one answer, perhaps of several servers."""
        return self._pieces > 1

    def headers_for(self, url: str) -> dict[str, str]:
        """Return what asks for the rest, on condition that it is the rest of the same."""
        if self.size == 0:
            return {}
        headers = {"Range": f"bytes={self.size}-"}
        validator = self.validator_of(url)
        return {**headers, "If-Range": validator} if validator else headers

    def validator_of(self, url: str) -> str:
        """Return what the server at ``url`` said that the bytes are, if they come from there."""
        if self._source is None or self._source.url != _digest(url):
            return ""
        return self._source.validator

    def begin(self, *, url: str, validator: str) -> None:
        """Note who sends what comes next."""
        self._pieces += 1
        self._source = _Source(url=_digest(url), validator=validator)
        _sidecar(self.path).write_bytes(msgspec.json.encode(self._source))

    def append(self, chunk: bytes) -> None:
        self._digest.update(chunk)
        self._stream.write(chunk)
        self.size += len(chunk)

    def restart(self) -> None:
        """Forget all bytes."""
        if self.size:
            # not otherwise: ext4 writes out at once what was ever truncated to nothing
            self._stream.seek(0)
            self._stream.truncate()
        self._source = None
        self._digest.close()
        self._digest = _Digest()
        self.size = 0
        self._pieces = 0

    def sha256(self) -> str:
        """Return the digest of all bytes so far."""
        return self._digest.hexdigest()

    def flush(self) -> None:
        self._stream.flush()

    def close(self) -> None:
        self._digest.close()


@contextlib.contextmanager
def open_partial(destination: Path) -> Iterator[Partial]:
    """Yield the unverified beginning of ``destination``; the caller holds the lock of its folder.

    It stays for the next run if it is large; who verifies it gives it its name.
    """
    path = destination.with_name(f".partial-{destination.name}")
    path.touch()
    with path.open("r+b") as stream:
        partial = Partial(path, stream)
        try:
            yield partial
        finally:
            partial.close()
            if partial.size < _WORTH_KEEPING or not path.exists():
                path.unlink(missing_ok=True)
                _sidecar(path).unlink(missing_ok=True)


def publish(partial: Partial, destination: Path) -> None:
    """Give verified bytes their name.

    They are not forced onto the disk: a file of the cache is digested again before it is used, and
    what a power cut has eaten is fetched again.
    """
    partial.flush()
    partial.path.chmod(0o644)
    partial.path.replace(destination)


def _load(path: Path) -> _Source | None:
    try:
        return msgspec.json.decode(_sidecar(path).read_bytes(), type=_Source)
    except (OSError, *UNREADABLE):
        return None


def _sidecar(path: Path) -> Path:
    return path.with_name(f"{path.name}.json")


def _digest(url: str) -> str:
    return hashlib.sha256(url.encode()).hexdigest()
