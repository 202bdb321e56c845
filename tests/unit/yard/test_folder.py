"""The yard's folder."""

from __future__ import annotations

import functools
import logging
import os
import platform
import signal
import subprocess
import sys
import threading
from typing import TYPE_CHECKING

import pytest

from wheelyard.errors import YardError
from wheelyard.model.record import TestLevel
from wheelyard.yard.folder import Yard, open_yard
from wheelyard.yard.reports import add_report
from wheelyard.yard.store import store_wheel

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.yards import Made

    from wheelyard.model.record import TestReport


def test_new_yard_says_its_format(tmp_path: Path) -> None:
    yard = open_yard(tmp_path / "a" / "yard")
    assert (yard.path / "yard.json").read_text() == '{"format": 1}\n'
    assert yard.records() == ()
    assert open_yard(yard.path, create=False) == yard


def test_missing_yard_is_named_where_none_may_be_made(tmp_path: Path) -> None:
    with pytest.raises(YardError, match=r"no yard in .*/yard.*--yard"):
        open_yard(tmp_path / "yard", create=False)
    assert not (tmp_path / "yard").exists()


def test_folder_of_somebody_else_does_not_become_a_yard(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(YardError, match=r"thesis\.tex.*empty folder"):
        open_yard(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


@pytest.mark.parametrize(
    ("marker", "words"),
    [('{"format": 2}', "format 2.*Upgrade"), ("", "cannot be read"), ("{}", "cannot be read")],
)
def test_yard_that_cannot_be_understood_is_left_alone(
    tmp_path: Path, marker: str, words: str
) -> None:
    (tmp_path / "yard.json").write_text(marker)
    with pytest.raises(YardError, match=words):
        open_yard(tmp_path)
    assert (tmp_path / "yard.json").read_text() == marker


def test_opening_again_after_being_cut_off_gives_a_yard(
    tmp_path: Path, killed_at: Callable[..., bool]
) -> None:
    number = 1
    while killed_at(number, functools.partial(open_yard, tmp_path / str(number) / "yard")):
        yard = open_yard(tmp_path / str(number) / "yard")
        assert (yard.path / "yard.json").read_text() == '{"format": 1}\n'
        assert {path.name for path in yard.path.iterdir()} == {"yard.json", "locks"}
        number += 1
    assert number > 5


def test_job_is_found_by_identifier_and_by_plan(yard: Yard, make: Callable[..., Made]) -> None:
    one = make(name="one", plan_fingerprint="a" * 64)
    two = make(name="two", plan_fingerprint="b" * 64)
    for made in (one, two):
        store_wheel(yard, made.path, made.record)
    found = yard.find(identifier=one.record.identifier)
    assert found is not None
    assert found.record == one.record
    assert found.path.read_bytes() == one.path.read_bytes()
    by_plan = yard.find(plan_fingerprint="b" * 64)
    assert by_plan is not None
    assert by_plan.record.name == "two"
    assert yard.find(identifier=one.record.identifier, plan_fingerprint="b" * 64) is None
    assert yard.find(identifier=two.record.index_label) is None
    assert [record.name for record in yard.records()] == ["one", "two"]


def test_highest_revision_is_the_one_found(yard: Yard, make: Callable[..., Made]) -> None:
    revisions = [make(revision=revision) for revision in (10, 9, 0)]
    for made in revisions:
        store_wheel(yard, made.path, made.record)
    found = yard.find(identifier=revisions[0].record.identifier)
    assert found is not None
    assert found.record.revision == 10


def test_lost_or_cut_wheel_is_named_with_what_to_do(yard: Yard, make: Callable[..., Made]) -> None:
    made = make()
    stored = store_wheel(yard, made.path, made.record)
    stored.path.write_bytes(b"short")
    with pytest.raises(YardError, match=r"has 5 bytes.*Put the file.*or remove .*records/demo"):
        yard.find(identifier=made.record.identifier)
    stored.path.unlink()
    with pytest.raises(YardError, match=r"the wheel is gone.*or remove"):
        yard.find(plan_fingerprint=made.record.plan_fingerprint)


def test_record_under_another_name_is_refused(yard: Yard, make: Callable[..., Made]) -> None:
    made = make()
    store_wheel(yard, made.path, made.record)
    record = yard.record_path(made.record.filename)
    record.rename(record.with_name("other-1-py3-none-any.whl.json"))
    with pytest.raises(YardError, match=r"other-1-py3.*is the record of 'demo_ext"):
        yard.records()


def test_index_url_is_what_clients_are_given(tmp_path: Path) -> None:
    yard = Yard(tmp_path / "my yard")
    assert yard.index_url().endswith("/my%20yard/index/simple/")
    assert yard.index_url("torch2.11.0-cu130").endswith("/index/torch2.11.0-cu130/simple/")


def test_best_level_is_the_furthest_of_all_machines(
    yard: Yard, make: Callable[..., Made], make_report: Callable[..., TestReport]
) -> None:
    made = make()
    store_wheel(yard, made.path, made.record)
    assert yard.best_level(made.record.sha256) is None
    for level in (TestLevel.ran_on_gpu, TestLevel.imported):
        add_report(yard, make_report(made.record, level=level, machine="m"))
    assert yard.best_level(made.record.sha256) is TestLevel.ran_on_gpu


def test_lock_lets_one_in_at_a_time(yard: Yard) -> None:
    inside: list[int] = []
    most: list[int] = []

    def work(number: int) -> None:
        for _ in range(20):
            with yard.lock("job"):
                inside.append(number)
                most.append(len(inside))
                inside.remove(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(most) == 80
    assert max(most) == 1


HOLD = """
import sys, time
from pathlib import Path
from wheelyard.yard.folder import Yard
with Yard(Path(sys.argv[1])).lock("job"):
    print("held", flush=True)
    time.sleep(60)
"""


def test_lock_of_a_killed_process_is_free_and_waiting_is_said(
    yard: Yard, caplog: pytest.LogCaptureFixture
) -> None:
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(yard.path)], stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    killer = threading.Timer(0.2, holder.send_signal, [signal.SIGKILL])
    killer.start()
    with caplog.at_level(logging.INFO), yard.lock("job"):
        assert f"process {holder.pid}" in caplog.text
        assert "job" in caplog.text
        assert (
            yard.path / "locks" / "job.lock"
        ).read_text() == f"{os.getpid()} on {platform.node()}\n"
    killer.join()
    holder.communicate()
    with yard.lock("job"):
        assert holder.returncode == -signal.SIGKILL
