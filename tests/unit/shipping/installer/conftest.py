"""Bundles of small real wheels, written by the real code and installed by the real installer."""

from __future__ import annotations

import hashlib
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import uv
from packaging.version import Version

from wheelyard.model.cell import Cell, PythonVersion, TorchBuild
from wheelyard.model.matrix import parse_machine
from wheelyard.shipping.bundle import write_bundle
from wheelyard.shipping.parts import BundledCell, OurWheel, installer, make_members
from wheelyard.shipping.wheel import read_wheel

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from wheelyard.shipping.bundle import Written
    from wheelyard.shipping.interpreter import PackedInterpreter
    from wheelyard.shipping.wheel import BundledWheel

PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
SMOKE = """\
import argparse, json, sys
parser = argparse.ArgumentParser()
parser.add_argument("--level")
parser.add_argument("--json")
options = parser.parse_args()
import demo_ext
if demo_ext.broken:
    sys.exit("demo_ext is broken")
open(options.json, "w").write(json.dumps({"level": options.level, "measurements": []}))
"""


@pytest.fixture
def uv_wheel(make_wheel: Callable[..., Path]) -> Path:
    """Return a wheel that holds the real uv program of this environment, as uv's own does."""
    tag = f"py3-none-manylinux_2_17_{platform.machine()}"
    program = Path(uv.find_uv_bin()).read_bytes()
    return make_wheel(
        name="uv", version="0.0.1", tag=tag, files={"uv-0.0.1.data/scripts/uv": program}
    )


@pytest.fixture
def make_bundle(
    tmp_path: Path, make_wheel: Callable[..., Path], uv_wheel: Path
) -> Callable[..., Written]:
    """Return a function that bundles wheels: ``demo-ext`` of ours, and what it needs."""

    def bundle(
        *,
        name: str = "demo.tar",
        version: str = "1.0",
        broken: bool = False,
        python: str = PYTHON,
        gpu_archs: tuple[str, ...] = ("9.0",),
        others: Sequence[Path] = (),
        part_size: int | None = None,
        earlier: tuple[str, frozenset[str]] | None = None,
        interpreter: PackedInterpreter | None = None,
    ) -> Written:
        source = f"broken = {broken}\nversion = {version!r}\n".encode()
        ours = make_wheel(
            name="demo-ext",
            version=version,
            files={"demo_ext/__init__.py": source},
            requires=["demo-helper>=1"],
            entry_points="[console_scripts]\ndemo = demo_ext:main\n",
            texts={"licenses/LICENSE": "Do what you like.\n"},
        )
        helper = make_wheel(name="demo-helper", version="1.5", files={"demo_helper.py": b"x = 1\n"})
        wheels = [_read(path) for path in (ours, helper, *others)]
        cell = BundledCell(
            cell=Cell(
                PythonVersion.parse(python),
                TorchBuild.parse("2.11.0+cu130"),
                parse_machine(platform.machine()),
            ),
            wheels=tuple(wheels),
            ours=(
                OurWheel(
                    name=wheels[0].name,
                    version=Version(version),
                    gpu_archs=gpu_archs,
                    record=b"{}\n",
                ),
            ),
            interpreter=interpreter,
        )
        members = make_members(
            [cell],
            uv=_read(uv_wheel),
            requested=["demo-ext"],
            smoke={"smoke/demo-ext/smoke.py": SMOKE.encode()},
        )
        base, left_out = earlier or ("", frozenset())
        return write_bundle(
            members, tmp_path / name, part_size=part_size, base=base, left_out=left_out
        )

    return bundle


def _read(path: Path) -> BundledWheel:
    return read_wheel(path, sha256=hashlib.sha256(path.read_bytes()).hexdigest())


@pytest.fixture(scope="session")
def installer_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the installer as it lies in every bundle."""
    path = tmp_path_factory.mktemp("installer") / "install.py"
    path.write_bytes(installer())
    return path


@pytest.fixture
def install(
    tmp_path: Path, installer_path: Path
) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Return a function that runs it with a Python that has nothing of ours."""

    def run(
        *words: str | Path, python: str = "", env: dict[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        executable = python or os.path.realpath(sys.executable)
        command = [executable, "-I", "-S", str(installer_path), *map(str, words)]
        surroundings = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), **(env or {})}
        return subprocess.run(
            command, check=False, capture_output=True, text=True, env=surroundings, timeout=300
        )

    return run


@pytest.fixture
def environment(tmp_path: Path, make_wheel: Callable[..., Path]) -> Path:
    """Return an environment that has packages already: an older helper, and what needs it."""
    folder = tmp_path / "used"
    python = os.path.realpath(sys.executable)
    subprocess.run([python, "-m", "venv", "--without-pip", str(folder)], check=True)
    old = make_wheel(name="demo-helper", version="1.1", files={"demo_helper.py": b"x = 0\n"})
    user = make_wheel(
        name="demo-user", version="1.0", files={"demo_user.py": b""}, requires=["demo-helper<2"]
    )
    command = [uv.find_uv_bin(), "pip", "install", "--offline", "--no-index", "--no-deps"]
    command += ["--link-mode", "copy", "--python", str(folder / "bin" / "python")]
    command += [str(old), str(user)]
    subprocess.run(command, check=True, capture_output=True)
    return folder


@pytest.fixture
def look() -> Callable[[Path], dict[str, object]]:
    """Return a function that tells all of a folder: names, bytes, modes, links, inodes."""

    def told(folder: Path) -> dict[str, object]:
        found: dict[str, object] = {}
        for path in sorted(folder.rglob("*")):
            status = path.lstat()
            content: object = None
            if path.is_symlink():
                content = path.readlink()
            elif path.is_file():
                content = path.read_bytes(), status.st_ino
            found[str(path.relative_to(folder))] = status.st_mode, content
        return found

    return told
