"""A small recipe, jobs of it, a farm with it, the farm of this repository, stored expectations."""

from __future__ import annotations

import dataclasses
import functools
import logging
import os
import platform
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from wheelyard.__main__ import main
from wheelyard.farm import load_farm
from wheelyard.machine.compilers import Compiler
from wheelyard.machine.namespaces import SandboxLevel
from wheelyard.model.cell import (
    Cell,
    CudaVersion,
    Machine,
    PythonVersion,
    TorchBuild,
    parse_gpu_archs,
)
from wheelyard.model.decode import decode_table
from wheelyard.model.job import Job
from wheelyard.model.recipe import parse_recipe
from wheelyard.model.recipe_file import RecipeFile
from wheelyard.planning.locks import wanted_locks
from wheelyard.toolchain.interpreters import Interpreter
from wheelyard.toolchain.sandbox import choose_sandbox
from wheelyard.toolchain.values import Toolchain, Toolkit, TorchEnvironment

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from wheelyard.farm import Farm
    from wheelyard.model.recipe import Recipe
    from wheelyard.toolchain.sandbox import Sandbox

REPOSITORY = Path(__file__).parents[2]
REWRITE = "WHEELYARD_REWRITE_EXPECTED"
"""Set it to anything, run the tests once, and read what git says changed."""

BARE_NAMESPACES = {
    SandboxLevel.UNSHARE: ["unshare", "--user", "--map-root-user", "--mount", "--net", "true"],
    SandboxLevel.BUBBLEWRAP: ["bwrap", "--unshare-all", "--ro-bind", "/", "/", "true"],
}
RECIPE = """\
name = "probe"
summary = "Looks around"
homepage = "https://example.org/probe"
license = "MIT"

[build]
requires = ["setuptools>=77"]
environment = { PROBE = "recipe", DEPTH = "1" }
memory-per-job = 2.0
effort = { host = 60.0, device = 240.0 }

[wheel]
extensions = ["probe_cuda"]
top-levels = ["probe", "probe_cuda"]
requires = ["packaging"]

[gpu-archs]
"12.0" = ["8.0", "9.0"]
"12.8" = ["9.0", "8.0", "12.0"]

[[patches]]
file = "0001-first.patch"
versions = ">=1.1"

[[patches]]
file = "0002-new-torch.patch"
torch = ">=2.10"

[[versions]]
version = "1.0"
[versions.sdist]
filename = "probe-1.0.tar.gz"
sha256 = "1111111111111111111111111111111111111111111111111111111111111111"
size = 1000

[[versions]]
version = "1.1"
python = ">=3.10"
torch = ">=2.7"
cuda = ">=12.6"
environment = { PROBE = "version" }
[versions.folder]
path = "../source"
"""
MATRIX = """\
[axes]
python = ["3.11", "3.12", "3.13"]
torch = ["2.11.0+cu130", "2.8.0+cu128"]
machine = ["x86_64", "aarch64"]
"""


def _parse(text: str) -> Recipe:
    return parse_recipe(decode_table(text, RecipeFile, origin="probe.toml"), origin="probe.toml")


@pytest.fixture(scope="session")
def parse_text() -> Callable[[str], Recipe]:
    """Return a function that parses the text of a recipe file."""
    return _parse


@pytest.fixture(scope="session")
def recipe_text() -> str:
    return RECIPE


@pytest.fixture(scope="session")
def matrix_text() -> str:
    return MATRIX


@pytest.fixture(scope="session")
def probe() -> Recipe:
    """Return the recipe ``probe``, versions 1.1 and 1.0."""
    return _parse(RECIPE)


@pytest.fixture(scope="session")
def make_probe_job() -> Callable[..., Job]:
    """Return a function that makes jobs of the recipe ``probe``, or of another one's text."""

    def make(
        *,
        text: str = RECIPE,
        version: str | None = None,
        python: str = "3.12",
        torch: str = "2.11.0+cu130",
        machine: Machine = "x86_64",
        gpu_archs: str = "",
        lineinfo: bool = False,
        foreign_torch: bool = False,
    ) -> Job:
        recipe_version = _parse(text).version(version)
        cell = Cell(PythonVersion.parse(python), TorchBuild.parse(torch), machine)
        default = recipe_version.default_gpu_archs(cell.torch.cuda)
        return Job(
            version=recipe_version,
            cell=cell,
            gpu_archs=parse_gpu_archs(gpu_archs) if gpu_archs else default,
            lineinfo=lineinfo,
            foreign_torch=foreign_torch,
        )

    return make


