"""Commands that fetch and build, with wrong input of every kind; and what they show at the end."""

from __future__ import annotations

import json
import os
import platform
import shutil
import sys
import venv
from typing import TYPE_CHECKING

import pytest

from wheelyard.cli.telling import make_progress
from wheelyard.farm import load_farm
from wheelyard.model.releases import torch_release
from wheelyard.progress import LiveProgress, PlainProgress
from wheelyard.toolchain.interpreters import find_all_interpreters

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from subprocess import CompletedProcess

    from wheelyard.model.cell import PythonVersion
    from wheelyard.yard.store import StoredWheel

    Run = Callable[..., CompletedProcess[str]]
    Store = Callable[..., StoredWheel]

CELL = ("--python", "3.12", "--torch", "2.11.0", "--cuda", "13.0")
IDENTIFIER = f"probe-1.1-cp312-torch2.11.0-cu130-{platform.machine()}"
GXX = """\
#!/bin/sh
case $1 in
  --version) echo "g++ 12.2.0"; echo "Copyright (C) 2022 Free Software Foundation, Inc." ;;
  -dumpfullversion) echo 12.2.0 ;;
  -dumpmachine) echo x86_64-linux-gnu ;;
esac
"""


@pytest.fixture
def build(wheelyard: Run, probe_farm: Path) -> Run:
    """Return a function that builds in the farm of the probe."""

    def run(*words: str | Path) -> CompletedProcess[str]:
        return wheelyard("build", *words, "--farm", probe_farm)

    return run


def _is_empty(yard: Path) -> bool:
    return not [path for path in yard.rglob("*.whl*") if path.is_file()]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        pytest.param(
            ["--python", "3.9", "--torch", "2.11.0", "--cuda", "13.0"],
            [
                f"torch 2.11.0 has no wheels for Python 3.9 on {platform.machine()} (it has 3.10,",
                "The nearest possible cell is cp310-torch2.11.0-cu130-",
                "--python 3.10 --torch 2.11.0 --cuda 13.0.",
            ],
            id="python",
        ),
        pytest.param(
            ["--python", "3.12", "--torch", "2.11.0", "--cuda", "12.4"],
            ["torch 2.11.0 was never built for CUDA 12.4", "The nearest possible cell is cp312-"],
            id="cuda",
        ),
        pytest.param(
            ["--python", "3.9", "--torch", "2.11.0+cu130"],
            ["torch 2.11.0 has no wheels for Python 3.9", "The nearest possible cell is cp310-"],
            id="torch-with-local-part",
        ),
        pytest.param(
            [*CELL, "--gpu-archs", "1.0"],
            [f"{IDENTIFIER.removeprefix('probe-1.1-')} is impossible:", "cannot compile for 1.0"],
            id="gpu-target",
        ),
    ],
)
def test_impossible_cell_gets_its_reason_and_the_nearest_possible_cell(
    build: Run, probe_farm: Path, words: list[str], expected: list[str]
) -> None:
    done = build("probe", *words)
    assert done.returncode == 5
    for part in expected:
        assert part in done.stderr
    assert _is_empty(probe_farm / "yard")


@pytest.mark.parametrize(
    ("words", "code", "expected"),
    [
        pytest.param(["--version", "9"], 4, "probe has no version '9'; it has 1.1, 1.0.", id="v"),
        pytest.param(["--torch", "9.9"], 4, "no facts about torch '9.9'. The nearest", id="torch"),
        pytest.param(["--torch", "new"], 2, "'new' is not a version.", id="torch-word"),
        pytest.param(["--python", "3"], 2, "'3' is not a Python version.", id="python"),
        pytest.param(["--cuda", "13"], 2, "'13' is not a CUDA version.", id="cuda"),
        pytest.param(["--gpu-archs", "H100"], 2, "'H100' is not a GPU target.", id="gpu"),
        pytest.param(["--jobs", "0"], 2, "--jobs 0 compiles nothing.", id="jobs"),
        pytest.param(["--env", "/bin/false"], 6, "/bin/false did not tell where", id="env"),
        pytest.param(["--env", "{python}", "--cuda", "13.0"], 2, "leave out --cuda", id="both"),
    ],
)
def test_wrong_word_is_told_with_the_value_and_what_to_do(
    build: Run, foreign_python: Path, words: list[str], code: int, expected: str
) -> None:
    given = [word.replace("{python}", str(foreign_python)) for word in words]
    done = build("probe", *given)
    assert (done.returncode, expected in done.stderr) == (code, True), done.stderr


