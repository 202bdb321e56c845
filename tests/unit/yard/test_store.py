"""Storing a wheel."""

from __future__ import annotations

import errno
import functools
import os
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import msgspec
import pytest

from wheelyard.errors import DiskError, IntegrityError, YardError
from wheelyard.model.record import BuildRecord, TestLevel
from wheelyard.yard.store import Yard, open_yard, store_wheel

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.yards import Made


def test_wheel_metadata_record_and_report_are_stored(yard: Yard, make: Callable[..., Made]) -> None:
    made = make()
    stored = store_wheel(yard, made.path, made.record, made.report)
    assert stored.path == yard.path / "wheels" / made.path.name
    assert stored.path.read_bytes() == made.path.read_bytes()
    assert stored.record == made.record
    metadata = (yard.path / "wheels" / f"{made.path.name}.metadata").read_bytes()
    assert metadata.startswith(b"Metadata-Version:")
    record = (yard.path / "records" / f"{made.path.name}.json").read_bytes()
    assert BuildRecord.from_json(record, origin="r") == made.record
    report = yard.path / "reports" / made.record.sha256 / "builder-imported.json"
    assert report.read_bytes() == made.report.to_json()
    assert yard.best_level(made.record.sha256) is TestLevel.imported


def test_same_bytes_again_change_nothing(
    yard: Yard, make: Callable[..., Made], snapshot: Callable[[Path], dict[str, bytes]]
) -> None:
    made = make()
    store_wheel(yard, made.path, made.record, made.report)
    before = snapshot(yard.path)
    later = msgspec.structs.replace(made.record, seconds={"build": 99.0})
    assert store_wheel(yard, made.path, later, made.report).record == made.record
    assert snapshot(yard.path) == before


def test_other_bytes_under_a_known_name_ask_for_a_revision(
    yard: Yard, make: Callable[..., Made], snapshot: Callable[[Path], dict[str, bytes]]
) -> None:
    first = make()
    store_wheel(yard, first.path, first.record)
    before = snapshot(yard.path)
    other = make(content=b"x = 2\n")
    with pytest.raises(
        YardError, match=r"filename is used once.*Raise `revision` of demo-ext 1\.0"
    ):
        store_wheel(yard, other.path, other.record, other.report)
    assert snapshot(yard.path) == before
    raised = make(content=b"x = 2\n", revision=1)
    store_wheel(yard, raised.path, raised.record)
    assert len(yard.records()) == 2


def test_two_jobs_cannot_share_a_filename(yard: Yard, make: Callable[..., Made]) -> None:
    first = make()
    store_wheel(yard, first.path, first.record)
    other = make(content=b"x = 2\n")
    record = msgspec.structs.replace(other.record, identifier="another-job")
    with pytest.raises(YardError, match=r"wheel of demo-ext-1\.0.*another-job"):
        store_wheel(yard, other.path, record)


def test_orphan_without_record_is_replaced(yard: Yard, make: Callable[..., Made]) -> None:
    made = make()
    orphan = yard.wheel_path(made.path.name)
    orphan.parent.mkdir()
    orphan.write_bytes(b"half a wheel")
    (orphan.parent / f".part-{orphan.name}").write_bytes(b"half of another")
    assert store_wheel(yard, made.path, made.record).path.read_bytes() == made.path.read_bytes()
    assert sorted(path.name for path in orphan.parent.iterdir()) == [
        orphan.name,
        f"{orphan.name}.metadata",
    ]


def test_lost_wheel_comes_back_by_storing_the_same_bytes(
    yard: Yard, make: Callable[..., Made], snapshot: Callable[[Path], dict[str, bytes]]
) -> None:
    made = make()
    stored = store_wheel(yard, made.path, made.record)
    before = snapshot(yard.path)
    stored.path.unlink()
    store_wheel(yard, made.path, made.record)
    assert snapshot(yard.path) == before


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        pytest.param({"size": 1}, "does not describe", id="size"),
        pytest.param({"filename": "other-1-py3-none-any.whl"}, "does not describe", id="name"),
        pytest.param({"sha256": "0" * 64}, "sha256 0000", id="digest"),
        pytest.param({"core_metadata_sha256": "0" * 64}, "METADATA", id="metadata"),
    ],
)
def test_record_of_another_wheel_is_refused(
    yard: Yard, make: Callable[..., Made], fields: dict[str, object], words: str
) -> None:
    made = make()
    record = msgspec.structs.replace(made.record, **fields)
    with pytest.raises(IntegrityError, match=words):
        store_wheel(yard, made.path, record)
    assert yard.records() == ()
    assert not [path for path in yard.path.rglob("*.whl*") if path.is_file()]


