"""What a sandboxed Python sees, and the environment in front of it."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from wheelyard.machine.namespaces import SandboxLevel
from wheelyard.model.cell import PythonVersion
from wheelyard.toolchain.rooms import (
    build_rooms,
    interpreter_rooms,
    make_environment,
    python_environment,
)
from wheelyard.toolchain.sandbox import Order, choose_sandbox
from wheelyard.toolchain.values import Places

if TYPE_CHECKING:
    from collections.abc import Callable

    from wheelyard.toolchain.interpreters import Interpreter
    from wheelyard.toolchain.values import Toolchain

PLACES = Places(base=Path("/wy"))


@pytest.fixture
def toolchain(make_toolchain: Callable[..., Toolchain]) -> Toolchain:
    sandbox = choose_sandbox(SandboxLevel.UNSHARE, env={}, scratch=Path("/c/sandbox"))
    return make_toolchain(Path("/c"), sandbox=sandbox)


def test_everything_of_a_build_lies_at_its_fixed_place_and_cannot_be_written(
    toolchain: Toolchain, interpreter: Interpreter, tmp_path: Path
) -> None:
    rooms = build_rooms(toolchain, PLACES, scratch=tmp_path)
    shown = {str(room.inside): str(room.source) for room in rooms}
    assert (
        shown
        | {
            "/wy/environment": str(tmp_path / "environment"),
            "/wy/links": "/c/links",
            "/wy/python": str(interpreter.base_prefix),
            "/wy/requirements": "/c/requirements",
            "/wy/toolkit": "/c/toolkit",
            "/wy/tools": "/c/tools",
            "/wy/torch": "/c/torch",
        }
        == shown
    )
    assert not any(room.writable for room in rooms)


def test_python_outside_of_the_system_is_shown_at_its_own_place_too(
    interpreter: Interpreter, tmp_path: Path
) -> None:
    elsewhere = dataclasses.replace(interpreter, base_prefix=Path("/opt/python"))
    places = [
        str(room.inside) for room in interpreter_rooms(elsewhere, PLACES, environment=tmp_path)
    ]
    assert places == ["/opt/python", "/wy/python", "/wy/environment"]


def test_python_of_the_system_is_there_anyway(interpreter: Interpreter, tmp_path: Path) -> None:
    system = dataclasses.replace(interpreter, base_prefix=Path("/usr"))
    places = [str(room.inside) for room in interpreter_rooms(system, PLACES, environment=tmp_path)]
    assert places == ["/wy/python", "/wy/environment"]


def test_compiler_outside_of_the_system_is_shown_at_its_own_place(
    toolchain: Toolchain, tmp_path: Path
) -> None:
    compiler = dataclasses.replace(toolchain.compiler, path=Path("/opt/gcc-13/bin/g++"))
    other = dataclasses.replace(toolchain, compiler=compiler)
    rooms = build_rooms(other, PLACES, scratch=tmp_path / "other")
    assert Path("/opt/gcc-13") in {room.inside for room in rooms}
    rooms = build_rooms(toolchain, PLACES, scratch=tmp_path)
    assert Path("/usr") not in {room.inside for room in rooms}


def test_environment_points_to_where_the_sandbox_shows_the_interpreter(
    interpreter: Interpreter, tmp_path: Path
) -> None:
    threaded = dataclasses.replace(interpreter, version=PythonVersion(3, 14, free_threaded=True))
    folder = make_environment(tmp_path / "made", interpreter=threaded, places=PLACES)
    assert (folder / "bin" / "python").readlink() == Path("/wy/python/bin/python3.14t")
    assert "home = /wy/python/bin\n" in (folder / "pyvenv.cfg").read_text(encoding="utf-8")
    assert (folder / "lib" / "python3.14t" / "site-packages").is_dir()


def test_environment_can_be_laid_out_twice(interpreter: Interpreter, tmp_path: Path) -> None:
    for _ in range(2):
        make_environment(tmp_path / "made", interpreter=interpreter, places=PLACES)


def test_folders_of_the_path_are_searched_behind_the_environment_s_own(
    interpreter: Interpreter, tmp_path: Path
) -> None:
    entries = (Path("/wy/runtime"), Path("/wy/torch"))
    folder = make_environment(
        tmp_path / "made", interpreter=interpreter, places=PLACES, path_entries=entries
    )
    (pth,) = folder.glob("lib/*/site-packages/*.pth")
    assert pth.read_text(encoding="utf-8") == "/wy/runtime\n/wy/torch\n"


def test_environment_is_one_to_the_python_that_runs_in_it(
    interpreter: Interpreter, tmp_path: Path
) -> None:
    """Run it without namespaces, where the places are links."""
    sandbox = choose_sandbox(SandboxLevel.NONE, env=os.environ, scratch=tmp_path)
    places = Places(base=sandbox.base)
    extra = tmp_path / "extra"
    extra.mkdir()
    environment = make_environment(
        tmp_path / "made", interpreter=interpreter, places=places, path_entries=(extra,)
    )
    code = "import sys; print(sys.prefix, sys.base_prefix, sys.path[-1], sep='\\n')"
    order = Order(
        command=(str(places.environment / "bin" / "python"), "-c", code),
        rooms=interpreter_rooms(interpreter, places, environment=environment),
        env=python_environment(places),
        cwd=tmp_path,
    )
    prefix, base_prefix, last = sandbox.run(order).output.splitlines()
    assert prefix == str(places.environment)
    assert Path(base_prefix).resolve() == interpreter.base_prefix.resolve()
    assert last == str(extra)


def test_path_has_wrappers_first_and_the_system_last_and_nothing_twice() -> None:
    path = python_environment(PLACES, Path("/opt/gcc/bin"), Path("/usr/bin"))["PATH"]
    assert path.split(":") == [
        "/wy/tools",
        "/wy/environment/bin",
        "/wy/requirements/bin",
        "/wy/toolkit/bin",
        "/opt/gcc/bin",
        "/usr/bin",
        "/bin",
    ]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("LC_ALL", "C.UTF-8"),
        ("PYTHONHASHSEED", "0"),
        ("PYTHONNOUSERSITE", "1"),
        ("PYTHONPATH", "/wy/requirements:/wy/torch"),
        ("TZ", "UTC"),
    ],
)
def test_every_python_has_the_same_surroundings(name: str, value: str) -> None:
    assert python_environment(PLACES)[name] == value
