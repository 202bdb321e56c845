"""Test reports: one file for each wheel, machine and level, added whenever a test was run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from wheelyard.errors import YardError
from wheelyard.files import disk_errors, replace_file, sweep_parts
from wheelyard.yard.folder import WRITERS

if TYPE_CHECKING:
    from pathlib import Path

    from wheelyard.model.record import TestReport
    from wheelyard.yard.folder import Yard


def add_report(yard: Yard, report: TestReport) -> Path:
    """Add a test report of a stored wheel; it takes the place of that machine's earlier one."""
    record = yard.record(report.filename)
    if record is None or record.sha256 != report.sha256:
        msg = (
            f"The yard {yard.path} has no wheel {report.filename} with sha256 {report.sha256}. "
            "Store the wheel that was tested first."
        )
        raise YardError(msg)
    with disk_errors(yard.path), yard.lock(WRITERS):
        return put_report(yard, report)


def put_report(yard: Yard, report: TestReport) -> Path:
    """Write a report; the caller holds the writers' lock."""
    folder = yard.reports_dir(report.sha256)
    sweep_parts(folder)
    path = folder / report.report_filename
    replace_file(path, report.to_json())
    return path
