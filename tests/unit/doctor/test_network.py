"""What is said of the ways out helps: an order to copy, and nothing that would lock out."""

from __future__ import annotations

import tomllib

from wheelyard.doctor.network import network_to_text
from wheelyard.network.probe import Measured
from wheelyard.network.settings import NetworkSettings


def github(name: str, written: str, **traits: object) -> tuple[Measured, ...]:
    groups = ("GitHub files", "GitHub clones")
    return tuple(
        Measured(group=group, name=name, written=written, **traits)  # type: ignore[arg-type]
        for group in groups
    )


FAST = github("fast.example", "https://fast.example/", latency=0.1, rate=9e6, honest="yes")
SLOW = github("slow.example", "https://slow.example/", latency=0.9, rate=1e5, honest="yes")
LIAR = github("liar.example", "https://liar.example/", latency=0.1, rate=9e6, honest="no")
GONE = github("direct", "", reason="does not answer")


def suggested(text: str) -> dict[str, object]:
    table: dict[str, object] = tomllib.loads(text[text.index("\n[network]\n") :])["network"]
    return table


def test_best_way_comes_first_and_a_liar_is_left_out() -> None:
    text = network_to_text((*SLOW, *LIAR, *FAST, *GONE), NetworkSettings())
    assert suggested(text) == {
        "github-proxies": ["https://fast.example/", "https://slow.example/"],
        "direct": "last",
    }
    assert "liar.example" in text


def test_settings_under_which_nothing_would_be_left_are_not_suggested() -> None:
    text = network_to_text((*LIAR, *GONE), NetworkSettings(direct="never"))
    assert suggested(text) == {"direct": "never"}
    assert "nothing that github-proxies names can be used now" in text


def test_where_nothing_is_configured_the_page_that_helps_is_named() -> None:
    text = network_to_text(GONE, NetworkSettings())
    assert "docs/network.md" in text
    assert "What could not be reached above needs one." in text
