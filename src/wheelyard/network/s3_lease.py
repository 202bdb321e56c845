"""A lease on an S3-compatible store: one publishing at a time, over any number of machines.

It is an object that is made on condition that there is none, and written again while it is held.
One that was not written for its lifetime, by the store's own clock, was left by a killed process.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import email.utils
import logging
import threading
import time
import uuid
from typing import TYPE_CHECKING, Any, Final

from wheelyard.errors import TargetError
from wheelyard.locking import this_process
from wheelyard.network.s3_errors import (
    MissingError,
    S3Client,
    TakenError,
    UnconditionalError,
    translated,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

logger = logging.getLogger(__name__)

LEASE_NAME: Final = ".wheelyard.lock"
LIFETIME: Final = 60.0
"""Seconds after which a lease that nobody wrote is free; a holder writes it four times as often."""
_PAUSE: Final = 2.0


@contextlib.contextmanager
def lease(
    client: S3Client,
    at: Mapping[str, Any],
    *,
    what: str,
    lifetime: float = LIFETIME,
    sleep: Callable[[float], None] = time.sleep,
) -> Iterator[Lease | None]:
    """Hold the lease that lies at a bucket and key; say ``what`` is waited for.

    Nothing is held where the store knows no conditional writes. ``TargetError`` is raised at the
    end where another took the lease meanwhile, because this process did not come to write it.
    """
    held = Lease(client, at, lifetime=lifetime)
    if not _is_taken(held, what=what, sleep=sleep):
        yield None
        return
    try:
        with held.kept():
            yield held
    finally:
        held.give_back()
    if held.lost:
        msg = (
            f"{what[:1].upper()}{what[1:]} was overtaken: this process did not reach the store for "
            f"{lifetime:.0f} s, and another went on. Run it again: what is there is kept."
        )
        raise TargetError(msg)


def _is_taken(held: Lease, *, what: str, sleep: Callable[[float], None]) -> bool:
    """Take the lease, and tell whether the store knows conditions at all."""
    try:
        held.take(what=what, sleep=sleep)
    except UnconditionalError:
        logger.info("%s knows no conditional writes: two at once may hide each other's", held.place)
        return False
    return True


class Lease:
    """An object that one process writes, and what the store said of it when it last did."""

    def __init__(self, client: S3Client, at: Mapping[str, Any], *, lifetime: float) -> None:
        self._client = client
        self._at = dict(at)
        self._lifetime = lifetime
        # no two are the same, so that nobody takes another's for its own
        self._content = f"{this_process()}, {uuid.uuid4()}\n".encode()
        self._tag = ""
        self.lost = False
        self.place = f"s3://{at['Bucket']}/{at['Key']}"

    def take(self, *, what: str, sleep: Callable[[float], None]) -> None:
        """Make the object, or wait until it is gone or old."""
        is_told = False
        while not self._put(IfNoneMatch="*"):
            try:
                found = self._look()
            except MissingError:
                continue
            if _age(found) >= self._lifetime and self._put(IfMatch=found["ETag"]):
                return
            if not is_told:
                holder = self._read().decode(errors="replace").partition(",")[0]
                logger.info("waiting for %s: process %s has it", what, holder or "unknown")
                is_told = True
            sleep(_PAUSE)

    @contextlib.contextmanager
    def kept(self) -> Iterator[None]:
        """Write the object again and again meanwhile."""
        ended = threading.Event()

        def keep() -> None:
            while not ended.wait(self._lifetime / 4) and not self.lost:
                # one that fails in passing is made up for by the next
                with contextlib.suppress(TargetError):
                    self.renew()

        keeper = threading.Thread(target=keep, name="lease", daemon=True)
        keeper.start()
        try:
            yield
        finally:
            ended.set()
            keeper.join()

    def renew(self) -> None:
        """Write the object again, or learn that it is another's."""
        self.lost = not self._put(IfMatch=self._tag)

    def give_back(self) -> None:
        """Remove the object if it is still this one; one that stays is free after its lifetime."""
        with contextlib.suppress(TargetError):
            self.lost = self.lost or self._read() != self._content
            if not self.lost:
                with translated(self.place):
                    self._client.delete_object(**self._at)

    def _put(self, **condition: str) -> bool:
        """Write the object on that condition, and tell whether it is this one now."""
        try:
            with translated(self.place):
                answer = self._client.put_object(**self._at, **condition, Body=self._content)
        except (MissingError, TakenError):
            # an answer may be lost, and what is asked again by itself then meets what it wrote
            if self._read() != self._content:
                return False
            answer = self._look()
        self._tag = str(answer["ETag"])
        return True

    def _look(self) -> Mapping[str, Any]:
        with translated(self.place):
            found: Mapping[str, Any] = self._client.head_object(**self._at)
        return found

    def _read(self) -> bytes:
        """Return who holds the lease; nothing where nobody does."""
        try:
            with translated(self.place):
                return bytes(self._client.get_object(**self._at)["Body"].read())
        except MissingError:
            return b""


def _age(found: Mapping[str, Any]) -> float:
    """Return the seconds since an object was written, by the clock of the store alone."""
    date = found["ResponseMetadata"]["HTTPHeaders"].get("date")
    now = email.utils.parsedate_to_datetime(date) if date else dt.datetime.now(dt.UTC)
    return float((now - found["LastModified"]).total_seconds())
