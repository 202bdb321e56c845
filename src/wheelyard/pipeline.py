"""The only module that knows the order of the stages, for one job: built here, or adopted."""

from __future__ import annotations

import contextlib
import dataclasses
import platform
import time
from typing import TYPE_CHECKING, TypeVar

from wheelyard.errors import YardError
from wheelyard.folders import remove_tree
from wheelyard.locking import held
from wheelyard.log import job_context
from wheelyard.model.lock import runtime_lock_request
from wheelyard.model.matrix import parse_machine
from wheelyard.model.record import Adopted, Built
from wheelyard.planning.fingerprint import adopted_fingerprint
from wheelyard.planning.locks import torch_lock
from wheelyard.stages import (
    Run,
    Stages,
    bring,
    bring_compiled,
    build,
    build_request,
    check,
    made_of,
    patch,
    probe,
    repair,
    report_again,
    runtime_for,
    share_compiled,
    smoke,
    store,
    take_out,
    toolchain_for,
)
from wheelyard.wheels.adopt import judge, take_in
from wheelyard.wheels.probe import require_probe
from wheelyard.workshop import changed_since
from wheelyard.yard.index import update_index
from wheelyard.yard.probes import put_probe

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from wheelyard.model.job import Job
    from wheelyard.model.probe_record import ProbeRecord
    from wheelyard.model.record import TestReport
    from wheelyard.progress import Progress
    from wheelyard.stages import Adoption
    from wheelyard.wheels.adopt import JudgedWheel
    from wheelyard.workshop import Workshop
    from wheelyard.yard.store import StoredWheel

T = TypeVar("T")


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """A finished job: its wheel in the yard, and whether this run put it there."""

    job: Job
    stored: StoredWheel
    made: bool
    seconds: float


def build_job(job: Job, workshop: Workshop, progress: Progress) -> Outcome:
    """Take one job through every stage into the yard, or find it there.

    When another process builds the same job, wait for it and take its result.
    """
    started = time.monotonic()
    fingerprint = workshop.fingerprint(job)
    return _make_once(
        Run.of(job, fingerprint, workshop, Stages(progress)),
        find=lambda: workshop.current(job, fingerprint),
        make=_build_stages,
        started=started,
    )


def probe_job(job: Job, workshop: Workshop, progress: Progress) -> ProbeRecord:
    """Compile what the recipe names of a job, and write down in the yard that it compiles.

    No wheel comes of it. One process at a time builds or probes a job.
    """
    fingerprint = workshop.fingerprint(job)
    run = Run.of(job, fingerprint, workshop, Stages(progress))
    run = dataclasses.replace(
        run,
        # the log of a build stays
        log_path=workshop.yard.log_path(f"{job.identifier}.probe"),
    )
    with job_context(job.identifier), _alone(run):
        record = _in_fresh_folder(run, _probe_stages)
        put_probe(workshop.yard, record)
    return record


def adopt_wheel(adoption: Adoption, workshop: Workshop, progress: Progress) -> Outcome:
    """Take a wheel that somebody else built through the same stages, or find it in the yard.

    It becomes the wheel of the job that its own files ask for. Nothing of one that is refused
    enters the yard.
    """
    started = time.monotonic()
    stages = Stages(progress)
    upstream = stages.timed("bring", lambda: bring(adoption, workshop))
    judged = stages.timed(
        "judge",
        lambda: judge(
            upstream,
            farm=workshop.farm,
            wish=adoption.wish,
            machine=parse_machine(platform.machine()),
            cache=workshop.cache,
        ),
    )
    job = judged.job
    progress.say(f"adopting {job.identifier}")
    fingerprint = adopted_fingerprint(job, upstream_sha256=upstream.sha256)
    return _make_once(
        Run.of(job, fingerprint, workshop, stages),
        find=lambda: workshop.yard.find(plan_fingerprint=fingerprint.sha256),
        make=lambda run: _adopt_stages(run, judged),
        started=started,
    )


def test_again(stored: StoredWheel, job: Job, workshop: Workshop, progress: Progress) -> TestReport:
    """Check and try a wheel of the yard on this machine, and add what came of it."""
    run = Run.of(job, workshop.fingerprint(job), workshop, Stages(progress))
    stages = run.stages
    with job_context(job.identifier), _alone(run):
        remove_tree(run.work)
        taken = stages.timed("take out", lambda: take_out(run, stored))
        runtime = stages.timed("torch", lambda: runtime_for(run))
        checked = stages.timed("check", lambda: check(run, taken, runtime))
        tested = stages.timed("smoke", lambda: smoke(run, checked, runtime))
        report = report_again(run, tested)
        remove_tree(run.work)
    return report


