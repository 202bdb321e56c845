"""What one run gives each stage of a job, beside the value that the stage before it returned."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime as dt
import time
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from wheelyard.abi.libraries import distribution_libraries, site_libraries
from wheelyard.errors import (
    CheckError,
    IntegrityError,
    OutOfMemoryError,
    UsageError,
    WheelyardError,
)
from wheelyard.files import copy_file, disk_errors, file_sha256
from wheelyard.folders import remove_tree
from wheelyard.locking import held
from wheelyard.machine.cores import usable_cores
from wheelyard.machine.disk import readable_size, require_space
from wheelyard.machine.folders import work_folder
from wheelyard.machine.gpu import find_driver
from wheelyard.machine.memory import available_memory
from wheelyard.machine.namespaces import SandboxLevel
from wheelyard.model.cell import GpuArch
from wheelyard.model.lock import runtime_lock_request, without
from wheelyard.model.sbom import SBOM_NAME, make_sbom
from wheelyard.network.wheel_download import download_wheel, is_web_url
from wheelyard.planning.estimate import choose_compile_jobs, gpu_archs_hint, make_estimate
from wheelyard.planning.locks import job_locks, torch_lock
from wheelyard.sources.patch import apply_patches
from wheelyard.toolchain.admission import Admission
from wheelyard.toolchain.caches import CACHES
from wheelyard.toolchain.provide import (
    RuntimeRequest,
    ToolchainRequest,
    provide_runtime,
    provide_toolchain,
)
from wheelyard.toolchain.requirements import provide_requirements
from wheelyard.toolchain.rooms import interpreter_rooms, make_environment, python_environment
from wheelyard.toolchain.sandbox import Order, Room
from wheelyard.toolchain.sccache import object_name
from wheelyard.toolchain.values import Places
from wheelyard.wheels.build import BuildRequest, build_wheel, object_folders
from wheelyard.wheels.check import check as check_wheel
from wheelyard.wheels.describing import describe
from wheelyard.wheels.expecting import make_expectation
from wheelyard.wheels.findings import Surroundings
from wheelyard.wheels.probe import probe_source
from wheelyard.wheels.repair import repair_wheel
from wheelyard.wheels.smoke import SmokeRequest, smoke_test
from wheelyard.wheels.staging import stage_wheel
from wheelyard.wheels.surrounding import torch_candidates
from wheelyard.wheels.values import CheckedWheel, RepairedWheel, TestLevel, UpstreamWheel
from wheelyard.yard.index import update_index
from wheelyard.yard.recording import (
    Compiled,
    Made,
    ProbeMade,
    make_probe_record,
    make_record,
    make_report,
    record_origin,
)
from wheelyard.yard.reports import add_report
from wheelyard.yard.store import store_wheel

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from wheelyard.model.job import Job
    from wheelyard.model.probe_record import ProbeRecord
    from wheelyard.model.record import TestReport
    from wheelyard.planning.estimate import Estimate
    from wheelyard.planning.fingerprint import PlanFingerprint
    from wheelyard.progress import Progress
    from wheelyard.sources.values import FetchedSource, PatchedSource
    from wheelyard.toolchain.compile_cache import CacheStatistics
    from wheelyard.toolchain.shared_cache import Moved, SharedCache
    from wheelyard.toolchain.values import Runtime, Toolchain
    from wheelyard.wheels.adopt import AdoptionWish
    from wheelyard.wheels.values import AdoptedWheel, TestedWheel
    from wheelyard.workshop import Workshop
    from wheelyard.yard.store import StoredWheel

T = TypeVar("T")


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Adoption:
    """The wheel that the user wants to have adopted: its place, and what is known of it."""

    place: str
    """A URL or a path."""
    sha256: str | None
    wish: AdoptionWish


class Stages:
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


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Run:
    """One run of the stages: what each of them is given beside the value before it."""

    job: Job
    fingerprint: PlanFingerprint
    workshop: Workshop
    work: Path
    log_path: Path
    stages: Stages

    @classmethod
    def of(cls, job: Job, fingerprint: PlanFingerprint, workshop: Workshop, stages: Stages) -> Run:
        return cls(
            job=job,
            fingerprint=fingerprint,
            workshop=workshop,
            work=work_folder(workshop.env) / job.identifier,
            log_path=workshop.yard.log_path(job.identifier),
            stages=stages,
        )


def bring(adoption: Adoption, workshop: Workshop) -> UpstreamWheel:
    """Download the wheel, or take a file as it lies; either with the digest that was named."""
    place, recipe = adoption.place, adoption.wish.recipe
    if recipe is not None:
        workshop.farm.recipe(recipe)  # a name that is wrong is known before the download
    if is_web_url(place):
        downloaded = download_wheel(
            place,
            folder=workshop.cache / "adopted",
            sha256=adoption.sha256,
            settings=workshop.indexes,
            env=workshop.env,
        )
        return UpstreamWheel(
            path=downloaded.path,
            sha256=downloaded.sha256,
            url=downloaded.url,
            filename=downloaded.path.name,
        )
    path = Path(place).absolute()
    if not path.is_file():
        msg = f"There is no wheel {place}. Give a file, or a URL that begins with https://."
        raise UsageError(msg)
    with disk_errors(path):
        found = file_sha256(path)
    if adoption.sha256 not in {None, found}:
        msg = f"{place} has sha256 {found}, asked for was {adoption.sha256}."
        raise IntegrityError(msg)
    return UpstreamWheel(path=path, sha256=found, url="", filename=path.name)


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
            compile_cache=CACHES[workshop.options.compile_cache].program,
            gcc_major=farm.matrix.gcc_major,
            floor=farm.matrix.floor_of(job.version),
            sandbox=workshop.sandbox_of(job),
            cache=workshop.cache,
            env=workshop.env,
            uv_env=workshop.uv_env(None if job.foreign_torch else job.cell.torch),
        ),
        say=progress.say,
    )


def runtime_for(run: Run) -> Runtime:
    """Find or make what the job's wheel will run beside; no compiler has a part in it."""
    workshop, cell = run.workshop, run.job.cell
    return provide_runtime(
        RuntimeRequest(
            cell=cell,
            torch_lock=workshop.farm.lock(torch_lock(cell.torch)),
            foreign_python=None,
            sandbox=workshop.sandbox(),
            cache=workshop.cache,
            env=workshop.env,
            uv_env=workshop.uv_env(cell.torch),
        )
    )


