"""Torch environments: installed from a lock, or found where somebody installed one."""

from __future__ import annotations

import os
import sys
import venv
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from wheelyard.errors import MachineError
from wheelyard.model.cell import Cell, PythonVersion, TorchBuild
from wheelyard.model.lock import Lock, torch_lock_request
from wheelyard.toolchain.torch_environment import (
    adopt_foreign_torch,
    find_foreign_torch,
    link_libraries,
    provide_torch,
    read_torch_build,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from wheelyard.toolchain.interpreters import Interpreter
    from wheelyard.toolchain.values import TorchEnvironment

BUILD = TorchBuild.parse("2.11.0+cu130")
CELL = Cell(PythonVersion(*sys.version_info[:2]), BUILD, "x86_64")
VERSION = """\
from typing import Optional

__all__ = ['__version__', 'debug', 'cuda', 'git_version', 'hip', 'rocm', 'xpu']
__version__ = '2.11.0+cu130'
debug = False
cuda: Optional[str] = '13.0'
git_version = 'abc'
hip: Optional[str] = None
"""


def _write_torch(site: Path, version: str = VERSION) -> Path:
    (site / "torch").mkdir(parents=True)
    (site / "torch" / "__init__.py").touch()
    (site / "torch" / "version.py").write_text(version, encoding="utf-8")
    return site


def test_torch_tells_its_build_without_being_imported(tmp_path: Path) -> None:
    site = _write_torch(tmp_path, f"{VERSION}\nraise RuntimeError\n")
    assert read_torch_build(site) == (BUILD, "2.11.0+cu130")


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        pytest.param("'2.11.0+cu130'", "'2.11.0'", ("2.11.0+cu130", "2.11.0"), id="no-local-part"),
        pytest.param(
            "'2.11.0+cu130'",
            "'2.11.0a0+ngc.26.03'",
            ("2.11.0a0+cu130", "2.11.0a0+ngc.26.03"),
            id="vendor",
        ),
        pytest.param("'13.0'", "'12.4'", ("2.11.0+cu124", "2.11.0+cu130"), id="cuda-is-believed"),
    ],
)
def test_build_is_made_of_public_version_and_cuda(
    tmp_path: Path, old: str, new: str, expected: tuple[str, str]
) -> None:
    build, text = read_torch_build(_write_torch(tmp_path, VERSION.replace(old, new)))
    assert (str(build), text) == expected


@pytest.mark.parametrize(
    ("version", "expected"),
    [
        pytest.param(
            VERSION.replace("'13.0'", "None"), r"was built without CUDA. Install", id="cpu"
        ),
        pytest.param("cuda: str = '13.0'", r"version\.py tells no version", id="no-version"),
    ],
)
def test_torch_that_is_no_use_is_refused(tmp_path: Path, version: str, expected: str) -> None:
    with pytest.raises(MachineError, match=expected):
        read_torch_build(_write_torch(tmp_path, version))


def test_folder_without_torch_is_named(tmp_path: Path) -> None:
    with pytest.raises(MachineError, match=f"There is no torch in {tmp_path}"):
        read_torch_build(tmp_path)


def test_libraries_get_the_names_that_linkers_look_for(tmp_path: Path) -> None:
    for name in (
        *("cublas/lib/libcublas.so.13", "cublas/lib/libcublasLt.so.13.1.0"),
        *("cudnn/lib/libcudnn.so.9", "cudnn/lib/notes.txt", "cudnn/include/cudnn.h"),
    ):
        path = tmp_path / "torch" / "nvidia" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    link_libraries(tmp_path / "torch", tmp_path / "links")
    links = {path.name: path for path in (tmp_path / "links").iterdir()}
    assert sorted(links) == ["libcublas.so", "libcublasLt.so", "libcudnn.so"]
    assert links["libcudnn.so"].resolve() == tmp_path / "torch/nvidia/cudnn/lib/libcudnn.so.9"


def test_links_hold_wherever_the_two_folders_are_shown_side_by_side(tmp_path: Path) -> None:
    path = tmp_path / "here" / "torch" / "nvidia" / "cudnn" / "lib" / "libcudnn.so.9"
    path.parent.mkdir(parents=True)
    path.touch()
    link_libraries(tmp_path / "here" / "torch", tmp_path / "here" / "links")
    (tmp_path / "here").rename(tmp_path / "there")
    assert (tmp_path / "there" / "links" / "libcudnn.so").exists()


