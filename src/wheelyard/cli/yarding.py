"""Commands over finished wheels: check, smoke, index, explain, log, clean."""

from __future__ import annotations

import datetime as dt
import json
import logging
import shutil
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from packaging.utils import InvalidWheelFilename, parse_wheel_filename

from wheelyard.cli.output import print_json, print_lines, print_table
from wheelyard.cli.session import open_farm, open_workshop, yard_folder
from wheelyard.errors import (
    CheckError,
    InputFileError,
    MachineError,
    UnknownNameError,
    UsageError,
)
from wheelyard.folders import remove_tree
from wheelyard.machine.disk import readable_size
from wheelyard.machine.folders import cache_folder
from wheelyard.model.cell import PythonVersion
from wheelyard.model.record import TestLevel, TestReport, machine_label
from wheelyard.planning.plan import expand_matrix
from wheelyard.toolchain.interpreters import find_interpreter
from wheelyard.wheels.check import check as check_wheel
from wheelyard.wheels.findings import Surroundings
from wheelyard.wheels.smoke import describe_machine
from wheelyard.yard.index import write_index
from wheelyard.yard.reports import add_report
from wheelyard.yard.store import StoredWheel, Yard, open_yard

if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping

    from wheelyard.workshop import Workshop


logger = logging.getLogger(__name__)


def check(arguments: argparse.Namespace, env: Mapping[str, str]) -> None:
    """Inspect wheel files, all of them, and fail at the end if any does not pass."""
    reports = []
    for wheel in arguments.wheels:
        if not wheel.is_file():
            msg = f"There is no wheel {wheel}."
            raise UsageError(msg)
        with tempfile.TemporaryDirectory(prefix="wheelyard-check-") as scratch:
            surroundings = _surroundings(wheel, arguments.torch_site, env)
            reports.append(
                check_wheel(
                    wheel, expectation=None, surroundings=surroundings, scratch=Path(scratch)
                )
            )
    if arguments.json:
        print_json({"reports": [report.to_json() for report in reports]})
    else:
        print_lines(*(report.describe() for report in reports))
    failed = [report.filename for report in reports if not report.passed]
    if failed:
        msg = f"{len(failed)} of {len(reports)} wheels must not be used: {', '.join(failed)}"
        raise CheckError(msg)


def _surroundings(
    wheel: Path, torch_site: Path | None, env: Mapping[str, str]
) -> Surroundings | None:
    """Return what the wheel's symbols are looked up in; nothing without ``--torch-site``."""
    if torch_site is None:
        return None
    if not (torch_site / "torch").is_dir():
        msg = f"There is no torch in {torch_site}. Give the folder that holds `torch`."
        raise UsageError(msg)
    try:
        tags = parse_wheel_filename(wheel.name)[3]
    except InvalidWheelFilename as error:
        raise UsageError(str(error)) from None
    abis = {tag.abi if tag.abi.startswith("cp") else tag.interpreter for tag in tags}
    return Surroundings(torch_site=torch_site, interpreter=_interpreter(min(abis), env))


def _interpreter(tag: str, env: Mapping[str, str]) -> Path:
    """Return the Python whose symbols the wheel will meet, or this one with a word about it."""
    try:
        return find_interpreter(PythonVersion.parse(tag), env).executable
    except MachineError:
        logger.warning("There is no %s here: Python's symbols are looked up in this one.", tag)
        return Path(sys.executable)


def smoke(arguments: argparse.Namespace, env: Mapping[str, str]) -> None:
    """Take a report that the recipe's smoke test wrote on another machine into the yard."""
    yard = _yard(arguments, env)
    stored = _find(yard, arguments.identifier)
    report = _read_report(arguments.report, stored)
    path = add_report(yard, report)
    if arguments.json:
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
    yard = _yard(arguments, env)
    summary = write_index(yard)
    if arguments.json:
        print_json({"pages": summary.pages_total, "written": summary.pages_written})
        return
    print_lines(f"{summary.pages_written} of {summary.pages_total} pages written", "")
    print_lines((yard.index_dir.absolute() / "simple").as_uri())