def requirements_for(job: Job, workshop: Workshop, runtime: Runtime) -> Path:
    """Return the folder of what the job's wheel requires beside torch, for its smoke test."""
    farm = workshop.farm
    torch = None if job.foreign_torch else farm.lock(torch_lock(job.cell.torch))
    lock = farm.lock(runtime_lock_request(job.version, job.cell.torch.cuda))
    interpreter = runtime.interpreter
    python, machine = interpreter.full_version, interpreter.machine
    there = frozenset() if torch is None else torch.names_for(python=python, machine=machine)
    return provide_requirements(
        without(lock.text, there),
        interpreter=interpreter,
        cache=workshop.cache,
        env=workshop.uv_env(),
        copy=runtime.sandbox.level is SandboxLevel.NONE,
    )


def patch(run: Run, fetched: FetchedSource, toolchain: Toolchain) -> PatchedSource:
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


def _run_transformation(script: Path, tree: Path, *, toolchain: Toolchain, run: Run) -> None:
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
                *(
                    Room(source=helper, inside=places / helper.name)
                    for helper in run.workshop.farm.patch_helpers
                ),
                Room(source=tree, inside=places.source, writable=True),
            ),
            env=python_environment(places),
            cwd=places.source,
            log_path=run.log_path,
        )
    )


def build_request(run: Run, toolchain: Toolchain, *, whole: bool = True) -> BuildRequest:
    """Decide how many compiles run at once; say what a build of the ``whole`` will take."""
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
    if whole:
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
        cache_root=workshop.cache / "compile" / job.version.recipe,
        compile_jobs=compile_jobs,
        log_path=run.log_path,
        compile_cache=CACHES[workshop.options.compile_cache],
        admission=Admission.of(job, workshop.env),
        all_at_once=workshop.options.compile_jobs is None,
    )


def bring_compiled(run: Run, request: BuildRequest) -> None:
    """Fill the compile cache from the one that is shared; without it the build takes longer."""
    with _shared_cache(run) as shared:
        if shared is None:
            return
        # one job of a group brings it, the others find it
        with held(request.cache_root.with_name(f".{request.cache_root.name}.bring.lock")):
            moved = shared.bring(
                run.job,
                folder=request.cache_folder,
                name_of=object_name,
                scratch=run.work / "brought",
            )
        _say_moved(run, "brought", moved, f"from {shared.store.name}")


