"""One pinned file from the first way that has the right bytes, resumed, raced, verified."""

from __future__ import annotations

import dataclasses
import functools
import logging
import re
import time
from typing import TYPE_CHECKING

import requests
from urllib3.exceptions import HTTPError

from wheelyard.files import disk_errors
from wheelyard.network.asking import Pace, Pending, explain
from wheelyard.network.failover import RouteError, Tried, Way, first_that_works
from wheelyard.network.health import Health
from wheelyard.network.masking import mask_url
from wheelyard.network.partial import Partial, Wanted, open_partial, publish

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from wheelyard.network.settings import NetworkSettings
    from wheelyard.progress import Transfers

logger = logging.getLogger(__name__)

IDENTITY = {"Accept-Encoding": "identity"}
"""Not as decoded content: some servers call a .tar.gz an encoding of a .tar."""
_CHUNK = 1 << 18
_LARGE = 8 << 20
"""Bytes from which a second server is asked when the first one hesitates."""
_CONTENT_RANGE = re.compile(r"bytes (?P<first>\d+)-(?P<last>\d+)/(?P<total>\d+|\*)")
_HTML = (b"<!doctype html", b"<html")


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class FileWay:
    """One way to a file: whoever it is asked of, and how."""

    name: str
    server: str
    open: Callable[[Partial], requests.Response]
    """Ask for the rest of the partial file; raises ``RouteError``."""


def download(
    wanted: Wanted,
    ways: Sequence[FileWay],
    *,
    destination: Path,
    settings: NetworkSettings,
    transfers: Transfers,
) -> tuple[Tried, ...]:
    """Bring the file to ``destination``, where nothing is seen of it before it is verified.

    Returns what failed on the way; raises ``AllFailedError`` if everything did. The caller holds
    the lock of the folder.
    """
    health = Health(settings.health_path)
    ordered: Sequence[FileWay] = health.sort(ways, lambda way: way.server)
    with (
        disk_errors(destination),
        open_partial(destination) as partial,
        transfers.transfer(wanted.name, wanted.size) as report,
    ):
        transfer = _Transfer(wanted, partial, settings=settings, report=report)
        ordered = transfer.race(ordered)
        tried = first_that_works(
            [
                Way(
                    name=way.name,
                    server=way.server,
                    attempt=functools.partial(transfer.attempt, way),
                )
                for way in ordered
            ],
            attempts=settings.attempts,
            health=health,
        )
        publish(partial, destination)
        transfer.abandon()
    return tried