@pytest.fixture
def provide(
    tmp_path: Path,
    interpreter: Interpreter,
    uv_env: dict[str, str],
    lock_wheel: Callable[..., str],
) -> Callable[..., TorchEnvironment]:
    """Return a function that installs a torch with this version.py from a lock."""

    def run(version: str = VERSION, *, copy: bool = False) -> TorchEnvironment:
        files = {
            "torch/__init__.py": b"",
            "torch/version.py": version.encode(),
            "nvidia/cudnn/lib/libcudnn.so.9": b"",
        }
        request = torch_lock_request(
            BUILD, python="3.10", machines=("x86_64",), requirement="torch==2.11.0"
        )
        return provide_torch(
            CELL,
            lock=Lock(request=request, text=lock_wheel("torch", files=files)),
            interpreter=interpreter,
            cache=tmp_path / "cache",
            env=uv_env,
            copy=copy,
        )

    return run


def test_locked_torch_is_a_flat_folder_with_links_beside_it(
    provide: Callable[..., TorchEnvironment],
) -> None:
    torch = provide()
    assert torch.origin == "locked"
    assert torch.torch_version == "2.11.0+cu130"
    assert (torch.site / "torch" / "version.py").is_file()
    assert (torch.links / "libcudnn.so").resolve().name == "libcudnn.so.9"
    assert torch.site.parent == torch.links.parent == torch.path


def test_locked_torch_is_installed_once(provide: Callable[..., TorchEnvironment]) -> None:
    (provide().path / "mark").touch()
    assert (provide().path / "mark").exists()


def test_copied_torch_is_another_one_than_the_linked(
    provide: Callable[..., TorchEnvironment],
) -> None:
    copied = provide(copy=True)
    assert copied.path != provide().path
    assert (copied.site / "torch" / "version.py").stat().st_nlink == 1


def test_lock_that_brings_another_torch_is_told(provide: Callable[..., TorchEnvironment]) -> None:
    expected = (
        r"is 2\.10\.0 with CUDA 12\.8, wanted is 2\.11\.0\+cu130\. "
        r"Run `wheelyard update torch 2\.11\.0\+cu130`"
    )
    with pytest.raises(MachineError, match=expected):
        provide(VERSION.replace("2.11.0+cu130", "2.10.0").replace("13.0", "12.8"))


@pytest.fixture
def foreign(tmp_path: Path) -> Path:
    """Return the interpreter of a virtual environment without torch."""
    venv.create(tmp_path / "environment", symlinks=True)
    return tmp_path / "environment" / "bin" / "python"


def _site(python: Path) -> Path:
    return next((python.parents[1] / "lib").glob("python*/site-packages"))


def test_foreign_torch_is_found_without_being_imported(foreign: Path) -> None:
    site = _write_torch(_site(foreign))
    (site / "torch" / "__init__.py").write_text("raise RuntimeError\n", encoding="ascii")
    python, torch, found = find_foreign_torch(foreign, env=os.environ)
    assert (python, torch, found) == (CELL.python, BUILD, site)


def test_interpreter_without_torch_is_told_so(foreign: Path) -> None:
    with pytest.raises(MachineError, match=r"has no torch\. Install it there, or leave out --env"):
        find_foreign_torch(foreign, env=os.environ)


def test_program_that_is_no_interpreter_is_told_so() -> None:
    with pytest.raises(MachineError, match="did not tell where its torch is"):
        find_foreign_torch(Path("/bin/false"), env=os.environ)
    with pytest.raises(MachineError, match="did not tell where its torch is"):
        find_foreign_torch(Path("/bin/true"), env=os.environ)


def test_foreign_torch_is_used_where_it_lies_and_not_written_to(tmp_path: Path) -> None:
    site = _write_torch(tmp_path / "site")
    library = site / "nvidia" / "cudnn" / "lib" / "libcudnn.so.9"
    library.parent.mkdir(parents=True)
    library.touch()
    before = sorted(site.rglob("*"))
    torch = adopt_foreign_torch(CELL, site=site, cache=tmp_path / "cache")
    assert torch.origin == "foreign"
    assert torch.digest == torch.torch_version == "2.11.0+cu130"
    assert torch.site.resolve() == site
    assert (torch.links / "libcudnn.so").resolve() == library
    assert sorted(site.rglob("*")) == before


def test_foreign_torch_that_changed_meanwhile_is_refused(tmp_path: Path) -> None:
    site = _write_torch(tmp_path / "site")
    adopt_foreign_torch(CELL, site=site, cache=tmp_path / "cache")
    (site / "torch" / "version.py").write_text(
        VERSION.replace("2.11.0", "2.12.0"), encoding="utf-8"
    )
    with pytest.raises(MachineError, match=r"is 2\.12\.0\+cu130 .* wanted is 2\.11\.0\+cu130"):
        adopt_foreign_torch(CELL, site=site, cache=tmp_path / "cache")