def share_compiled(run: Run, request: BuildRequest, cache: CacheStatistics) -> None:
    """Take what a build compiled, whose wheel was found good, to the cache that is shared."""
    with _shared_cache(run) as shared:
        if shared is None:
            return
        moved = shared.share(
            run.job,
            cache.keys,
            folder=request.cache_folder,
            name_of=object_name,
            scratch=run.work / "taken",
        )
        _say_moved(run, "took", moved, f"to {shared.store.name}")


@contextlib.contextmanager
def _shared_cache(run: Run) -> Iterator[SharedCache | None]:
    """Yield the shared cache; what goes wrong with it is told and holds up no build."""
    shared = run.workshop.shared_cache()
    try:
        yield shared
    except (WheelyardError, OSError) as error:
        run.stages.progress.say(f"warning: the shared cache: {error}")


def _say_moved(run: Run, did: str, moved: Moved, where: str) -> None:
    size = readable_size(moved.size)
    run.stages.progress.say(f"{did} {moved.objects} compiled objects ({size}) {where}")


def build(
    run: Run, fetched: FetchedSource, patched: PatchedSource, request: BuildRequest
) -> Compiled:
    """Compile; once more with half the jobs if a compiler was killed for memory.

    The second time begins with a fresh tree and finds what was compiled in the compile cache.
    """
    progress = run.stages.progress
    try:
        built, cache = build_wheel(patched, request, on_step=progress.step)
    except OutOfMemoryError as error:
        if request.compile_jobs == 1 and request.admission is None:
            raise
        request = request.with_half_the_jobs()
        progress.say(f"{error}\nbuilding again with {_jobs(request.compile_jobs)}")
        for folder in (patched.tree, request.work / "build"):
            remove_tree(folder)
        patched = patch(run, fetched, request.toolchain)
        built, cache = build_wheel(patched, request, on_step=progress.step)
    progress.found(cache.found)
    return Compiled(
        toolchain=request.toolchain,
        patched=patched,
        built=built,
        cache=cache,
        compile_jobs=request.compile_jobs,
    )


def probe(run: Run, patched: PatchedSource, request: BuildRequest) -> ProbeRecord:
    """Compile what the recipe names for a probe, and write down what compiled."""
    probed = probe_source(patched, request, on_step=run.stages.progress.step)
    made = ProbeMade(
        job=run.job,
        fingerprint=run.fingerprint,
        patched=patched,
        toolchain=request.toolchain,
        created=_now(),
    )
    return make_probe_record(probed, made)


def _jobs(number: int) -> str:
    return "one compile at a time" if number == 1 else f"{number} compiles at once"


def _say_estimate(job: Job, estimate: Estimate, progress: Progress) -> None:
    archs = " ".join(str(arch) for arch in job.gpu_archs)
    what = f"for GPU targets {archs}" if archs else "host code"
    progress.say(
        f"compiling {what} with {estimate.compile_jobs} jobs: about "
        f"{estimate.seconds / 60:.0f} min, {estimate.memory / 2**30:.0f} GiB of memory and "
        f"{estimate.disk / 2**30:.0f} GiB of disk with an empty compile cache"
    )
    hint = gpu_archs_hint(job, estimate)
    if hint:
        progress.say(hint)


def repair(run: Run, origin: Compiled | AdoptedWheel, *, locks: Mapping[str, str]) -> RepairedWheel:
    """Give the wheel its identity, and the bill of what it is made of; ``locks`` are digests.

    One that was built here has to load on the systems that the farm wants.
    """
    job = run.job
    is_built = isinstance(origin, Compiled)
    return repair_wheel(
        origin.built if isinstance(origin, Compiled) else origin,
        destination=run.work / "repaired",
        version=job.wheel_version,
        torch_requirement=job.torch_requirement,
        build_tag=job.build_tag,
        env=run.workshop.env,
        floor=run.workshop.farm.matrix.floor_of(job.version) if is_built else None,
        object_folders=object_folders(run.work),
        extra_files={SBOM_NAME: make_sbom(job, record_origin(origin), locks=locks)},
    )


