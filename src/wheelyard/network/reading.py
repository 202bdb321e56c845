"""Documents that nothing pins, read whole on the first way that works."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, TypeVar

from wheelyard.errors import FetchError
from wheelyard.network.asking import read_small
from wheelyard.network.failover import AllFailedError, RouteError, Way, first_that_works
from wheelyard.network.foreign import OTHER_FORM
from wheelyard.network.health import Health
from wheelyard.network.masking import mask_url

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import requests

    from wheelyard.network.indexes import IndexSettings
    from wheelyard.network.routes import Route

T = TypeVar("T")
_GONE = frozenset({404, 410})


class NotThereError(FetchError):
    """Every way says that there is no such document."""


def read_document(
    url: str,
    *,
    read: Callable[[bytes], T],
    limit: int,
    session: requests.Session,
    settings: IndexSettings,
    headers: Callable[[Route], Mapping[str, str]] = lambda _route: {},
) -> T:
    """Return what ``read`` makes of the document; it raises ``RouteError`` for a wrong one.

    ``NotThereError`` is raised only if every way answered so: a way that failed may have had it.
    """
    if settings.offline:
        msg = f"{mask_url(url)} was not asked for: wheelyard is offline."
        raise FetchError(msg)
    network = settings.network
    health = Health(network.health_path)
    found: list[T] = []
    statuses: dict[str, int | None] = {}

    def attempt(route: Route, _bears_slowness: bool) -> None:  # noqa: FBT001 - Way's form
        try:
            answer = read_small(
                session, route, settings=network, limit=limit, headers=headers(route)
            )
            found.append(_read(read, answer.content))
        except RouteError as error:
            statuses[route.url] = error.status
            raise

    routes = health.sort(network.routes(url), lambda route: route.server)
    ways = [
        Way(name=route.url, server=route.server, attempt=functools.partial(attempt, route))
        for route in routes
    ]
    try:
        first_that_works(ways, attempts=network.attempts, health=health)
    except AllFailedError as error:
        is_gone = all(status in _GONE for status in statuses.values())
        kind = NotThereError if is_gone else FetchError
        msg = f"{mask_url(url)} could not be read:\n{error}"
        raise kind(msg) from error
    return found[0]


def _read(read: Callable[[bytes], T], content: bytes) -> T:
    """Say of an answer that has another form than every reader expects that it is wrong."""
    try:
        return read(content)
    except OTHER_FORM as error:
        msg = f"sent what has another form than this ({error!r:.200})"
        raise RouteError(msg, wrong=True) from error
