from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import pytest

from wheelyard.doctor.network import measure_network, network_to_json, network_to_text
from wheelyard.network.indexes import IndexSettings
from wheelyard.network.opening import UserSettings
from wheelyard.network.probe import Measured, Sample, suggested_direct, suggested_order
from wheelyard.network.routes import parse_detour
from wheelyard.network.settings import NetworkSettings

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.unit.network.conftest import Server

SMALL = "https://raw.githubusercontent.com/o/r/README"
LARGE = "https://github.com/o/r/archive/v1.tar.gz"
SHA256 = hashlib.sha256(b"Hello\n").hexdigest()
SAMPLES = {
    "GitHub files": Sample(small=SMALL, sha256=SHA256, large=LARGE),
    "Python index": Sample(small="probe/", contains=b"0123"),
}


@pytest.fixture
def measure(env: dict[str, str]) -> Callable[..., dict[str, Measured]]:
    """Measure proxies and index mirrors; return what came of each, by the name of the way."""

    def run(*proxies: str, indexes: tuple[str, ...] = ()) -> dict[str, Measured]:
        network = NetworkSettings(
            github_proxies=tuple(parse_detour(url, origin="test") for url in proxies),
            python_indexes=indexes,
            stall_timeout=0.5,
            connect_timeout=0.5,
        )
        settings = IndexSettings(index_url="file:///nowhere", network=network)
        # what upstream itself says does not matter: nobody is there
        env.update(https_proxy="http://127.0.0.1:9", no_proxy="127.0.0.1")
        user = UserSettings(indexes=settings, env=env)
        found = measure_network(user, samples=SAMPLES)
        return {one.written or one.name: one for one in found}

    return run


def honest(server: Server) -> str:
    server.answer(f"/{SMALL}", "Hello\n")
    server.answer(f"/{LARGE}", b"x" * 1_000_000)
    return f"{server.url}/"


def test_good_proxy_is_told_from_liars_and_the_dead(
    measure: Callable[..., dict[str, Measured]], serve: type[Server]
) -> None:
    good, liar, page = honest(serve()), serve(), serve()
    liar.answer(f"/{SMALL}", "Bye\n")
    page.answer(f"/{SMALL}", "<html>Log in</html>", content_type="text/html")
    found = measure(good, f"{liar.url}/", f"{page.url}/", "http://127.0.0.1:9/")
    assert found[good].honest == "yes"
    assert found[good].usable
    assert (found[good].latency or 0) > 0
    assert (found[good].rate or 0) > 0
    assert found[f"{liar.url}/"].honest == "no"
    assert "an HTML page" in found[f"{page.url}/"].reason
    assert found["http://127.0.0.1:9/"].latency is None
    assert "refused" in found["http://127.0.0.1:9/"].reason
    assert not found["direct"].usable


def test_index_is_honest_if_it_lists_what_is_known(
    measure: Callable[..., dict[str, Measured]], serve: type[Server]
) -> None:
    good, liar = serve(), serve()
    good.answer("/simple/probe/", '<a href="x#sha256=0123">x</a>', content_type="text/html")
    liar.answer("/simple/probe/", '<a href="x#sha256=4567">x</a>', content_type="text/html")
    urls = (f"{good.url}/simple", f"{liar.url}/simple")
    found = measure(indexes=urls)
    assert [found[url].honest for url in urls] == ["yes", "no"]


def way(written: str, *, rate: float | None = 1e6, **more: object) -> Measured:
    values = {"group": "GitHub files", "name": "x", "latency": 0.1, "honest": "yes", "rate": rate}
    return Measured(written=written, **{**values, **more})  # type: ignore[arg-type]


def test_order_has_the_fastest_first_and_no_liar() -> None:
    measured = (
        way("https://slow/", rate=1e5),
        way("https://fast/", rate=5e6),
        way("https://quick/", rate=5.1e6, latency=0.05),
        way("https://liar/", honest="no", reason="sent something else"),
        way("", rate=1e4, name="direct"),
    )
    order = suggested_order(measured)
    assert order == {"github-proxies": ("https://quick/", "https://fast/", "https://slow/")}
    assert suggested_direct(measured) == "last"
    assert suggested_direct([*measured[:4], way("", rate=9e8)]) == "first"


def test_proxy_must_be_good_for_clones_too() -> None:
    measured = (
        way("https://files-only/"),
        way("https://files-only/", group="GitHub clones", reason="answers 403", latency=None),
    )
    assert suggested_order(measured) == {"github-proxies": ()}


def test_page_ends_with_text_for_the_configuration() -> None:
    measured = (way("https://***@a.example/"), way("", reason="down", latency=None))
    text = network_to_text(measured, NetworkSettings())
    head, _, config = text.partition("\n[network]\n")
    assert head.startswith("FOR")
    assert "976.6 KiB/s" in head or "MB/s" in head or "kB/s" in head
    assert config.splitlines() == [
        'github-proxies = ["https://***@a.example/"]',
        'direct = "last"',
        "# *** stands for credentials: put them in again",
    ]
    document = network_to_json(measured, NetworkSettings())
    assert document["order"] == {"github-proxies": ["https://***@a.example/"]}


def test_nothing_configured_leads_to_the_page_of_the_docs() -> None:
    text = network_to_text((way("", reason="down", latency=None),), NetworkSettings())
    assert "docs/network.md says how to name one" in text
    assert "needs one" in text
