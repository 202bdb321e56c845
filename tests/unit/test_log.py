"""Log lines of wheelyard, as people see them."""

from __future__ import annotations

import io
import logging
from typing import TYPE_CHECKING

import pytest

from wheelyard import log

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture
def lines() -> Iterator[Callable[..., list[str]]]:
    """Return a function that sets logging up, runs an action, and returns the lines written."""
    logger = logging.getLogger("wheelyard")
    before = logger.handlers[:], logger.level, logger.propagate

    def collect(action: Callable[[logging.Logger], object], *, verbose: bool = False) -> list[str]:
        stream = io.StringIO()
        log.set_up(verbose=verbose, stream=stream)
        action(logging.getLogger("wheelyard.somewhere"))
        return stream.getvalue().splitlines()

    yield collect
    logger.handlers[:], logger.level, logger.propagate = before


def test_lines_inside_a_job_carry_its_identifier(lines: Callable[..., list[str]]) -> None:
    def action(logger: logging.Logger) -> None:
        logger.info("before")
        with log.job_context("probe-1.0"):
            logger.info("inside")
        logger.info("after %s", "all")

    assert lines(action, verbose=True) == ["before", "probe-1.0: inside", "after all"]


def test_job_is_left_when_it_fails(lines: Callable[..., list[str]]) -> None:
    def action(logger: logging.Logger) -> None:
        with pytest.raises(KeyError), log.job_context("probe-1.0"):
            raise KeyError
        logger.info("after")

    assert lines(action) == ["after"]


def test_commands_are_shown_only_when_asked_for(lines: Callable[..., list[str]]) -> None:
    assert lines(lambda logger: logger.debug("+ command")) == []
    assert lines(lambda logger: logger.debug("+ command"), verbose=True) == ["+ command"]


def test_setting_up_twice_does_not_double_the_lines(lines: Callable[..., list[str]]) -> None:
    log.set_up(verbose=False)
    assert lines(lambda logger: logger.info("once")) == ["once"]
    assert len(logging.getLogger("wheelyard").handlers) == 1
