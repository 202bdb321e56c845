"""The coverage page in a real Chromium: with a mouse, a keyboard, on a phone, in both languages."""

from __future__ import annotations

import functools
import itertools
import shutil
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from wheelyard.farm import load_farm
from wheelyard.model.index_entry import read_entry
from wheelyard.model.record import TestLevel
from wheelyard.yard.coverage import Failure, coverage
from wheelyard.yard.page import page_html

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.chromium import Page
    from tests.yards import Made

pytestmark = [
    pytest.mark.heavy,
    pytest.mark.skipif(
        not any(shutil.which(name) for name in ("chromium", "chromium-browser", "google-chrome")),
        reason="there is no chromium",
    ),
]

FAILED = "probe-1.1-cp313-torch2.8.0-cu128-x86_64"


@pytest.fixture
def page_path(make: Callable[..., Made], probe_farm: Path, tmp_path: Path) -> Path:
    """A page with wheels of two packages, other GPU targets, one yanked and one failed."""

    def entry(**words: Any) -> Any:  # noqa: ANN401
        made = make(**words)
        changes = {"level": TestLevel.imported, "python": "3.12"}
        return msgspec.structs.replace(read_entry(made.record.to_json(), origin=""), **changes)

    entries = [
        entry(name="probe", public="1.1"),
        entry(name="probe", public="1.1", torch="2.8.0+cu128"),
        entry(name="probe", public="1.1", archs_label="-sm120"),
        entry(name="another", public="2.0"),
    ]
    entries[2] = msgspec.structs.replace(entries[2], gpu_archs=("12.0",))
    entries[3] = msgspec.structs.replace(entries[3], yanked="wrong <b>numbers</b>")
    failures = (Failure(identifier=FAILED, log_url=f"../logs/{FAILED}.log"),)
    path = tmp_path / "site" / "index.html"
    path.parent.mkdir()
    path.write_bytes(page_html(coverage(entries, load_farm(probe_farm), failures)))
    return path


@pytest.fixture
def look(chromium: Page, page_path: Path) -> Callable[..., Page]:
    def open_it(
        *, width: int = 1200, dark: bool = False, language: str = "en-US", at: str = ""
    ) -> Page:
        chromium.show(width=width, height=800, dark=dark, language=language)
        chromium.open(page_path.as_uri() + at)
        return chromium

    return open_it


def text(page: Page, selector: str) -> str:
    return str(page.evaluate(f"document.querySelector({selector!r}).innerText"))


def choose(page: Page, axis: str, value: str) -> None:
    page.evaluate(f'document.querySelector(`#{axis} input[value="{value}"]`).click()')


def start(page: Page) -> None:
    page.evaluate(
        "{ const s = document.getElementById('name'); s.value = 'probe';"
        " s.dispatchEvent(new Event('change')) }"
    )


def test_choices_lead_to_the_pinned_command(look: Callable[..., Page], page_path: Path) -> None:
    page = look()
    start(page)
    choose(page, "torch", "2.8.0")
    command = text(page, "#command")
    url = f"{page_path.parent.as_uri()}/torch2.8.0-cu128/simple/"
    assert command.replace("\\\n", "").split() == [
        *("pip", "install", "--extra-index-url", url, "probe==1.1+cu128.torch2.8.0"),
    ]
    choose(page, "gpu", "12.0")
    assert "probe==1.1+cu130.torch2.11.0.sm120" in text(page, "#command")
    assert "torch2.11.0-cu130-sm120/simple/" in text(page, "#command")


def test_wheel_without_a_local_version_is_pinned_to_the_public_one_and_no_source(
    look: Callable[..., Page],
) -> None:
    page = look()
    assert page.evaluate("pinned(0)") == page.evaluate("pin(0)")
    page.evaluate('D.bare.push("another")')
    assert page.evaluate("pinned(0)") == "--only-binary another another==2.0"


def test_every_choice_ends_at_a_wheel(look: Callable[..., Page]) -> None:
    page = look()
    start(page)
    axes = ("python", "torch", "cuda", "gpu")
    options = {
        axis: page.evaluate(f"[...document.querySelectorAll('#{axis} input')].map(i => i.value)")
        for axis in axes
    }
    for axis in axes:
        for value in options[axis]:
            choose(page, axis, value)
            assert page.evaluate(f"document.querySelector('#{axis} input:checked').value") == value
            assert "probe==1.1+" in text(page, "#command")


