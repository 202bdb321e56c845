"""The only module that knows the order of the stages, for one job."""

from __future__ import annotations

import dataclasses
import datetime as dt
import logging
import time
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from wheelyard.errors import CheckError, YardError
from wheelyard.folders import remove_tree
from wheelyard.locking import held
from wheelyard.log import job_context
from wheelyard.machine.cores import usable_cores
from wheelyard.machine.disk import require_space
from wheelyard.machine.gpu import find_driver
from wheelyard.machine.memory import available_memory
from wheelyard.machine.namespaces import SandboxLevel
from wheelyard.model.cell import GpuArch
from wheelyard.model.lock import runtime_lock_request, without
from wheelyard.planning.estimate import choose_compile_jobs, gpu_archs_hint, make_estimate
from wheelyard.planning.fingerprint import explain_difference
from wheelyard.planning.locks import job_locks, torch_lock
from wheelyard.sources.patch import apply_patches
from wheelyard.toolchain.provide import ToolchainRequest, provide_toolchain
from wheelyard.toolchain.requirements import provide_requirements
from wheelyard.toolchain.rooms import interpreter_rooms, make_environment, python_environment
from wheelyard.toolchain.sandbox import Order, Room
from wheelyard.toolchain.values import Places
from wheelyard.wheels.build import BuildRequest, build_wheel
from wheelyard.wheels.check import check
from wheelyard.wheels.expecting import make_expectation
from wheelyard.wheels.findings import Surroundings
from wheelyard.wheels.repair import repair_wheel
from wheelyard.wheels.smoke import SmokeRequest, smoke_test
from wheelyard.wheels.staging import stage_wheel
from wheelyard.wheels.values import CheckedWheel, TestLevel
from wheelyard.yard.index import write_index
from wheelyard.yard.recording import Made, make_record, make_report
from wheelyard.yard.store import store_wheel

if TYPE_CHECKING:
    from collections.abc import Callable

    from wheelyard.model.job import Job
    from wheelyard.planning.estimate import Estimate
    from wheelyard.planning.fingerprint import PlanFingerprint
    from wheelyard.progress import Progress
    from wheelyard.sources.values import FetchedSource, PatchedSource
    from wheelyard.toolchain.values import Toolchain
    from wheelyard.wheels.values import BuiltWheel, RepairedWheel, TestedWheel
    from wheelyard.workshop import Workshop
    from wheelyard.yard.store import StoredWheel

T = TypeVar("T")
logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """A finished job: its wheel in the yard, and whether this run built it."""

    job: Job
    stored: StoredWheel
    built: bool
    seconds: float


class _Stages:
    """Runs the stages of one job and remembers how long each took."""

    def __init__(self, progress: Progress) -> None:
        self.progress = progress
        self.seconds: dict[str, float] = {}

    def timed(self, name: str, work: Callable[[], T]) -> T:
        started = time.monotonic()
        with self.progress.stage(name):
            result = work()
        self.seconds[name] = round(time.monotonic() - started, 3)
        return result


def build_job(job: Job, workshop: Workshop, progress: Progress) -> Outcome:
    """Take one job through every stage into the yard, or find it there.

    When another process builds the same job, wait for it and take its result.
    """
    started = time.monotonic()
    fingerprint = workshop.fingerprint(job)
    with job_context(job.identifier):
        stored = _find(fingerprint, workshop)
        if stored is not None:
            write_index(workshop.yard)  # a run that was killed may not have come so far
            return _outcome(job, stored, built=False, started=started)
        work = workshop.cache / "work" / job.identifier
        with held(work.with_name(f"{work.name}.lock"), what=f"the other build of {job.identifier}"):
            stored = _find(fingerprint, workshop)
            built = stored is None
            if stored is None:
                _refuse_stale(job, fingerprint, workshop)
                remove_tree(work)
                work.mkdir(parents=True)
                run = _start(job, fingerprint, workshop, progress, work)
                stored = _run_stages(run)
                remove_tree(work)
    return _outcome(job, stored, built=built, started=started)


def _start(
    job: Job, fingerprint: PlanFingerprint, workshop: Workshop, progress: Progress, work: Path
) -> _Run:
    log_path = workshop.yard.log_path(job.identifier)
    log_path.unlink(missing_ok=True)
    return _Run(
        job=job,
        fingerprint=fingerprint,
        workshop=workshop,
        work=work,
        log_path=log_path,
        stages=_Stages(progress),
    )


def _outcome(job: Job, stored: StoredWheel, *, built: bool, started: float) -> Outcome:
    return Outcome(job=job, stored=stored, built=built, seconds=time.monotonic() - started)


