"""Yards, wheels to put into them, and a way to be killed at every step."""

from __future__ import annotations

import datetime as dt
import hashlib
import os
import platform
import sys
import traceback
import warnings
import zipfile
from typing import TYPE_CHECKING, NamedTuple

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from wheelyard.model.metadata import parse_core_metadata
from wheelyard.model.record import (
    BuildRecord,
    Built,
    RecordedBuild,
    RecordedCheck,
    RecordedToolkit,
    TestLevel,
    TestReport,
)
from wheelyard.wheels.stamp import read_dist_info, stamp_wheel
from wheelyard.yard.folder import open_yard

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from wheelyard.yard.folder import Yard

CREATED = dt.datetime(2026, 11, 23, 12, 0, tzinfo=dt.UTC)
STEPS = frozenset(
    {"open", "os.rename", "os.link", "os.remove", "os.mkdir", "os.rmdir", "os.truncate"}
)


class Made(NamedTuple):
    """A wheel outside of the yard, with its record and the report of its smoke test."""

    path: Path
    record: BuildRecord
    report: TestReport


@pytest.fixture
def yard(tmp_path: Path) -> Yard:
    return open_yard(tmp_path / "yard")


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., Made]:
    """Return a function that makes a wheel, record and report."""

    def make_wheel(
        *,
        name: str = "demo-ext",
        public: str = "1.0",
        torch: str = "2.11.0+cu130",
        content: bytes = b"x = 1\n",
        revision: int = 0,
        archs_label: str = "",
        plan_fingerprint: str = "3" * 64,
    ) -> Made:
        torch_version, _, cuda = torch.partition("+")
        index_label = f"torch{torch_version}-{cuda}{archs_label}"
        version = Version(f"{public}+{cuda}.torch{torch_version}{archs_label.replace('-', '.')}")
        folder = tmp_path / "made"
        built = _write_built(folder, name=name, public=public, content=content)
        path = stamp_wheel(
            built,
            destination=folder,
            version=version,
            torch_requirement=Requirement(f"torch=={torch_version}"),
            build_tag=str(revision) if revision else None,
            platform_tag=f"manylinux_2_17_{platform.machine()}",
        )
        metadata = read_dist_info(path, "METADATA")
        sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
        record = BuildRecord(
            identifier=f"{name}-{public}-cp312-{index_label}-x86_64",
            index_label=index_label,
            filename=path.name,
            sha256=sha256,
            size=path.stat().st_size,
            name=canonicalize_name(name),
            version=version,
            revision=revision,
            requires_python=parse_core_metadata(metadata).requires_python,
            core_metadata_sha256=hashlib.sha256(metadata).hexdigest(),
            python="3.12",
            torch=torch,
            machine="x86_64",
            gpu_archs=("9.0",),
            plan_fingerprint=plan_fingerprint,
            build_digest="4" * 64,
            fingerprint_inputs={},
            origin=Built(
                source="sha256:" + "5" * 64,
                tree_sha256="6" * 64,
                patches=(),
                compiler="gcc",
                toolkit=RecordedToolkit(provider="index", version="13.0"),
                build=RecordedBuild(seconds=60.0, cpu_seconds=110.0, compile_jobs=2),
            ),
            locks={},
            sandbox="unshare",
            torch_origin="locked",
            seconds={},
            check=RecordedCheck(passed=True),
            created=CREATED,
        )
        return Made(path, record, make_report(record))

    return make_wheel


def make_report(
    record: BuildRecord, *, level: TestLevel = TestLevel.imported, machine: str = "builder"
) -> TestReport:
    return TestReport(
        sha256=record.sha256,
        filename=record.filename,
        level=level,
        machine=machine,
        machine_description=machine,
        measurements=(),
        seconds=1.0,
        created=CREATED,
    )


@pytest.fixture(name="make_report")
def make_report_fixture() -> Callable[..., TestReport]:
    return make_report


def _write_built(folder: Path, *, name: str, public: str, content: bytes) -> Path:
    """Write a wheel for this interpreter, as a project's build does."""
    tag = f"cp{sys.version_info.major}{sys.version_info.minor}"
    stem = f"{name.replace('-', '_')}-{public}"
    path = folder / "built" / f"{stem}-{tag}-{tag}-linux_{platform.machine()}.whl"
    path.parent.mkdir(parents=True, exist_ok=True)
    metadata = (
        f"Metadata-Version: 2.1\nName: {name}\nVersion: {public}\n"
        "Requires-Python: >=3.9,<4\nRequires-Dist: torch\n"
    )
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"{name.replace('-', '_')}/__init__.py", content)
        archive.writestr(f"{stem}.dist-info/METADATA", metadata)
        archive.writestr(f"{stem}.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: x-y-z\n")
    return path


@pytest.fixture
def snapshot() -> Callable[[Path], dict[str, bytes]]:
    """Return a function that reads everything below a folder but the locks."""

    def read(folder: Path) -> dict[str, bytes]:
        return {
            str(path.relative_to(folder)): path.read_bytes()
            for path in sorted(folder.rglob("*"))
            if path.is_file() and path.parent != folder / "locks"
        }

    return read


@pytest.fixture
def killed_at(monkeypatch: pytest.MonkeyPatch) -> Callable[[int, Callable[[], object]], bool]:
    """Return a function that runs an action in a child killed before its n-th step on the disk.

    It tells whether the child was killed; otherwise the action had fewer steps. A killed process
    loses nothing that it wrote, so nothing is made durable meanwhile: that is most of the time.
    """
    monkeypatch.setattr(os, "fsync", lambda _handle: None)

    def run(number: int, action: Callable[[], object]) -> bool:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            child = os.fork()
        if child == 0:
            _die_at(number)
            try:
                action()
            except BaseException:  # noqa: BLE001 - the child may not come back from here
                traceback.print_exc()
                os._exit(3)
            os._exit(0)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        assert code in {0, 9}
        return code == 9

    return run


def _die_at(number: int) -> None:
    seen = 0

    def step() -> None:
        nonlocal seen
        seen += 1
        if seen == number:
            os._exit(9)

    def hook(event: str, _arguments: object) -> None:
        if event in STEPS:
            step()

    os.fsync = lambda _handle: step()  # type: ignore[assignment]
    sys.addaudithook(hook)
