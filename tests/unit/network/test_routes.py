from __future__ import annotations

import pytest

from wheelyard.errors import InputFileError
from wheelyard.network.routes import (
    HostReplacement,
    InsteadOf,
    PrefixProxy,
    Route,
    make_routes,
    parse_detour,
    redirect_within,
)

REPOSITORY = "https://github.com/o/r"
PREFIX = PrefixProxy(url="https://proxy.example/")
HOST = HostReplacement(host="github.com", by="mirror.example")
COPY = InsteadOf(of=REPOSITORY, by="https://gitee.example/m/r")


def urls(url: str, *rules: str, direct: str = "last") -> list[str]:
    detours = [parse_detour(rule, origin="here") for rule in rules]
    return [route.url for route in make_routes(url, detours, direct=direct)]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("rule", "url", "expected"),
    [
        pytest.param(
            "https://proxy.example",
            REPOSITORY,
            "https://proxy.example/https://github.com/o/r",
            id="prefix",
        ),
        pytest.param(
            "https://proxy.example/?url=",
            REPOSITORY,
            "https://proxy.example/?url=https://github.com/o/r",
            id="prefix-as-parameter",
        ),
        pytest.param(
            "https://proxy.example/",
            "https://objects.githubusercontent.com/a?b=c",
            "https://proxy.example/https://objects.githubusercontent.com/a?b=c",
            id="prefix-release-host",
        ),
        pytest.param(
            "github.com=mirror.example:8443",
            f"{REPOSITORY}/releases/download/v1/x.whl",
            "https://mirror.example:8443/o/r/releases/download/v1/x.whl",
            id="host",
        ),
        pytest.param(
            "GitHub.com=http://mirror.example",
            REPOSITORY,
            "http://mirror.example/o/r",
            id="host-with-scheme",
        ),
        pytest.param(
            f"{REPOSITORY}=https://gitee.example/m/r",
            f"{REPOSITORY}.git",
            "https://gitee.example/m/r.git",
            id="copy-of-a-repository",
        ),
        pytest.param(
            "https://proxy.example/",
            "git@github.com:o/r.git",
            "https://proxy.example/https://github.com/o/r.git",
            id="ssh-form",
        ),
    ],
)
def test_detour_leads_to_the_same_thing(rule: str, url: str, expected: str) -> None:
    assert urls(url, rule) == [expected, url]


@pytest.mark.parametrize(
    ("rule", "url"),
    [
        pytest.param("https://proxy.example/", "https://gitlab.example/o/r", id="other-host"),
        pytest.param("https://proxy.example/", "https://evilgithub.com/o/r", id="similar-host"),
        pytest.param("github.com=mirror.example", "https://api.github.com/x", id="subdomain"),
        pytest.param(f"{REPOSITORY}=https://m.example/r", f"{REPOSITORY}2", id="longer-name"),
        pytest.param("https://proxy.example/", "/srv/git/project", id="folder"),
        pytest.param("https://proxy.example/", "git@host.example:o/r", id="ssh-elsewhere"),
    ],
)
def test_what_a_rule_is_not_for_goes_straight(rule: str, url: str) -> None:
    assert urls(url, rule, direct="never") == [url]


def test_ways_are_in_the_order_of_the_settings() -> None:
    rules = (f"{REPOSITORY}=https://gitee.example/m/r", "https://proxy.example/")
    around = ["https://gitee.example/m/r", f"https://proxy.example/{REPOSITORY}"]
    assert urls(REPOSITORY, *rules) == [*around, REPOSITORY]
    assert urls(REPOSITORY, *rules, direct="first") == [REPOSITORY, *around]
    assert urls(REPOSITORY, *rules, direct="never") == around


@pytest.mark.parametrize("detour", [PREFIX, HOST, COPY])
def test_credentials_of_the_url_are_told_to_nobody_in_between(detour: PrefixProxy) -> None:
    secret = "https://me:s3cret@github.com/o/r"
    around, straight = make_routes(secret, [detour])
    assert "s3cret" not in around.url
    assert straight.url == secret


@pytest.mark.parametrize("rule", ["proxy.example", "a=b=c", "ftp://x/", "github.com=", "=x"])
def test_rule_that_is_none_is_refused_with_what_to_write(rule: str) -> None:
    with pytest.raises(InputFileError, match=r"no proxy or mirror - in a\.toml\. Write"):
        parse_detour(rule, origin="a.toml")


def test_rule_is_shown_as_it_is_written() -> None:
    for rule in ("https://proxy.example/", "github.com=m.example", f"{REPOSITORY}=https://m/x"):
        assert str(parse_detour(rule, origin="x")) == rule


def route(url: str, detour: PrefixProxy | HostReplacement | None) -> Route:
    return Route(url=url, original=REPOSITORY, detour=detour)


OBJECTS = "https://objects.githubusercontent.com/blob?id=1"


@pytest.mark.parametrize(
    ("asked", "target", "expected"),
    [
        pytest.param(
            route("https://proxy.example/a", PREFIX),
            "https://proxy.example/b",
            "https://proxy.example/b",
            id="within-the-proxy",
        ),
        pytest.param(
            route("https://proxy.example/a", PREFIX),
            OBJECTS,
            f"https://proxy.example/{OBJECTS}",
            id="to-github-through-the-proxy-again",
        ),
        pytest.param(
            route("https://mirror.example/a", HOST), OBJECTS, OBJECTS, id="to-githubs-own-store"
        ),
        pytest.param(
            route("https://proxy.example/a", PREFIX), "https://evil.example/", None, id="elsewhere"
        ),
        pytest.param(
            route("https://mirror.example/a", HOST), "http://mirror.example/a", None, id="to-http"
        ),
        pytest.param(
            route(REPOSITORY, None), "https://cdn.example/x", "https://cdn.example/x", id="direct"
        ),
        pytest.param(route(REPOSITORY, None), "http://github.com/x", None, id="direct-to-http"),
    ],
)
def test_redirect_is_followed_to_where_the_original_may_be(
    asked: Route, target: str, expected: str | None
) -> None:
    assert redirect_within(asked, target) == expected


def test_route_is_named_by_the_server_in_between() -> None:
    assert route("https://me:pw@Proxy.example:8443/x", PREFIX).via == "proxy.example:8443"
    assert route(REPOSITORY, None).via == "direct"
    assert "s3cret" not in repr(route("https://me:s3cret@h/", PREFIX))
