"""Every way in which a route can be written leads there, for clones, submodules and files."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest
from faults import faults
from faults.socks import SocksProxy
from faults.upstream import FORGE, PROJECT_URL, RELEASE_URL, SIZE

from wheelyard.model.source import GitSource
from wheelyard.network.routes import parse_detour
from wheelyard.sources.fetch import fetch_source

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from faults.certificates import Certificates
    from faults.fetching import Fetcher, Kind
    from faults.proxy import FaultProxy
    from faults.upstream import Upstream

    from wheelyard.network.indexes import IndexSettings

FROM_THE_FORGE: tuple[Kind, ...] = ("submodule", "release")


def with_rules(fetcher: Fetcher, *rules: str, **changes: object) -> IndexSettings:
    """Return settings with these rules for the forge."""
    settings = fetcher.settings([])
    detours = tuple(parse_detour(rule, origin="test") for rule in rules)
    network = dataclasses.replace(settings.network, github_proxies=detours, **changes)  # type: ignore[arg-type]
    return dataclasses.replace(settings, network=network)


@pytest.mark.parametrize("kind", FROM_THE_FORGE)
@pytest.mark.parametrize(
    "rule",
    [
        "{prefix}",
        "{prefix}/",
        "github.com={mirror}",
        "https://github.com={mirror}",
        "https://github.com/={mirror}/",
        "https://github.com/maker={mirror}/maker",
    ],
)
def test_rule_leads_around_the_forge(
    fetcher: Fetcher, serve: Callable[..., FaultProxy], kind: Kind, rule: str
) -> None:
    prefix, mirror = serve(), serve(base=FORGE)
    text = rule.format(prefix=prefix.url, mirror=mirror.url)
    assert fetcher.fetch_with(kind, with_rules(fetcher, text)) == fetcher.expected(kind)


def test_rule_for_one_repository_is_for_it_alone(
    fetcher: Fetcher, serve: Callable[..., FaultProxy]
) -> None:
    mirror, prefix = serve(base=FORGE), serve()
    rule = f"{PROJECT_URL}={mirror.url}/maker/project.git"
    settings = with_rules(fetcher, rule, prefix.url)
    assert fetcher.fetch_with("submodule", settings) == fetcher.expected("submodule")
    assert all("/maker/project" in url for url in mirror.urls())
    assert all("/maker/part" in url for url in prefix.urls())


@pytest.mark.parametrize("kind", FROM_THE_FORGE)
def test_straight_way_is_the_last_resort(
    fetcher: Fetcher, serve: Callable[..., FaultProxy], certificates: Certificates, kind: Kind
) -> None:
    faulty, way_out = serve(), serve(tunnel=certificates.good("github.com"))
    faulty.inject(faults.status(403))
    fetcher.env["https_proxy"] = way_out.url
    settings = with_rules(fetcher, faulty.url, direct="last")
    assert fetcher.fetch_with(kind, settings) == fetcher.expected(kind)


@pytest.mark.parametrize("kind", FROM_THE_FORGE)
def test_straight_way_is_not_taken_where_it_is_forbidden(
    fetcher: Fetcher, serve: Callable[..., FaultProxy], outside: FaultProxy, kind: Kind
) -> None:
    prefix = serve()
    assert fetcher.fetch(kind, [prefix.url]) == fetcher.expected(kind)
    assert outside.asked == []


@pytest.mark.parametrize("kind", FROM_THE_FORGE)
def test_ordinary_proxy_of_the_settings_is_used(
    fetcher: Fetcher, serve: Callable[..., FaultProxy], certificates: Certificates, kind: Kind
) -> None:
    way_out = serve(tunnel=certificates.good("github.com"))
    del fetcher.env["https_proxy"]
    settings = with_rules(fetcher, proxy=way_out.url)
    # as a command does before it opens anything
    fetcher.env.update(settings.network.connection_variables(fetcher.env))
    assert fetcher.fetch_with(kind, settings) == fetcher.expected(kind)


@pytest.mark.parametrize("kind", FROM_THE_FORGE)
def test_socks_proxy_is_used(
    fetcher: Fetcher, serve: Callable[..., FaultProxy], certificates: Certificates, kind: Kind
) -> None:
    forge = serve(base=FORGE, certificate=certificates.good("github.com"))
    socks = SocksProxy(urlsplit(forge.url).port or 0)
    del fetcher.env["https_proxy"]
    fetcher.env["all_proxy"] = socks.url
    try:
        assert fetcher.fetch_with(kind, with_rules(fetcher)) == fetcher.expected(kind)
    finally:
        socks.close()
    assert set(socks.hosts) == {"github.com"}


@pytest.mark.parametrize("kind", FROM_THE_FORGE)
def test_redirect_within_a_proxy_is_followed(
    fetcher: Fetcher, serve: Callable[..., FaultProxy], upstream: Upstream, kind: Kind
) -> None:
    proxy = serve()
    repository = upstream.world.repositories[PROJECT_URL]
    upstream.world.repositories[f"{FORGE}/renamed/project"] = repository
    upstream.world.files[RELEASE_URL.replace("/maker/", "/renamed/")] = upstream.release
    proxy.inject(faults.moved("/maker/project", "/renamed/project"), f"{PROJECT_URL}/*")
    assert fetcher.fetch(kind, [proxy.url]) == fetcher.expected(kind)


def test_redirect_to_where_the_forge_keeps_its_files_goes_through_the_proxy(
    fetcher: Fetcher,
    serve: Callable[..., FaultProxy],
    upstream: Upstream,
    outside: FaultProxy,
) -> None:
    proxy = serve()
    kept = "https://objects.githubusercontent.com/a?token=b"
    upstream.world.files[kept] = upstream.release
    proxy.inject(faults.redirect_to(kept), RELEASE_URL)
    assert fetcher.fetch("release", [proxy.url]) == fetcher.expected("release")
    assert proxy.urls() == [RELEASE_URL, kept]
    assert outside.asked == []


def test_server_that_failed_is_asked_last_by_the_next_run(
    fetcher: Fetcher, serve: Callable[..., FaultProxy], tmp_path: Path
) -> None:
    faulty, healthy = serve(), serve()
    faulty.inject(faults.status(502))
    settings = with_rules(fetcher, faulty.url, healthy.url, health_path=tmp_path / "health.json")
    for kind in FROM_THE_FORGE:
        assert fetcher.fetch_with(kind, settings) == fetcher.expected(kind)
    assert len(faulty.asked) == 1


def test_second_version_brings_only_what_is_new(
    fetcher: Fetcher, serve: Callable[..., FaultProxy], upstream: Upstream
) -> None:
    first, second = serve(), serve()
    fetcher.fetch("clone", [first.url])
    source = GitSource(url=PROJECT_URL, commit=upstream.next_commit)
    settings, cache = fetcher.settings([second.url]), fetcher.cache
    fetch_source(source, cache=cache, farm=cache, settings=settings, env=fetcher.env)
    assert sum(asked.sent for asked in first.asked) > 2 * SIZE
    assert SIZE < sum(asked.sent for asked in second.asked) < 1.1 * SIZE


@pytest.mark.parametrize("left_out", ["tree:0", "blob:none"])
def test_incomplete_commit_is_not_taken_for_whole_later(
    fetcher: Fetcher, serve: Callable[..., FaultProxy], left_out: str
) -> None:
    """The commit's object is here then, and a server of old only helps with the rest."""
    lying, old = serve(), serve()
    lying.inject(faults.without(left_out))
    old.inject(faults.only_advertised())
    assert fetcher.fetch("submodule", [lying.url, old.url]) == fetcher.expected("submodule")
    assert fetcher.wrong_things_kept() == []