def test_missing_interpreter_is_told_with_how_to_get_one(
    build: Run, fake_machine: Path, probe_farm: Path
) -> None:
    here = {item.version for item in find_all_interpreters(os.environ)}
    known = torch_release(load_farm(probe_farm).matrix.torches[0].version).pythons("x86_64")
    missing = next((python for python in known if python not in here), None)
    if missing is None:
        pytest.skip("every Python that there is lies on this machine")
    done = build("probe", "--python", str(missing), "--torch", "2.11.0")
    assert done.returncode == 6
    assert f"No usable CPython {missing} on this machine. Looked at:" in done.stderr
    assert f"uv python install {missing}" in done.stderr
    assert _is_empty(probe_farm / "yard")


def test_toolkit_of_an_image_wants_an_image(build: Run) -> None:
    done = build("probe", *CELL, "--toolkit", "image")
    assert done.returncode == 2
    assert "name its image with --container" in done.stderr


def test_container_excludes_a_sandbox_and_the_torch_of_this_machine(build: Run) -> None:
    done = build("probe", *CELL, "--container", "image", "--sandbox", "none")
    assert done.returncode == 2
    assert "has a system of its own: leave out --sandbox or --container" in done.stderr


def test_missing_compiler_is_told_with_how_to_get_one(
    build: Run, probe_farm: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    done = build("probe", *CELL)
    assert done.returncode == 6
    assert f"No C++ compiler: looked for g++, c++ on PATH '{tmp_path}'." in done.stderr
    assert "apt-get install g++" in done.stderr
    assert _is_empty(probe_farm / "yard")


@pytest.mark.parametrize(
    ("lock", "command"),
    [
        pytest.param("torch/2.11.0+cu130", "wheelyard update torch 2.11.0+cu130", id="torch"),
        pytest.param("build/probe-1.1", "wheelyard update build probe-1.1", id="build"),
        pytest.param("toolkit/13.0", "wheelyard update toolkit 13.0", id="toolkit"),
    ],
)
def test_stale_lock_stops_the_build_with_the_command_that_makes_it_anew(
    build: Run, probe_farm: Path, lock: str, command: str
) -> None:
    path = probe_farm / "locks" / f"{lock}.txt"
    path.write_text("# wheelyard lock of: something else\n", encoding="utf-8")
    done = build("probe", *CELL)
    assert done.returncode == 16
    assert "is stale: it says 'something else'" in done.stderr
    assert f"Run `{command}`" in done.stderr


def test_bad_recipe_stops_every_command(build: Run, probe_farm: Path) -> None:
    (probe_farm / "recipes/broken.toml").write_text("name = ", encoding="utf-8")
    done = build("probe", *CELL)
    assert done.returncode == 3
    assert "recipes/broken.toml is not TOML" in done.stderr


@pytest.fixture
def fake_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wheelyard: Run) -> Path:
    """Put a compiler and a CUDA toolkit of nothing on this machine; return the toolkit."""
    toolkit = tmp_path / "cuda-13.0"
    for name in ("cuda_runtime.h", "cublas_v2.h", "cusparse.h", "cusolverDn.h"):
        (toolkit / "include" / name).parent.mkdir(parents=True, exist_ok=True)
        (toolkit / "include" / name).touch()
    (toolkit / "version.json").write_text('{"cuda": {"version": "13.0.2"}}', encoding="ascii")
    for program, text in ((toolkit / "bin" / "nvcc", ""), (tmp_path / "bin" / "g++", GXX)):
        program.parent.mkdir()
        program.write_text(text, encoding="ascii")
        program.chmod(0o755)
    monkeypatch.setenv("CUDA_HOME", str(toolkit))
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    monkeypatch.setenv("UV_OFFLINE", "1")
    return toolkit


@pytest.fixture
def foreign_python(tmp_path: Path) -> Path:
    """Return an interpreter that has a torch of nothing, 2.11.0+cu130."""
    venv.create(tmp_path / "environment", symlinks=True)
    (site,) = (tmp_path / "environment" / "lib").glob("python*/site-packages")
    (site / "torch").mkdir()
    (site / "torch" / "__init__.py").touch()
    version = "__version__ = '2.11.0+cu130'\ncuda: str = '13.0'\n"
    (site / "torch" / "version.py").write_text(version, encoding="ascii")
    return tmp_path / "environment" / "bin" / "python"


