"""Objects under keys, in a folder or in an S3-compatible store: what is synchronised or published.

A key is a relative path with ``/``. An object appears whole or not at all, wherever it lies.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Final, Protocol

from wheelyard.errors import IntegrityError, TargetError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class StoredObject:
    """An object as the store tells of it; a digest that it does not tell is empty."""

    key: str
    size: int
    sha256: str = ""
    md5: str = ""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class ObjectHeaders:
    """How a store hands an object out over HTTP; a folder has nowhere to keep it."""

    content_type: str = "application/octet-stream"
    cache_control: str = ""


PLAIN: Final = ObjectHeaders()


class ObjectStore(Protocol):
    """Where objects lie. Every method raises ``TargetError`` or ``DiskError`` when it cannot."""

    name: str
    """How people name the store, without credentials."""
    keys_end_in_slashes: bool
    """Whether an object can have a folder's URL, as ``simple/`` where no server finds its page."""

    def alone(self) -> AbstractContextManager[object]:
        """Keep others from changing the store as a whole meanwhile, where it has a way to."""

    def objects(self, prefix: str = "") -> Iterator[StoredObject]:
        """Yield what is there under keys that begin so, by key; cheap, so maybe without digests."""

    def head(self, key: str) -> StoredObject | None:
        """Return one object with its sha256, if it is there."""

    def read(self, key: str) -> bytes | None:
        """Return the content of a small object, if it is there."""

    def get(self, key: str, destination: Path) -> StoredObject:
        """Bring an object to a file, verified where the store knows its sha256."""

    def put(
        self,
        key: str,
        source: Path,
        *,
        sha256: str,
        headers: ObjectHeaders = PLAIN,
        replace: bool = False,
    ) -> bool:
        """Add a file, and tell whether it had to be; an object with other bytes is an error,
        unless it may be replaced.
        """

    def write(self, key: str, content: bytes, *, headers: ObjectHeaders = PLAIN) -> None:
        """Put a small object in the place of what is there."""

    def remove(self, key: str) -> None:
        """Remove an object, if it is there."""


def other_bytes(place: str, *, there: str, here: str) -> TargetError:
    """Return the error of two contents under one name, which says both."""
    msg = (
        f"{place} is there with other bytes: sha256 {there}, here {here}. A name is used once: "
        "raise `revision` of its recipe and build it again, or remove the one that is there."
    )
    return TargetError(msg)


def valid_key(key: str, *, slash_ends: bool = False) -> str:
    """Return ``key``, or raise for one that would lead out of a folder.

    ``slash_ends`` allows one slash at the end: the page of a folder, where there are no folders.
    """
    parts = key.split("/")
    if slash_ends and len(parts) > 1 and not parts[-1]:
        parts.pop()
    if "\\" in key or "\0" in key or any(part in {"", ".", ".."} for part in parts):
        msg = f"{key!r} is no key of an object: write a relative path, without `..`."
        raise ValueError(msg)
    return key


def missing_object(key: str, store: str) -> TargetError:
    """Return the error of an object that was named and is not there."""
    return TargetError(f"There is no {key!r} in {store}. List what is there, or put it first.")


def changed_source(source: Path, *, sha256: str) -> IntegrityError:
    """Return the error of a file that is not what is told of it."""
    msg = f"{source} has not the sha256 {sha256} that is known of it. Make it again."
    return IntegrityError(msg)