def explain(arguments: argparse.Namespace, env: Mapping[str, str]) -> None:
    """Say what a job is made from and how it stands."""
    farm = open_farm(arguments)
    workshop = open_workshop(arguments, farm, env)
    stored = workshop.yard.find(identifier=arguments.identifier)
    jobs, unwanted = expand_matrix(farm.recipes, farm.matrix)
    job = next((item for item in jobs if item.identifier == arguments.identifier), None)
    if job is None and stored is None:
        for item in unwanted:
            if f"{item.version.label}-{item.cell.identifier}" == arguments.identifier:
                print_lines(f"not built: {item.reason}")
                return
        msg = f"No job is named {arguments.identifier!r}. `wheelyard matrix` shows all of them."
        raise UnknownNameError(msg)
    if job is not None:
        state, differences = workshop.state(job, workshop.fingerprint(job))
        print_lines(f"{job.identifier}: {state}", *(f"  changed {item}" for item in differences))
    if stored is not None:
        _print_record(stored, workshop)


def _print_record(stored: StoredWheel, workshop: Workshop) -> None:
    record = stored.record
    level = workshop.yard.best_level(record.sha256)
    rows = [
        ("wheel", str(stored.path)),
        ("sha256", record.sha256),
        ("fingerprint", record.plan_fingerprint),
        ("build digest", record.build_digest),
        ("gpu_archs", " ".join(record.gpu_archs)),
        ("compiler", record.compiler),
        ("toolkit", f"CUDA {record.toolkit.version} ({record.toolkit.provider})"),
        ("torch", f"{record.torch} ({record.torch_origin})"),
        ("sandbox", record.sandbox),
        ("patches", ", ".join(patch.name for patch in record.patches) or "none"),
        ("tested", str(level or "not")),
        ("seconds", ", ".join(f"{name} {value}" for name, value in record.seconds.items())),
        ("log", str(workshop.yard.log_path(record.identifier))),
    ]
    print_table(("", record.identifier), rows)


def log(arguments: argparse.Namespace, env: Mapping[str, str]) -> None:
    """Print a job's log as it is."""
    path = _yard(arguments, env).log_path(arguments.identifier)
    if not path.is_file():
        known = ", ".join(item.stem for item in sorted(path.parent.glob("*.log"))) or "none"
        msg = f"There is no log of {arguments.identifier!r}. Logs: {known}."
        raise UnknownNameError(msg)
    text = path.read_text(encoding="utf-8", errors="replace").rstrip("\n")
    if arguments.json:
        print_json({"path": str(path), "text": text})
    else:
        print_lines(text)


def clean(arguments: argparse.Namespace, env: Mapping[str, str]) -> None:
    """Show what the caches hold; delete the parts that are named."""
    cache = cache_folder(env)
    parts = {path.name: path for path in sorted(cache.glob("*")) if path.is_dir()}
    wanted = list(parts) if arguments.all else arguments.what
    unknown = [name for name in wanted if name not in parts]
    if unknown:
        msg = f"The cache {cache} has no part {unknown[0]!r}. It has: {', '.join(parts)}."
        raise UnknownNameError(msg)
    rows = [(name, readable_size(_size(path))) for name, path in parts.items()]
    print_table(("PART", "SIZE"), rows)
    for name in wanted:
        remove_tree(parts[name])
        print_lines(f"deleted {parts[name]}")
    if not wanted:
        free = readable_size(shutil.disk_usage(cache).free) if cache.exists() else "?"
        print_lines("", f"{cache}; {free} free. Delete with `wheelyard clean PART...` or --all.")


def _size(folder: Path) -> int:
    """Add up the bytes of what only this folder holds: hard links elsewhere stay."""
    files = (path.lstat() for path in folder.rglob("*") if path.is_file())
    return sum(stat.st_size for stat in files if stat.st_nlink == 1)


def _yard(arguments: argparse.Namespace, env: Mapping[str, str]) -> Yard:
    return open_yard(yard_folder(arguments, open_farm(arguments), env), create=False)


def _find(yard: Yard, identifier: str) -> StoredWheel:
    found = yard.find(identifier=identifier)
    if found is None:
        known = "\n  ".join(record.identifier for record in yard.records()) or "nothing"
        msg = f"The yard {yard.path} has no {identifier!r}. It has:\n  {known}"
        raise UnknownNameError(msg)
    return found


COMMANDS = {
    "check": check,
    "clean": clean,
    "explain": explain,
    "index": index,
    "log": log,
    "smoke": smoke,
}
