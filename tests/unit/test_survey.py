"""How many jobs stand against the yard: the same as each job by itself."""

from __future__ import annotations

import datetime as dt
import gc
from typing import TYPE_CHECKING

import msgspec
import pytest

from wheelyard.farm import Farm, load_farm
from wheelyard.model.probe_record import ProbeRecord
from wheelyard.model.record import RecordedToolkit
from wheelyard.planning.plan import JobState, wanted_jobs
from wheelyard.survey import planning, survey
from wheelyard.workshop import Options, Workshop, open_workshop
from wheelyard.yard.probes import put_probe
from wheelyard.yard.store import open_yard

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from wheelyard.model.job import Job


def _open(farm: Farm, tmp_path: Path) -> Workshop:
    env = {"HOME": str(tmp_path / "home"), "PATH": "", "WHEELYARD_CACHE": str(tmp_path / "cache")}
    return open_workshop(farm, open_yard(tmp_path / "yard"), env=env, options=Options())


@pytest.fixture
def workshop(probe_farm: Path, tmp_path: Path) -> Workshop:
    return _open(load_farm(probe_farm), tmp_path)


def test_fingerprints_are_those_of_each_job_by_itself(real_farm: Farm, tmp_path: Path) -> None:
    workshop = _open(real_farm, tmp_path)
    found = survey(wanted_jobs(real_farm.recipes, real_farm.matrix), workshop)
    assert len(found.planned) > 50
    assert len({item.job.group for item in found.planned}) < len(found.planned)
    for item in found.planned:
        assert item.fingerprint == workshop.fingerprint(item.job)


def test_patch_for_some_pythons_only_is_in_the_fingerprints_of_those(
    write_farm: Callable[..., Path], recipe_text: str, tmp_path: Path
) -> None:
    patch = 'file = "0001-first.patch"\n'
    text = recipe_text.replace(patch, f'{patch}python = ">=3.12"\n')
    workshop = _open(load_farm(_locked(write_farm(probe=text))), tmp_path)
    farm = workshop.farm
    found = survey(wanted_jobs(farm.recipes, farm.matrix), workshop)
    assert found.planned
    for item in found.planned:
        assert item.fingerprint == workshop.fingerprint(item.job)


def _locked(folder: Path) -> Path:
    from wheelyard.planning.locks import wanted_locks  # noqa: PLC0415

    for request in wanted_locks(load_farm(folder)):
        path = folder / request.path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{request.header}\n", encoding="utf-8")
    return folder


def test_job_without_a_lock_is_told_apart_with_the_command_that_makes_it(
    workshop: Workshop, probe_farm: Path
) -> None:
    (probe_farm / "locks/torch/2.8.0+cu128.txt").unlink()
    found = survey(wanted_jobs(workshop.farm.recipes, workshop.farm.matrix), workshop)
    assert found.planned
    assert {str(item.job.cell.torch) for item in found.planned} == {"2.11.0+cu130"}
    assert {str(item.job.cell.torch) for item in found.unlocked} == {"2.8.0+cu128"}
    assert "Run `wheelyard update torch 2.8.0+cu128`" in found.unlocked[0].reason


def test_in_an_empty_yard_everything_is_missing(
    workshop: Workshop, make_probe_job: Callable[..., Job]
) -> None:
    (item,) = survey([make_probe_job()], workshop).planned
    assert item.standing.state is JobState.missing


@pytest.fixture
def probed(workshop: Workshop, make_probe_job: Callable[..., Job]) -> Callable[..., ProbeRecord]:
    """Return a function that puts the probe of a job into the yard."""

    def put(**changes: object) -> ProbeRecord:
        job = make_probe_job(gpu_archs="9.0")
        fingerprint = workshop.fingerprint(job)
        record = ProbeRecord(
            identifier=job.identifier,
            recipe=job.version.label,
            cell=job.cell.identifier,
            gpu_archs=("9.0",),
            plan_fingerprint=fingerprint.sha256,
            fingerprint_inputs=dict(fingerprint.inputs),
            source="sha256:" + "4" * 64,
            tree_sha256="5" * 64,
            patches=(),
            compiler="gcc",
            toolkit=RecordedToolkit(provider="index", version="13.0"),
            sandbox="unshare",
            units=(),
            left_out=1,
            seconds=1.0,
            cpu_seconds=1.0,
            created=dt.datetime(2026, 11, 27, tzinfo=dt.UTC),
        )
        record = msgspec.structs.replace(record, **changes)
        put_probe(workshop.yard, record)
        return record

    return put


def test_job_that_was_probed_says_so_with_the_gpu_targets(
    workshop: Workshop, make_probe_job: Callable[..., Job], probed: Callable[..., ProbeRecord]
) -> None:
    probed()
    for job in (make_probe_job(gpu_archs="9.0"), make_probe_job()):
        (item,) = survey([job], workshop).planned
        assert item.standing.state is JobState.probed
        assert item.standing.probed == ("9.0",)


def test_probe_of_another_python_says_nothing(
    workshop: Workshop, make_probe_job: Callable[..., Job], probed: Callable[..., ProbeRecord]
) -> None:
    probed()
    (item,) = survey([make_probe_job(python="3.13")], workshop).planned
    assert item.standing.state is JobState.missing


def test_probe_of_what_has_changed_since_says_nothing(
    workshop: Workshop, make_probe_job: Callable[..., Job], probed: Callable[..., ProbeRecord]
) -> None:
    record = probed()
    probed(fingerprint_inputs=record.fingerprint_inputs | {"revision": 7})
    (item,) = survey([make_probe_job()], workshop).planned
    assert item.standing.state is JobState.missing


@pytest.mark.parametrize("enabled", [True, False])
def test_collector_is_left_as_it_was(*, enabled: bool) -> None:
    was_enabled = gc.isenabled()
    try:
        (gc.enable if enabled else gc.disable)()
        with planning():
            assert not gc.isenabled()
        assert gc.isenabled() is enabled
    finally:
        (gc.enable if was_enabled else gc.disable)()
