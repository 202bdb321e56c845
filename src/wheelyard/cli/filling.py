"""The command that builds everything which is missing: here, or where its engine says."""

from __future__ import annotations

import contextlib
import datetime as dt
import itertools
import logging
import os
import re
import sys
import time
from collections import Counter
from typing import TYPE_CHECKING

from wheelyard.cli.missing import groups_to_build, limit_of, patterns_of, places_of
from wheelyard.cli.output import print_lines, print_table, readable_seconds
from wheelyard.cli.screen import make_screen
from wheelyard.cli.session import open_farm, open_workshop
from wheelyard.engines.board import Board
from wheelyard.engines.local import JOB_MEMORY, Child, Limits, LocalEngine
from wheelyard.engines.timeline import write_timeline
from wheelyard.errors import DeadlineError, FillError, UsageError
from wheelyard.machine.cores import usable_cores
from wheelyard.missing import find_missing
from wheelyard.planning.gaps import GapState
from wheelyard.planning.plan import select_jobs, wanted_jobs
from wheelyard.scheduling import events
from wheelyard.scheduling.budget_server import memory_to_give, serve_budget
from wheelyard.survey import planning

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from wheelyard.cli.screen import Screen
    from wheelyard.missing import Found
    from wheelyard.scheduling.budget_server import UnitRun
    from wheelyard.scheduling.events import AnyEvent
    from wheelyard.scheduling.order import ScheduledGroup, ScheduledJob
    from wheelyard.workshop import Workshop

logger = logging.getLogger(__name__)

_DURATION = re.compile(r"(?:(\d+)h)?(?:(\d+)m(?:in)?)?(?:(\d+)s)?")
_SHOWN = 15


def fill_here(arguments: argparse.Namespace, env: Mapping[str, str]) -> None:
    """Build what the matrix wants and nobody has; one failure stops nothing else."""
    started = time.monotonic()
    seconds = parse_duration(arguments.deadline) if arguments.deadline else None
    cores, memory = _limits(arguments)
    farm = open_farm(arguments)
    workshop = open_workshop(arguments, farm, env)
    found, groups = plan_fill(arguments, workshop, machine=os.uname().machine)
    ordered = tuple(itertools.chain.from_iterable(groups))
    for line in about(found, len(ordered)):
        logger.info("%s", line)
    for line in too_large(ordered, memory):
        logger.warning("%s", line)
    limits = Limits(
        cores=cores,
        memory=memory,
        unit=max((item.job.version.build.memory_per_job for item in ordered), default=0),
        deadline=None if seconds is None else started + seconds,
        starts_late=arguments.start_late,
    )
    board = Board()
    try:
        _run(ordered, board, limits, arguments=arguments, workshop=workshop)
    finally:
        if not arguments.json:
            report(board)
    raise_what_is_left(board)


def plan_fill(
    arguments: argparse.Namespace, workshop: Workshop, *, machine: str | None
) -> tuple[Found, tuple[ScheduledGroup, ...]]:
    """Find out what is to be built, of one kind of machine or of all, in the order of starting."""
    farm = workshop.farm
    limit = limit_of(arguments)
    with planning():
        jobs = select_jobs(wanted_jobs(farm.recipes, farm.matrix), *patterns_of(arguments))
        here = tuple(job for job in jobs if machine in {None, job.cell.machine})
        found = find_missing(here, workshop, places_of(arguments))
        return found, groups_to_build(found, farm, limit=limit)


def parse_duration(text: str) -> float:
    """Return seconds, for example of ``90m``, ``1h30m``, ``45s`` or ``2h``."""
    match = _DURATION.fullmatch(text.strip())
    if not text.strip() or match is None:
        msg = f"--deadline {text!r} is not a duration. Write it as in 90m, 1h30m or 45s."
        raise UsageError(msg)
    hours, minutes, seconds = (int(part or 0) for part in match.groups())
    return 3600.0 * hours + 60.0 * minutes + seconds


