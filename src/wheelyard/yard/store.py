"""Store a wheel: atomically, once, with its record as the commit point."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from wheelyard.errors import IntegrityError, YardError
from wheelyard.files import copy_file, create_file, disk_errors, replace_file, sweep_parts
from wheelyard.wheels.stamp import read_dist_info
from wheelyard.yard.folder import WRITERS, StoredWheel, Yard, open_yard
from wheelyard.yard.reports import put_report

if TYPE_CHECKING:
    from pathlib import Path

    from wheelyard.model.record import BuildRecord, TestReport

__all__ = ["StoredWheel", "Yard", "open_yard", "store_wheel"]


def store_wheel(
    yard: Yard, wheel_path: Path, record: BuildRecord, report: TestReport | None = None
) -> StoredWheel:
    """Add a wheel, or return what is there if the same bytes are; the record makes it count.

    Whenever this is cut off, the yard is as before or complete: a wheel without a record is an
    orphan, which the next attempt replaces.
    """
    _refuse_other_wheel(wheel_path, record, report)
    metadata = read_dist_info(wheel_path, "METADATA")
    if hashlib.sha256(metadata).hexdigest() != record.core_metadata_sha256:
        msg = f"The METADATA of {wheel_path} is not what its record says. Build it again."
        raise IntegrityError(msg)
    with disk_errors(yard.path), yard.lock(WRITERS):
        for folder in (yard.wheels_dir, yard.records_dir):
            sweep_parts(folder)
        known = yard.record(record.filename)
        if known is not None:
            _refuse_other_bytes(known, record)
        if known is None or yard.damage(known) is not None:
            _put_wheel(yard, wheel_path, record, metadata)
        if report is not None:
            put_report(yard, report)
        if known is None:
            create_file(yard.record_path(record.filename), record.to_json())
    return yard.verified(known or record)


def _put_wheel(yard: Yard, wheel_path: Path, record: BuildRecord, metadata: bytes) -> None:
    """Put wheel and metadata where no record vouches for what may lie there."""
    target = yard.wheel_path(record.filename)
    target.unlink(missing_ok=True)
    if not copy_file(wheel_path, target, sha256=record.sha256):
        msg = f"{wheel_path} has not the sha256 {record.sha256} of its record. Build it again."
        raise IntegrityError(msg)
    replace_file(yard.metadata_path(record.filename), metadata)


def _refuse_other_wheel(wheel_path: Path, record: BuildRecord, report: TestReport | None) -> None:
    size = wheel_path.stat().st_size
    found = {"filename": wheel_path.name, "size": size}
    recorded = {"filename": record.filename, "size": record.size}
    if found != recorded:
        msg = f"The record does not describe {wheel_path}: {recorded} is not {found}."
        raise IntegrityError(msg)
    if report is not None and report.sha256 != record.sha256:
        msg = f"The test report is of {report.sha256}, the wheel {wheel_path} is {record.sha256}."
        raise IntegrityError(msg)


def _refuse_other_bytes(known: BuildRecord, record: BuildRecord) -> None:
    if known.sha256 == record.sha256:
        return
    if known.identifier != record.identifier:
        msg = (
            f"{record.filename!r} is in the yard as the wheel of {known.identifier}, so it cannot "
            f"be the one of {record.identifier} too. Store one of them in another yard."
        )
        raise YardError(msg)
    msg = (
        f"{record.filename!r} is in the yard with other bytes (sha256 {known.sha256}, now "
        f"{record.sha256}), and a filename is used once. Raise `revision` of "
        f"{record.name} {record.version.public} in its recipe."
    )
    raise YardError(msg)
