from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

import pytest

from wheelyard.network.asking import Pending, ask, read_small, within
from wheelyard.network.failover import RouteError
from wheelyard.network.indexes import IndexSettings
from wheelyard.network.routes import PrefixProxy, Route
from wheelyard.network.session import open_session
from wheelyard.network.settings import NetworkSettings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import requests
    from tests.unit.network.conftest import Server

SETTINGS = NetworkSettings(connect_timeout=0.5, stall_timeout=0.3)


@pytest.fixture
def session(env: dict[str, str]) -> Iterator[requests.Session]:
    with open_session(IndexSettings(), env) as opened:
        yield opened


@pytest.fixture
def read_path(session: requests.Session, server: Server) -> Callable[..., requests.Response]:
    """Ask the server, as a prefix proxy when told so; the whole body is read."""

    def get_path(path: str, *, limit: int = 1000, proxied: bool = False) -> requests.Response:
        detour = PrefixProxy(url=f"{server.url}/") if proxied else None
        route = Route(url=server.url + path, original="https://github.com/x", detour=detour)
        return read_small(session, route, settings=SETTINGS, limit=limit)

    return get_path


def failure(
    read_path: Callable[..., requests.Response], path: str, **options: bool | int
) -> RouteError:
    with pytest.raises(RouteError) as caught:
        read_path(path, **options)
    return caught.value


@pytest.mark.parametrize(
    ("status", "passes"),
    [(403, False), (404, False), (410, False), (408, True), (429, True), (502, True), (522, True)],
)
def test_status_says_whether_it_may_pass(
    read_path: Callable[..., requests.Response], server: Server, status: int, *, passes: bool
) -> None:
    server.answer("/x", status=status)
    error = failure(read_path, "/x")
    assert error.passes is passes
    assert error.status == status
    assert error.reason.startswith(f"answers {status}")


@pytest.mark.parametrize(
    ("text", "low", "high"),
    [("7", 7, 7), ("Fri, 01 Jan 2100 00:00:00 GMT", 1e9, 1e10), ("soon", None, None)],
)
def test_server_says_when_to_come_again(
    read_path: Callable[..., requests.Response],
    server: Server,
    text: str,
    low: float | None,
    high: float | None,
) -> None:
    server.answer("/x", status=503, headers={"Retry-After": text})
    found = failure(read_path, "/x").retry_after
    if low is None or high is None:
        assert found is None
    else:
        assert found is not None
        assert low <= found <= high


def test_redirect_is_followed_and_a_circle_is_found(
    read_path: Callable[..., requests.Response], server: Server
) -> None:
    server.answer("/a", status=302, headers={"Location": "/b"})
    server.answer("/b", "here")
    assert read_path("/a").text == "here"
    server.answer("/c", status=302, headers={"Location": "/d"})
    server.answer("/d", status=302, headers={"Location": "/c"})
    assert failure(read_path, "/c").reason.startswith("redirects in a circle")


def test_redirect_of_a_proxy_to_somewhere_else_is_refused_by_name(
    read_path: Callable[..., requests.Response], server: Server
) -> None:
    server.answer("/a", status=302, headers={"Location": "https://me:pw@portal.example/login"})
    error = failure(read_path, "/a", proxied=True)
    assert error.reason == "redirects to https://***@portal.example/login, which is refused"
    assert error.wrong


def test_small_thing_must_be_small_and_whole(
    read_path: Callable[..., requests.Response], server: Server
) -> None:
    server.answer("/x", "x" * 2000)
    assert failure(read_path, "/x").reason == "sent more than 1000 bytes"
    server.answer("/y", "x" * 200, cut_at=100)
    error = failure(read_path, "/y")
    assert error.passes
    assert "100" in error.reason


def test_nobody_listening_may_pass(session: requests.Session) -> None:
    route = Route(url="http://127.0.0.1:9/x", original="x")
    with pytest.raises(RouteError, match="Connection refused") as caught:
        ask(session, route, settings=SETTINGS)
    assert caught.value.passes


def test_url_that_is_none_will_not_pass(session: requests.Session) -> None:
    route = Route(url="gopher://127.0.0.1/x", original="x")
    with pytest.raises(RouteError) as caught:
        ask(session, route, settings=SETTINGS)
    assert not caught.value.passes


def test_work_that_takes_too_long_is_left_and_its_result_discarded() -> None:
    gate, discarded = threading.Event(), threading.Event()

    def work() -> int:
        gate.wait(10)
        return 1

    with pytest.raises(RouteError, match="did not answer"):
        within(0.05, work, discard=lambda _one: discarded.set())
    gate.set()
    assert discarded.wait(10)


def test_error_of_the_work_is_raised_where_it_is_waited_for() -> None:
    def work() -> int:
        time.sleep(0)
        msg = "no"
        raise ValueError(msg)

    pending = Pending(work, discard=lambda _one: None)
    with pytest.raises(ValueError, match="no"):
        pending.result()
    assert not pending.worked
