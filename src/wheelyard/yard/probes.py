"""Probes: one file for each job that some units were compiled of, apart from all wheels."""

from __future__ import annotations

from typing import TYPE_CHECKING

from wheelyard.errors import YardError
from wheelyard.files import PART, disk_errors, replace_file, sweep_parts
from wheelyard.model.probe_record import ProbeRecord
from wheelyard.yard.folder import WRITERS

if TYPE_CHECKING:
    from pathlib import Path

    from wheelyard.yard.folder import Yard


def put_probe(yard: Yard, record: ProbeRecord) -> Path:
    """Add the record of a probe; it takes the place of the job's earlier one."""
    path = _path(yard, record.identifier)
    with disk_errors(yard.path), yard.lock(WRITERS):
        sweep_parts(path.parent)
        replace_file(path, record.to_json())
    return path


def find_probe(yard: Yard, identifier: str) -> ProbeRecord | None:
    """Return the record of the probe of that job."""
    path = _path(yard, identifier)
    return _decode(path) if path.is_file() else None


def read_probes(yard: Yard) -> tuple[ProbeRecord, ...]:
    """Return every record, by identifier."""
    paths = sorted(yard.probes_dir.glob("*.json"))
    return tuple(_decode(path) for path in paths if not path.name.startswith(PART))


def _path(yard: Yard, identifier: str) -> Path:
    return yard.probes_dir / f"{identifier}.json"


def _decode(path: Path) -> ProbeRecord:
    record = ProbeRecord.from_json(path.read_bytes(), origin=str(path))
    if path.stem != record.identifier:
        msg = f"{path} is the probe of {record.identifier!r}. Give it the name of that job again."
        raise YardError(msg)
    return record