@pytest.fixture
def build_foreign(
    build: Run,
    fake_machine: Path,
    foreign_python: Path,
    probe_farm: Path,
    running_python: PythonVersion,
) -> Callable[..., CompletedProcess[str]]:
    """Return a function that builds against the torch of nothing, without namespaces."""
    if shutil.which("git") is None:
        pytest.skip("there is no git")
    # a compiler of nothing makes no libraries of an older system
    with (probe_farm / "matrix.toml").open("a", encoding="utf-8") as matrix:
        matrix.write('\n[toolchain]\nplatform = "manylinux_2_99"\n')

    def run(*words: str) -> CompletedProcess[str]:
        return build("probe", "--env", foreign_python, "--sandbox", "none", *words)

    return run


def test_patch_that_does_not_apply_is_told_with_patch_file_and_hunk(
    build_foreign: Run, probe_farm: Path, tmp_path: Path
) -> None:
    (probe_farm / "source" / "setup.py").write_text("one\ntwo\nthree\n", encoding="ascii")
    (probe_farm / "patches/probe/0001-first.patch").write_text(
        "Why: a test\n--- a/setup.py\n+++ b/setup.py\n@@ -1,3 +1,3 @@\n one\n-2\n+II\n three\n",
        encoding="ascii",
    )
    done = build_foreign()
    assert done.returncode == 9, done.stderr
    assert "The patch 0001-first.patch does not apply to ../source:" in done.stderr
    assert "setup.py, hunk 1 of 1 (@@ -1,3 +1,3 @@)" in done.stderr
    assert _is_empty(probe_farm / "yard")
    assert (probe_farm / "source" / "setup.py").read_text(encoding="ascii") == "one\ntwo\nthree\n"


def test_compiler_that_is_too_new_for_the_toolkit_is_told_with_what_to_do(
    build_foreign: Run, tmp_path: Path
) -> None:
    (tmp_path / "bin" / "g++").write_text(GXX.replace("12.2.0", "99.1.0"), encoding="ascii")
    done = build_foreign()
    assert done.returncode == 6
    assert "gcc 99 is too new for CUDA 13.0" in done.stderr
    assert "name another with CXX=/usr/bin/g++-N" in done.stderr


def test_finished_job_is_shown_with_how_to_install_it(
    build: Run, probe_farm: Path, store_probe: Store
) -> None:
    stored = store_probe(machine=platform.machine())
    done = build("probe", *CELL)
    assert done.returncode == 0
    assert "nothing to do: the yard has it, made from the same inputs" in done.stderr
    assert stored.record.sha256 in done.stdout
    lines = done.stdout.splitlines()
    assert lines[1].split() == [
        *("WHEEL", "SIZE", "SHA256", "PLATFORM", "TESTED", "SANDBOX", "TIME")
    ]
    assert lines[2].split()[0] == IDENTIFIER
    pinned = [line for line in lines if "probe==1.1+cu130.torch2.11.0" in line]
    assert len(pinned) == 2
    assert str(probe_farm / "yard" / "index" / "torch2.11.0-cu130" / "simple") in pinned[0]


def test_finished_job_says_the_same_to_programs(build: Run, store_probe: Store) -> None:
    stored = store_probe(machine=platform.machine())
    done = build("probe", *CELL, "--json")
    (wheel,) = json.loads(done.stdout)["wheels"]
    assert wheel["built"] is False
    assert wheel["identifier"] == IDENTIFIER
    assert wheel["path"] == str(stored.path)
    assert wheel["tested"] is None


def test_job_made_from_other_inputs_is_refused_before_anything_is_built(
    build: Run, probe_farm: Path, recipe_text: str, store_probe: Store
) -> None:
    store_probe(machine=platform.machine())
    changed = recipe_text.replace('DEPTH = "1"', 'DEPTH = "2"')
    (probe_farm / "recipes/probe.toml").write_text(changed, encoding="utf-8")
    done = build("probe", *CELL)
    assert done.returncode == 14
    assert "made from other inputs (build: " in done.stderr
    assert "raise `revision` of version 1.1 in recipes/probe.toml above 0" in done.stderr


@pytest.mark.parametrize(("is_terminal", "kind"), [(True, LiveProgress), (False, PlainProgress)])
def test_terminal_gets_a_moving_line_and_a_log_plain_ones(
    monkeypatch: pytest.MonkeyPatch, *, is_terminal: bool, kind: type[object]
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: is_terminal)
    assert isinstance(make_progress(), kind)