def test_report_of_another_wheel_is_refused(yard: Yard, make: Callable[..., Made]) -> None:
    made, other = make(), make(content=b"x = 2\n")
    with pytest.raises(IntegrityError, match="report"):
        store_wheel(yard, other.path, other.record, made.report)
    assert yard.records() == ()


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EACCES])
def test_refusing_disk_leaves_the_yard_as_it_was(
    yard: Yard,
    make: Callable[..., Made],
    snapshot: Callable[[Path], dict[str, bytes]],
    monkeypatch: pytest.MonkeyPatch,
    number: int,
) -> None:
    made = make()
    before = snapshot(yard.path)

    def refuse(_handle: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(DiskError, match="--yard"):
        store_wheel(yard, made.path, made.record, made.report)
    assert snapshot(yard.path) == before


def test_killed_at_any_step_leaves_the_old_or_the_new_state(
    tmp_path: Path,
    make: Callable[..., Made],
    snapshot: Callable[[Path], dict[str, bytes]],
    killed_at: Callable[..., bool],
) -> None:
    first, made = make(name="first"), make()
    empty = open_yard(tmp_path / "template")
    store_wheel(empty, first.path, first.record)
    shutil.copytree(empty.path, tmp_path / "undisturbed")
    undisturbed = Yard(tmp_path / "undisturbed")
    store_wheel(undisturbed, made.path, made.record, made.report)
    expected = snapshot(undisturbed.path)
    states: list[bool] = []
    while True:
        yard = Yard(tmp_path / f"killed{len(states)}")
        shutil.copytree(empty.path, yard.path)
        store = functools.partial(store_wheel, yard, made.path, made.record, made.report)
        if not killed_at(len(states) + 1, store):
            break
        found = yard.find(identifier=made.record.identifier)
        states.append(found is not None)
        if found is not None:
            assert found.path.read_bytes() == made.path.read_bytes()
            assert yard.metadata_path(made.path.name).exists()
            assert yard.best_level(made.record.sha256) is TestLevel.imported
        assert yard.find(identifier=first.record.identifier) is not None
        store()
        assert snapshot(yard.path) == expected
    assert snapshot(yard.path) == expected
    assert states == sorted(states)
    assert {False, True} == set(states)


STORE = """
import logging, sys
from pathlib import Path
from wheelyard.model.record import BuildRecord
from wheelyard.yard.store import open_yard, store_wheel
logging.basicConfig(level=logging.INFO)
yard, wheel, record = map(Path, sys.argv[1:])
store_wheel(open_yard(yard), wheel, BuildRecord.from_json(record.read_bytes(), origin="r"))
"""


def test_processes_that_store_the_same_wheel_at_once_all_succeed(
    tmp_path: Path, make: Callable[..., Made]
) -> None:
    made = make()
    record = tmp_path / "record.json"
    record.write_bytes(made.record.to_json())
    command = [sys.executable, "-c", STORE, str(tmp_path / "yard"), str(made.path), str(record)]
    children = [subprocess.Popen(command, stderr=subprocess.PIPE) for _ in range(4)]
    for child in children:
        _, errors = child.communicate()
        assert child.returncode == 0, errors.decode()
    found = open_yard(tmp_path / "yard").find(identifier=made.record.identifier)
    assert found is not None
    assert found.path.read_bytes() == made.path.read_bytes()


def test_store_waits_for_another_process_that_stores(
    yard: Yard, make: Callable[..., Made], tmp_path: Path
) -> None:
    made = make()
    record = tmp_path / "record.json"
    record.write_bytes(made.record.to_json())
    command = [sys.executable, "-c", STORE, str(yard.path), str(made.path), str(record)]
    with yard.lock("store"):
        child = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        assert child.stderr is not None
        assert f"process {os.getpid()}" in child.stderr.readline()
        assert yard.records() == ()
    child.communicate()
    assert child.returncode == 0
    assert yard.records() == (made.record,)
