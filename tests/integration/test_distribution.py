"""Without a clone: what is built of the sdist, installed from the wheel, run elsewhere."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import uv

REPOSITORY = Path(__file__).parents[2]
PACKED = {
    "recipes": "wheelyard/packed/recipes",
    "patches": "wheelyard/packed/patches",
    "locks": "wheelyard/packed/locks",
    "matrix.toml": "wheelyard/packed/matrix.toml",
    "src/wheelyard": "wheelyard",
}

pytestmark = pytest.mark.network


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Build the sdist, and of it, unpacked, the wheel."""
    folder = tmp_path_factory.mktemp("dist")
    command = [uv.find_uv_bin(), "build", "--quiet", "--out-dir", str(folder), str(REPOSITORY)]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert len(list(folder.glob("*.tar.gz"))) == 1
    (path,) = folder.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def environment(wheel, tmp_path_factory):
    folder = tmp_path_factory.mktemp("environment") / "env"
    tool = uv.find_uv_bin()
    for words in (
        ["venv", "--quiet", "--python", sys.executable, str(folder)],
        ["pip", "install", "--quiet", "--python", str(folder / "bin" / "python"), str(wheel)],
    ):
        done = subprocess.run([tool, *words], check=False, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture
def elsewhere(environment, tmp_path):
    """Return a function that runs the installed command in a folder without a farm."""
    here = tmp_path / "some where 轮子"
    here.mkdir()
    env = {name: value for name, value in os.environ.items() if not name.startswith("WHEELYARD_")}
    env |= {"HOME": str(tmp_path / "home")}

    def run(*words):
        command = [str(environment / "bin" / "wheelyard"), *map(str, words)]
        return subprocess.run(
            command, cwd=here, env=env, check=False, capture_output=True, text=True
        )

    return run


def test_wheel_holds_recipes_patches_locks_matrix_and_facts_as_they_are(wheel):
    tracked = subprocess.run(
        ["git", "ls-files", "-z", "--", *PACKED],
        cwd=REPOSITORY,
        check=True,
        capture_output=True,
        text=True,
    ).stdout.split("\0")
    with zipfile.ZipFile(wheel) as archive:
        for name in filter(None, tracked):
            top = next(top for top in PACKED if name == top or name.startswith(f"{top}/"))
            packed = archive.read(PACKED[top] + name.removeprefix(top))
            assert packed == (REPOSITORY / name).read_bytes(), name


def test_recipes_and_plan_are_those_of_the_repository(elsewhere):
    listed = json.loads(elsewhere("list", "--json").stdout)["recipes"]
    names = {path.stem for path in (REPOSITORY / "recipes").glob("*.toml")}
    assert {item["name"] for item in listed} == names
    planned = elsewhere("plan", "causal-conv1d-*", "--json")
    assert planned.returncode == 0, planned.stderr
    assert json.loads(planned.stdout)["unlocked"] == []


def test_doctor_says_where_is_read_and_where_is_written(elsewhere, environment, tmp_path):
    lines = json.loads(elsewhere("doctor", "--json").stdout)["lines"]
    found = {line["subject"]: line["finding"] for line in lines}
    assert str(environment) in found["recipes"]
    assert "only read" in found["recipes"]
    assert found["yard"].startswith(str(tmp_path / "home/.local/state/wheelyard/yard"))


def test_a_wheel_is_checked_against_the_symbol_tables_that_are_packed(elsewhere, wheel):
    done = elsewhere("check", wheel, "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads(done.stdout)["reports"]


def test_combinations_are_found_and_bundles_and_environments_begin(elsewhere):
    question = ("causal-conv1d", "--torch", "2.11.0", "--python", "3.12")
    found = elsewhere("find", *question, "--json")
    assert found.returncode == 0, found.stderr
    assert "causal-conv1d" in found.stdout
    # nobody has built it for this user
    for words in (("get", *question, "--into", "env"), ("bundle", *question, "-o", "b.tar")):
        done = elsewhere(*words)
        assert "wheelyard build --job causal-conv1d-" in done.stdout + done.stderr


@pytest.mark.parametrize("words", [("update",), ("update", "releases"), ("new", "anything")])
def test_what_is_packed_is_never_written(elsewhere, environment, words):
    before = _tree(environment)
    done = elsewhere(*words)
    assert done.returncode == 2
    assert "--farm DIR" in done.stderr
    assert _tree(environment) == before


def _tree(folder):
    files = (path for path in folder.rglob("*") if path.is_file() and path.suffix != ".pyc")
    return {str(path): path.stat().st_mtime_ns for path in files}
