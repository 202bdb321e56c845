"""Try one way after another until one works, and say in one line why each of the others did not."""

from __future__ import annotations

import dataclasses
import logging
import random
import time
from typing import TYPE_CHECKING

from wheelyard.network.masking import mask_url

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from wheelyard.network.health import Health

logger = logging.getLogger(__name__)

_LONGEST_WAIT = 60.0
"""Seconds; a server that asks for more is not waited for."""
_FIRST_WAIT = 0.25


class RouteError(Exception):
    """One way did not bring what was wanted; the reason is one line."""

    def __init__(
        self,
        reason: str,
        *,
        passes: bool = False,
        wrong: bool = False,
        slow: bool = False,
        progressed: bool = False,
        retry_after: float | None = None,
        status: int | None = None,
    ) -> None:
        super().__init__(reason)
        self.reason = " ".join(mask_url(reason).split())[:400]
        self.passes = passes
        """Whether the same way may work a little later."""
        self.wrong = wrong
        """Whether something else than what is pinned was offered."""
        self.slow = slow
        self.progressed = progressed
        """Whether this try brought bytes that are kept."""
        self.retry_after = retry_after
        self.status = status
        """Of HTTP, where that is what was answered."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Way:
    """One way to get something."""

    name: str
    """How the report names it."""
    server: str
    """By what its health is remembered; empty for what needs no connection."""
    attempt: Callable[[bool], None]
    """Bring the thing here or raise ``RouteError``; the argument says whether slowness is borne,
    because nothing better is left."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Tried:
    """What came of one way in the end."""

    name: str
    reason: str
    wrong: bool

    def __str__(self) -> str:
        return f"  {self.name}: {self.reason}"


class AllFailedError(Exception):
    """No way worked."""

    def __init__(self, tried: Sequence[Tried]) -> None:
        super().__init__("\n".join(map(str, tried)))
        self.tried = tuple(tried)

    @property
    def wrong(self) -> bool:
        return any(one.wrong for one in self.tried)


class _State:
    """How it stands with one way."""

    def __init__(self, way: Way) -> None:
        self.way = way
        self.failures = 0
        """In a row, without a byte of progress."""
        self.error: RouteError | None = None
        self.not_before = 0.0

    def is_left(self, attempts: int) -> bool:
        """Whether this way will not be taken again."""
        error = self.error
        if error is None:
            return False
        waits_too_long = (error.retry_after or 0.0) > _LONGEST_WAIT
        return not error.passes or waits_too_long or self.failures >= attempts

    @property
    def goes_on(self) -> bool:
        """Whether this way was cut off within something that it was bringing well."""
        return self.error is not None and self.error.progressed and not self.error.slow

    def note(self, error: RouteError, *, now: float) -> None:
        self.failures = 1 if error.progressed else self.failures + 1
        self.error = error
        wait = error.retry_after
        if wait is None:
            wait = 0.0 if error.progressed else _backoff(self.failures)
        self.not_before = now + wait

    @property
    def tried(self) -> Tried:
        assert self.error is not None
        times = f" ({self.failures} times)" if self.failures > 1 else ""
        reason = f"{self.error.reason}{times}"
        return Tried(name=mask_url(self.way.name), reason=reason, wrong=self.error.wrong)


def first_that_works(
    ways: Sequence[Way],
    *,
    attempts: int,
    health: Health,
    sleep: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> tuple[Tried, ...]:
    """Take the ways in turn until one works, and return what was tried before it.

    A way that may still work comes again after the others, later every time; one that was cut off
    but brought something goes on at once. Slow ways are borne when no untried one is left. Each
    failure that is not the end is told in the log; the error tells all of them.
    """
    states = [_State(way) for way in ways]
    failed: Tried | None = None
    while True:
        state = _choose(states, attempts)
        if state is None:
            raise AllFailedError([one.tried for one in states])
        if failed is not None:
            logger.info("%s: %s", failed.name, failed.reason)
        _wait_for(state, sleep=sleep, clock=clock)
        bears_slowness = all(one.error is not None for one in states if one is not state)
        if _try(state, health=health, bears_slowness=bears_slowness, clock=clock):
            return tuple(one.tried for one in states if one.error is not None and one is not state)
        failed = state.tried


def _choose(states: Sequence[_State], attempts: int) -> _State | None:
    """Return the way to take now: the next untried one, or the one that may be asked soonest."""
    going = [one for one in states if one.goes_on and not one.is_left(attempts)]
    untried = [one for one in states if one.error is None]
    if going:
        return going[0]
    if untried:
        return untried[0]
    left = [one for one in states if not one.is_left(attempts)]
    return min(left, key=lambda one: one.not_before, default=None)


def _wait_for(state: _State, *, sleep: Callable[[float], None], clock: Callable[[], float]) -> None:
    wait = state.not_before - clock()
    if state.error is not None and wait > 0:
        if wait > 1:
            logger.info("asking %s again in %.0f s", mask_url(state.way.name), wait)
        sleep(wait)


def _try(
    state: _State, *, health: Health, bears_slowness: bool, clock: Callable[[], float]
) -> bool:
    way = state.way
    try:
        way.attempt(bears_slowness)
    except RouteError as error:
        state.note(error, now=clock())
        # that a server does not have one thing says nothing about the next
        if way.server and (error.passes or error.wrong) and not error.progressed:
            health.failed(way.server)
        return False
    if way.server:
        health.succeeded(way.server)
    return True


def _backoff(failures: int) -> float:
    """Return the seconds to wait after that many failures: doubling, with a jitter."""
    base = _FIRST_WAIT * 2.0 ** (failures - 1)
    return float(min(base, 10.0) * random.uniform(0.8, 1.4))  # noqa: S311 - no secret