@pytest.fixture
def write_farm(tmp_path: Path) -> Callable[..., Path]:
    """Return a function that writes a farm: recipes by name, and every file that they need."""

    def write(*, matrix: str = MATRIX, **recipes: str) -> Path:
        folder = tmp_path / "farm"
        files = {"matrix.toml": matrix, "source/setup.py": "", "recipes/probe/smoke.py": ""}
        files |= {f"patches/probe/000{name}.patch": "" for name in ("1-first", "2-new-torch")}
        files |= {f"recipes/{name}.toml": text for name, text in recipes.items()}
        for name, text in files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(text, encoding="utf-8")
        return folder

    return write


@pytest.fixture
def probe_farm(write_farm: Callable[..., Path]) -> Path:
    """Return a farm with the recipe ``probe``; its locks are current and pin nothing."""
    folder = write_farm(probe=RECIPE)
    for request in wanted_locks(load_farm(folder)):
        path = folder / request.path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{request.header}\n", encoding="utf-8")
    return folder


@pytest.fixture
def wheelyard(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Callable[..., subprocess.CompletedProcess[str]]]:
    """Return a function that runs the command line in this process, knowing nothing of its user."""
    for name in set(os.environ) - {"LANG", "LC_ALL", "PATH", "TMPDIR"}:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("WHEELYARD_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("WHEELYARD_STATE", str(tmp_path / "state"))
    (tmp_path / "home").mkdir()
    monkeypatch.chdir(tmp_path)
    logger = logging.getLogger("wheelyard")
    before = logger.handlers[:], logger.level, logger.propagate
    handler = signal.getsignal(signal.SIGTERM)

    def run(*words: str | Path) -> subprocess.CompletedProcess[str]:
        arguments = [str(word) for word in words]
        code = main(arguments)
        return subprocess.CompletedProcess(arguments, code, *capsys.readouterr())

    yield run
    logger.handlers[:], logger.level, logger.propagate = before
    signal.signal(signal.SIGTERM, handler)


@pytest.fixture(scope="session")
def repository() -> Path:
    return REPOSITORY


@pytest.fixture(scope="session")
def real_farm() -> Farm:
    """Return the farm of this repository."""
    return load_farm(REPOSITORY)


@pytest.fixture(scope="session")
def interpreter() -> Interpreter:
    """Return the running Python, whether it has headers or not."""
    version = PythonVersion(*sys.version_info[:2])
    return Interpreter(
        executable=Path(sys.executable),
        version=version,
        full_version=platform.python_version(),
        base_prefix=Path(sys.base_prefix),
        include=Path(sys.base_prefix, "include", f"python{version}"),
        ext_suffix=".so",
        soabi="",
        machine=platform.machine(),
    )


@pytest.fixture(scope="session")
def make_toolchain(interpreter: Interpreter) -> Callable[..., Toolchain]:
    """Return a function that makes a toolchain of the folders that lie, or do not, in one."""

    def make(
        folder: Path, *, sandbox: Sandbox, compiler: str = "/usr/bin/g++", **changes: object
    ) -> Toolchain:
        made = Toolchain(
            interpreter=interpreter,
            toolkit=Toolkit(
                path=folder / "toolkit", cuda=CudaVersion(13, 0), provider="installed", digest=""
            ),
            torch=TorchEnvironment(
                path=folder,
                site=folder / "torch",
                origin="locked",
                digest="",
                torch_version="2.11.0+cu130",
            ),
            requirements=folder / "requirements",
            tools=folder / "tools",
            compiler=Compiler(
                path=Path(compiler),
                real_path=Path(compiler),
                name="gcc",
                version=(12, 2, 0),
                target="x86_64-linux-gnu",
            ),
            sandbox=sandbox,
        )
        return dataclasses.replace(made, **changes)  # type: ignore[arg-type]

    return make


@pytest.fixture(scope="session")
def open_sandbox() -> Callable[[SandboxLevel, Path], Sandbox]:
    """Return a function that makes a real sandbox of that level, or skips where it is refused."""

    @functools.cache
    def reason_refused(level: SandboxLevel) -> str:
        # the bare programs: a sandbox of ours that does not start is a failure, not a refusal
        command = BARE_NAMESPACES[level]
        done = subprocess.run(command, check=False, capture_output=True, text=True)
        return done.stderr if done.returncode else ""

    def make(level: SandboxLevel, scratch: Path) -> Sandbox:
        reason = reason_refused(level)
        if reason:
            pytest.skip(f"{level} is refused here: {reason}")
        return choose_sandbox(level, env=os.environ, scratch=scratch)

    return make


@pytest.fixture(scope="session")
def assert_stored() -> Callable[[Path, str], None]:
    """Return a function that compares a text with what a file holds, or rewrites the file."""

    def compare(path: Path, text: str) -> None:
        if os.environ.get(REWRITE):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        stored = path.read_text(encoding="utf-8") if path.exists() else ""
        # pytest shows which lines differ
        assert text == stored, f"{path} is out of date; if this is meant, run with {REWRITE}=1"

    return compare
