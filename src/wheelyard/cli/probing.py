"""The command that compiles the most telling units of a job, and makes no wheel."""

from __future__ import annotations

from typing import TYPE_CHECKING

from wheelyard.cli.choosing import job_asked_for
from wheelyard.cli.output import print_json, print_lines, print_table, readable_seconds
from wheelyard.cli.session import open_farm, open_workshop
from wheelyard.cli.telling import make_progress

if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping

    from wheelyard.model.probe_record import ProbeRecord


def probe(arguments: argparse.Namespace, env: Mapping[str, str]) -> None:
    """Probe one job and show the units that compiled."""
    from wheelyard.pipeline import probe_job  # noqa: PLC0415 - imports every room

    workshop = open_workshop(arguments, open_farm(arguments), env)
    job, reasons = job_asked_for(arguments, workshop)
    progress = make_progress()
    progress.say(f"probing {job.identifier}")
    for reason in reasons:
        progress.say(f"  {reason}")
    record = probe_job(job, workshop, progress)
    if arguments.json:
        print_json({"probes": [_to_json(record)]})
        return
    print_lines("")
    print_probe(record)


def print_probe(record: ProbeRecord) -> None:
    """Show the units of a probe, and how many were left out."""
    rows = [(unit.source, readable_seconds(unit.seconds)) for unit in record.units]
    print_table(("COMPILED", "TIME"), rows)
    archs = f" for {' '.join(record.gpu_archs)}" if record.gpu_archs else ""
    print_lines(
        "",
        f"{record.identifier}: probed{archs}; {record.left_out} other units were left out, and "
        "there is no wheel",
    )


def _to_json(record: ProbeRecord) -> dict[str, object]:
    return {
        "cpu_seconds": record.cpu_seconds,
        "gpu_archs": list(record.gpu_archs),
        "identifier": record.identifier,
        "left_out": record.left_out,
        "seconds": record.seconds,
        "units": [{"seconds": unit.seconds, "source": unit.source} for unit in record.units],
    }
