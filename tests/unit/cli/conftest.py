"""A finished wheel of the probe in the yard of its farm."""

from __future__ import annotations

import datetime as dt
import hashlib
import os
import sys
from typing import TYPE_CHECKING

import pytest
from packaging.specifiers import SpecifierSet

from wheelyard.errors import MachineError
from wheelyard.farm import load_farm
from wheelyard.model.cell import PythonVersion
from wheelyard.model.record import (
    Adopted,
    BuildRecord,
    Built,
    RecordedBuild,
    RecordedCheck,
    RecordedToolkit,
)
from wheelyard.planning.fingerprint import adopted_fingerprint
from wheelyard.toolchain.interpreters import find_interpreter
from wheelyard.wheels.stamp import read_dist_info
from wheelyard.workshop import Options, open_workshop
from wheelyard.yard.store import StoredWheel, open_yard, store_wheel

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from wheelyard.model.job import Job


BUILT = Built(
    source="sha256:" + "5" * 64,
    tree_sha256="6" * 64,
    patches=(),
    compiler="gcc 12.2.0",
    toolkit=RecordedToolkit(provider="index", version="13.0"),
    build=RecordedBuild(seconds=60.0, cpu_seconds=110.0, compile_jobs=2),
)
UPSTREAM = "probe-1.1+cu13torch2.11-cp312-cp312-linux_x86_64.whl"
UPSTREAM_URL = f"https://example.org/v1.1/{UPSTREAM.replace('+', '%2B')}"


@pytest.fixture
def running_python() -> PythonVersion:
    """Return the version of the running Python; skip where no wheel can be built for it."""
    version = PythonVersion(*sys.version_info[:2])
    try:
        find_interpreter(version, os.environ)
    except MachineError as error:
        pytest.skip(f"the running Python cannot be built for: {error}")
    return version


@pytest.fixture
def store_probe(
    probe_farm: Path, make_wheel: Callable[..., Path], make_probe_job: Callable[..., Job]
) -> Callable[..., StoredWheel]:
    """Return a function that stores a wheel of the probe, as the farm stands now.

    ``adopted`` is the sha256 of the file that it was made from, if it was not built.
    """

    def store(*, adopted: str = "", **words: object) -> StoredWheel:
        job = make_probe_job(**words)
        yard = open_yard(probe_farm / "yard")
        workshop = open_workshop(load_farm(probe_farm), yard, env={"PATH": ""}, options=Options())
        fingerprint = workshop.fingerprint(job)
        origin: Built | Adopted = BUILT
        if adopted:
            fingerprint = adopted_fingerprint(job, upstream_sha256=adopted)
            origin = Adopted(url=UPSTREAM_URL, filename=UPSTREAM, sha256=adopted)
        path = make_wheel(
            name="probe",
            version=str(job.wheel_version),
            tag=f"{job.cell.python.python_tag}-{job.cell.python.abi_tag}-manylinux_2_17_x86_64",
            build=str(job.version.revision or ""),
            requires=["torch==2.11.0", "packaging"],
        )
        metadata = read_dist_info(path, "METADATA")
        record = BuildRecord(
            identifier=job.identifier,
            index_label=job.index_label,
            filename=path.name,
            sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
            size=path.stat().st_size,
            name=job.version.recipe,
            version=job.wheel_version,
            revision=job.version.revision,
            requires_python=SpecifierSet(">=3.9"),
            core_metadata_sha256=hashlib.sha256(metadata).hexdigest(),
            python=str(job.cell.python),
            torch=str(job.cell.torch),
            machine=job.cell.machine,
            gpu_archs=tuple(str(arch) for arch in job.gpu_archs),
            plan_fingerprint=fingerprint.sha256,
            build_digest="4" * 64,
            fingerprint_inputs=dict(fingerprint.inputs),
            origin=origin,
            locks={},
            sandbox="unshare",
            torch_origin="locked",
            seconds={"build": 60.0},
            check=RecordedCheck(passed=True),
            created=dt.datetime(2026, 11, 23, tzinfo=dt.UTC),
        )
        return store_wheel(yard, path, record)

    return store
