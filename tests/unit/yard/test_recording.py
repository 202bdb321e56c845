"""What the record says of a wheel that was built, and of one that was adopted."""

from __future__ import annotations

import dataclasses
import datetime as dt
import hashlib
from typing import TYPE_CHECKING

import pytest

from wheelyard.machine.namespaces import SandboxLevel
from wheelyard.model.record import Adopted, Built
from wheelyard.planning.fingerprint import adopted_fingerprint
from wheelyard.sources.values import AppliedPatch, FetchedSource, PatchedSource
from wheelyard.toolchain.compile_cache import CacheStatistics
from wheelyard.toolchain.sandbox import choose_sandbox
from wheelyard.wheels.findings import CheckReport
from wheelyard.wheels.values import (
    AdoptedWheel,
    BuiltWheel,
    CheckedWheel,
    RepairedWheel,
    SmokeReport,
    TestedWheel,
    TestLevel,
)
from wheelyard.yard.recording import Compiled, Made, make_record, make_report

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from wheelyard.model.job import Job
    from wheelyard.toolchain.values import Toolchain

CREATED = dt.datetime(2026, 11, 24, tzinfo=dt.UTC)
UPSTREAM = "probe-1.1+cu13torch2.11-cp312-cp312-linux_x86_64.whl"


@pytest.fixture
def job(make_probe_job: Callable[..., Job]) -> Job:
    return make_probe_job()


@pytest.fixture
def tested(make_wheel: Callable[..., Path], job: Job) -> TestedWheel:
    path = make_wheel(name="probe", version=str(job.wheel_version))
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    repaired = RepairedWheel(
        path=path,
        sha256=sha256,
        version=job.wheel_version,
        platform_tag="manylinux_2_28_x86_64",
        external_libraries=(),
        grafted_libraries=(),
        policy_symbols=(),
    )
    report = CheckReport(
        filename=path.name,
        sha256=sha256,
        findings=(),
        gpu_code={},
        external_libraries=(),
        platform_tag="",
    )
    smoke = SmokeReport(
        level=TestLevel.imported, machine_description="no GPU", measurements=(), seconds=1.23456
    )
    checked = CheckedWheel(wheel=repaired, report=report)
    return TestedWheel(wheel=checked, level=smoke.level, report=smoke)


@pytest.fixture
def toolchain(make_toolchain: Callable[..., Toolchain], tmp_path: Path) -> Toolchain:
    sandbox = choose_sandbox(SandboxLevel.NONE, env={}, scratch=tmp_path)
    return make_toolchain(tmp_path, sandbox=sandbox)


@pytest.fixture
def make(job: Job, toolchain: Toolchain) -> Callable[..., Made]:
    """Return a function that says what a run contributed."""

    def made(origin: Compiled | AdoptedWheel) -> Made:
        return Made(
            job=job,
            fingerprint=adopted_fingerprint(job, upstream_sha256="a" * 64),
            origin=origin,
            runtime=toolchain,
            seconds={"check": 0.5},
            locks={"locks/torch/2.11.0+cu130.txt": "b" * 64},
            created=CREATED,
        )

    return made


@pytest.fixture
def adopted(tmp_path: Path) -> AdoptedWheel:
    return AdoptedWheel(
        path=tmp_path / "probe.whl",
        sha256="a" * 64,
        log_path=tmp_path / "log",
        url=f"https://example.org/{UPSTREAM}",
        filename=UPSTREAM,
    )


def test_record_of_an_adopted_wheel_says_where_it_came_from(
    tested: TestedWheel, make: Callable[..., Made], adopted: AdoptedWheel, job: Job
) -> None:
    record = make_record(tested, make(adopted))
    assert record.origin == Adopted(
        url=f"https://example.org/{UPSTREAM}", filename=UPSTREAM, sha256="a" * 64
    )
    assert record.identifier == job.identifier
    assert record.sha256 == tested.wheel.wheel.sha256
    assert record.fingerprint_inputs["adopted"] == "a" * 64
    assert record.sandbox == "none"
    assert record.torch_origin == "locked"


@pytest.fixture
def compiled(toolchain: Toolchain, job: Job, tmp_path: Path) -> Compiled:
    digest = "sha256:" + "c" * 64
    fetched = FetchedSource(source=job.version.source, path=tmp_path, digest=digest)
    return Compiled(
        toolchain=toolchain,
        patched=PatchedSource(
            tree=tmp_path,
            digest="sha256:" + "d" * 64,
            source=fetched,
            patches=(AppliedPatch(name="0001-first.patch", sha256="e" * 64),),
        ),
        built=BuiltWheel(
            path=tmp_path, sha256="", log_path=tmp_path, seconds=60.00049, cpu_seconds=110.5
        ),
        cache=CacheStatistics(hits={"CUDA": 1}, misses={}),
        compile_jobs=2,
    )


def test_record_of_a_built_wheel_says_what_built_it(
    tested: TestedWheel, make: Callable[..., Made], compiled: Compiled
) -> None:
    origin = make_record(tested, make(compiled)).origin
    assert isinstance(origin, Built)
    assert origin.compiler.endswith("x86_64-linux-gnu")
    assert (origin.source, origin.tree_sha256) == ("sha256:" + "c" * 64, "d" * 64)
    assert [patch.name for patch in origin.patches] == ["0001-first.patch"]
    assert (origin.toolkit.provider, origin.toolkit.version) == ("installed", "13.0")
    assert (origin.build.seconds, origin.build.cache_hits) == (60.0, {"CUDA": 1})


def test_compiler_had_a_part_in_a_built_wheel_only(
    tested: TestedWheel, make: Callable[..., Made], adopted: AdoptedWheel, compiled: Compiled
) -> None:
    newer = dataclasses.replace(compiled.toolchain.compiler, version=(13, 1, 0))
    toolchain = dataclasses.replace(compiled.toolchain, compiler=newer)

    def digests(origin: Compiled | AdoptedWheel) -> set[str]:
        made = make(origin)
        runs = (made, dataclasses.replace(made, runtime=toolchain))
        return {make_record(tested, run).build_digest for run in runs}

    other = dataclasses.replace(compiled, toolchain=toolchain)
    assert len(digests(adopted)) == 1
    assert len(digests(compiled) | digests(other)) == 2


def test_report_is_of_the_wheel_that_was_tested(
    tested: TestedWheel, make: Callable[..., Made], adopted: AdoptedWheel
) -> None:
    report = make_report(tested, created=make(adopted).created)
    assert (report.sha256, report.level) == (tested.wheel.wheel.sha256, TestLevel.imported)
    assert (report.seconds, report.machine) == (1.235, "no-gpu")