def _limits(arguments: argparse.Namespace) -> tuple[int, int]:
    if arguments.jobs is not None and arguments.jobs < 1:
        msg = f"--jobs {arguments.jobs} builds nothing. Give 1 or more, or leave it out."
        raise UsageError(msg)
    if arguments.memory is not None and arguments.memory <= 0:
        msg = f"--memory {arguments.memory} is not an amount. Give GiB, or leave it out."
        raise UsageError(msg)
    memory = memory_to_give() if arguments.memory is None else round(arguments.memory * 2**30)
    return arguments.jobs or usable_cores(), memory


def about(found: Found, building: int) -> list[str]:
    """Say in lines what was found, and what is done about it."""
    states = Counter(str(gap.state) for gap in found.gaps)
    counts = ", ".join(f"{count} {state}" for state, count in sorted(states.items()))
    lines = [f"{len(found.gaps)} jobs ({counts or 'none'}); building {building}"]
    for state, what in (
        (GapState.unlocked, "have no lock"),
        (GapState.unknown, "may exist where it could not be read, and are not built"),
        (GapState.candidate, "may be upstream's, and are not built: look with --judge"),
        (GapState.adoptable, "can be had from upstream: take them with `wheelyard adopt`"),
    ):
        notes = [gap.note for gap in found.gaps if gap.state is state]
        if notes:
            lines += [f"{len(notes)} {what}, for example:", f"  {notes[0]}"]
    return lines


def too_large(ordered: Iterable[ScheduledJob], memory: int) -> list[str]:
    """Say of which recipes one compile, beside its job, takes more than there is."""
    needs = {item.job.version.recipe: item.job.version.build.memory_per_job for item in ordered}
    return [
        f"a compile of {recipe} takes up to {need / 2**30:.1f} GiB and its job "
        f"{JOB_MEMORY / 2**30:.1f} beside it, of {memory / 2**30:.1f}: it may be killed. Give more "
        "with --memory, or take a larger machine"
        for recipe, need in sorted(needs.items())
        if need + JOB_MEMORY > memory
    ]


def _run(
    ordered: Sequence[ScheduledJob],
    board: Board,
    limits: Limits,
    *,
    arguments: argparse.Namespace,
    workshop: Workshop,
) -> None:
    if not ordered:
        return
    with recording(arguments, workshop, board) as (folder, tell):
        child = _child(arguments, workshop, folder)
        _run_all(ordered, limits, child, board=board, tell=tell)


@contextlib.contextmanager
def recording(
    arguments: argparse.Namespace, workshop: Workshop, board: Board
) -> Iterator[tuple[Path, Callable[[AnyEvent], object]]]:
    """Show and keep the events of a fill, and draw the timeline whatever happens."""
    started = dt.datetime.now(dt.UTC)
    folder = workshop.yard.path / "logs" / "fills" / f"{started:%Y%m%d-%H%M%S-%f}"
    folder.mkdir(parents=True)
    path = folder / "events.jsonl"
    try:
        with (
            path.open("wb") as file,
            make_screen(board, as_json=arguments.json) as screen,
        ):
            yield folder, _teller(board, screen, events.EventWriter(file))
    finally:
        write_timeline(path, folder / "timeline.html")
        logger.info("timeline: %s", folder / "timeline.html")


def _teller(
    board: Board, screen: Screen, writer: events.EventWriter
) -> Callable[[AnyEvent], object]:
    def tell(event: AnyEvent) -> None:
        writer.write(event)
        board.tell(event)
        screen.show(event)

    return tell


def _run_all(
    ordered: Sequence[ScheduledJob],
    limits: Limits,
    child: Child,
    *,
    board: Board,
    tell: Callable[[AnyEvent], object],
) -> None:
    engines: list[LocalEngine] = []
    tell(_beginning(ordered, limits))
    with serve_budget(
        cores=limits.cores,
        memory=limits.memory,
        on_unit=lambda run: engines[0].note_unit(_unit(run)),
    ) as server:
        engines.append(LocalEngine(child, limits, server, tell))
        try:
            engines[0].run(ordered)
        finally:
            tell(_end(board))