def _refuse_stale(job: Job, fingerprint: PlanFingerprint, workshop: Workshop) -> None:
    """A filename is used once: say so before compiling for hours, not after."""
    older = workshop.yard.find(identifier=job.identifier)
    if older is None or older.record.revision < job.version.revision:
        return
    changed = "; ".join(explain_difference(older.record.fingerprint_inputs, fingerprint.inputs))
    msg = (
        f"The yard has {older.record.filename}, made from other inputs ({changed}). A filename is "
        f"used once: raise `revision` of version {job.version.version} in "
        f"recipes/{job.version.recipe}.toml above {older.record.revision}."
    )
    raise YardError(msg)


def _find(fingerprint: PlanFingerprint, workshop: Workshop) -> StoredWheel | None:
    return workshop.yard.find(plan_fingerprint=fingerprint.sha256)


def toolchain_for(job: Job, workshop: Workshop, progress: Progress) -> Toolchain:
    """Find or make everything that the job's compile will meet."""
    farm = workshop.farm
    locks = {request.kind: farm.lock(request) for request in job_locks(job)}
    return provide_toolchain(
        ToolchainRequest(
            cell=job.cell,
            torch_lock=locks.get("torch"),
            toolkit_lock=locks.get("toolkit"),
            redist=workshop.redistributables(job.cell.torch.cuda),
            build_lock=locks["build"],
            foreign_python=workshop.options.foreign_python if job.foreign_torch else None,
            toolkit_provider=workshop.options.toolkit,
            gcc_major=farm.matrix.gcc_major,
            sandbox=workshop.sandbox(),
            cache=workshop.cache,
            env=workshop.env,
            uv_env=workshop.uv_env(None if job.foreign_torch else job.cell.torch),
        ),
        say=progress.say,
    )


def runtime_for(job: Job, workshop: Workshop, toolchain: Toolchain) -> Path:
    """Return the folder of what the job's wheel requires beside torch, for its smoke test."""
    farm = workshop.farm
    torch = None if job.foreign_torch else farm.lock(torch_lock(job.cell.torch))
    lock = farm.lock(runtime_lock_request(job.version))
    return provide_requirements(
        without(lock.text, frozenset() if torch is None else torch.names),
        interpreter=toolchain.interpreter,
        cache=workshop.cache,
        env=workshop.uv_env(),
        copy=toolchain.sandbox.level is SandboxLevel.NONE,
    )


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class _Run:
    """One run of the stages: what each of them is given beside the value before it."""

    job: Job
    fingerprint: PlanFingerprint
    workshop: Workshop
    work: Path
    log_path: Path
    stages: _Stages


def _run_stages(run: _Run) -> StoredWheel:
    job, workshop, stages = run.job, run.workshop, run.stages
    progress = stages.progress
    fetched = stages.timed("fetch", lambda: workshop.fetch(job))
    toolchain = stages.timed("toolchain", lambda: toolchain_for(job, workshop, progress))
    patched = stages.timed("patch", lambda: _patch(run, fetched, toolchain))
    request = _build_request(run, toolchain)
    built, cache = stages.timed(
        "build", lambda: build_wheel(patched, request, on_step=progress.step)
    )
    repaired = stages.timed("repair", lambda: _repair(run, built))
    checked = stages.timed("check", lambda: _check(run, repaired, toolchain))
    tested = stages.timed("smoke", lambda: _smoke(run, checked, toolchain))
    made = Made(
        job=job,
        fingerprint=run.fingerprint,
        toolchain=toolchain,
        patched=patched,
        built=built,
        cache=cache,
        compile_jobs=request.compile_jobs,
        seconds=stages.seconds,
        locks=workshop.lock_digests(job),
        created=dt.datetime.now(dt.UTC).replace(microsecond=0),
    )
    return stages.timed("store", lambda: _store(run, tested, made))


def _patch(run: _Run, fetched: FetchedSource, toolchain: Toolchain) -> PatchedSource:
    farm = run.workshop.farm
    recipe = run.job.version.recipe

    def run_python(script: Path, tree: Path) -> None:
        _run_transformation(script, tree, toolchain=toolchain, run=run)

    return apply_patches(
        fetched,
        [farm.patch_path(recipe, patch) for patch in run.job.patches],
        tree=run.work / "source",
        run_python=run_python,
        env=run.workshop.env,
    )


