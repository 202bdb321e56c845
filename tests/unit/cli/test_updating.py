"""The command that makes locks, from wheels that were written on the spot."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from wheelyard.farm import load_farm
from wheelyard.model.cell import CudaVersion
from wheelyard.planning.locks import wanted_locks

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from subprocess import CompletedProcess

    Run = Callable[..., CompletedProcess[str]]


@pytest.fixture
def update(
    wheelyard: Run,
    probe_farm: Path,
    make_wheel: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Run:
    """Return a function that updates the farm of the probe, with an index of four wheels."""
    versions = {"build": "1.4", "packaging": "26.0", "setuptools": "80.0", "torch": "2.9.1"}
    for name, version in versions.items():
        make_wheel(name=name, version=version)
    index = tmp_path / "index"
    for name in versions:
        page = index / name / "index.html"
        page.parent.mkdir(parents=True)
        (wheel,) = (tmp_path / "wheels").glob(f"{name}-*")
        page.write_text(f'<a href="{wheel.as_uri()}">{wheel.name}</a>', encoding="ascii")

    def run(*words: str) -> CompletedProcess[str]:
        # the fixture of the command line has emptied the environment
        monkeypatch.setenv("UV_DEFAULT_INDEX", index.as_uri())
        monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "uv-cache"))
        return wheelyard("update", *words, "--farm", probe_farm)

    return run


def test_wanted_locks_are_those_of_matrix_and_recipes(probe_farm: Path) -> None:
    assert [str(request.path) for request in wanted_locks(load_farm(probe_farm))] == [
        "locks/torch/2.11.0+cu130.txt",
        "locks/torch/2.8.0+cu128.txt",
        "locks/toolkit/13.0.txt",
        "locks/build/probe-1.1.txt",
        "locks/runtime/probe-1.1.txt",
        "locks/build/probe-1.0.txt",
        "locks/runtime/probe-1.0.txt",
    ]


def test_torch_that_the_index_does_not_have_as_its_own_gets_no_lock(
    write_farm: Callable[..., Path], recipe_text: str
) -> None:
    matrix = '[axes]\npython = ["3.12"]\ntorch = ["2.6.0+cu126", "2.6.0+cu124"]\n'
    farm = load_farm(write_farm(matrix=matrix, probe=recipe_text))
    assert [item.name for item in wanted_locks(farm) if item.kind == "torch"] == ["2.6.0+cu124"]


def test_nothing_is_made_where_every_lock_is_current(update: Run, probe_farm: Path) -> None:
    before = {path: path.read_bytes() for path in probe_farm.glob("locks/*/*")}
    done = update()
    assert (done.returncode, done.stdout) == (0, "all 7 locks are up to date\n")
    assert {path: path.read_bytes() for path in probe_farm.glob("locks/*/*")} == before


def test_missing_and_stale_locks_are_made_and_no_others(update: Run, probe_farm: Path) -> None:
    (probe_farm / "locks/runtime/probe-1.1.txt").unlink()
    stale = probe_farm / "locks/build/probe-1.0.txt"
    stale.write_text("# wheelyard lock of: other\n", encoding="utf-8")
    done = update()
    assert done.returncode == 0, done.stderr
    assert done.stdout == "locked locks/runtime/probe-1.1.txt\nlocked locks/build/probe-1.0.txt\n"
    assert stale.read_text(encoding="utf-8").startswith(
        "# wheelyard lock of: build, packaging, setuptools>=77; Python >= 3.9; aarch64, x86_64\n"
        "build==1.4"
    )


def test_lock_that_is_named_is_made_in_any_case(update: Run, probe_farm: Path) -> None:
    done = update("build", "probe-1.1", "--json")
    assert json.loads(done.stdout) == {
        "format": 1,
        "locked": ["locks/build/probe-1.1.txt"],
        "wanted": 1,
    }
    text = (probe_farm / "locks/build/probe-1.1.txt").read_text(encoding="utf-8")
    assert "setuptools==80.0" in text


def test_torch_outside_of_the_matrix_can_be_locked_as_the_choice_of_a_cell_advises(
    update: Run, probe_farm: Path
) -> None:
    done = update("torch", "2.9.1+cu128")
    assert done.returncode == 0, done.stderr
    text = (probe_farm / "locks/torch/2.9.1+cu128.txt").read_text(encoding="utf-8")
    assert "\ntorch==2.9.1" in text


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        pytest.param(
            ["build", "probe-1.2"],
            "No lock build 'probe-1.2' is wanted. Did you mean 'probe-1.1'?",
            id="unknown-version",
        ),
        pytest.param(
            ["torch", "2.11.0"],
            "No lock torch '2.11.0' is wanted. Did you mean '2.11.0+cu130'?",
            id="torch-without-cuda",
        ),
        pytest.param(
            ["torch", "2.11.0+cu124"], "No lock torch '2.11.0+cu124' is wanted.", id="never-built"
        ),
    ],
)
def test_lock_that_nobody_wants_gets_the_nearest_name(
    update: Run, words: list[str], expected: str
) -> None:
    done = update(*words)
    assert done.returncode == 4
    assert expected in done.stderr


def test_lock_that_cannot_be_resolved_leaves_the_old_one(update: Run, probe_farm: Path) -> None:
    path = probe_farm / "locks/toolkit/13.0.txt"
    before = path.read_bytes()
    done = update("toolkit")
    assert (done.returncode, path.read_bytes()) == (0, before)
    done = update("toolkit", "13.0")
    assert done.returncode == 7
    assert "No lock 13.0: uv did not resolve it." in done.stderr
    assert path.read_bytes() == before


REDIST = "locks/redist/12.4.1.toml"


@pytest.fixture
def redist_farm(probe_farm: Path, matrix_text: str) -> Path:
    """Return the farm of the probe with a matrix that wants CUDA 12.4, which no index has."""
    text = matrix_text.replace("2.8.0+cu128", "2.6.0+cu124")
    (probe_farm / "matrix.toml").write_text(text, encoding="utf-8")
    return probe_farm


@pytest.fixture
def mirror(redist_url: str, monkeypatch: pytest.MonkeyPatch, update: Run) -> None:
    """Name the mirror that the command may ask, and no other site."""
    monkeypatch.setenv("WHEELYARD_REDIST_URLS", redist_url)
    monkeypatch.setenv("WHEELYARD_DIRECT", "never")


def test_archives_of_the_matrix_are_locked_when_they_are_asked_for(
    update: Run, redist_farm: Path, mirror: None
) -> None:
    done = update("redist")
    assert (done.returncode, done.stdout) == (0, f"locked {REDIST}\n"), done.stderr
    lock = load_farm(redist_farm).redist_lock(CudaVersion(12, 4))
    assert lock is not None
    assert "cuda_nvcc-linux-sbsa-12.4.131-archive.tar.xz" in lock.text


def test_archives_are_not_locked_unasked(update: Run, redist_farm: Path, mirror: None) -> None:
    update("toolkit")
    update("torch", "2.11.0+cu130")
    assert not (redist_farm / REDIST).exists()


def test_stale_lock_of_archives_is_made_again_with_the_others(
    update: Run, probe_farm: Path, mirror: None
) -> None:
    update("redist", "12.4.1")
    path = probe_farm / REDIST
    text = path.read_text(encoding="utf-8")
    assert update().stdout == "all 8 locks are up to date\n"
    path.write_text(text.replace("cuda_profiler_api;", "cuda_gdb;"), encoding="utf-8")
    assert update().stdout == f"locked {REDIST}\n"
    assert path.read_text(encoding="utf-8") == text


def test_release_outside_of_the_matrix_can_be_locked_by_its_name(
    update: Run, probe_farm: Path, mirror: None
) -> None:
    done = update("redist", "12.4.1")
    assert (done.returncode, done.stdout) == (0, f"locked {REDIST}\n"), done.stderr


@pytest.mark.parametrize(
    ("name", "code", "message"),
    [
        pytest.param("12.4.0", 7, "There is no redistrib_12.4.0.json", id="not-on-the-site"),
        pytest.param("12.4", 2, "'12.4' is not a CUDA release", id="no-patch-level"),
        pytest.param("../12.4.1", 2, "is not a CUDA release", id="climbs"),
    ],
)
def test_release_that_does_not_exist_is_told(
    update: Run, probe_farm: Path, mirror: None, name: str, code: int, message: str
) -> None:
    done = update("redist", name)
    assert done.returncode == code
    assert message in done.stderr
    assert not list(probe_farm.glob("locks/redist/*"))


def test_farm_that_needs_no_archives_says_so(
    update: Run, write_farm: Callable[..., Path], recipe_text: str
) -> None:
    write_farm(matrix='[axes]\npython = ["3.12"]\ntorch = ["2.11.0+cu130"]\n', probe=recipe_text)
    done = update("redist")
    assert done.returncode == 4
    assert "No lock redist is wanted." in done.stderr
