"""The workshop: fingerprints of files in the farm, and states against the yard."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from wheelyard.errors import LockError
from wheelyard.farm import load_farm
from wheelyard.machine.namespaces import SandboxLevel
from wheelyard.model.cell import CudaVersion
from wheelyard.model.redistributables import redist_lock_request
from wheelyard.survey import survey
from wheelyard.workshop import Options, Workshop, open_workshop
from wheelyard.yard.store import open_yard

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from wheelyard.model.job import Job


@pytest.fixture
def workshop(probe_farm: Path, tmp_path: Path) -> Workshop:
    return _open(probe_farm, tmp_path)


def _open(folder: Path, tmp_path: Path, options: Options | None = None) -> Workshop:
    env = {"HOME": str(tmp_path / "home"), "PATH": "", "WHEELYARD_CACHE": str(tmp_path / "cache")}
    yard = open_yard(tmp_path / "yard")
    return open_workshop(load_farm(folder), yard, env=env, options=options or Options())


def test_caches_lie_where_the_environment_says(workshop: Workshop, tmp_path: Path) -> None:
    assert workshop.cache == tmp_path / "cache"


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("patches/probe/0001-first.patch", id="patch"),
        pytest.param("locks/build/probe-1.1.txt", id="build-lock"),
        pytest.param("locks/runtime/probe-1.1.txt", id="runtime-lock"),
        pytest.param("locks/torch/2.11.0+cu130.txt", id="torch-lock"),
        pytest.param("locks/toolkit/13.0.txt", id="toolkit-lock"),
        pytest.param("source/setup.py", id="folder-of-the-source"),
    ],
)
def test_change_of_a_file_that_decides_the_job_changes_its_fingerprint(
    workshop: Workshop, probe_farm: Path, make_probe_job: Callable[..., Job], name: str
) -> None:
    before = workshop.fingerprint(make_probe_job())
    with (probe_farm / name).open("a", encoding="utf-8") as file:
        file.write("# more\n")
    assert workshop.fingerprint(make_probe_job()).sha256 != before.sha256


@pytest.mark.parametrize(
    ("patch", "decides"), [("0001-first.py", True), ("0001-first.patch", False)]
)
def test_what_patches_share_decides_jobs_with_patches_that_are_code(
    probe_farm: Path,
    tmp_path: Path,
    recipe_text: str,
    make_probe_job: Callable[..., Job],
    patch: str,
    decides: bool,  # noqa: FBT001
) -> None:
    text = recipe_text.replace('"0001-first.patch"', f'"{patch}"')
    (probe_farm / "recipes/probe.toml").write_text(text, encoding="utf-8")
    (probe_farm / "patches/probe" / patch).touch()
    shared = probe_farm / "patches/editing.py"
    digests = []
    for content in ("", "# more\n"):
        shared.write_text(content, encoding="utf-8")
        workshop = _open(probe_farm, tmp_path)
        job = make_probe_job(text=text)
        fingerprint = workshop.fingerprint(job)
        (planned,) = survey([job], workshop).planned
        assert planned.fingerprint.sha256 == fingerprint.sha256
        digests.append(fingerprint.sha256)
    assert (digests[0] != digests[1]) == decides


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("recipes/probe/smoke.py", id="smoke-test"),
        pytest.param("matrix.toml", id="matrix"),
        pytest.param("locks/torch/2.8.0+cu128.txt", id="another-torch"),
    ],
)
def test_change_of_another_file_does_not(
    workshop: Workshop, probe_farm: Path, make_probe_job: Callable[..., Job], name: str
) -> None:
    before = workshop.fingerprint(make_probe_job())
    with (probe_farm / name).open("a", encoding="utf-8") as file:
        file.write("# more\n")
    assert workshop.fingerprint(make_probe_job()).sha256 == before.sha256


@pytest.mark.parametrize(
    ("torch", "release", "changes"),
    [
        pytest.param("2.8.0+cu128", "12.8.1", True, id="index-has-no-toolkit"),
        pytest.param("2.8.0+cu128", "12.9.1", False, id="of-another-cuda"),
        pytest.param("2.11.0+cu130", "13.0.2", False, id="index-has-one"),
    ],
)
def test_lock_of_archives_decides_the_job_where_the_index_has_no_toolkit(
    workshop: Workshop,
    probe_farm: Path,
    make_probe_job: Callable[..., Job],
    torch: str,
    release: str,
    *,
    changes: bool,
) -> None:
    job = make_probe_job(torch=torch)
    before = workshop.fingerprint(job)
    request = redist_lock_request(release)
    path = probe_farm / request.path
    path.parent.mkdir()
    path.write_text(f"{request.header}\n", encoding="utf-8")
    assert (workshop.fingerprint(job).sha256 != before.sha256) is changes
    assert (str(request.path) in workshop.lock_digests(job)) is changes


def test_archives_are_known_where_the_farm_has_their_lock(
    workshop: Workshop, probe_farm: Path
) -> None:
    assert workshop.redistributables(CudaVersion(12, 8)) is None
    request = redist_lock_request("12.8.1")
    (probe_farm / request.path).parent.mkdir()
    (probe_farm / request.path).write_text(f"{request.header}\n", encoding="utf-8")
    redist = workshop.redistributables(CudaVersion(12, 8))
    assert redist is not None
    assert redist.lock.request == request


def test_fingerprint_does_not_depend_on_where_the_farm_lies(
    workshop: Workshop, probe_farm: Path, make_probe_job: Callable[..., Job], tmp_path: Path
) -> None:
    before = workshop.fingerprint(make_probe_job()).sha256
    moved = probe_farm.rename(tmp_path / "elsewhere")
    assert _open(moved, tmp_path).fingerprint(make_probe_job()).sha256 == before


def test_pinned_source_is_not_fetched_for_a_fingerprint(
    workshop: Workshop, make_probe_job: Callable[..., Job]
) -> None:
    fingerprint = workshop.fingerprint(make_probe_job(version="1.0"))
    assert fingerprint.inputs["folder"] is None
    assert not (workshop.cache / "sources").exists()


def test_missing_lock_stops_before_anything_else(
    workshop: Workshop, probe_farm: Path, make_probe_job: Callable[..., Job]
) -> None:
    (probe_farm / "locks/toolkit/13.0.txt").unlink()
    with pytest.raises(LockError, match=r"wheelyard update toolkit 13\.0"):
        workshop.fingerprint(make_probe_job())


def test_sandbox_that_is_asked_for_is_not_looked_for(probe_farm: Path, tmp_path: Path) -> None:
    workshop = _open(probe_farm, tmp_path, Options(sandbox=SandboxLevel.NONE))
    assert workshop.sandbox().level is SandboxLevel.NONE
    assert workshop.sandbox().base == tmp_path / "cache" / "sandbox" / "wy"


def test_without_the_programs_there_is_no_sandbox(workshop: Workshop) -> None:
    assert workshop.sandbox().level is SandboxLevel.NONE
