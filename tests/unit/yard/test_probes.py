"""Records of probes, apart from all wheels."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING

import msgspec
import pytest

from wheelyard.errors import YardError
from wheelyard.model.probe_record import ProbeRecord, RecordedUnit
from wheelyard.model.record import RecordedToolkit
from wheelyard.yard.index import write_index
from wheelyard.yard.probes import find_probe, put_probe, read_probes

if TYPE_CHECKING:
    from wheelyard.yard.folder import Yard

RECORD = ProbeRecord(
    identifier="demo-ext-1.0-cp312-torch2.11.0-cu130-x86_64-sm90",
    recipe="demo-ext-1.0",
    cell="cp312-torch2.11.0-cu130-x86_64",
    gpu_archs=("9.0",),
    plan_fingerprint="3" * 64,
    fingerprint_inputs={"gpu_archs": ["9.0"]},
    source="sha256:" + "4" * 64,
    tree_sha256="5" * 64,
    patches=(),
    compiler="gcc 12.2.0 x86_64-linux-gnu",
    toolkit=RecordedToolkit(provider="index", version="13.0"),
    sandbox="unshare",
    units=(RecordedUnit(source="csrc/a.cu", seconds=61.5),),
    left_out=71,
    seconds=70.0,
    cpu_seconds=65.0,
    created=dt.datetime(2026, 11, 27, 12, 0, tzinfo=dt.UTC),
)


def test_probe_is_found_as_it_was_written(yard: Yard) -> None:
    path = put_probe(yard, RECORD)
    assert path == yard.path / "probes" / f"{RECORD.identifier}.json"
    assert find_probe(yard, RECORD.identifier) == RECORD
    assert read_probes(yard) == (RECORD,)


def test_later_probe_takes_the_place_of_the_earlier(yard: Yard) -> None:
    put_probe(yard, RECORD)
    later = msgspec.structs.replace(RECORD, seconds=1.0)
    put_probe(yard, later)
    assert read_probes(yard) == (later,)


def test_yard_without_probes_has_none(yard: Yard) -> None:
    assert find_probe(yard, RECORD.identifier) is None
    assert read_probes(yard) == ()


def test_probe_is_no_wheel_to_the_yard_or_its_index(yard: Yard) -> None:
    put_probe(yard, RECORD)
    write_index(yard)
    assert yard.records() == ()
    assert yard.find(identifier=RECORD.identifier) is None
    assert not [path for path in yard.index_dir.rglob("*") if "demo-ext" in path.name]


def test_probe_under_the_name_of_another_job_is_refused(yard: Yard) -> None:
    path = put_probe(yard, RECORD)
    path.rename(path.with_name("other.json"))
    with pytest.raises(YardError, match=r"is the probe of 'demo-ext-1\.0-cp312"):
        read_probes(yard)


def test_probe_of_a_later_wheelyard_is_refused(yard: Yard) -> None:
    path = put_probe(yard, RECORD)
    path.write_text(path.read_text().replace('"format": 1', '"format": 9'))
    with pytest.raises(YardError, match="has format 9, this wheelyard reads format 1"):
        find_probe(yard, RECORD.identifier)
