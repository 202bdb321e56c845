"""The command that brings everything here that builds need, so that they need no network."""

from __future__ import annotations

import dataclasses
import functools
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from wheelyard.cli.choosing import choose_job
from wheelyard.cli.output import print_json, print_lines, print_table
from wheelyard.cli.session import open_farm, open_workshop
from wheelyard.cli.telling import make_progress, make_transfers
from wheelyard.errors import FetchError, MachineError, WheelyardError
from wheelyard.planning.plan import JobState, select_jobs, wanted_jobs
from wheelyard.survey import survey

if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping, Sequence

    from wheelyard.model.job import Job
    from wheelyard.progress import Progress
    from wheelyard.sources.values import FetchedSource
    from wheelyard.workshop import Workshop


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class _Source:
    """The source of one or more jobs, fetched, or why not."""

    label: str
    fetched: FetchedSource | None
    error: WheelyardError | None = None


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class _Prepared:
    """A job with all that its build needs, or why it lacks something."""

    job: Job
    error: WheelyardError | None = None


def fetch(arguments: argparse.Namespace, env: Mapping[str, str]) -> None:
    """Fetch for one job, or for all jobs of the matrix that are selected and not done."""
    workshop = open_workshop(arguments, open_farm(arguments), env)
    jobs: tuple[Job, ...]
    if arguments.recipe is not None:
        jobs = (choose_job(arguments, workshop)[0],)
    else:
        jobs = _open_jobs(workshop, arguments.select)
    sources = _fetch_sources(jobs, workshop)
    prepared: tuple[_Prepared, ...] = ()
    if not arguments.sources:
        progress = make_progress()
        prepared = tuple(_prepare(job, workshop, progress) for job in jobs)
    if arguments.json:
        print_json(_to_json(sources, prepared))
    else:
        _print(sources, prepared)
    _raise_failures(sources, prepared, is_selection=arguments.recipe is None)


def prepare(jobs: Sequence[Job], workshop: Workshop) -> dict[str, str]:
    """Bring everything that these jobs' builds take; return why some lack something."""
    sources = _fetch_sources(jobs, workshop)
    lacking = {one.label: str(one.error) for one in sources if one.error is not None}
    failures = {
        job.identifier: lacking[job.version.label] for job in jobs if job.version.label in lacking
    }
    progress = make_progress()
    prepared = [_prepare(job, workshop, progress) for job in jobs if job.identifier not in failures]
    failures |= {one.job.identifier: str(one.error) for one in prepared if one.error is not None}
    return failures


def _open_jobs(workshop: Workshop, select: str) -> tuple[Job, ...]:
    """Return the selected jobs of the matrix that are locked and not in the yard."""
    selected = select_jobs(wanted_jobs(workshop.farm.recipes, workshop.farm.matrix), select)
    planned = survey(selected, workshop).planned
    return tuple(one.job for one in planned if one.standing.state is not JobState.done)


def _fetch_sources(jobs: Sequence[Job], workshop: Workshop) -> tuple[_Source, ...]:
    """Fetch each source once, several at a time."""
    by_label = {job.version.label: job for job in jobs}
    fetch_one = functools.partial(_fetch_source, workshop=workshop)
    if len(by_label) == 1:  # in this thread, which Ctrl-C reaches
        return tuple(fetch_one(job) for job in by_label.values())
    with ThreadPoolExecutor(workshop.indexes.network.parallel) as pool:
        return tuple(pool.map(fetch_one, by_label.values()))


def _fetch_source(job: Job, workshop: Workshop) -> _Source:
    label = job.version.label
    try:
        return _Source(label=label, fetched=workshop.fetch(job, make_transfers()))
    except WheelyardError as error:
        return _Source(label=label, fetched=None, error=error)


def _prepare(job: Job, workshop: Workshop, progress: Progress) -> _Prepared:
    """Make everything else that the job's build takes from the caches."""
    from wheelyard.stages import requirements_for, toolchain_for  # noqa: PLC0415 - imports every room

    try:
        with progress.stage(job.identifier):
            toolchain = toolchain_for(job, workshop, progress)
            requirements_for(job, workshop, toolchain)
    except WheelyardError as error:
        return _Prepared(job=job, error=error)
    return _Prepared(job=job)


def _print(sources: Sequence[_Source], prepared: Sequence[_Prepared]) -> None:
    for one in sources:
        if one.fetched is not None:
            print_lines(f"{one.label}: {one.fetched.digest}", str(one.fetched.path))
    if prepared:
        rows = [(one.job.identifier, _state(one)) for one in prepared]
        print_lines("")
        print_table(("JOB", "BUILDS WITHOUT NETWORK"), rows)


def _state(prepared: _Prepared) -> str:
    error = prepared.error
    return "ready" if error is None else f"no: {str(error).partition(chr(10))[0]}"


def _to_json(sources: Sequence[_Source], prepared: Sequence[_Prepared]) -> dict[str, object]:
    return {
        "jobs": [
            {
                "error": None if one.error is None else str(one.error),
                "identifier": one.job.identifier,
                "ready": one.error is None,
            }
            for one in prepared
        ],
        "sources": [
            {
                "digest": None if one.fetched is None else one.fetched.digest,
                "error": None if one.error is None else str(one.error),
                "path": None if one.fetched is None else str(one.fetched.path),
                "version": one.label,
            }
            for one in sources
        ],
    }


def _raise_failures(
    sources: Sequence[_Source], prepared: Sequence[_Prepared], *, is_selection: bool
) -> None:
    """Fail if anything failed; of a selection, this machine need not be able to build all."""
    failed = [(one.label, one.error) for one in sources if one.error is not None]
    failed += [
        (one.job.identifier, one.error)
        for one in prepared
        if one.error is not None and not (is_selection and isinstance(one.error, MachineError))
    ]
    match failed:
        case []:
            return
        case [(_, error)]:
            raise error
        case many:
            raise FetchError("\n".join(f"{label}: {error}" for label, error in many))
