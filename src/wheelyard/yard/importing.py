"""Take in a wheel that another yard made, with its record: checked like any other."""

from __future__ import annotations

import dataclasses
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from wheelyard.abi.tables import SHIPPED_DIR, load_torch_table, own_tables_folder
from wheelyard.errors import InputFileError
from wheelyard.files import copy_file, disk_errors, file_sha256
from wheelyard.model.record import BuildRecord, TestReport
from wheelyard.planning.naming import job_named
from wheelyard.wheels.check import check, require_passed
from wheelyard.wheels.expecting import make_expectation
from wheelyard.wheels.surrounding import tabled_surroundings, torch_candidates
from wheelyard.yard.folder import PROVENANCE, record_places
from wheelyard.yard.index import update_index
from wheelyard.yard.reports import add_report
from wheelyard.yard.store import store_wheel

if TYPE_CHECKING:
    from wheelyard.farm import Farm
    from wheelyard.wheels.findings import CheckReport
    from wheelyard.yard.folder import StoredWheel, Yard


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Arrival:
    """A wheel as it lies somewhere else, with what lies beside it."""

    path: Path
    record: BuildRecord
    reports: tuple[TestReport, ...]
    provenance: Path | None


def find_arrival(path: Path, *, record_path: Path | None = None) -> Arrival:
    """Read what belongs to a wheel: beside it as it is published, or as in another yard."""
    if not path.is_file():
        msg = f"There is no wheel {path}. Name a file."
        raise InputFileError(msg)
    places = record_places(path) if record_path is None else (record_path,)
    found = next((place for place in places if place.is_file()), None)
    if found is None:
        msg = (
            f"There is no record of {path.name}; looked for {' and '.join(map(str, places))}. Put "
            "it there or name it with --record; for a wheel that has none there is "
            "`wheelyard adopt`."
        )
        raise InputFileError(msg)
    record = BuildRecord.from_json(found.read_bytes(), origin=str(found))
    reports = sorted((path.parent.parent / "reports" / record.sha256).glob("*.json"))
    provenance = path.with_name(f"{path.name}{PROVENANCE}")
    return Arrival(
        path=path,
        record=record,
        reports=tuple(
            TestReport.from_json(report.read_bytes(), origin=str(report)) for report in reports
        ),
        provenance=provenance if provenance.is_file() else None,
    )


def import_wheel(yard: Yard, arrival: Arrival, *, farm: Farm, cache: Path) -> StoredWheel:
    """Check a wheel against its record, its recipe and its torch, and store it."""
    require_passed(check_arrival(arrival, farm=farm, cache=cache))
    stored = store_wheel(yard, arrival.path, arrival.record)
    for report in arrival.reports:
        add_report(yard, report)
    _take_provenance(yard, arrival)
    update_index(yard, (arrival.record.filename,))
    return stored


def check_arrival(arrival: Arrival, *, farm: Farm, cache: Path) -> CheckReport:
    """Check it as the job would be that its record names."""
    record = arrival.record
    job = job_named(record.identifier, farm.recipes)
    platform_tag = record.filename.removesuffix(".whl").rpartition("-")[2]
    own = own_tables_folder(cache)
    table = load_torch_table(record.cell.torch, record.machine, (SHIPPED_DIR, own))
    unseen = job.version.contents.loads_first
    surroundings = (
        None if table is None else tabled_surroundings(table, torch=record.torch, unseen=unseen)
    )
    with tempfile.TemporaryDirectory(prefix="wheelyard-import-") as scratch:
        return check(
            arrival.path,
            expectation=make_expectation(job, platform_tag=platform_tag),
            surroundings=surroundings,
            candidates=torch_candidates(record.machine, own_tables=own, unseen=unseen),
            scratch=Path(scratch),
        )


def _take_provenance(yard: Yard, arrival: Arrival) -> None:
    target = yard.provenance_path(arrival.record.filename)
    if arrival.provenance is not None and not target.exists():
        with disk_errors(target):
            copy_file(arrival.provenance, target, sha256=file_sha256(arrival.provenance))
