"""What other machines built: only what was planned, and holds, comes into the yard."""

from __future__ import annotations

import dataclasses
import hashlib
import platform
import shutil
from typing import TYPE_CHECKING

import msgspec
import pytest

from wheelyard.engines.accepting import Accepted, accept
from wheelyard.engines.github import FarmPlan, PlannedEntry
from wheelyard.farm import load_farm
from wheelyard.model.cell import parse_gpu_archs
from wheelyard.model.record import TestLevel, TestReport
from wheelyard.wheels.stamp import read_dist_info
from wheelyard.yard.store import open_yard

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from wheelyard.yard.store import StoredWheel, Yard

MACHINE = platform.machine()


class Brought:
    """A yard that somebody else filled, and what was planned."""

    def __init__(self, farm: Path, stored: StoredWheel, yard: Yard) -> None:
        self.farm = farm
        self.folder = farm / "yard"
        self.stored = stored
        self.yard = yard
        self.planned = {stored.record.identifier: stored.record.plan_fingerprint}

    @property
    def record_path(self) -> Path:
        return self.folder / "records" / f"{self.stored.record.filename}.json"

    def change_record(self, **changes: object) -> None:
        record = msgspec.structs.replace(self.stored.record, **changes)
        self.record_path.write_bytes(record.to_json())

    def accept(self) -> Accepted:
        entry = PlannedEntry(group="g", jobs=self.planned, runner=("x",), minutes=1)
        plan = FarmPlan(entries=(entry,))
        return accept([self.folder], plan, farm=load_farm(self.farm), yard=self.yard)


@pytest.fixture
def brought(
    probe_farm: Path, store_good_probe: Callable[[], StoredWheel], tmp_path: Path
) -> Brought:
    return Brought(probe_farm, store_good_probe(), open_yard(tmp_path / "mine"))


def _refusal(brought: Brought) -> str:
    found = brought.accept()
    assert not found.wheels
    assert not list(brought.yard.records())
    (refused,) = found.refused
    return refused.reason


def test_what_was_planned_and_holds_is_taken(brought: Brought) -> None:
    found = brought.accept()
    assert not found.refused
    assert found.wheels == (brought.stored.record.identifier,)
    assert found.left == ()
    (record,) = brought.yard.records()
    assert record == brought.stored.record
    assert brought.accept().wheels == found.wheels  # once more changes nothing


def test_job_that_nobody_planned_is_refused(brought: Brought) -> None:
    brought.planned = {"other-1.0-cp312-torch2.11.0-cu130-x86_64": "0" * 64}
    assert "is not in the plan of this run" in _refusal(brought)


def test_job_made_from_other_inputs_is_refused(brought: Brought) -> None:
    brought.planned = dict.fromkeys(brought.planned, "0" * 64)
    assert "was made from other inputs" in _refusal(brought)


def test_wheel_with_other_bytes_than_its_record_says_is_refused(brought: Brought) -> None:
    path = brought.stored.path
    path.write_bytes(path.read_bytes() + b"more")
    assert "its record says" in _refusal(brought)


def test_record_that_names_another_index_is_refused(brought: Brought) -> None:
    brought.change_record(index_label="torch2.11.0-cu130-sm90")
    assert "The record of" in _refusal(brought)


def test_wheel_that_does_not_pass_the_check_is_refused(
    brought: Brought, store_probe: Callable[..., StoredWheel]
) -> None:
    """The record says that it passed; the wheel has no extension at all."""
    shutil.rmtree(brought.folder)
    poor = store_probe(machine=MACHINE)
    assert poor.record.check.passed
    assert "probe_cuda" in _refusal(brought)


def test_link_is_no_wheel(brought: Brought, tmp_path: Path) -> None:
    path = brought.stored.path
    path.rename(tmp_path / "elsewhere.whl")
    path.symlink_to(tmp_path / "elsewhere.whl")
    assert "is not there, or no file" in _refusal(brought)


def test_file_that_is_no_record_is_refused(brought: Brought) -> None:
    brought.record_path.write_text("{}")
    assert "cannot be read" in _refusal(brought)


def test_reports_of_taken_wheels_come_along_and_no_others(brought: Brought) -> None:
    record = brought.stored.record
    folder = brought.folder / "reports"
    for number, sha256 in enumerate((record.sha256, "f" * 64)):
        report = TestReport(
            sha256=sha256,
            filename=record.filename,
            level=TestLevel.ran_on_gpu,
            machine="gpu",
            machine_description="GPU",
            measurements=(),
            seconds=1.0,
            created=record.created,
        )
        path = folder / sha256 / f"report-{number}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(report.to_json())
    found = brought.accept()
    assert found.reports == 1
    assert len(found.refused) == 1
    assert brought.yard.best_level(record.sha256) is TestLevel.ran_on_gpu


def test_jobs_that_nobody_brought_are_left(brought: Brought) -> None:
    brought.planned |= {"probe-1.0-cp312-torch2.11.0-cu130-x86_64": "0" * 64}
    assert brought.accept().left == ("probe-1.0-cp312-torch2.11.0-cu130-x86_64",)


@pytest.fixture
def store_good_probe(
    store_probe: Callable[..., StoredWheel],
    replace_wheel: Callable[[StoredWheel], StoredWheel],
) -> Callable[[], StoredWheel]:
    return lambda: replace_wheel(store_probe(machine=MACHINE))


@pytest.fixture
def replace_wheel(
    link_c: Callable[..., Path],
    make_fatbin: Callable[..., bytes],
    make_wheel: Callable[..., Path],
) -> Callable[[StoredWheel], StoredWheel]:
    """Return a function that puts a wheel with a real extension in the place of a plain one."""

    def replace(stored: StoredWheel) -> StoredWheel:
        record = stored.record
        cubins = [arch.major * 10 + arch.minor for arch in parse_gpu_archs("8.0;9.0;12.0")]
        extension = link_c(
            "probe_cuda.so",
            defines=["PyInit_probe_cuda"],
            gpu_code=make_fatbin(cubins=cubins),
        )
        suffix = f".cpython-312-{MACHINE}-linux-gnu.so"
        path = make_wheel(
            name="probe",
            version=str(record.version),
            tag=f"cp312-cp312-manylinux_2_17_{MACHINE}",
            requires=["torch==2.11.0", "packaging"],
            files={"probe/__init__.py": b"", f"probe_cuda{suffix}": extension.read_bytes()},
        )
        shutil.copy(path, stored.path)
        metadata = read_dist_info(path, "METADATA")
        changed = msgspec.structs.replace(
            record,
            sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
            size=path.stat().st_size,
            core_metadata_sha256=hashlib.sha256(metadata).hexdigest(),
        )
        record_path = stored.path.parents[1] / "records" / f"{record.filename}.json"
        record_path.write_bytes(changed.to_json())
        return dataclasses.replace(stored, record=changed)

    return replace
