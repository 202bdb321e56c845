"""Commands over finished wheels: smoke, index, explain, log, clean."""

from __future__ import annotations

import datetime as dt
import json
import logging
import sys
from typing import TYPE_CHECKING, assert_never

from wheelyard.cli.output import print_json, print_lines, print_table
from wheelyard.cli.probing import print_probe
from wheelyard.cli.session import open_farm, open_workshop, opened_yard
from wheelyard.errors import InputFileError, MachineError, UnknownNameError, WheelyardError
from wheelyard.files import disk_errors
from wheelyard.folders import remove_tree
from wheelyard.machine.disk import free_bytes, readable_size
from wheelyard.machine.folders import cache_folder
from wheelyard.machine.gpu import find_driver
from wheelyard.model.record import Adopted, Built, TestLevel, TestReport, machine_label
from wheelyard.model.source import describe_source
from wheelyard.model.words import nearest
from wheelyard.planning.naming import job_named
from wheelyard.planning.plan import expand_matrix
from wheelyard.survey import survey
from wheelyard.wheels.smoke import describe_machine
from wheelyard.yard.index import write_index
from wheelyard.yard.probes import find_probe
from wheelyard.yard.reports import add_report

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from wheelyard.farm import Farm
    from wheelyard.model.job import Job
    from wheelyard.survey import Survey
    from wheelyard.workshop import Workshop
    from wheelyard.yard.folder import StoredWheel, Yard


logger = logging.getLogger(__name__)


def smoke(arguments: argparse.Namespace, env: Mapping[str, str]) -> None:
    """Try a wheel of the yard here, or take in what was reported on another machine."""
    if arguments.report is None:
        _try_here(arguments, env)
        return
    yard = opened_yard(arguments, env)
    stored = _find(yard, arguments.identifier)
    report = _read_report(arguments.report, stored)
    _show_report(report, add_report(yard, report), stored, as_json=arguments.json)


def _try_here(arguments: argparse.Namespace, env: Mapping[str, str]) -> None:
    from wheelyard.cli.telling import make_progress  # noqa: PLC0415 - the others need it not
    from wheelyard.pipeline import test_again  # noqa: PLC0415 - imports every room

    farm = open_farm(arguments)
    workshop = open_workshop(arguments, farm, env)
    stored = _find(workshop.yard, arguments.identifier)
    job = job_named(arguments.identifier, farm.recipes)
    if arguments.on_gpu and find_driver(workshop.env) is None:
        msg = "There is no GPU with a driver here. Leave out --on-gpu to try the import alone."
        raise MachineError(msg)
    report = test_again(stored, job, workshop, make_progress())
    path = workshop.yard.reports_dir(report.sha256) / report.report_filename
    _show_report(report, path, stored, as_json=arguments.json)
    if arguments.on_gpu and report.level is not TestLevel.ran_on_gpu:
        archs = " ".join(stored.record.gpu_archs)
        msg = (
            f"{arguments.identifier} was imported and not run: none of the GPUs here is one of "
            f"those that it has code for ({archs}), or its smoke.py has no cases yet."
        )
        raise MachineError(msg)


def _show_report(report: TestReport, path: Path, stored: StoredWheel, *, as_json: bool) -> None:
    if as_json:
        print_json({"level": report.level, "report": str(path)})
        return
    print_lines(f"{stored.record.identifier}: {report.level} on {report.machine_description}")
    print_lines(str(path))


