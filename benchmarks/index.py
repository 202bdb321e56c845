"""How long the index of many wheels takes, and how the page of all of them feels in Chromium.

Records are made up, wheels are a few bytes: the index reads neither more of one nor any of the
other. Every figure is of a process of its own, or of Chromium's own clock.
"""

from __future__ import annotations

import argparse
import datetime as dt
import functools
import gzip
import hashlib
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import msgspec
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

from wheelyard.model.index_entry import read_entry
from wheelyard.model.record import (
    BuildRecord,
    Built,
    RecordedBuild,
    RecordedCheck,
    RecordedPatch,
    RecordedToolkit,
)
from wheelyard.model.releases import torch_releases
from wheelyard.yard.coverage import coverage
from wheelyard.yard.folder import Yard, open_yard
from wheelyard.yard.index import update_index, write_index
from wheelyard.yard.page import page_html

SIZES = (10_000, 20_000)
PYTHONS = ("3.10", "3.11", "3.12", "3.13", "3.14")
PROJECTS = 20
CONTENT = b"a few bytes\n"
CHECK = {
    "files": [{"loads": True, "member": f"part_{number}.so", "why": ""} for number in range(10)],
    "findings": [],
    "fits": ["2.11.0+cu130", "2.12.1+cu130"],
    "gpu_code": {f"part_{number}.so": {"cubins": ["9.0"], "ptx": []} for number in range(10)},
}


def make_yard(folder: Path, size: int) -> Yard:
    """Fill a new yard with so many wheels."""
    yard = open_yard(folder / "yard")
    yard.records_dir.mkdir()
    yard.wheels_dir.mkdir()
    for record in make_records(size):
        put(yard, record)
    return yard


def put(yard: Yard, record: BuildRecord) -> None:
    yard.wheel_path(record.filename).write_bytes(CONTENT)
    yard.record_path(record.filename).write_bytes(record.to_json())


