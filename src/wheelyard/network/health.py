"""Which servers failed lately: a small file in the cache, forgotten within the hour."""

from __future__ import annotations

import contextlib
import logging
import math
import time
from typing import TYPE_CHECKING, TypeVar

import msgspec

from wheelyard.errors import DiskError
from wheelyard.files import disk_errors, replace_file
from wheelyard.locking import held
from wheelyard.machine.folders import cache_folder
from wheelyard.model.decode import UNREADABLE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path

T = TypeVar("T")
logger = logging.getLogger(__name__)

HALF_LIFE = 600.0
"""Seconds after which a failure counts half."""
_FORGOTTEN = 0.1


class _Entry(msgspec.Struct):
    failures: float
    """What the failures counted at ``time``."""
    time: float


class _Remembered(msgspec.Struct):
    format: int = 1
    servers: dict[str, _Entry] = {}


class Health:
    """Remembers failures by server; one object may be used by several threads and processes."""

    def __init__(self, path: Path | None, *, clock: Callable[[], float] = time.time) -> None:
        self._path = path
        self._clock = clock
        self._here = _load(path)

    def penalty(self, server: str) -> float:
        """Return what the server's failures count now; a fresh one counts 1."""
        entry = self._here.servers.get(server)
        return 0.0 if entry is None else self._decayed(entry)

    def sort(self, ways: Iterable[T], server: Callable[[T], str]) -> tuple[T, ...]:
        """Put what failed lately behind the others, which keep their order."""
        return tuple(sorted(ways, key=lambda way: math.floor(self.penalty(server(way)) + 0.5)))

    def succeeded(self, server: str) -> None:
        if server in self._here.servers:
            self._change(server, 0.0)

    def failed(self, server: str) -> None:
        self._change(server, self.penalty(server) + 1.0)

    def _decayed(self, entry: _Entry) -> float:
        age = max(0.0, self._clock() - entry.time)
        return float(entry.failures * 0.5 ** (age / HALF_LIFE))

    def _change(self, server: str, failures: float) -> None:
        self._here.servers[server] = _Entry(failures=failures, time=self._clock())
        if self._path is None:
            return
        # a cache that cannot be written to must not stop a download that works without it
        with contextlib.suppress(DiskError), disk_errors(self._path):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with held(self._path.with_name(f"{self._path.name}.lock")):
                stored = _load(self._path).servers | {server: self._here.servers[server]}
                kept = {
                    name: entry
                    for name, entry in sorted(stored.items())
                    if self._decayed(entry) > _FORGOTTEN
                }
                replace_file(self._path, msgspec.json.encode(_Remembered(servers=kept)))


def health_file(env: Mapping[str, str]) -> Path:
    """Return where failures are remembered."""
    return cache_folder(env) / "network" / "health.json"


def _load(path: Path | None) -> _Remembered:
    try:
        content = b"" if path is None else path.read_bytes()
        found = msgspec.json.decode(content, type=_Remembered)
    except (OSError, *UNREADABLE):
        return _Remembered()
    return found if found.format == 1 else _Remembered()
