"""Plans as GitHub takes them: waves of at most 256 groups, every cell once, groups together."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections import Counter
from typing import TYPE_CHECKING

import msgspec
import pytest
from packaging.version import Version

from wheelyard.engines.github import FarmPlan, make_plan, matrices, plan_to_json, read_plan
from wheelyard.errors import InputFileError
from wheelyard.model.cell import Cell, PythonVersion, TorchBuild
from wheelyard.model.job import Job
from wheelyard.model.matrix import Matrix, Runner
from wheelyard.scheduling.order import schedule

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from wheelyard.model.recipe import Recipe

MATRIX = Matrix(
    pythons=(),
    torches=(),
    machines=(),
    exclusions=(),
    priorities=(),
    gcc_major=None,
    runners=(
        Runner(select="probe-1.0.7-*", build=("gpu-box",), gpu=("gpu-box",)),
        Runner(select="*-x86_64", build=("ubuntu-24.04",), gpu=("self-hosted", "gpu")),
    ),
)
PYTHONS = [PythonVersion(3, minor) for minor in range(10, 15)]


def _fingerprint(identifier: str) -> str:
    return hashlib.sha256(identifier.encode()).hexdigest()


def _jobs(probe: Recipe, count: int) -> list[Job]:
    """Return so many jobs in groups of five, of many versions."""
    version = probe.version("1.1")
    jobs = []
    for number in range(count // len(PYTHONS)):
        one = dataclasses.replace(version, version=Version(f"1.0.{number // 2}"))
        cuda = ("2.11.0+cu130", "2.12.1+cu130")[number % 2]
        for python in PYTHONS:
            cell = Cell(python, TorchBuild.parse(cuda), "x86_64")
            archs = version.default_gpu_archs(cell.torch.cuda)
            jobs.append(Job(version=one, cell=cell, gpu_archs=archs))
    return jobs


@pytest.fixture
def plan_of(probe: Recipe) -> Callable[[int], FarmPlan]:
    def plan(count: int) -> FarmPlan:
        return make_plan(schedule(_jobs(probe, count)), MATRIX, fingerprint=_fingerprint)

    return plan


def test_2000_missing_cells_are_all_covered_once_in_waves_that_github_takes(
    plan_of: Callable[[int], FarmPlan],
) -> None:
    plan = plan_of(2000)
    waves = plan.waves()
    assert [len(wave) for wave in waves] == [256, 144]
    entries = [one for wave in waves for one in matrices(wave).build]
    covered = Counter(name for one in entries for name in str(one["jobs"]).split())
    assert len(covered) == 2000
    assert set(covered.values()) == {1}
    assert set(covered) == set(plan.jobs)
    groups = Counter(str(one["group"]) for one in entries)
    assert set(groups.values()) == {1}
    for one in entries:
        assert len(str(one["jobs"]).split()) == len(PYTHONS)


def test_output_of_a_wave_is_smaller_than_what_github_takes(
    plan_of: Callable[[int], FarmPlan],
) -> None:
    document = plan_to_json(plan_of(2000))
    assert document["waves"] == 2
    assert len(json.dumps(document["matrix"])) < 2**20
    assert len(json.dumps(document["gpu"])) < 2**20


def test_groups_stand_in_the_order_of_starting(probe: Recipe) -> None:
    groups = schedule(_jobs(probe, 40))
    plan = make_plan(groups, MATRIX, fingerprint=_fingerprint)
    assert [entry.group for entry in plan.entries] == [group.group.name for group in groups]
    minutes = [entry.minutes for entry in plan.entries]
    assert minutes == sorted(minutes, reverse=True)


def test_first_table_of_the_matrix_that_matches_names_the_runners(
    plan_of: Callable[[int], FarmPlan],
) -> None:
    wave = matrices(plan_of(200).entries)
    runners = {str(one["group"]): (one["runner"], one["gpu"]) for one in wave.build}
    assert runners["probe-1.0.7-torch2.11.0-cu130-x86_64"] == (["gpu-box"], ["gpu-box"])
    assert runners["probe-1.0.8-torch2.11.0-cu130-x86_64"] == (
        ["ubuntu-24.04"],
        ["self-hosted", "gpu"],
    )
    assert len(wave.gpu) == len(wave.build)


def test_digest_changes_with_a_fingerprint_and_not_with_the_order(
    plan_of: Callable[[int], FarmPlan],
) -> None:
    plan = plan_of(20)
    assert FarmPlan(entries=plan.entries[::-1]).digest == plan.digest
    first = plan.entries[0]
    changed = {**first.jobs, next(iter(first.jobs)): "0" * 64}
    other = FarmPlan(entries=(msgspec.structs.replace(first, jobs=changed), *plan.entries[1:]))
    assert other.digest != plan.digest


def test_nothing_missing_is_no_wave() -> None:
    document = plan_to_json(FarmPlan(entries=()))
    assert (document["waves"], document["matrix"]) == (0, {"include": []})


def test_plan_is_read_as_it_was_printed(plan_of: Callable[[int], FarmPlan], tmp_path: Path) -> None:
    plan = plan_of(20)
    path = tmp_path / "plan.json"
    path.write_text(json.dumps(plan_to_json(plan)))
    assert read_plan(path) == plan


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{}",
        '{"plan": {"format": 2, "entries": []}}',
        '{"plan": {"entries": [{"group": "a b"}]}}',
    ],
)
def test_other_files_are_no_plan(tmp_path: Path, text: str) -> None:
    path = tmp_path / "plan.json"
    path.write_text(text)
    with pytest.raises(InputFileError, match="is no plan"):
        read_plan(path)