def make_records(size: int) -> list[BuildRecord]:
    """Make up records: projects times versions times torch builds times Pythons."""
    builds = _torch_builds()
    records = []
    versions = -(-size // (PROJECTS * len(builds) * len(PYTHONS)))
    for version in range(versions):
        for project in range(PROJECTS):
            for torch in builds:
                records += [make_record(project, version, torch, python) for python in PYTHONS]
    return records[:size]


@functools.cache
def _torch_builds() -> tuple[str, ...]:
    found = [
        f"{release.version.public}+{cuda.label}"
        for release in torch_releases()
        for cuda in release.cudas("x86_64")
    ]
    return tuple(dict.fromkeys(found))[-25:]


def make_record(project: int, version: int, torch: str, python: str) -> BuildRecord:
    """Make up the record of one wheel."""
    torch_version, _, cuda = torch.partition("+")
    label = f"torch{torch_version}-{cuda}"
    name = f"extension-{project}"
    whole = Version(f"1.{version}+{cuda}.torch{torch_version}")
    tag = f"cp{python.replace('.', '')}"
    filename = f"extension_{project}-{whole}-{tag}-{tag}-manylinux_2_28_x86_64.whl"
    return msgspec.structs.replace(
        _template(),
        identifier=f"{name}-1.{version}-{tag}-{label}-x86_64",
        index_label=label,
        filename=filename,
        sha256=hashlib.sha256(filename.encode()).hexdigest(),
        name=canonicalize_name(name),
        version=whole,
        python=python,
        torch=torch,
    )


@functools.cache
def _template() -> BuildRecord:
    return BuildRecord(
        identifier="x",
        index_label="x",
        filename="x-1-py3-none-any.whl",
        sha256="0" * 64,
        size=len(CONTENT),
        name=canonicalize_name("x"),
        version=Version("1"),
        revision=0,
        requires_python=SpecifierSet(">=3.10"),
        core_metadata_sha256="2" * 64,
        python="3.12",
        torch="2.11.0+cu130",
        machine="x86_64",
        gpu_archs=("8.0", "9.0", "10.0", "12.0"),
        plan_fingerprint="3" * 64,
        build_digest="4" * 64,
        fingerprint_inputs={"locks": {f"locks/{number}.txt": "5" * 64 for number in range(4)}},
        origin=Built(
            source="sha256:" + "5" * 64,
            tree_sha256="6" * 64,
            patches=(RecordedPatch(name="0001-first.patch", sha256="7" * 64),),
            compiler="gcc 12.2.0 x86_64-linux-gnu",
            toolkit=RecordedToolkit(provider="index", version="13.0"),
            build=RecordedBuild(seconds=60.0, cpu_seconds=110.0, compile_jobs=2),
        ),
        locks={f"locks/{number}.txt": "5" * 64 for number in range(4)},
        sandbox="bubblewrap",
        torch_origin="locked",
        seconds={"build": 60.0, "check": 1.0, "repair": 2.0},
        check=RecordedCheck(passed=True, summary=CHECK),
        created=dt.datetime(2026, 11, 27, tzinfo=dt.UTC),
    )


def measure(step: str, folder: Path, size: int) -> None:
    """Take one step on the yard and print what it took, as JSON."""
    yard = open_yard(folder / "yard")
    record = make_record(0, 999, _torch_builds()[-1], "3.12")
    if step == "update":
        put(yard, record)
    started = time.perf_counter()
    summary = update_index(yard, (record.filename,)) if step == "update" else write_index(yard)
    seconds = time.perf_counter() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    pages = summary.pages_written, summary.pages_total
    print(json.dumps({"step": step, "size": size, "seconds": seconds, "MiB": peak, "pages": pages}))


def measure_page(folder: Path, size: int) -> None:
    """Write the page of that many wheels and look at it in Chromium, on a phone's screen."""
    # Imported here: the tests' browser is no part of the distribution.
    sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
    from chromium import find_chromium, open_page  # noqa: PLC0415

    entries = [read_entry(record.to_json(), origin="") for record in make_records(size)]
    started = time.perf_counter()
    content = page_html(coverage(entries, None))
    written = time.perf_counter() - started
    figures: dict[str, object] = {
        "step": "page",
        "size": size,
        "seconds": round(written, 2),
        "bytes": len(content),
        "gzipped": len(gzip.compress(content)),
    }
    if find_chromium() is not None:
        path = folder / "page.html"
        path.write_bytes(content)
        with open_page() as page:
            page.show(width=390, height=844, dark=False)
            figures |= {"load ms": [], "filter ms": [], "choose ms": []}
            for _ in range(5):
                page.open(path.as_uri())
                load = "performance.getEntriesByType('navigation')[0].loadEventEnd"
                figures["load ms"] += [round(page.evaluate(load))]  # type: ignore[operator]
            for kind, script in (("filter ms", FILTER), ("choose ms", CHOOSE)):
                figures[kind] = page.evaluate(script)
            figures["heap MiB"] = page.evaluate("performance.memory.usedJSHeapSize / 2**20 | 0")
    print(json.dumps(figures))


_UNTIL_DRAWN = """
  const drawn = () => new Promise(done => requestAnimationFrame(() => setTimeout(done)));
  const timed = async act => { const at = performance.now(); act(); await drawn();
    return +(performance.now() - at).toFixed(1); };
"""
FILTER = f"""(async () => {{ {_UNTIL_DRAWN}
  const search = document.getElementById("search"), took = [];
  const type = text => {{ search.value = text; search.dispatchEvent(new Event("input")); }};
  for (const text of ["e", "ex", "extension-1", "extension-1 cp312 2.15", "zzz", ""])
    took.push(await timed(() => type(text)));
  return took; }})()"""
"""What somebody types, from the key to the picture, key by key."""
CHOOSE = f"""(async () => {{ {_UNTIL_DRAWN}
  const took = [];
  for (const axis of ["python", "torch", "gpu"]) {{
    const inputs = document.querySelectorAll(`#${{axis}} input`);
    took.push(await timed(() => inputs[inputs.length >> 1].click()));
  }}
  const name = document.getElementById("name");
  const other = () => {{ name.selectedIndex = 7; name.dispatchEvent(new Event("change")); }};
  took.push(await timed(other));
  return took; }})()"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES)
    parser.add_argument("--step", nargs=3, metavar=("STEP", "FOLDER", "SIZE"))
    arguments = parser.parse_args()
    if arguments.step:
        step, folder, size = arguments.step
        measure(step, Path(folder), int(size))
        return
    for size in arguments.sizes:
        with tempfile.TemporaryDirectory(prefix="wheelyard-index-") as folder:
            make_yard(Path(folder), size)
            for step in ("first", "again", "update"):
                command = [sys.executable, __file__, "--step", step, folder, str(size)]
                subprocess.run(command, check=True, env=os.environ)
            measure_page(Path(folder), size)


if __name__ == "__main__":
    main()