def check(run: Run, repaired: RepairedWheel, runtime: Runtime | None) -> CheckedWheel:
    """Gate on the static check: a wheel that fails does not enter the yard."""
    report = check_wheel(
        repaired.path,
        expectation=make_expectation(run.job, platform_tag=repaired.platform_tag),
        surroundings=_surroundings(run, runtime) if runtime is not None else None,
        candidates=torch_candidates(run.job.cell.machine) if runtime is not None else (),
        scratch=run.work,
    )
    if not report.passed:
        msg = f"{describe(report)}\nLog: {run.log_path}"
        raise CheckError(msg)
    return CheckedWheel(wheel=repaired, report=report)


def _surroundings(run: Run, runtime: Runtime) -> Surroundings:
    cell, contents = run.job.cell, run.job.version.contents
    before = contents.loads_before(cell.torch.cuda)
    requirements = requirements_for(run.job, run.workshop, runtime) if before else None
    interpreter = runtime.interpreter
    return Surroundings(
        torch=str(cell.torch),
        machine=cell.machine,
        libraries=site_libraries(runtime.torch.site),
        interpreter=interpreter.executable if interpreter.container_libc is None else None,
        beside=() if requirements is None else distribution_libraries(requirements, before),
    )


def smoke(run: Run, checked: CheckedWheel, runtime: Runtime) -> TestedWheel:
    job, workshop = run.job, run.workshop
    requirements = requirements_for(job, workshop, runtime)
    level, devices = _smoke_level(job, workshop)
    return smoke_test(
        checked,
        SmokeRequest(
            name=str(job.version.recipe),
            version=job.wheel_version,
            script=workshop.farm.smoke_path(job.version.recipe),
            helpers=workshop.farm.smoke_helpers(),
            staging_url=stage_wheel(checked.wheel, folder=run.work / "staging"),
            runtime=requirements,
            toolchain=runtime,
            work=run.work,
            log_path=run.log_path,
            level=level,
            devices=devices,
            uv_env=workshop.uv_env(),
        ),
    )


def _smoke_level(job: Job, workshop: Workshop) -> tuple[TestLevel, tuple[Path, ...]]:
    """Run on the GPU where there is one that the wheel has code for, or that needs none of it."""
    driver = find_driver(workshop.env)
    built_for = {(arch.major, arch.minor) for arch in job.gpu_archs}
    gpus = () if driver is None else tuple(GpuArch.parse(gpu.arch) for gpu in driver.gpus)
    if any(not built_for or (gpu.major, gpu.minor) in built_for for gpu in gpus):
        return TestLevel.ran_on_gpu, tuple(sorted(Path("/dev").glob("nvidia*")))
    return TestLevel.imported, ()


def made_of(
    run: Run, origin: Compiled | AdoptedWheel, runtime: Runtime, *, locks: Mapping[str, str]
) -> Made:
    """Gather what a record is made of; ``locks`` are digests by path."""
    return Made(
        job=run.job,
        fingerprint=run.fingerprint,
        origin=origin,
        runtime=runtime,
        seconds=run.stages.seconds,
        locks=locks,
        created=_now(),
    )


def _now() -> dt.datetime:
    return dt.datetime.now(dt.UTC).replace(microsecond=0)


def take_out(run: Run, stored: StoredWheel) -> RepairedWheel:
    """Copy a wheel of the yard to where it is tried again, its bytes verified."""
    path = run.work / "stored" / stored.path.name
    path.parent.mkdir(parents=True)
    if not copy_file(stored.path, path, sha256=stored.record.sha256):
        msg = f"{stored.path} has not the sha256 {stored.record.sha256} of its record."
        raise IntegrityError(msg)
    return RepairedWheel(
        path=path,
        sha256=stored.record.sha256,
        version=stored.record.version,
        platform_tag=path.stem.rpartition("-")[2],
        external_libraries=(),
        grafted_libraries=(),
        policy_symbols=(),
    )


def report_again(run: Run, tested: TestedWheel) -> TestReport:
    """Add the report of a wheel that was tried again."""
    report = make_report(tested, created=_now())
    add_report(run.workshop.yard, report)
    return report


def store(run: Run, tested: TestedWheel, made: Made) -> StoredWheel:
    yard = run.workshop.yard
    stored = store_wheel(
        yard,
        tested.wheel.wheel.path,
        record=make_record(tested, made),
        report=make_report(tested, created=made.created),
    )
    update_index(yard, (stored.record.filename,))
    return stored
