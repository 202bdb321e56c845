from __future__ import annotations

import logging

import pytest

from wheelyard.network.failover import AllFailedError, RouteError, Way, first_that_works
from wheelyard.network.health import Health


class Script:
    """Ways that fail as they are told; nobody really waits."""

    def __init__(self) -> None:
        self.now = 0.0
        self.waits: list[float] = []
        self.asked: list[str] = []
        self.bore: list[bool] = []
        self.health = Health(None)
        self.ways: list[Way] = []

    def way(self, name: str, *errors: RouteError) -> None:
        """Add a way that raises these in turn and then works."""
        left = list(errors)

        def attempt(bears_slowness: bool) -> None:  # noqa: FBT001
            self.asked.append(name)
            self.bore.append(bears_slowness)
            if left:
                raise left.pop(0)

        self.ways.append(Way(name=name, server=name, attempt=attempt))

    def _sleep(self, seconds: float) -> None:
        self.waits.append(seconds)
        self.now += seconds

    def run(self, attempts: int = 3) -> list[str]:
        tried = first_that_works(
            self.ways,
            attempts=attempts,
            health=self.health,
            sleep=self._sleep,
            clock=lambda: self.now,
        )
        return [str(one) for one in tried]


def passing(reason: str = "down", **more: float | bool) -> RouteError:
    return RouteError(reason, passes=True, **more)  # type: ignore[arg-type]


def test_first_way_that_works_ends_it() -> None:
    script = Script()
    script.way("a", RouteError("answers 404"))
    script.way("b")
    script.way("c")
    assert script.run() == ["  a: answers 404"]
    assert script.asked == ["a", "b"]


def test_what_cannot_pass_is_not_asked_again() -> None:
    script = Script()
    script.way("a", *[RouteError("answers 404")] * 9)
    script.way("b", *[passing()] * 9)
    with pytest.raises(AllFailedError) as caught:
        script.run(attempts=3)
    assert script.asked == ["a", "b", "b", "b"]
    assert str(caught.value).splitlines() == ["  a: answers 404", "  b: down (3 times)"]


def test_others_are_tried_before_one_comes_again() -> None:
    script = Script()
    script.way("a", *[passing()] * 9)
    script.way("b", passing())
    script.run(attempts=4)
    assert script.asked[:2] == ["a", "b"]
    assert script.asked[-1] == "b"


def test_waits_grow_with_every_failure() -> None:
    script = Script()
    script.way("a", passing(), passing(), passing(), passing())
    script.run(attempts=9)
    assert len(script.waits) == 4
    assert script.waits == sorted(script.waits)


def test_server_says_when_it_may_be_asked_again() -> None:
    script = Script()
    script.way("a", passing(retry_after=17.0))
    script.run()
    assert script.waits == [17.0]


def test_nobody_waits_until_tomorrow() -> None:
    script = Script()
    script.way("a", passing("answers 429", retry_after=86400.0))
    with pytest.raises(AllFailedError, match="answers 429"):
        script.run()
    assert script.waits == []


def test_way_that_was_cut_off_goes_on_at_once_however_often() -> None:
    script = Script()
    script.way("a", *[passing("was cut off", progressed=True)] * 20)
    script.way("b")
    script.run(attempts=2)
    assert script.asked == ["a"] * 21
    assert script.waits == []


def test_slow_way_is_only_borne_when_nothing_untried_is_left() -> None:
    script = Script()
    script.way("a", passing("was too slow", slow=True, progressed=True))
    script.way("b", RouteError("answers 404"))
    script.run()
    assert script.asked == ["a", "b", "a"]
    assert script.bore == [False, True, True]


def test_health_remembers_who_failed_and_forgives_who_merely_lacks_a_file() -> None:
    script = Script()
    script.way("a", *[passing()] * 9)
    script.way("b", *[RouteError("answers 404")] * 9)
    script.way("c", *[RouteError("other bytes", wrong=True)] * 9)
    with pytest.raises(AllFailedError) as caught:
        script.run()
    assert caught.value.wrong
    assert [script.health.penalty(name) > 0.5 for name in "abc"] == [True, False, True]


def test_reason_is_one_line_without_credentials() -> None:
    error = RouteError("from https://me:s3cret@host/x\n  said\tno")
    assert error.reason == "from https://***@host/x said no"


def test_failure_is_told_at_once_only_where_something_follows(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, logger="wheelyard")
    script = Script()
    script.way("a", RouteError("answers 404"))
    script.way("b", RouteError("answers 410"))
    with pytest.raises(AllFailedError, match="a: answers 404\n  b: answers 410"):
        script.run()
    assert caplog.messages == ["a: answers 404"]
