"""Write down how a wheel was made, as the record and the first test report of the yard."""

from __future__ import annotations

import dataclasses
import hashlib
from typing import TYPE_CHECKING, assert_never

from wheelyard.model.metadata import parse_core_metadata
from wheelyard.model.probe_record import ProbeRecord, RecordedUnit
from wheelyard.model.record import (
    Adopted,
    BuildRecord,
    Built,
    RecordedBuild,
    RecordedCheck,
    RecordedPatch,
    RecordedToolkit,
    TestReport,
    build_digest,
    machine_label,
)
from wheelyard.toolchain.containers import ContainerSandbox
from wheelyard.wheels.stamp import read_dist_info
from wheelyard.wheels.values import AdoptedWheel

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Mapping

    from wheelyard.model.job import Job
    from wheelyard.planning.fingerprint import PlanFingerprint
    from wheelyard.sources.values import PatchedSource
    from wheelyard.toolchain.compile_cache import CacheStatistics
    from wheelyard.toolchain.values import Runtime, Toolchain
    from wheelyard.wheels.probe import ProbedSource
    from wheelyard.wheels.values import BuiltWheel, TestedWheel


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Compiled:
    """What a build contributed beside the wheel itself."""

    toolchain: Toolchain
    patched: PatchedSource
    built: BuiltWheel
    cache: CacheStatistics
    compile_jobs: int


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Made:
    """What a job's run contributed beside the wheel itself."""

    job: Job
    fingerprint: PlanFingerprint
    origin: Compiled | AdoptedWheel
    runtime: Runtime
    """What the wheel was checked and tried beside."""
    seconds: Mapping[str, float]
    locks: Mapping[str, str]
    created: dt.datetime


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class ProbeMade:
    """What a probe's run contributed beside the units that compiled."""

    job: Job
    fingerprint: PlanFingerprint
    patched: PatchedSource
    toolchain: Toolchain
    created: dt.datetime


def make_probe_record(probed: ProbedSource, made: ProbeMade) -> ProbeRecord:
    """Return the record of a probe."""
    job, patched, toolkit = made.job, made.patched, made.toolchain.toolkit
    return ProbeRecord(
        identifier=job.identifier,
        recipe=job.version.label,
        cell=job.cell.identifier,
        gpu_archs=tuple(str(arch) for arch in job.gpu_archs),
        plan_fingerprint=made.fingerprint.sha256,
        fingerprint_inputs=dict(made.fingerprint.inputs),
        source=patched.source.digest,
        tree_sha256=patched.digest.removeprefix("sha256:"),
        patches=_patches(patched),
        compiler=_compiler(made.toolchain),
        toolkit=RecordedToolkit(provider=toolkit.provider, version=str(toolkit.cuda)),
        sandbox=str(made.toolchain.sandbox.level),
        units=tuple(
            RecordedUnit(source=unit.source, seconds=unit.seconds) for unit in probed.units
        ),
        left_out=probed.left_out,
        seconds=round(probed.seconds, 3),
        cpu_seconds=round(probed.cpu_seconds, 3),
        created=made.created,
    )


def make_record(tested: TestedWheel, made: Made) -> BuildRecord:
    """Return the record of a tested wheel."""
    job, runtime = made.job, made.runtime
    wheel = tested.wheel.wheel
    metadata = read_dist_info(wheel.path, "METADATA")
    return BuildRecord(
        identifier=job.identifier,
        index_label=job.index_label,
        filename=wheel.path.name,
        sha256=wheel.sha256,
        size=wheel.path.stat().st_size,
        name=job.version.recipe,
        version=wheel.version,
        revision=job.version.revision,
        requires_python=parse_core_metadata(metadata).requires_python,
        core_metadata_sha256=hashlib.sha256(metadata).hexdigest(),
        python=str(job.cell.python),
        torch=str(job.cell.torch),
        machine=job.cell.machine,
        gpu_archs=tuple(str(arch) for arch in job.gpu_archs),
        plan_fingerprint=made.fingerprint.sha256,
        build_digest=build_digest(made.fingerprint.sha256, _contributed(made)),
        fingerprint_inputs=dict(made.fingerprint.inputs),
        origin=record_origin(made.origin),
        locks=dict(made.locks),
        sandbox=str(runtime.sandbox.level),
        torch_origin=runtime.torch.origin,
        seconds=dict(made.seconds),
        check=RecordedCheck(passed=True, summary=tested.wheel.report.to_json()),
        created=made.created,
    )


def _contributed(made: Made) -> dict[str, str]:
    """Name what this machine added to the plan, for the build digest."""
    runtime = made.runtime
    contributed = {
        "interpreter": runtime.interpreter.full_version,
        "sandbox": str(runtime.sandbox.level),
        "torch": f"{runtime.torch.origin} {runtime.torch.digest}",
    }
    if isinstance(made.origin, Compiled):
        toolchain = made.origin.toolchain
        contributed["compiler"] = _compiler(toolchain)
        if container := _container(toolchain):
            contributed["container"] = container
        contributed["toolkit"] = f"{toolchain.toolkit.provider} {toolchain.toolkit.digest}"
    return contributed


def _container(toolchain: Toolchain) -> str:
    """Name the image that was compiled in, if it was one."""
    sandbox = toolchain.sandbox
    return str(sandbox.image) if isinstance(sandbox, ContainerSandbox) else ""


def _compiler(toolchain: Toolchain) -> str:
    return f"{toolchain.compiler} {toolchain.compiler.target}"


def record_origin(origin: Compiled | AdoptedWheel) -> Built | Adopted:
    """Return how record and bill of materials name the origin of a wheel."""
    match origin:
        case Compiled():
            return _record_build(origin)
        case AdoptedWheel():
            return Adopted(url=origin.url, filename=origin.filename, sha256=origin.sha256)
        case _:
            assert_never(origin)


def _record_build(compiled: Compiled) -> Built:
    toolkit, patched, built = compiled.toolchain.toolkit, compiled.patched, compiled.built
    return Built(
        source=patched.source.digest,
        tree_sha256=patched.digest.removeprefix("sha256:"),
        patches=_patches(patched),
        compiler=_compiler(compiled.toolchain),
        container=_container(compiled.toolchain),
        toolkit=RecordedToolkit(provider=toolkit.provider, version=str(toolkit.cuda)),
        build=RecordedBuild(
            seconds=round(built.seconds, 3),
            cpu_seconds=round(built.cpu_seconds, 3),
            compile_jobs=compiled.compile_jobs,
            cache_hits=dict(compiled.cache.hits),
            cache_misses=dict(compiled.cache.misses),
            cache_reasons=compiled.cache.reasons,
        ),
    )


def _patches(patched: PatchedSource) -> tuple[RecordedPatch, ...]:
    return tuple(RecordedPatch(name=patch.name, sha256=patch.sha256) for patch in patched.patches)


def make_report(tested: TestedWheel, *, created: dt.datetime) -> TestReport:
    """Return the report of a smoke test: of the first one, or of a later one."""
    wheel = tested.wheel.wheel
    description = tested.report.machine_description
    return TestReport(
        sha256=wheel.sha256,
        filename=wheel.path.name,
        level=tested.level,
        machine=machine_label(description),
        machine_description=description,
        measurements=tuple(dict(item) for item in tested.report.measurements),
        seconds=round(tested.report.seconds, 3),
        created=created,
    )
