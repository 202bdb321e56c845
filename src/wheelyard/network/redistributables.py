"""The manifests of NVIDIA's redistributable archives: the one thing here that nothing pins."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Generic, TypeVar

from wheelyard.errors import FetchError, IntegrityError
from wheelyard.network.failover import AllFailedError, RouteError, Way, first_that_works
from wheelyard.network.health import Health
from wheelyard.network.routes import NVIDIA

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import requests

    from wheelyard.network.indexes import IndexSettings
    from wheelyard.network.routes import Route

T = TypeVar("T")


def redist_url(path: str) -> str:
    """Return what NVIDIA calls a file of its site; the routes lead to it through mirrors."""
    return f"{NVIDIA}{path}"


def fetch_manifest(
    filename: str,
    *,
    read: Callable[[bytes, str], T],
    limit: int,
    settings: IndexSettings,
    env: Mapping[str, str],
) -> T:
    """Return what ``read`` makes of the first manifest of at most ``limit`` bytes it accepts.

    ``read`` is given the bytes and the filename, and raises ``IntegrityError``. It has to be
    strict: a manifest is only read where a lock is made, which people look at.
    """
    # Imported here: requests takes long, and most commands never need it.
    from wheelyard.network.session import open_session  # noqa: PLC0415

    if settings.offline:
        msg = f"{filename} was not asked for: wheelyard is offline. Make the lock elsewhere."
        raise FetchError(msg)
    network = settings.network
    health = Health(network.health_path)
    with open_session(settings, env) as session:
        reader = _Reader(filename, read, limit=limit, session=session, settings=settings)
        routes = health.sort(network.routes(redist_url(filename)), lambda route: route.server)
        ways = [
            Way(
                name=route.url,
                server=route.server,
                attempt=functools.partial(reader.attempt, route),
            )
            for route in routes
        ]
        try:
            first_that_works(ways, attempts=network.attempts, health=health)
        except AllFailedError as error:
            raise _not_had(filename, error) from error
    return reader.found[0]


class _Reader(Generic[T]):
    """Reads the manifest on one route after another, until one is right."""

    def __init__(
        self,
        filename: str,
        read: Callable[[bytes, str], T],
        *,
        limit: int,
        session: requests.Session,
        settings: IndexSettings,
    ) -> None:
        self._filename = filename
        self._read = read
        self._limit = limit
        self._session = session
        self._settings = settings
        self.found: list[T] = []

    def attempt(self, route: Route, _bears_slowness: bool) -> None:  # noqa: FBT001 - Way's form
        from wheelyard.network.asking import within  # noqa: PLC0415

        network = self._settings.network
        patience = network.connect_timeout + 4 * network.stall_timeout
        content = within(patience, lambda: self._receive(route), discard=lambda _content: None)
        if len(content) > self._limit:
            msg = f"sends more than {self._limit} bytes: that is no manifest"
            raise RouteError(msg, wrong=True)
        try:
            self.found.append(self._read(content, self._filename))
        except IntegrityError as error:
            raise RouteError(str(error), wrong=True) from error

    def _receive(self, route: Route) -> bytes:
        from urllib3.exceptions import HTTPError  # noqa: PLC0415

        from wheelyard.network.asking import ask, explain  # noqa: PLC0415
        from wheelyard.network.transfer import IDENTITY  # noqa: PLC0415

        network = self._settings.network
        with ask(self._session, route, settings=network, headers=IDENTITY) as response:
            try:
                content = bytearray()
                # in pieces: only the one behind the last says whether the answer was cut
                for chunk in response.raw.stream(1 << 16, decode_content=False):
                    content += chunk
                    if len(content) > self._limit:
                        break
                return bytes(content)
            except (HTTPError, OSError) as error:
                raise explain(error, settings=network) from error


def _not_had(filename: str, failed: AllFailedError) -> FetchError | IntegrityError:
    msg = (
        f"There is no {filename} to make a lock of. Asked:\n{failed}\n"
        "Name a mirror of NVIDIA's site (WHEELYARD_REDIST_URLS, see docs/network.md), or make the "
        "lock on a machine that reaches one, and commit it."
    )
    return IntegrityError(msg) if failed.wrong else FetchError(msg)
