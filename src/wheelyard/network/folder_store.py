"""Objects as files below a folder, for example on a shared disk."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Final

from wheelyard.files import PART, appearing, disk_errors, file_sha256, replace_file
from wheelyard.locking import held
from wheelyard.network.object_store import (
    PLAIN,
    ObjectHeaders,
    StoredObject,
    changed_source,
    missing_object,
    other_bytes,
    valid_key,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path

_CHUNK: Final = 1 << 20
_LOCK: Final = ".wheelyard.lock"


class FolderStore:
    """A folder as an object store. One may be used by several threads and processes."""

    keys_end_in_slashes = False

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.name = str(folder)

    def alone(self) -> AbstractContextManager[object]:
        return held(self.folder / _LOCK, what=f"publishing into {self.folder}")

    def objects(self, prefix: str = "") -> Iterator[StoredObject]:
        with disk_errors(self.folder):
            found = sorted(
                (path.relative_to(self.folder).as_posix(), path)
                for path in self._beginning(prefix).rglob("*")
                if not path.name.startswith(PART) and path.name != _LOCK and path.is_file()
            )
            for key, path in found:
                if key.startswith(prefix):
                    yield StoredObject(key=key, size=path.stat().st_size)

    def _beginning(self, prefix: str) -> Path:
        """Return the deepest folder that holds every key with that prefix."""
        folder = prefix.rpartition("/")[0]
        return self.folder / valid_key(folder) if folder else self.folder

    def head(self, key: str) -> StoredObject | None:
        path = self._path(key)
        with disk_errors(path):
            if not path.is_file():
                return None
            return StoredObject(key=key, size=path.stat().st_size, sha256=file_sha256(path))

    def read(self, key: str) -> bytes | None:
        path = self._path(key)
        with disk_errors(path):
            return path.read_bytes() if path.is_file() else None

    def get(self, key: str, destination: Path) -> StoredObject:
        path = self._path(key)
        if not path.is_file():
            raise missing_object(key, self.name)
        with disk_errors(destination), path.open("rb") as reader, appearing(destination) as writer:
            digest, size = hashlib.sha256(), 0
            while chunk := reader.read(_CHUNK):
                digest.update(chunk)
                size += writer.write(chunk)
        return StoredObject(key=key, size=size, sha256=digest.hexdigest())

    def put(
        self,
        key: str,
        source: Path,
        *,
        sha256: str,
        headers: ObjectHeaders = PLAIN,  # noqa: ARG002 - files have none
        replace: bool = False,
    ) -> bool:
        path = self._path(key)
        known = self.head(key)
        if known is not None and known.sha256 == sha256:
            return False
        if known is not None and not replace:
            raise other_bytes(str(path), there=known.sha256, here=sha256)
        with disk_errors(path):
            try:
                self._copy(source, path, sha256=sha256, replace=replace)
            except FileExistsError:  # somebody else put it meanwhile
                return self.put(key, source, sha256=sha256, replace=replace)
        return True

    def _copy(self, source: Path, path: Path, *, sha256: str, replace: bool) -> None:
        digest = hashlib.sha256()
        with source.open("rb") as reader, appearing(path, replace=replace) as writer:
            while chunk := reader.read(_CHUNK):
                digest.update(chunk)
                writer.write(chunk)
            if digest.hexdigest() != sha256:
                raise changed_source(source, sha256=sha256)

    def write(self, key: str, content: bytes, *, headers: ObjectHeaders = PLAIN) -> None:  # noqa: ARG002
        path = self._path(key)
        with disk_errors(path):
            replace_file(path, content)

    def remove(self, key: str) -> None:
        path = self._path(key)
        with disk_errors(path):
            path.unlink(missing_ok=True)

    def _path(self, key: str) -> Path:
        return self.folder / valid_key(key)
