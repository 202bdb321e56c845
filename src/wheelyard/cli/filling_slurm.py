"""`fill --engine slurm`: everything is brought here, then groups are built on the cluster."""

from __future__ import annotations

import itertools
import logging
import os
import sys
import time
from typing import TYPE_CHECKING

from wheelyard.cli.fetching import prepare
from wheelyard.cli.filling import about, build_options, plan_fill, raise_what_is_left, report
from wheelyard.cli.filling import recording as recording_fill
from wheelyard.cli.output import print_lines, print_table
from wheelyard.cli.session import open_farm, open_workshop
from wheelyard.engines.board import Board
from wheelyard.engines.slurm import Slurm
from wheelyard.engines.slurm_run import Folder, SlurmRun, plan_tasks
from wheelyard.errors import UnknownNameError, UsageError
from wheelyard.machine.folders import config_folder
from wheelyard.model.slurm_settings import SlurmTable, with_words
from wheelyard.network.settings import CONFIG_NAME, read_config
from wheelyard.planning.naming import job_named
from wheelyard.scheduling import events
from wheelyard.scheduling.order import schedule

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Mapping, Sequence

    from wheelyard.engines.slurm_run import Task
    from wheelyard.scheduling.events import AnyEvent
    from wheelyard.scheduling.order import ScheduledGroup
    from wheelyard.workshop import Workshop

logger = logging.getLogger(__name__)


def fill_on_slurm(arguments: argparse.Namespace, env: Mapping[str, str]) -> None:
    """Submit what is missing and follow it; or show, or end, what was submitted."""
    if arguments.deadline or arguments.jobs or arguments.memory:
        msg = "Time, cores and memory are Slurm's to give: set them with --slurm KEY=VALUE."
        raise UsageError(msg)
    workshop = open_workshop(arguments, open_farm(arguments), env)
    table = read_config(config_folder(env) / CONFIG_NAME).slurm
    settings = with_words(table, tuple(arguments.slurm))
    folder = Folder(path=workshop.yard.path.absolute() / "logs" / "slurm")
    slurm = Slurm(settings, env=workshop.env)
    if arguments.status:
        _show_status(folder, slurm, workshop)
    elif arguments.log:
        _show_log(folder, arguments.log)
    elif arguments.cancel:
        _cancel(folder, slurm)
    else:
        _fill(arguments, workshop, folder=folder, slurm=slurm, settings=settings)


def _fill(
    arguments: argparse.Namespace,
    workshop: Workshop,
    *,
    folder: Folder,
    slurm: Slurm,
    settings: SlurmTable,
) -> None:
    found, groups = plan_fill(arguments, workshop, machine=os.uname().machine)
    taken = {name for task in folder.read() if not task.end for name in task.jobs}
    jobs = [
        item.job
        for item in itertools.chain.from_iterable(groups)
        if item.job.identifier not in taken
    ]
    for line in about(found, len(jobs)):
        logger.info("%s", line)
    failures = prepare(jobs, workshop) if jobs else {}
    ready = schedule(
        (job for job in jobs if job.identifier not in failures),
        records=found.catalogue.records,
        priority=workshop.farm.matrix.priority,
    )
    board = Board()

    def run(tell: Callable[[AnyEvent], object]) -> SlurmRun:
        return SlurmRun(
            slurm,
            folder,
            settings,
            command=_command(arguments, workshop),
            is_done=lambda name: _is_done(name, workshop),
            tell=tell,
        )

    submitted = run(lambda _event: None).submit(plan_tasks(ready, settings))
    for task in submitted:
        logger.info("submitted %s as %s (%d jobs)", task.group, task.key, len(task.jobs))
    following = [task for task in folder.read() if not task.end]
    if arguments.detach or not (following or failures):
        return
    try:
        with recording_fill(arguments, workshop, board) as (_, tell):
            tell(_beginning(following, groups, failures))
            for name, message in failures.items():
                tell(_failure(name, message))
            try:
                run(tell).follow()
            finally:
                tell(_end(board))
    except KeyboardInterrupt:
        logger.info("the tasks go on without you; --status shows them, --cancel ends them")
        raise
    finally:
        if not arguments.json:
            report(board)
    raise_what_is_left(board)


def _command(arguments: argparse.Namespace, workshop: Workshop) -> list[str]:
    """Every task is a fill of its own group, on the cores and memory that it was given."""
    options = build_options(arguments, workshop)
    return [sys.executable, "-m", "wheelyard", "fill", "--json", *options]


def _is_done(name: str, workshop: Workshop) -> bool:
    job = job_named(name, workshop.farm.recipes)
    return workshop.current(job, workshop.fingerprint(job)) is not None


def _beginning(
    tasks: Sequence[Task], groups: Sequence[ScheduledGroup], failures: Mapping[str, str]
) -> events.FillStarted:
    seconds = {
        item.job.identifier: item.seconds(cores=8.0)
        for item in itertools.chain.from_iterable(groups)
    }
    expected = [
        events.Expected(
            job=name, group=task.group, leader=number == 0, seconds=seconds.get(name, 0.0)
        )
        for task in tasks
        for number, name in enumerate(task.jobs)
    ]
    expected += [events.Expected(job=name, group="", leader=True, seconds=0.0) for name in failures]
    return events.FillStarted(
        time=time.time(),
        cores=sum(task.cpus for task in tasks),
        memory=sum(task.memory for task in tasks) * 2**20,
        jobs=tuple(expected),
    )


def _failure(name: str, message: str) -> events.Failed:
    return events.Failed(
        time=time.time(), job=name, stage="prepare", message=message, exit_code=7, log=""
    )


def _end(board: Board) -> events.FillEnded:
    return events.FillEnded(
        time=time.time(), done=len(board.done), failed=len(board.failed), cut=len(board.cut)
    )


def _show_status(folder: Folder, slurm: Slurm, workshop: Workshop) -> None:
    tasks = folder.read()
    live = slurm.live() or {}
    rows = [_row(task, live.get(task.key), workshop) for task in tasks]
    print_table(("TASK", "STATE", "NODE", "ATTEMPT", "DONE", "GROUP"), rows)
    print_lines("", f"{sum(not task.end for task in tasks)} of {len(tasks)} tasks are not over")


def _row(task: Task, live: object, workshop: Workshop) -> tuple[str, ...]:
    done = sum(_is_done(name, workshop) for name in task.jobs)
    state = task.end or getattr(live, "state", "") or "ended, nobody has looked"
    node = getattr(live, "node", "") or "-"
    return task.key, state, node, str(task.attempt), f"{done}/{len(task.jobs)}", task.group


def _show_log(folder: Folder, identifier: str) -> None:
    found = [task for task in folder.read() if identifier in task.jobs]
    if not found:
        msg = f"No task on the cluster was given {identifier!r}. `fill --engine slurm --status`."
        raise UnknownNameError(msg)
    for task in found:
        path = folder.log_of(task)
        text = path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""
        print_lines(f"{path}:", *text.splitlines())


def _cancel(folder: Folder, slurm: Slurm) -> None:
    tasks = [task for task in folder.read() if not task.end]
    if not tasks:
        print_lines("no task of this yard is on the cluster")
        return
    slurm.cancel(task.key for task in tasks)
    print_lines(*(f"cancelled {task.key} {task.group}" for task in tasks))