def _read_report(path: Path, stored: StoredWheel) -> TestReport:
    try:
        answer = json.loads(path.read_text(encoding="utf-8"))
        description = describe_machine(answer["machine"])
        return TestReport(
            sha256=stored.record.sha256,
            filename=stored.record.filename,
            level=TestLevel(answer["level"]),
            machine=machine_label(description),
            machine_description=description,
            measurements=tuple(answer["measurements"]),
            seconds=float(answer.get("seconds", 0.0)),
            created=dt.datetime.now(dt.UTC).replace(microsecond=0),
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        msg = f"{path} is not a report of a smoke test: {error!r}"
        raise InputFileError(msg) from None


def index(arguments: argparse.Namespace, env: Mapping[str, str]) -> None:
    """Write the yard's index anew."""
    yard = opened_yard(arguments, env)
    summary = write_index(yard)
    if arguments.json:
        print_json({"pages": summary.pages_total, "written": summary.pages_written})
        return
    print_lines(f"{summary.pages_written} of {summary.pages_total} pages written", "")
    print_lines((yard.index_dir.absolute() / "simple").as_uri())


def page(arguments: argparse.Namespace, env: Mapping[str, str]) -> None:
    """Write the page on which people find wheels."""
    from wheelyard.yard.page import write_page  # noqa: PLC0415 - others do without

    path = write_page(opened_yard(arguments, env), open_farm(arguments))
    if arguments.json:
        print_json({"path": str(path), "size": path.stat().st_size})
        return
    print_lines(path.absolute().as_uri())


def explain(arguments: argparse.Namespace, env: Mapping[str, str]) -> None:
    """Say what a job is made from and how it stands."""
    farm = open_farm(arguments)
    workshop = open_workshop(arguments, farm, env)
    identifier = arguments.identifier
    stored = workshop.yard.find(identifier=identifier)
    probed = find_probe(workshop.yard, identifier)
    job = _find_job(identifier, farm, is_made=stored is not None or probed is not None)
    if isinstance(job, str):
        print_lines(f"not built: {job}")
        return
    if job is not None:
        _print_standing(survey((job,), workshop))
    if stored is not None:
        _print_record(stored, workshop)
    elif probed is not None:
        print_probe(probed)
    elif job is not None:
        _print_inputs(job)


def _print_inputs(job: Job) -> None:
    """Say what a job would be made of, and how."""
    version = job.version
    minutes = version.build.effort.total(len(job.gpu_archs)) / 60
    rows = [
        ("source", describe_source(version.source)),
        ("patches", ", ".join(patch.filename for patch in job.patches) or "none"),
        ("gpu_archs", " ".join(map(str, job.gpu_archs)) or "none"),
        ("extensions", ", ".join(version.contents.compiled)),
        ("takes", f"about {minutes:.0f} min of CPU with an empty compile cache"),
        ("build it with", f"wheelyard build --job {job.identifier}"),
    ]
    print_lines("")
    print_table(("", "WHAT IT WOULD BE MADE OF"), rows)


def _find_job(identifier: str, farm: Farm, *, is_made: bool) -> Job | str | None:
    """Return the job of that name, also one that the matrix does not want, or why there is none.

    What was made is told although its recipe may have gone.
    """
    jobs, unwanted = expand_matrix(farm.recipes, farm.matrix)
    known = {job.identifier: job for job in jobs}
    if identifier in known:
        return known[identifier]
    for item in unwanted:
        if f"{item.version.label}-{item.cell.identifier}" == identifier:
            return item.reason
    try:
        return job_named(identifier, farm.recipes)
    except WheelyardError as error:
        if is_made:
            return None
        near = nearest(identifier, known)
        msg = f"No job is named {identifier!r}: {error}{near} `wheelyard matrix` shows all of them."
        raise UnknownNameError(msg) from None


def _print_standing(found: Survey) -> None:
    for unlocked in found.unlocked:
        print_lines(f"{unlocked.job.identifier}: {unlocked.reason}")
    for planned in found.planned:
        standing = planned.standing
        changed = (f"  changed {item}" for item in standing.differences)
        whose = ", adopted" if standing.adopted else ""
        print_lines(f"{planned.job.identifier}: {standing.state}{whose}", *changed)


def _print_record(stored: StoredWheel, workshop: Workshop) -> None:
    record = stored.record
    level = workshop.yard.best_level(record.sha256)
    rows = [
        ("wheel", str(stored.path)),
        ("sha256", record.sha256),
        ("fingerprint", record.plan_fingerprint),
        ("build digest", record.build_digest),
        ("gpu_archs", " ".join(record.gpu_archs)),
        *_origin_rows(record.origin),
        ("torch", f"{record.torch} ({record.torch_origin})"),
        ("sandbox", record.sandbox),
        ("tested", str(level or "not")),
        ("seconds", ", ".join(f"{name} {value}" for name, value in record.seconds.items())),
        ("log", str(workshop.yard.log_path(record.identifier))),
    ]
    print_table(("", record.identifier), rows)


def _origin_rows(origin: Built | Adopted) -> tuple[tuple[str, str], ...]:
    match origin:
        case Built():
            return (
                ("compiler", origin.compiler),
                ("built in", origin.container or "this machine's own system"),
                ("toolkit", f"CUDA {origin.toolkit.version} ({origin.toolkit.provider})"),
                ("patches", ", ".join(patch.name for patch in origin.patches) or "none"),
            )
        case Adopted():
            return (
                ("adopted from", origin.place),
                ("upstream name", origin.filename),
                ("upstream sha256", origin.sha256),
            )
        case _:
            assert_never(origin)


def log(arguments: argparse.Namespace, env: Mapping[str, str]) -> None:
    """Print a job's log as it is."""
    path = opened_yard(arguments, env).log_path(arguments.identifier)
    if not path.is_file():
        known = [item.stem for item in sorted(path.parent.glob("*.log"))]
        near = nearest(arguments.identifier, known)
        logs = ", ".join(known) or "none"
        msg = f"There is no log of {arguments.identifier!r}.{near} Logs: {logs}."
        raise UnknownNameError(msg)
    text = path.read_text(encoding="utf-8", errors="replace").rstrip("\n")
    if arguments.json:
        print_json({"path": str(path), "text": text})
    else:
        print_lines(text)


def clean(arguments: argparse.Namespace, env: Mapping[str, str]) -> None:
    """Show what the caches hold and what would go; delete the parts that are named."""
    cache = cache_folder(env)
    parts = {path.name: path for path in sorted(cache.glob("*")) if path.is_dir()}
    wanted = list(parts) if arguments.all else list(dict.fromkeys(arguments.what))
    unknown = [name for name in wanted if name not in parts]
    if unknown:
        has = f"It has: {', '.join(parts)}." if parts else "It is empty."
        msg = f"The cache {cache} has no part {unknown[0]!r}.{nearest(unknown[0], parts)} {has}"
        raise UnknownNameError(msg)
    sizes = {name: _size(path) for name, path in parts.items()}
    if arguments.json:
        gone = [] if arguments.dry_run else _remove_parts(parts[name] for name in wanted)
        print_json({"cache": str(cache), "deleted": gone, "sizes": sizes})
        return
    shown = wanted or list(parts)
    rows = [(name, readable_size(sizes[name])) for name in shown]
    print_table(("PART", "SIZE"), [*rows, ("all", readable_size(sum(sizes[it] for it in shown)))])
    if not wanted:
        free = readable_size(free_bytes(cache))
        print_lines("", f"{cache}; {free} free. Delete with `wheelyard clean PART...` or --all.")
        return
    print_lines("")
    if arguments.dry_run:
        print_lines(*(f"would delete {parts[name]}" for name in wanted))
    for path in () if arguments.dry_run else (parts[name] for name in wanted):
        print_lines(*(f"deleted {gone}" for gone in _remove_parts((path,))))


def _remove_parts(paths: Iterable[Path]) -> list[str]:
    """Remove these folders; the table of their sizes is on the screen by then."""
    sys.stdout.flush()
    gone = []
    for path in paths:
        with disk_errors(path):
            remove_tree(path)
        gone.append(str(path))
    return gone


def _size(folder: Path) -> int:
    """Add up the bytes of what only this folder holds: hard links elsewhere stay."""
    files = (path.lstat() for path in folder.rglob("*") if path.is_file())
    return sum(stat.st_size for stat in files if stat.st_nlink == 1)


def _find(yard: Yard, identifier: str) -> StoredWheel:
    found = yard.find(identifier=identifier)
    if found is None:
        known = "\n  ".join(record.identifier for record in yard.records()) or "nothing"
        msg = f"The yard {yard.path} has no {identifier!r}. It has:\n  {known}"
        raise UnknownNameError(msg)
    return found