class _Transfer:
    """The state of one download across its ways."""

    def __init__(
        self,
        wanted: Wanted,
        partial: Partial,
        *,
        settings: NetworkSettings,
        report: Callable[[int], None],
    ) -> None:
        self._wanted = wanted
        self._partial = partial
        self._settings = settings
        self._report = report
        self._pending: dict[str, Pending[requests.Response]] = {}
        if wanted.size is not None and partial.size > wanted.size:
            partial.restart()

    def race(self, ways: Sequence[FileWay]) -> Sequence[FileWay]:
        """Ask a second way too when the first one hesitates; put the quicker one in front."""
        if len(ways) < 2 or (self._wanted.size or 0) < _LARGE:
            return ways
        first, second, *others = ways
        one = self._ask(first)
        if one.done.wait(self._settings.hedge_after):
            return ways
        logger.info("%s hesitates; asking %s too", first.name, second.name)
        two = self._ask(second)
        patience = time.monotonic() + self._settings.stall_timeout
        while time.monotonic() < patience and not one.done.wait(0.02):
            if two.worked:
                self._pending.pop(first.name).abandon()
                return (second, first, *others)
        if one.worked:
            self._pending.pop(second.name).abandon()
        return ways

    def _ask(self, way: FileWay) -> Pending[requests.Response]:
        pending = Pending(lambda: way.open(self._partial), discard=_close)
        self._pending[way.name] = pending
        return pending

    def abandon(self) -> None:
        """Hang up on those that were asked and are not needed any more."""
        for pending in self._pending.values():
            pending.abandon()

    def attempt(self, way: FileWay, bears_slowness: bool) -> None:  # noqa: FBT001 - as `Way` has it
        """Bring the rest of the file from one way, and verify the whole."""
        place = way.name
        try:
            if self._partial.size != self._wanted.size:
                pending = self._pending.pop(way.name, None)
                response = way.open(self._partial) if pending is None else pending.result()
                place = response.url
                with response:
                    self._receive(response, bears_slowness=bears_slowness)
            self._verify()
        except RouteError as error:
            if place != way.name:  # an index, or a redirect
                error.reason = f"{mask_url(place)} {error.reason}"
            raise

    def _receive(self, response: requests.Response, *, bears_slowness: bool) -> None:
        partial = self._partial
        self._begin(response)
        before = partial.size
        pace = Pace(self._settings, bears_slowness=bears_slowness)
        try:
            while chunk := response.raw.read1(_CHUNK, decode_content=False):
                self._append(chunk)
                pace.check(len(chunk))
        except (HTTPError, requests.RequestException) as error:
            raise self._cut(explain(error, settings=self._settings), before) from error
        except RouteError as error:
            raise self._cut(error, before) from None
        if self._wanted.size is not None and partial.size < self._wanted.size:
            raise self._cut(RouteError("", passes=True), before)

    def _begin(self, response: requests.Response) -> None:
        """Hold the head of the answer against what was asked for; make the file fit it."""
        partial = self._partial
        if response.status_code == 416:
            partial.restart()
            msg = "says that the file is shorter than what was had already"
            raise RouteError(msg, passes=True)
        url = response.url
        validator = _validator(response)
        if response.status_code == 206:
            self._check_range(response, known=partial.validator_of(url), validator=validator)
        else:
            partial.restart()
            self._check_length(response)
        partial.begin(url=url, validator=validator)

    def _check_range(self, response: requests.Response, *, known: str, validator: str) -> None:
        found = _CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", ""))
        total = str(self._wanted.size) if self._wanted.size is not None else "*"
        changed = bool(known) and bool(validator) and known != validator
        if changed or found is None or int(found["first"]) != self._partial.size:
            self._partial.restart()
            msg = "sent another part than the one that was asked for"
            raise RouteError(msg, passes=True)
        if "*" not in {total, found["total"]} and total != found["total"]:
            self._partial.restart()
            msg = f"has another file of {found['total']} bytes, wanted are {total}"
            raise RouteError(msg, wrong=True)

    def _check_length(self, response: requests.Response) -> None:
        """Refuse a body that says itself that it is another; do not wait for its end."""
        length = response.headers.get("Content-Length", "")
        size = self._wanted.size
        if size is None or not length.isdigit() or int(length) == size:
            return
        kind = "an HTML page" if "html" in response.headers.get("Content-Type", "") else "a file"
        if int(length) > size:
            msg = f"sent {kind} of {length} bytes, more than {size} bytes"
            raise RouteError(msg, wrong=True)
        msg = f"sent {kind} instead ({length} bytes), wanted are {size} bytes"
        raise RouteError(msg, wrong=True)

    def _append(self, chunk: bytes) -> None:
        partial, size = self._partial, self._wanted.size
        if partial.size == 0 and chunk[:64].lstrip().lower().startswith(_HTML):
            msg = f"sent an HTML page instead ({_beginning(chunk)})"
            raise RouteError(msg, wrong=True)
        if size is not None and partial.size + len(chunk) > size:
            partial.restart()
            msg = f"sent more than {size} bytes"
            raise RouteError(msg, wrong=True)
        partial.append(chunk)
        self._report(partial.size)

    def _verify(self) -> None:
        partial, wanted = self._partial, self._wanted
        found = partial.sha256()
        if found == wanted.sha256 and partial.size == (wanted.size or partial.size):
            return
        pieced, size = partial.is_pieced, partial.size
        partial.restart()
        if pieced:
            # whose bytes were wrong cannot be told: each way gets its chance in one piece
            msg = f"the pieces do not make the file: sha256 {found} ({size} bytes)"
            raise RouteError(msg, passes=True, wrong=True)
        msg = f"sent other bytes: sha256 {found} ({size} bytes)"
        raise RouteError(msg, wrong=True)

    def _cut(self, error: RouteError, before: int) -> RouteError:
        """Return the error of a body that ended early, saying how far it came."""
        size = self._wanted.size
        brought = self._partial.size - before
        enough = min(1 << 16, max(1, (size or 1 << 22) // 64))
        if error.wrong:
            return error
        of = f" of {size}" if size is not None else ""
        why = error.reason if error.slow or "sent nothing" in error.reason else "was cut off"
        return RouteError(
            f"{why} at {self._partial.size}{of} bytes",
            passes=error.passes,
            slow=error.slow,
            progressed=brought >= enough,
        )


def _validator(response: requests.Response) -> str:
    """Return what a range may be made conditional on: a strong tag, or else the date."""
    tag: str = response.headers.get("ETag", "")
    if tag and not tag.startswith("W/"):
        return tag
    return str(response.headers.get("Last-Modified", ""))


def _beginning(chunk: bytes) -> str:
    return chunk[:40].decode("ascii", "replace").strip()


def _close(response: requests.Response) -> None:
    response.close()