def _run_transformation(script: Path, tree: Path, *, toolchain: Toolchain, run: _Run) -> None:
    """Run a patch that is code where it can reach nothing but the tree that it changes."""
    places = Places(base=toolchain.sandbox.base)
    interpreter = toolchain.interpreter
    environment = make_environment(
        run.work / "patch-environment", interpreter=interpreter, places=places
    )
    toolchain.sandbox.run(
        Order(
            command=(
                str(places.environment / "bin" / "python"),
                str(places / "patch.py"),
                str(places.source),
            ),
            rooms=(
                *interpreter_rooms(interpreter, places, environment=environment),
                Room(source=script, inside=places / "patch.py"),
                Room(source=tree, inside=places.source, writable=True),
            ),
            env=python_environment(places),
            cwd=places.source,
            log_path=run.log_path,
        )
    )


def _build_request(run: _Run, toolchain: Toolchain) -> BuildRequest:
    """Decide how many compiles run at once, and say what the build will take."""
    job, workshop = run.job, run.workshop
    cores = usable_cores()
    compile_jobs = choose_compile_jobs(
        job,
        cores=cores,
        available_memory=available_memory(),
        wanted=workshop.options.compile_jobs,
    )
    estimate = make_estimate(job, compile_jobs=compile_jobs)
    require_space(run.work, estimate.disk)
    _say_estimate(job, estimate, run.stages.progress)
    if toolchain.sandbox.level is SandboxLevel.NONE:
        run.stages.progress.say(
            "warning: no sandbox on this machine (`wheelyard doctor` says why): the build scripts "
            "of this package can read and write whatever you can"
        )
    return BuildRequest(
        job=job,
        toolchain=toolchain,
        work=run.work,
        compile_cache=workshop.cache / "compile" / job.version.recipe,
        compile_jobs=compile_jobs,
        log_path=run.log_path,
        use_compile_cache=workshop.options.use_compile_cache,
    )


def _say_estimate(job: Job, estimate: Estimate, progress: Progress) -> None:
    archs = " ".join(str(arch) for arch in job.gpu_archs)
    progress.say(
        f"compiling for GPU targets {archs} with {estimate.compile_jobs} jobs: about "
        f"{estimate.seconds / 60:.0f} min, {estimate.memory / 2**30:.0f} GiB of memory and "
        f"{estimate.disk / 2**30:.0f} GiB of disk with an empty compile cache"
    )
    hint = gpu_archs_hint(job, estimate)
    if hint:
        progress.say(hint)


def _repair(run: _Run, built: BuiltWheel) -> RepairedWheel:
    job = run.job
    return repair_wheel(
        built,
        destination=run.work / "repaired",
        version=job.wheel_version,
        torch_requirement=job.torch_requirement,
        build_tag=job.version.revision or None,
        env=run.workshop.env,
    )


def _check(run: _Run, repaired: RepairedWheel, toolchain: Toolchain) -> CheckedWheel:
    """Gate on the static check: a wheel that fails does not enter the yard."""
    report = check(
        repaired.path,
        expectation=make_expectation(run.job, repaired),
        surroundings=Surroundings(
            torch_site=toolchain.torch.site, interpreter=toolchain.interpreter.executable
        ),
        scratch=run.work,
    )
    if not report.passed:
        msg = f"{report.describe()}\nLog: {run.log_path}"
        raise CheckError(msg)
    return CheckedWheel(wheel=repaired, report=report)


def _smoke(run: _Run, checked: CheckedWheel, toolchain: Toolchain) -> TestedWheel:
    job, workshop = run.job, run.workshop
    runtime = runtime_for(job, workshop, toolchain)
    level, devices = _smoke_level(job, workshop)
    return smoke_test(
        checked,
        SmokeRequest(
            name=str(job.version.recipe),
            version=job.wheel_version,
            script=workshop.farm.smoke_path(job.version.recipe),
            staging_url=stage_wheel(checked.wheel, folder=run.work / "staging"),
            runtime=runtime,
            toolchain=toolchain,
            work=run.work,
            log_path=run.log_path,
            level=level,
            devices=devices,
            uv_env=workshop.uv_env(),
        ),
    )


def _smoke_level(job: Job, workshop: Workshop) -> tuple[TestLevel, tuple[Path, ...]]:
    """Run on the GPU where there is one that the wheel has code for."""
    driver = find_driver(workshop.env)
    built_for = {(arch.major, arch.minor) for arch in job.gpu_archs}
    gpus = () if driver is None else tuple(GpuArch.parse(gpu.arch) for gpu in driver.gpus)
    if any((gpu.major, gpu.minor) in built_for for gpu in gpus):
        return TestLevel.ran_on_gpu, tuple(sorted(Path("/dev").glob("nvidia*")))
    return TestLevel.imported, ()


def _store(run: _Run, tested: TestedWheel, made: Made) -> StoredWheel:
    yard = run.workshop.yard
    stored = store_wheel(
        yard,
        tested.wheel.wheel.path,
        record=make_record(tested, made),
        report=make_report(tested, made),
    )
    write_index(yard)
    return stored
