"""How long planning takes, and how much memory, for three sizes of matrix.

A farm is written to disk for each size: recipe versions times all torch builds that the facts
know, two machines and eight Pythons, with patches, locks, exclusions and priorities, and an empty
yard. Planned is what ``wheelyard fill`` plans: every combination considered, the inputs of every
job put together and looked for in the yard, what is missing grouped and ordered.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from wheelyard.farm import load_farm
from wheelyard.model.cell import TorchBuild
from wheelyard.model.releases import torch_releases
from wheelyard.planning.locks import toolkit_lock, torch_lock, version_locks
from wheelyard.planning.plan import JobState, wanted_jobs
from wheelyard.scheduling.order import schedule
from wheelyard.survey import planning, survey
from wheelyard.workshop import Options, open_workshop
from wheelyard.yard.store import open_yard

if TYPE_CHECKING:
    from wheelyard.model.lock import LockRequest

PYTHONS = ("3.9", "3.10", "3.11", "3.12", "3.13", "3.13t", "3.14", "3.14t")
MACHINES = ("x86_64", "aarch64")
VERSIONS_OF_A_RECIPE = 20
SIZES = (10_000, 100_000, 1_000_000)
RECIPE = """\
name = "{name}"
summary = "Costs nothing"
homepage = "https://example.org/{name}"
license = "MIT"
patches = [
  {{ file = "0001-first.patch", versions = ">=1.0" }},
  {{ file = "0002-second.patch", versions = ">=1.0", torch = ">=2.9" }},
]

[build]
requires = ["ninja", "packaging", "setuptools>=77.0.3,<82", "wheel>=0.43,<0.47"]
environment = {{ FORCE_BUILD = "TRUE" }}
effort = {{ host = 45.0, device = 270.0 }}

[wheel]
extensions = ["extension_{number}"]
top-levels = ["package_{number}", "extension_{number}"]
requires = ["packaging"]

[gpu-archs]
"12.0" = ["8.0", "9.0"]
"12.8" = ["8.0", "9.0", "10.0", "12.0"]
"""
VERSION = """
[[versions]]
version = "1.{number}"
python = ">=3.9"
torch = ">=2.4"
sdist = {{ filename = "{name}-1.{number}.tar.gz", sha256 = "{digit}", size = 1 }}
"""
EXCLUDED = """
[[exclude]]
select = "*-cp313t-*"
reason = "nobody asked for it"

[[priorities]]
select = "*-aarch64*"
value = -1
"""


def main() -> None:
    """Print one table; each size runs in a process of its own, so that its memory is its own."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    if arguments.size:
        print(json.dumps(measure(arguments.size)))
        return
    rows = [_in_a_process(size) for size in SIZES]
    print("    cells     jobs   groups   wall s    CPU s  us/cell  peak MiB")
    for row in rows:
        print(
            f"{row['cells']:9,} {row['jobs']:8,} {row['groups']:8,} {row['wall']:8.2f} "
            f"{row['cpu']:8.2f} {1e6 * row['cpu'] / row['cells']:8.1f} {row['peak']:9.0f}"
        )
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")


def _in_a_process(size: int) -> dict[str, float]:
    command = [sys.executable, __file__, "--size", str(size)]
    answer = subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout
    row: dict[str, float] = json.loads(answer)
    return row


def measure(size: int) -> dict[str, float]:
    """Plan a farm of that many cells; what a process needs before it plans does not count."""
    with tempfile.TemporaryDirectory(prefix="wheelyard-bench-") as folder:
        cells = write_farm(Path(folder, "farm"), size)
        farm = load_farm(Path(folder, "farm"))
        workshop = open_workshop(
            farm, open_yard(Path(folder, "yard")), env=os.environ, options=Options()
        )
        before = _peak()
        wall, cpu = time.monotonic(), time.process_time()
        with planning():
            found = survey(wanted_jobs(farm.recipes, farm.matrix), workshop)
            ordered = schedule(
                (item.job for item in found.planned if item.standing.state is not JobState.done),
                records=found.catalogue.records,
                priority=farm.matrix.priority,
            )
        return {
            "cells": cells,
            "cpu": time.process_time() - cpu,
            "groups": len(ordered),
            "jobs": sum(len(item.group.jobs) for item in ordered),
            "peak": _peak() - before,
            "unlocked": len(found.unlocked),
            "wall": time.monotonic() - wall,
        }


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def write_farm(folder: Path, size: int) -> int:
    """Write a farm of about ``size`` combinations and return how many there are exactly."""
    torches = [
        TorchBuild(release.version, build.cuda)
        for release in torch_releases()
        for build in release.builds
    ]
    in_a_version = len(torches) * len(MACHINES) * len(PYTHONS)
    versions = max(1, round(size / in_a_version))
    _write_matrix(folder, torches)
    for number in range(0, versions, VERSIONS_OF_A_RECIPE):
        count = min(VERSIONS_OF_A_RECIPE, versions - number)
        _write_recipe(folder, number // VERSIONS_OF_A_RECIPE, count)
    for recipe in load_farm(folder).recipes:
        for version in recipe.versions:
            for request in {one for torch in torches for one in version_locks(version, torch.cuda)}:
                _write_lock(folder, request)
    return versions * in_a_version


def _write_matrix(folder: Path, torches: list[TorchBuild]) -> None:
    (folder / "recipes").mkdir(parents=True)
    axes = {"python": PYTHONS, "torch": [str(torch) for torch in torches], "machine": MACHINES}
    lines = [f"{name} = {json.dumps(values)}" for name, values in axes.items()]
    text = "\n".join(["[axes]", *lines, EXCLUDED])
    (folder / "matrix.toml").write_text(text, encoding="utf-8")
    for torch in torches:
        for request in (torch_lock(torch), toolkit_lock(torch.cuda)):
            if request is not None:
                _write_lock(folder, request)


def _write_recipe(folder: Path, number: int, versions: int) -> None:
    name = f"nothing-{number}"
    text = RECIPE.format(name=name, number=number)
    text += "".join(
        VERSION.format(name=name, number=at, digit=f"{at % 16:x}" * 64) for at in range(versions)
    )
    (folder / "recipes" / f"{name}.toml").write_text(text, encoding="utf-8")
    for path in (
        folder / "recipes" / name / "smoke.py",
        folder / "patches" / name / "0001-first.patch",
        folder / "patches" / name / "0002-second.patch",
    ):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"nothing of {name}\n", encoding="utf-8")


def _write_lock(folder: Path, request: LockRequest) -> None:
    path = folder / request.path
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{request.header}\nnothing==1.0\n", encoding="utf-8")


if __name__ == "__main__":
    main()
