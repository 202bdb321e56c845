"""The command that builds a wheel."""

from __future__ import annotations

from typing import TYPE_CHECKING, assert_never

from wheelyard.cli.choosing import job_asked_for
from wheelyard.cli.output import print_json, print_lines, print_table, readable_seconds
from wheelyard.cli.session import open_farm, open_workshop
from wheelyard.cli.telling import telling
from wheelyard.machine.disk import readable_size
from wheelyard.model.index_page import install_lines
from wheelyard.model.record import Adopted, Built

if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping

    from wheelyard.pipeline import Outcome
    from wheelyard.progress import Progress
    from wheelyard.workshop import Workshop


def build(arguments: argparse.Namespace, env: Mapping[str, str]) -> None:
    """Build one job, or find it done, and show its wheel."""
    from wheelyard.pipeline import build_job  # noqa: PLC0415 - imports every room

    workshop = open_workshop(arguments, open_farm(arguments), env)
    job, reasons = job_asked_for(arguments, workshop)
    with telling(job, arguments, log=workshop.yard.log_path(job.identifier)) as teller:
        progress = teller.progress
        progress.say(f"building {job.identifier}")
        for reason in reasons:
            progress.say(f"  {reason}")
        outcome = build_job(job, workshop, progress)
        teller.done(outcome)
    _say_if_found(outcome, progress)
    if arguments.events != "-":
        show_outcome(outcome, workshop, as_json=arguments.json)


def _say_if_found(outcome: Outcome, progress: Progress) -> None:
    if not outcome.made:
        origin = outcome.stored.record.origin
        how = "made from the same inputs"
        if isinstance(origin, Adopted):
            how = f"adopted from {origin.place}"
        progress.say(f"nothing to do: the yard has it, {how}")


def show_outcome(outcome: Outcome, workshop: Workshop, *, as_json: bool) -> None:
    """Show the wheel of a finished job, and the lines that install it."""
    if as_json:
        print_json({"wheels": [_outcome_to_json(outcome, workshop)]})
    else:
        _print_outcome(outcome, workshop)


def _print_outcome(outcome: Outcome, workshop: Workshop) -> None:
    record = outcome.stored.record
    yard = workshop.yard
    level = yard.best_level(record.sha256)
    print_lines("")
    print_table(
        ("WHEEL", "SIZE", "SHA256", "PLATFORM", "TESTED", "SANDBOX", "TIME"),
        [
            (
                record.identifier,
                readable_size(record.size),
                record.sha256[:12],
                record.filename.removesuffix(".whl").rpartition("-")[2].partition(".")[0],
                str(level or "not"),
                record.sandbox,
                readable_seconds(outcome.seconds),
            )
        ],
    )
    lines = install_lines(record, yard.index_url(record.index_label))
    print_lines("", str(outcome.stored.path), f"sha256 {record.sha256}", "", "install it with:")
    print_lines(f"  {lines.pip}", f"  {lines.uv}")


def _outcome_to_json(outcome: Outcome, workshop: Workshop) -> dict[str, object]:
    record = outcome.stored.record
    origin = record.origin
    build, adopted = None, None
    match origin:
        case Built():
            took = origin.build
            build = {"cpu_seconds": took.cpu_seconds, "seconds": took.seconds}
        case Adopted():
            adopted = {"filename": origin.filename, "sha256": origin.sha256, "url": origin.url}
        case _:
            assert_never(origin)
    return {
        "adopted": adopted,
        "build": build,
        "built": outcome.made,
        "filename": record.filename,
        "identifier": record.identifier,
        "index_url": workshop.yard.index_url(record.index_label),
        "path": str(outcome.stored.path),
        "sandbox": record.sandbox,
        "seconds": round(outcome.seconds, 3),
        "sha256": record.sha256,
        "size": record.size,
        "stages": record.seconds,
        "tested": workshop.yard.best_level(record.sha256),
    }