def _end(board: Board) -> events.FillEnded:
    return events.FillEnded(
        time=time.time(),
        done=len(board.done),
        failed=len(board.failed),
        cut=len(board.cut),
    )


def _beginning(ordered: Sequence[ScheduledJob], limits: Limits) -> events.FillStarted:
    return events.FillStarted(
        time=time.time(),
        cores=limits.cores,
        memory=limits.memory,
        jobs=tuple(
            events.Expected(
                job=item.job.identifier,
                group=item.job.group,
                leader=item.is_leader,
                seconds=round(item.seconds(cores=limits.cores), 1),
            )
            for item in ordered
        ),
    )


def _unit(run: UnitRun) -> events.Unit:
    return events.Unit(
        time=time.time(),
        job=run.job,
        name=run.name,
        kind=run.kind,
        asked=run.asked,
        started=run.started,
        ended=run.ended,
        memory=run.memory,
        cores=run.cores,
        status=run.status,
        fresh=run.fresh,
    )


def _child(arguments: argparse.Namespace, workshop: Workshop, logs: Path) -> Child:
    """Every job is the one command that every engine runs."""
    options = build_options(arguments, workshop)

    def command(item: ScheduledJob, descriptor: int) -> list[str]:
        words = ["build", "--job", item.job.identifier, "--events", str(descriptor)]
        return [sys.executable, "-m", "wheelyard", *words, *options]

    return Child(command=command, env=workshop.env, logs=logs)


def build_options(arguments: argparse.Namespace, workshop: Workshop) -> list[str]:
    """Return what a fill hands on to each of its builds."""
    options: list[str] = ["--farm", str(workshop.farm.folder.absolute())]
    options += ["--yard", str(workshop.yard.path), "--toolkit", arguments.toolkit]
    options += ["--sandbox", arguments.sandbox] if arguments.sandbox else []
    for word in ("container", "container_engine"):
        value = getattr(arguments, word)
        options += [f"--{word.replace('_', '-')}", value] if value else []
    options += ["--compile-cache", arguments.compile_cache]
    options += ["--shared-cache", arguments.shared_cache] if arguments.shared_cache else []
    options += [word for setting in arguments.network for word in ("--network", setting)]
    return options


def report(board: Board) -> None:
    """Show what was made, and every failure with cell, stage, last lines and log."""
    made = [item for item in board.done if item.made]
    if made:
        rows = [
            (item.job, readable_seconds(item.seconds), f"{item.cache_hits}/{_asked(item)}")
            for item in made
        ]
        print_table(("WHEEL", "TIME", "CACHE HITS"), rows)
    for failed in board.failed:
        print_lines("", f"FAILED {failed.job} in {failed.stage} (exit code {failed.exit_code})")
        print_lines(*(f"  {line}" for line in failed.message.splitlines()))
        if failed.log not in failed.message:
            print_lines(f"  Log: {failed.log}")
    for reason, cut in itertools.groupby(board.cut, key=lambda item: item.reason):
        items = list(cut)
        print_lines("", f"not built ({reason}): {len(items)}")
        print_lines(*(f"  {item.job}" for item in items[:_SHOWN]))
        more = len(items) - _SHOWN
        print_lines(*([f"  and {more} more"] if more > 0 else []))
    count = f"{len(board.done)} done, {len(board.failed)} failed, {len(board.cut)} not built"
    print_lines("", count)


def _asked(item: events.Done) -> int:
    return item.cache_hits + item.cache_misses


def raise_what_is_left(board: Board) -> None:
    if board.failed:
        msg = (
            f"{len(board.failed)} of {board.total} jobs failed; the others were not held up. "
            "Run the same command again to build what is missing."
        )
        raise FillError(msg)
    if board.cut:
        by_deadline = any(item.reason == "deadline" for item in board.cut)
        why = "the deadline came before" if by_deadline else "somebody ended them"
        msg = (
            f"{len(board.cut)} of {board.total} jobs were not built: {why}. What they compiled is "
            "in the compile cache: run the same command again to go on."
        )
        raise DeadlineError(msg)