def _make_once(
    run: Run,
    *,
    find: Callable[[], StoredWheel | None],
    make: Callable[[Run], StoredWheel],
    started: float,
) -> Outcome:
    """Return the job's wheel, made by at most one process."""
    identifier, yard = run.job.identifier, run.workshop.yard
    with job_context(identifier):
        stored = find()
        if stored is not None:
            # a run that was killed may not have come so far
            update_index(yard, (stored.record.filename,))
            return _outcome(run, stored, made=False, started=started)
        with _alone(run):
            stored = find()
            made = stored is None
            if stored is None:
                _refuse_second(run)
                stored = _in_fresh_folder(run, make)
    return _outcome(run, stored, made=made, started=started)


@contextlib.contextmanager
def _alone(run: Run) -> Iterator[None]:
    """Keep other processes from the job: those of this yard, and those that use the same folder."""
    identifier = run.job.identifier
    lock = run.work.with_name(f"{run.work.name}.lock")
    with run.workshop.yard.lock(identifier), held(lock, what=f"work on {identifier}"):
        yield


def _in_fresh_folder(run: Run, make: Callable[[Run], T]) -> T:
    remove_tree(run.work)
    run.work.mkdir(parents=True)
    run.log_path.unlink(missing_ok=True)
    made = make(run)
    remove_tree(run.work)
    return made


def _outcome(run: Run, stored: StoredWheel, *, made: bool, started: float) -> Outcome:
    return Outcome(job=run.job, stored=stored, made=made, seconds=time.monotonic() - started)


def _refuse_second(run: Run) -> None:
    """A filename is used once: say so before compiling for hours, not after."""
    job = run.job
    older = run.workshop.yard.find(identifier=job.identifier)
    if older is None or older.record.revision < job.version.revision:
        return
    msg = (
        f"The yard has {older.record.filename}, {_how_other(older, run)}. A filename is "
        f"used once: raise `revision` of version {job.version.version} in "
        f"recipes/{job.version.recipe}.toml above {older.record.revision}."
    )
    raise YardError(msg)


def _how_other(older: StoredWheel, run: Run) -> str:
    """Say what sets a wheel in the yard apart from the one that this run would put there."""
    origin, upstream = older.record.origin, run.fingerprint.inputs.get("adopted")
    if upstream is not None and isinstance(origin, Built):
        return "built here"
    if upstream is not None and isinstance(origin, Adopted) and origin.sha256 != upstream:
        return f"adopted from {origin.place} with other bytes (sha256 {origin.sha256})"
    changed = changed_since(older, run.job, run.fingerprint)
    return f"made from other inputs ({'; '.join(changed)})"


def _build_stages(run: Run) -> StoredWheel:
    job, workshop, stages = run.job, run.workshop, run.stages
    progress = stages.progress
    fetched = stages.timed("fetch", lambda: workshop.fetch(job))
    toolchain = stages.timed("toolchain", lambda: toolchain_for(job, workshop, progress))
    patched = stages.timed("patch", lambda: patch(run, fetched, toolchain))
    request = build_request(run, toolchain)
    stages.timed("bring", lambda: bring_compiled(run, request))
    compiled = stages.timed("build", lambda: build(run, fetched, patched, request))
    locks = workshop.lock_digests(job)
    repaired = stages.timed("repair", lambda: repair(run, compiled, locks=locks))
    checked = stages.timed("check", lambda: check(run, repaired, toolchain))
    stages.timed("share", lambda: share_compiled(run, request, compiled.cache))
    tested = stages.timed("smoke", lambda: smoke(run, checked, toolchain))
    made = made_of(run, compiled, toolchain, locks=locks)
    return stages.timed("store", lambda: store(run, tested, made))


def _probe_stages(run: Run) -> ProbeRecord:
    job, workshop, stages = run.job, run.workshop, run.stages
    require_probe(job.version)
    fetched = stages.timed("fetch", lambda: workshop.fetch(job))
    toolchain = stages.timed("toolchain", lambda: toolchain_for(job, workshop, stages.progress))
    patched = stages.timed("patch", lambda: patch(run, fetched, toolchain))
    request = build_request(run, toolchain, whole=False)
    stages.timed("bring", lambda: bring_compiled(run, request))
    return stages.timed("probe", lambda: probe(run, patched, request))


def _adopt_stages(run: Run, judged: JudgedWheel) -> StoredWheel:
    stages = run.stages
    # a lock that is missing is known before anything is made
    torch = run.job.cell.torch
    wanted = (torch_lock(torch), runtime_lock_request(run.job.version, torch.cuda))
    locks = {str(one.path): run.workshop.farm.lock(one).sha256 for one in wanted}
    adopted = take_in(judged, folder=run.work / "upstream", log_path=run.log_path)
    repaired = stages.timed("repair", lambda: repair(run, adopted, locks=locks))
    # what the recipe does not declare is known before gigabytes of torch are fetched
    stages.timed("inspect", lambda: check(run, repaired, None))
    runtime = stages.timed("torch", lambda: runtime_for(run))
    checked = stages.timed("check", lambda: check(run, repaired, runtime))
    tested = stages.timed("smoke", lambda: smoke(run, checked, runtime))
    made = made_of(run, adopted, runtime, locks=locks)
    return stages.timed("store", lambda: store(run, tested, made))
