"""What people see of a build, on a terminal and in a log."""

from __future__ import annotations

import io
import logging
import re

import pytest
from rich.console import Console

from wheelyard.progress import (
    QUIET,
    LiveProgress,
    LiveTransfers,
    Meter,
    PlainProgress,
    PlainTransfers,
)


@pytest.fixture
def plain(caplog: pytest.LogCaptureFixture) -> PlainProgress:
    caplog.set_level(logging.INFO, logger="wheelyard.progress")
    return PlainProgress()


def test_plain_stage_is_one_line_with_its_duration(
    plain: PlainProgress, caplog: pytest.LogCaptureFixture
) -> None:
    with plain.stage("repair"):
        assert not caplog.messages
    (line,) = caplog.messages
    assert re.fullmatch(r"repair +\d+\.\d s", line)


def test_plain_steps_are_a_line_for_each_tenth(
    plain: PlainProgress, caplog: pytest.LogCaptureFixture
) -> None:
    with plain.stage("build"):
        for done in range(1, 101):
            plain.step(done, 100)
    assert caplog.messages[:-1] == [
        "  [1/100]",
        *(f"  [{tenth}/100]" for tenth in range(10, 101, 10)),
    ]


def test_plain_steps_of_a_small_build_are_all_shown(
    plain: PlainProgress, caplog: pytest.LogCaptureFixture
) -> None:
    with plain.stage("build"):
        plain.step(1, 2)
        plain.step(2, 2)
    assert caplog.messages[:-1] == ["  [1/2]", "  [2/2]"]


def test_plain_steps_begin_anew_with_each_stage(
    plain: PlainProgress, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(2):
        with plain.stage("build"):
            plain.step(5, 5)
    assert caplog.messages.count("  [5/5]") == 2


def test_stage_that_fails_is_not_shown_as_done(
    plain: PlainProgress, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(KeyError), plain.stage("build"):
        raise KeyError
    assert not caplog.messages


def test_remark_is_shown_as_it_is(plain: PlainProgress, caplog: pytest.LogCaptureFixture) -> None:
    plain.say("100% of [it]")
    assert caplog.messages == ["100% of [it]"]


def _live() -> tuple[LiveProgress, io.StringIO]:
    stream = io.StringIO()
    return LiveProgress(Console(file=stream, force_terminal=True, width=100)), stream


def test_live_bar_follows_the_steps_and_ends_as_a_line_with_the_duration() -> None:
    live, stream = _live()
    with live.stage("build"):
        live.step(3, 7)
    text = stream.getvalue()
    assert "3/7" in text
    assert re.search(r"build +\d+\.\d s\n$", text)


def test_step_outside_of_a_stage_does_no_harm() -> None:
    live, stream = _live()
    live.step(1, 2)
    assert not stream.getvalue()


def test_live_remark_is_neither_wrapped_nor_taken_for_markup() -> None:
    live, stream = _live()
    live.say("[9.0] " + "long " * 40)
    assert stream.getvalue() == "[9.0] " + "long " * 40 + "\n"


def test_meter_says_how_far_how_fast_and_how_long() -> None:
    meter = Meter(50_000_000, now=100.0)
    assert meter.describe(10_000_000, now=100.0) == "10.0 of 50.0 MB, 0.0 MB/s"
    # what an earlier run left was not brought by this one
    assert meter.describe(20_000_000, now=105.0) == "20.0 of 50.0 MB, 2.0 MB/s, 15 s left"


def test_meter_of_an_unknown_size_says_what_is_here() -> None:
    meter = Meter(None, now=0.0)
    meter.describe(0, now=0.0)
    assert meter.describe(3_000_000, now=2.0) == "3.0 MB, 1.5 MB/s"


def test_plain_transfer_is_a_line_every_few_seconds(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="wheelyard.progress")
    now = 0.0
    with PlainTransfers(clock=lambda: now).transfer("torch.whl", 10_000_000) as report:
        for second in range(12):
            now = float(second)
            report(second * 500_000)
    assert caplog.messages == [
        "  torch.whl: 2.5 of 10.0 MB, 0.5 MB/s, 15 s left",
        "  torch.whl: 5.0 of 10.0 MB, 0.5 MB/s, 10 s left",
    ]


def test_live_transfers_of_several_threads_share_the_terminal() -> None:
    console = Console(file=io.StringIO(), force_terminal=True, width=100)
    transfers = LiveTransfers(console)
    with transfers.transfer("a.whl", 100) as first, transfers.transfer("b.whl", None) as second:
        first(50)
        second(7)
    with transfers.transfer("c.whl", 1) as third:
        third(1)
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    assert all(name in shown for name in ("a.whl", "b.whl", "c.whl"))


def test_quiet_transfer_takes_reports_too() -> None:
    with QUIET.transfer("x", 1) as report:
        report(1)