def test_keyboard_alone_finds_command_and_map(look: Callable[..., Page]) -> None:
    page = look()
    start(page)
    page.evaluate("document.querySelector('#torch input:checked').focus()")
    before = text(page, "#command")
    page.press("ArrowRight")
    page.press("ArrowLeft")
    page.press("ArrowLeft")
    assert text(page, "#command") != before
    page.evaluate("document.activeElement.blur(); document.getElementById('tabs').scrollIntoView()")
    reached = []
    for _ in range(60):
        page.press("Tab")
        reached.append(str(page.evaluate("document.activeElement.closest('[id]')?.id ?? ''")))
    assert {"tabs", "copy", "map", "search", "list"} <= set(reached)
    assert reached.count("map") <= reached.count("list")
    page.evaluate("document.querySelector('#map button[tabindex=\"0\"]').focus()")
    at = page.evaluate("document.activeElement.dataset.at")
    page.press("ArrowUp")
    assert page.evaluate("document.activeElement.dataset.at") != at
    page.press("ArrowDown")
    assert page.evaluate("document.activeElement.dataset.at") == at


def test_map_says_why_and_leads_to_the_log(look: Callable[..., Page]) -> None:
    page = look()
    start(page)
    page.evaluate("document.querySelector('#map .k-failed').click()")
    assert "Its last build failed" in text(page, "#why")
    href = page.evaluate("document.querySelector('#why a').getAttribute('href')")
    assert href == f"../logs/{FAILED}.log"
    page.evaluate("document.querySelector('#map .k-buildable').click()")
    assert "wheelyard build probe --version 1.1" in text(page, "#why")
    kinds = page.evaluate("[...document.querySelectorAll('#map button')].map(b => b.className)")
    assert {"k-built", "k-buildable", "k-failed"} <= set(kinds)


def test_yanked_wheel_is_marked_and_nothing_of_it_is_markup(look: Callable[..., Page]) -> None:
    page = look(at="#another/2.0/3.12/torch2.11.0-cu130/x86_64")
    assert text(page, "#note") == "Yanked: wrong <b>numbers</b>"


def test_search_narrows_the_list_and_a_row_is_taken(look: Callable[..., Page]) -> None:
    page = look()
    page.evaluate(
        "{ const s = document.getElementById('search'); s.value = 'probe cu128';"
        " s.dispatchEvent(new Event('input')) }"
    )
    assert text(page, "#count") == "1 of 4 wheels"
    page.evaluate("document.querySelector('#list button').click()")
    assert "probe==1.1+cu128.torch2.8.0" in text(page, "#command")


def test_address_leads_back_to_the_same_wheel(look: Callable[..., Page]) -> None:
    page = look()
    start(page)
    choose(page, "torch", "2.8.0")
    at = page.evaluate("location.hash")
    again = look(at=at)
    assert "probe==1.1+cu128.torch2.8.0" in text(again, "#command")


@pytest.mark.parametrize("width", [360, 390, 768, 1200])
def test_nothing_is_wider_than_the_screen_and_nothing_is_asked_for(
    look: Callable[..., Page], page_path: Path, width: int
) -> None:
    for dark, language in itertools.product((False, True), ("en-US", "zh-CN")):
        page = look(width=width, dark=dark, language=language)
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        lang = "zh-Hans" if language == "zh-CN" else "en"
        assert page.evaluate("document.documentElement.lang") == lang
        shown = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert shown == ("rgb(18, 22, 24)" if dark else "rgb(246, 245, 241)")
        assert set(page.requests) <= {page_path.as_uri(), "about:blank"}
        assert page.errors == []


def test_both_languages_have_every_word(look: Callable[..., Page]) -> None:
    page = look()
    keys = functools.partial("Object.keys(TEXTS.{}).sort().join()".format)
    assert page.evaluate(keys("en")) == page.evaluate(keys("zh"))
    page.evaluate("document.getElementById('language').click()")
    assert text(page, "#h-install") == "安装"
    page.evaluate("document.getElementById('language').click()")
    assert text(page, "#h-install") == "Install"
