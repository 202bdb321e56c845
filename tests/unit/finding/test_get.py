"""From a question to an environment: out of a yard's folder, and out of a served index."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
import uv

from wheelyard.yard.index import write_index
from wheelyard.yard.store import store_wheel

if TYPE_CHECKING:
    import contextlib
    from collections.abc import Callable

    from tests.yards import Made

    from wheelyard.yard.folder import Yard

    Wheelyard = Callable[..., subprocess.CompletedProcess[str]]
    Write = Callable[..., None]
    Snapshot = Callable[[Path], dict[str, bytes]]

PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
INDEX = "index/torch2.11.0-cu130/simple/"
SMOKE = """\
import json, sys, probe_a
words = sys.argv
report = {"level": words[words.index("--level") + 1], "measurements": []}
open(words[words.index("--json") + 1], "w").write(json.dumps(report))
"""


@pytest.fixture
def farm(
    write_recipe: Write,
    finish_farm: Callable[[], Path],
    publish: Write,
    make_wheel: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
) -> Path:
    """Return a farm with ``probe-a``; torch, helper and uv are on the index of this user."""
    for variable in ("VIRTUAL_ENV", "CONDA_PREFIX"):
        monkeypatch.delenv(variable, raising=False)
    write_recipe("probe-a", {"1.0": []})
    folder = finish_farm()
    (folder / "recipes" / "probe-a" / "smoke.py").write_text(SMOKE)
    publish("helper", "1.0")
    publish("helper", "2.0")
    make_wheel(
        name="uv",
        version=version("uv"),
        tag=f"py3-none-manylinux_2_17_{os.uname().machine}",
        files={f"uv-{version('uv')}.data/scripts/uv": Path(uv.find_uv_bin()).read_bytes()},
    )
    return folder


@pytest.fixture
def full_yard(yard: Yard, make: Callable[..., Made]) -> Yard:
    """Return a yard that has ``probe-a`` for this Python."""
    made = make(name="probe-a", public="1.0")
    store_wheel(yard, made.path, msgspec.structs.replace(made.record, python=PYTHON), made.report)
    write_index(yard)
    return yard


def imports(folder: Path, *names: str) -> None:
    code = f"import {', '.join(names)}"
    subprocess.run([str(folder / "bin" / "python"), "-I", "-c", code], check=True)


def test_yards_folder_gives_a_new_environment_that_uninstall_removes(
    wheelyard: Wheelyard,
    farm: Path,
    full_yard: Yard,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # bundles of others have to be signed here; this one is our own
    (tmp_path / "signers").write_text("")
    monkeypatch.setenv("WHEELYARD_ALLOWED_SIGNERS", str(tmp_path / "signers"))
    places = ("--farm", farm, "--yard", full_yard.path)
    done = wheelyard("get", "probe-a", "--into", tmp_path / "env", *places, "--json")
    assert done.returncode == 0, done.stderr
    told: dict[str, Any] = json.loads(done.stdout)
    assert told["cell"].endswith("-torch2.11.0-cu130-x86_64")
    assert told["packages"]["probe-a"] == "1.0+cu130.torch2.11.0"
    assert "probe-a 1.0+cu130.torch2.11.0" in done.stderr
    imports(tmp_path / "env", "probe_a")
    done = wheelyard("uninstall", tmp_path / "env")
    assert done.returncode == 0, done.stderr
    assert not (tmp_path / "env").exists()


def test_served_yard_fills_an_environment_and_uninstall_leaves_it_as_before(
    wheelyard: Wheelyard,
    farm: Path,
    full_yard: Yard,
    tmp_path: Path,
    snapshot: Snapshot,
    serve_folder: Callable[[Path], contextlib.AbstractContextManager[str]],
) -> None:
    folder = tmp_path / "env"
    wheels = tmp_path / "wheels"
    subprocess.run([uv.find_uv_bin(), "venv", "--python", sys.executable, folder], check=True)
    helper = next(wheels.glob("helper-1.0-*"))
    install = [uv.find_uv_bin(), "pip", "install", "--no-index", "--no-config", "--link-mode"]
    subprocess.run([*install, "copy", "--python", str(folder), str(helper)], check=True)
    before = _without_bytecode(snapshot(folder))
    words = ("get", "probe-a", "helper>=2", "--into", folder, "--farm", farm)
    with serve_folder(full_yard.path) as url:
        done = wheelyard(*words, "--yard", tmp_path / "none", "--index", f"{url}{INDEX}")
    assert done.returncode == 0, done.stderr
    assert not (tmp_path / "none").exists()
    imports(folder, "probe_a")
    assert list(folder.glob("lib/*/site-packages/helper-2.0.dist-info"))
    done = wheelyard("uninstall", folder)
    assert done.returncode == 0, done.stderr
    assert _without_bytecode(snapshot(folder)) == before


def _without_bytecode(files: dict[str, bytes]) -> dict[str, bytes]:
    return {name: content for name, content in files.items() if not name.endswith(".pyc")}


def test_what_does_not_exist_yet_is_told_with_the_commands_that_make_it(
    wheelyard: Wheelyard, farm: Path, tmp_path: Path
) -> None:
    places = ("--farm", farm, "--yard", tmp_path / "none", "--python", PYTHON)
    done = wheelyard("get", "probe-a", "--into", tmp_path / "env", *places)
    assert done.returncode == 5
    assert f"wheelyard build --job probe-a-1.0-cp{PYTHON.replace('.', '')}-" in done.stdout
    assert "make what the best one lacks" in done.stderr
    assert not (tmp_path / "env").exists()


def test_no_environment_is_active_and_none_is_named(wheelyard: Wheelyard, farm: Path) -> None:
    done = wheelyard("get", "probe-a", "--farm", farm)
    assert done.returncode == 2
    assert "--into ENV" in done.stderr


def test_existing_environment_decides_the_python(
    wheelyard: Wheelyard, farm: Path, full_yard: Yard, tmp_path: Path
) -> None:
    folder = tmp_path / "env"
    subprocess.run([uv.find_uv_bin(), "venv", "--python", sys.executable, folder], check=True)
    words = ("get", "probe-a", "--into", folder, "--farm", farm, "--yard", full_yard.path)
    done = wheelyard(*words, "--python", "3.9")
    assert done.returncode == 2
    assert f"has Python {PYTHON}, asked for is 3.9" in done.stderr
