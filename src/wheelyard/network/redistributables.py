"""The manifests of NVIDIA's redistributable archives: the one thing here that nothing pins."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import logging
from typing import TYPE_CHECKING, Generic, TypeVar

from wheelyard.errors import FetchError, IntegrityError
from wheelyard.network.failover import AllFailedError, RouteError, Way, first_that_works
from wheelyard.network.health import Health
from wheelyard.network.routes import NVIDIA

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import requests

    from wheelyard.network.indexes import IndexSettings
    from wheelyard.network.routes import Route

T = TypeVar("T")
logger = logging.getLogger(__name__)


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
    """Return what ``read`` makes of a manifest of at most ``limit`` bytes.

    ``read`` is given the bytes and the filename, and raises ``IntegrityError``. NVIDIA's own
    server is believed; what a mirror sends is held against another way, and refused where they
    differ. Where only one mirror answers, a warning says so: the lock is for people to look at.
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

        def bring(left: Sequence[Route]) -> None:
            ways = [
                Way(
                    name=route.url,
                    server=route.server,
                    attempt=functools.partial(reader.attempt, route),
                )
                for route in left
            ]
            first_that_works(ways, attempts=network.attempts, health=health)

        try:
            bring(routes)
        except AllFailedError as error:
            raise _not_had(filename, error) from error
        first = reader.found[0]
        if first.route.detour is not None:
            _confirm(reader, bring, [one for one in routes if one.server != first.route.server])
    return first.value


def _confirm(
    reader: _Reader[T], bring: Callable[[Sequence[Route]], None], others: Sequence[Route]
) -> None:
    """Hold what a mirror sent against what another way brings."""
    first = reader.found[0]
    name, server = reader.filename, first.route.server
    try:
        bring(others)
    except AllFailedError as error:
        logger.warning(
            "%s came from %s alone (sha256 %s), and no other way confirms it:\n%s\n"
            "Compare it with NVIDIA's before you use the lock.",
            name,
            server,
            first.sha256,
            str(error) or "  no other is configured",
        )
        return
    second = reader.found[-1]
    if first.sha256 != second.sha256:
        msg = (
            f"{name} is one file from {server} (sha256 {first.sha256}) and another from "
            f"{second.route.server} (sha256 {second.sha256}). One of them is not NVIDIA's: take "
            "the mirror that lies out of `redist-urls`. No lock was made."
        )
        raise IntegrityError(msg)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class _Found(Generic[T]):
    """A manifest that could be read, and the way it came."""

    route: Route
    sha256: str
    value: T


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
        self.filename = filename
        self._read = read
        self._limit = limit
        self._session = session
        self._settings = settings
        self.found: list[_Found[T]] = []

    def attempt(self, route: Route, _bears_slowness: bool) -> None:  # noqa: FBT001 - Way's form
        from wheelyard.network.asking import within  # noqa: PLC0415

        network = self._settings.network
        patience = network.connect_timeout + 4 * network.stall_timeout
        content = within(patience, lambda: self._receive(route), discard=lambda _content: None)
        if len(content) > self._limit:
            msg = f"sends more than {self._limit} bytes: that is no manifest"
            raise RouteError(msg, wrong=True)
        try:
            value = self._read(content, self.filename)
        except IntegrityError as error:
            raise RouteError(str(error), wrong=True) from error
        sha256 = hashlib.sha256(content).hexdigest()
        self.found.append(_Found(route=route, sha256=sha256, value=value))

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
