"""A large file that is cut again and again, within one run and between runs."""

from __future__ import annotations

import dataclasses
import random
from typing import TYPE_CHECKING

import pytest
from faults import faults
from faults.upstream import PROJECT_URL, sha256

from wheelyard.errors import WheelyardError
from wheelyard.model.source import UrlSource
from wheelyard.sources.fetch import fetch_source

if TYPE_CHECKING:
    from collections.abc import Callable

    from faults.fetching import Fetcher
    from faults.proxy import FaultProxy
    from faults.upstream import Upstream

URL = f"{PROJECT_URL}/releases/download/v1.0/large.bin"
SIZE = 4_000_000
CONTENT = random.Random(11).randbytes(SIZE)  # noqa: S311 - not a secret
SOURCE = UrlSource(url=URL, filename="large.bin", sha256=sha256(CONTENT), size=SIZE)
HALF = SIZE // 2


@pytest.fixture
def fetch(fetcher: Fetcher, upstream: Upstream) -> Callable[..., bytes]:
    upstream.world.files[URL] = CONTENT

    def run(*routes: FaultProxy, **changes: object) -> bytes:
        settings = fetcher.settings([route.url for route in routes])
        network = dataclasses.replace(settings.network, **changes)  # type: ignore[arg-type]
        settings = dataclasses.replace(settings, network=network)
        cache, env = fetcher.cache, fetcher.env
        found = fetch_source(SOURCE, cache=cache, farm=cache, settings=settings, env=env)
        return found.path.read_bytes()

    return run


def fail(fetch: Callable[..., bytes], *routes: FaultProxy) -> None:
    with pytest.raises(WheelyardError):
        fetch(*routes)


def test_cut_twenty_times_is_not_fetched_twice(
    fetch: Callable[..., bytes], serve: Callable[..., FaultProxy]
) -> None:
    proxy = serve()
    proxy.inject(faults.cut(SIZE // 21 + 1), times=20)
    assert fetch(proxy) == CONTENT
    assert sum(asked.sent for asked in proxy.asked) <= SIZE * 1.01
    assert len(proxy.asked) == 21


def test_rest_comes_from_another_route(
    fetch: Callable[..., bytes], serve: Callable[..., FaultProxy]
) -> None:
    first, second = serve(), serve()
    first.inject(faults.cut(HALF), times=1)
    first.inject(faults.status(403))
    assert fetch(first, second) == CONTENT
    assert [asked.range for asked in second.asked] == [f"bytes={HALF}-"]


def test_later_run_goes_on_where_the_first_ended(
    fetch: Callable[..., bytes], serve: Callable[..., FaultProxy], fetcher: Fetcher
) -> None:
    first, second = serve(), serve()
    first.inject(faults.cut(HALF), times=1)
    first.inject(faults.status(403))
    fail(fetch, first)
    assert fetcher.wrong_things_kept() == []
    assert fetch(second) == CONTENT
    assert [asked.range for asked in second.asked] == [f"bytes={HALF}-"]


def test_what_changed_upstream_between_two_runs_is_noticed(
    fetch: Callable[..., bytes], serve: Callable[..., FaultProxy], fetcher: Fetcher
) -> None:
    proxy = serve()
    proxy.inject(faults.other_content(bytes(SIZE)), times=1)
    proxy.inject(faults.status(403), times=1)
    fail(fetch, proxy)
    assert fetcher.wrong_things_kept() == []
    proxy.heal()
    assert fetch(proxy) == CONTENT


@pytest.mark.parametrize("fault", [faults.wrong_start(HALF), faults.wrong_start(10)], ids=str)
def test_wrong_beginning_of_an_earlier_run_is_thrown_away(
    fetch: Callable[..., bytes],
    serve: Callable[..., FaultProxy],
    fetcher: Fetcher,
    fault: faults.Fault,
) -> None:
    lying, honest = serve(), serve()
    lying.inject(fault, times=1)
    lying.inject(faults.status(403))
    fail(fetch, lying)
    assert fetcher.wrong_things_kept() == []
    assert fetch(honest) == CONTENT


def test_wrong_beginning_of_another_route_is_thrown_away(
    fetch: Callable[..., bytes], serve: Callable[..., FaultProxy]
) -> None:
    lying, honest = serve(), serve()
    lying.inject(faults.wrong_start(HALF), times=1)
    lying.inject(faults.status(403))
    assert fetch(lying, honest) == CONTENT


def test_liar_who_comes_back_does_not_spoil_it_for_ever(
    fetch: Callable[..., bytes], serve: Callable[..., FaultProxy]
) -> None:
    lying, honest = serve(), serve()
    lying.inject(faults.wrong_start(HALF))
    honest.inject(faults.cut(HALF), times=2)
    assert fetch(lying, honest) == CONTENT


def test_server_that_brings_a_byte_at_a_time_is_left(
    fetch: Callable[..., bytes], serve: Callable[..., FaultProxy]
) -> None:
    mean, healthy = serve(), serve()
    mean.inject(faults.cut(1))
    assert fetch(mean, healthy) == CONTENT
    assert len(mean.asked) < 10
    assert sum(asked.sent for asked in healthy.asked) <= SIZE


def test_second_server_is_asked_while_the_first_hesitates(
    fetcher: Fetcher, serve: Callable[..., FaultProxy], upstream: Upstream
) -> None:
    content = bytes(9_000_000)
    upstream.world.files[URL] = content
    slow, quick = serve(), serve()
    slow.inject(faults.stall())
    settings = fetcher.settings([slow.url, quick.url])
    network = dataclasses.replace(settings.network, hedge_after=0.05)
    settings = dataclasses.replace(settings, network=network)
    source = dataclasses.replace(SOURCE, sha256=sha256(content), size=len(content))
    cache, env = fetcher.cache, fetcher.env
    found = fetch_source(source, cache=cache, farm=cache, settings=settings, env=env)
    assert found.path.read_bytes() == content
    assert len(slow.asked) == 1
    assert not slow.asked[0].outlasted
