"""Write down how a wheel was made, as the record and the first test report of the yard."""

from __future__ import annotations

import dataclasses
import hashlib
from typing import TYPE_CHECKING

from wheelyard.model.metadata import parse_core_metadata
from wheelyard.model.record import (
    BuildRecord,
    RecordedBuild,
    RecordedCheck,
    RecordedPatch,
    RecordedToolkit,
    TestReport,
    build_digest,
    machine_label,
)
from wheelyard.wheels.stamp import read_dist_info

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Mapping

    from wheelyard.model.job import Job
    from wheelyard.planning.fingerprint import PlanFingerprint
    from wheelyard.sources.values import PatchedSource
    from wheelyard.toolchain.compile_cache import CacheStatistics
    from wheelyard.toolchain.values import Toolchain
    from wheelyard.wheels.values import BuiltWheel, TestedWheel


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Made:
    """What a job's run contributed beside the wheel itself."""

    job: Job
    fingerprint: PlanFingerprint
    toolchain: Toolchain
    patched: PatchedSource
    built: BuiltWheel
    cache: CacheStatistics
    compile_jobs: int
    seconds: Mapping[str, float]
    locks: Mapping[str, str]
    created: dt.datetime


def make_record(tested: TestedWheel, made: Made) -> BuildRecord:
    """Return the record of a tested wheel."""
    job, toolchain = made.job, made.toolchain
    wheel = tested.wheel.wheel
    metadata = read_dist_info(wheel.path, "METADATA")
    contributed = {
        "compiler": f"{toolchain.compiler} {toolchain.compiler.target}",
        "interpreter": toolchain.interpreter.full_version,
        "sandbox": str(toolchain.sandbox.level),
        "toolkit": f"{toolchain.toolkit.provider} {toolchain.toolkit.digest}",
        "torch": f"{toolchain.torch.origin} {toolchain.torch.digest}",
    }
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
        build_digest=build_digest(made.fingerprint.sha256, contributed),
        fingerprint_inputs=dict(made.fingerprint.inputs),
        source=made.patched.source.digest,
        tree_sha256=made.patched.digest.removeprefix("sha256:"),
        patches=tuple(
            RecordedPatch(name=patch.name, sha256=patch.sha256) for patch in made.patched.patches
        ),
        locks=dict(made.locks),
        compiler=contributed["compiler"],
        sandbox=contributed["sandbox"],
        toolkit=RecordedToolkit(
            provider=toolchain.toolkit.provider, version=str(toolchain.toolkit.cuda)
        ),
        torch_origin=toolchain.torch.origin,
        seconds=dict(made.seconds),
        build=RecordedBuild(
            seconds=round(made.built.seconds, 3),
            cpu_seconds=round(made.built.cpu_seconds, 3),
            compile_jobs=made.compile_jobs,
            cache_hits=dict(made.cache.hits),
            cache_misses=dict(made.cache.misses),
        ),
        check=RecordedCheck(passed=True, summary=tested.wheel.report.to_json()),
        created=made.created,
    )


def make_report(tested: TestedWheel, made: Made) -> TestReport:
    """Return the report of the smoke test that let the wheel into the yard."""
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
        created=made.created,
    )
