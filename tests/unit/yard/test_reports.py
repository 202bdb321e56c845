"""Test reports that come after the wheel."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import pytest

from wheelyard.errors import YardError
from wheelyard.model.record import TestLevel
from wheelyard.yard.reports import add_report
from wheelyard.yard.store import store_wheel

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.yards import Made

    from wheelyard.model.record import TestReport
    from wheelyard.yard.folder import Yard


def test_machines_and_levels_have_files_of_their_own(
    yard: Yard, make: Callable[..., Made], make_report: Callable[..., TestReport]
) -> None:
    made = make()
    store_wheel(yard, made.path, made.record, made.report)
    late = make_report(made.record, level=TestLevel.ran_on_gpu, machine="h100")
    path = add_report(yard, late)
    assert path == yard.path / "reports" / made.record.sha256 / "h100-ran-on-gpu.json"
    assert yard.reports(made.record.sha256) == (made.report, late)


def test_later_test_on_the_same_machine_takes_the_place_of_the_earlier(
    yard: Yard, make: Callable[..., Made]
) -> None:
    made = make()
    store_wheel(yard, made.path, made.record, made.report)
    again = msgspec.structs.replace(made.report, seconds=9.0)
    add_report(yard, again)
    assert yard.reports(made.record.sha256) == (again,)


def test_report_does_not_touch_the_record(yard: Yard, make: Callable[..., Made]) -> None:
    made = make()
    store_wheel(yard, made.path, made.record)
    before = yard.record_path(made.path.name).stat()
    add_report(yard, made.report)
    assert yard.record_path(made.path.name).stat() == before


def test_report_of_a_wheel_that_is_not_here_is_refused(
    yard: Yard, make: Callable[..., Made]
) -> None:
    made, other = make(), make(content=b"x = 2\n")
    with pytest.raises(YardError, match=r"has no wheel demo_ext.*Store the wheel"):
        add_report(yard, made.report)
    store_wheel(yard, other.path, other.record)
    with pytest.raises(YardError, match="has no wheel demo_ext"):
        add_report(yard, made.report)
    assert yard.reports(made.record.sha256) == ()
