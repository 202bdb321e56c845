"""Containers, with an engine that writes down what it is called with; no container is run."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from wheelyard.errors import MachineError, UsageError
from wheelyard.machine.compilers import find_gxx
from wheelyard.model.cell import Cell, CudaVersion, PythonVersion, TorchBuild
from wheelyard.toolchain.containers import Engine, find_engine, open_container
from wheelyard.toolchain.rooms import interpreter_rooms
from wheelyard.toolchain.sandbox import Order, Room
from wheelyard.toolchain.values import Places

if TYPE_CHECKING:
    from collections.abc import Callable

    from wheelyard.toolchain.containers import ContainerSandbox

SCRIPTS = Path(sys.modules["wheelyard.toolchain.containers"].__file__ or "").with_name("container")
# stands in for podman: it runs probe.py with this Python, and writes down every other call
ENGINE = f"""#!/bin/sh
printf '%s\\n' "$@" >>"$0.log"
case "$*" in
  "image inspect"*gone*) echo no such image >&2; exit 125 ;;
  "image inspect"*) echo {"a" * 64} ;;
  pull*) echo no network >&2; exit 125 ;;
  *probe.py*) for last; do :; done; exec {sys.executable} -I -S {SCRIPTS}/probe.py "$last" ;;
esac
"""
CELL = Cell(PythonVersion(3, 12), TorchBuild.parse("2.11.0+cu130"), "x86_64")


@pytest.fixture
def env(tmp_path: Path) -> dict[str, str]:
    """Return an environment with the engine, and with the compiler of this machine."""
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "podman").write_text(ENGINE, encoding="utf-8")
    (folder / "podman").chmod(0o755)
    return {"PATH": f"{folder}:{find_gxx(os.environ).path.parent}:/usr/bin:/bin"}


@pytest.fixture
def calls(tmp_path: Path) -> Callable[[], list[str]]:
    """Return a function that returns the words of all calls of the engine."""
    return lambda: (tmp_path / "bin" / "podman.log").read_text(encoding="utf-8").splitlines()


@pytest.fixture
def container(env: dict[str, str], tmp_path: Path) -> ContainerSandbox:
    engine = Engine(name="podman", create_args=("--memory=8g",))
    return open_container("local/image:1", CELL, engine=engine, env=env, scratch=tmp_path / "s")


@pytest.mark.parametrize(
    ("text", "engine"),
    [
        ("docker", Engine(name="docker")),
        ("podman; create_args: --memory=8g", Engine(name="podman", create_args=("--memory=8g",))),
        (
            "podman; create-args: --annotation 'a b'",
            Engine(name="podman", create_args=("--annotation", "a b")),
        ),
    ],
)
def test_engine_is_written_as_for_cibuildwheel(text: str, engine: Engine) -> None:
    assert Engine.parse(text) == engine


@pytest.mark.parametrize("text", ["lxc", "podman; args: --memory=8g", ""])
def test_other_engines_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match="Write it as in 'podman; create_args: --memory=8g'"):
        Engine.parse(text)


def test_engine_that_was_asked_for_comes_before_cibuildwheels_and_the_installed(
    env: dict[str, str],
) -> None:
    given = env | {"CIBW_CONTAINER_ENGINE": "podman; create_args: --memory=1g"}
    assert find_engine("podman", given).create_args == ()
    assert find_engine(None, given).create_args == ("--memory=1g",)
    assert find_engine(None, env) == Engine(name="podman")


def test_without_an_engine_it_is_said_where_one_was_looked_for(tmp_path: Path) -> None:
    with pytest.raises(MachineError, match=f"no podman or docker on PATH .{tmp_path}"):
        find_engine(None, {"PATH": str(tmp_path)})


def test_image_is_run_by_its_digest_whatever_its_tag_names_later(
    container: ContainerSandbox, calls: Callable[[], list[str]]
) -> None:
    assert container.image.digest == f"sha256:{'a' * 64}"
    assert str(container.image) == f"local/image:1@sha256:{'a' * 64}"
    probe = calls()[calls().index("run") :]
    assert "a" * 64 in probe
    assert "local/image:1" not in probe
    assert "/opt/python/cp312-cp312/bin/python" in probe


def test_image_tells_compiler_interpreter_and_libc(container: ContainerSandbox) -> None:
    image, here = container.image, find_gxx(os.environ)
    assert (image.compiler.name, image.compiler.version) == (here.name, here.version)
    assert image.interpreter.container_libc == image.libc
    assert image.libc.name == "glibc"


def test_free_threaded_python_has_a_folder_of_its_own(
    env: dict[str, str], tmp_path: Path, calls: Callable[[], list[str]]
) -> None:
    cell = Cell(PythonVersion(3, 14, free_threaded=True), CELL.torch, "aarch64")
    open_container("image", cell, engine=Engine(name="podman"), env=env, scratch=tmp_path)
    assert "/opt/python/cp314-cp314t/bin/python" in calls()
    assert "--platform=linux/arm64" in calls()


def test_image_that_cannot_be_had_is_named_with_the_reason(
    env: dict[str, str], tmp_path: Path
) -> None:
    with pytest.raises(MachineError, match="no image gone, and podman did not get it: no network"):
        open_container("gone", CELL, engine=Engine(name="podman"), env=env, scratch=tmp_path)


def test_toolkit_that_the_image_lacks_is_told_with_a_remedy(container: ContainerSandbox) -> None:
    with pytest.raises(MachineError, match=r"no CUDA toolkit 99\.9 .*Leave out --toolkit image"):
        container.image.toolkit(CudaVersion.parse("99.9"))


def _order(tmp_path: Path, *rooms: Room) -> Order:
    return Order(command=("true",), rooms=rooms, env={"A": "b"}, cwd=tmp_path)


def test_rooms_are_mounts_and_there_is_no_network(
    container: ContainerSandbox, calls: Callable[[], list[str]], tmp_path: Path
) -> None:
    container.run(
        _order(
            tmp_path,
            Room(source=tmp_path / "b", inside=Path("/wy/build"), writable=True),
            Room(source=tmp_path / "t", inside=Path("/wy/torch")),
        )
    )
    words = calls()
    assert f"--mount=type=bind,source={tmp_path}/b,target=/wy/build" in words
    assert f"--mount=type=bind,source={tmp_path}/t,target=/wy/torch,readonly" in words
    assert words.count("--network=none") == 2
    assert words.count("--memory=8g") == 2
    assert not any("nvidia" in word for word in words)


def test_network_is_the_users_to_choose(env: dict[str, str], tmp_path: Path) -> None:
    engine = Engine.parse("podman; create_args: --network=host")
    container = open_container("image", CELL, engine=engine, env=env, scratch=tmp_path)
    assert "--network=none" not in container._arguments(_order(tmp_path), tmp_path)


def test_gpu_comes_with_its_driver_as_the_engine_gives_it(
    container: ContainerSandbox, tmp_path: Path
) -> None:
    device = Path("/dev/nvidia0")
    order = _order(tmp_path, Room(source=device, inside=device, writable=True))
    arguments = container._arguments(order, tmp_path)
    assert "--device=nvidia.com/gpu=all" in arguments
    assert not any("source=/dev" in word for word in arguments)


def test_docker_gives_gpus_in_its_own_words(container: ContainerSandbox, tmp_path: Path) -> None:
    device = Path("/dev/nvidia0")
    order = _order(tmp_path, Room(source=device, inside=device, writable=True))
    docker = dataclasses.replace(container, engine=Engine(name="docker"))
    assert "--gpus=all" in docker._arguments(order, tmp_path)


@pytest.mark.skipif(os.getuid() != 0, reason="only root writes what another owns")
def test_what_is_written_belongs_to_whose_folder_it_is(tmp_path: Path) -> None:
    folder = tmp_path / "build"
    folder.mkdir()
    os.chown(folder, 1234, 1234)
    order = {
        "command": ["sh", "-c", f"mkdir {folder}/dist; ln -s nowhere {folder}/dist/link"],
        "cwd": str(tmp_path),
        "env": {"PATH": "/usr/bin:/bin"},
        "links": [],
        "written": [str(folder)],
    }
    (tmp_path / "order.json").write_text(json.dumps(order), encoding="utf-8")
    command: list[str | Path] = [sys.executable, "-I", "-S", SCRIPTS / "carry_out.py"]
    subprocess.run([*command, tmp_path / "order.json"], check=True)
    assert [path.lstat().st_uid for path in (folder / "dist", folder / "dist" / "link")] == [
        1234
    ] * 2


def test_what_the_image_has_is_linked_and_not_mounted(
    container: ContainerSandbox, tmp_path: Path
) -> None:
    rooms = interpreter_rooms(
        container.image.interpreter, Places(base=container.base), environment=tmp_path
    )
    order = _order(tmp_path, *rooms)
    prefix = str(container.image.interpreter.base_prefix)
    assert [prefix, "/wy/python"] in container._order(order)["links"]  # type: ignore[operator]
    assert not any(f"source={prefix}," in word for word in container._arguments(order, tmp_path))


def test_cibuildwheel_is_asked_for_one_cell_and_given_no_variable_of_the_user(
    container: ContainerSandbox, tmp_path: Path
) -> None:
    container.env["CIBW_BEFORE_ALL"] = "rm -rf /"  # type: ignore[index]
    environment = container._cibuildwheel_environment(["--network=none", "--label=a b"])
    assert "CIBW_BEFORE_ALL" not in environment
    assert environment["CIBW_MANYLINUX_X86_64_IMAGE"] == "a" * 64
    assert environment["CIBW_CONTAINER_ENGINE"] == (
        "podman; create_args: --network=none '--label=a b'; disable_host_mount: true"
    )


def test_path_with_a_comma_is_refused(container: ContainerSandbox, tmp_path: Path) -> None:
    room = Room(source=tmp_path / "a,b", inside=Path("/wy/torch"))
    with pytest.raises(MachineError, match="has a comma in its path"):
        container.run(_order(tmp_path, room))


def test_order_is_carried_out_with_links_environment_and_status(tmp_path: Path) -> None:
    order = {
        "command": ["sh", "-c", 'echo "$A" >written; exit 3'],
        "cwd": str(tmp_path),
        "env": {"A": "b", "PATH": "/usr/bin:/bin"},
        "links": [["/opt/python", str(tmp_path / "wy" / "python")]],
        "written": [str(tmp_path)],
    }
    (tmp_path / "order.json").write_text(json.dumps(order), encoding="utf-8")
    command: list[str | Path] = [
        sys.executable,
        "-I",
        "-S",
        SCRIPTS / "carry_out.py",
        tmp_path / "order.json",
    ]
    assert subprocess.run(command, check=False).returncode == 3
    assert (tmp_path / "written").read_text() == "b\n"
    assert (tmp_path / "wy" / "python").readlink() == Path("/opt/python")


def test_uv_is_told_the_platform_of_an_image_and_the_path_of_an_interpreter_here(
    container: ContainerSandbox,
) -> None:
    words = container.image.interpreter.installing
    assert words[:2] == ("--python", sys.executable)
    assert words[2] == "--python-platform"
    assert words[3].startswith(f"{container.image.interpreter.machine}-manylinux_2_")
