from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from wheelyard.model.cell import CudaVersion
from wheelyard.toolchain.installed_toolkits import InstalledToolkit, find_installed_toolkits

if TYPE_CHECKING:
    from pathlib import Path

ENV = {"PATH": ""}


def make_toolkit(path: Path, *, nvcc: str = "13.0.88", release: str | None = None) -> Path:
    """Write a folder with nvcc and a header; ``release`` is what version.json tells."""
    (path / "bin").mkdir(parents=True)
    version = nvcc.rpartition(".")[0]
    (path / "bin/nvcc").write_text(
        f"#!/bin/sh\necho 'Cuda compilation tools, release {version}, V{nvcc}'\n"
    )
    (path / "bin/nvcc").chmod(0o755)
    (path / "include").mkdir()
    (path / "include/cuda_runtime.h").touch()
    if release:
        content = {"cuda": {"name": "CUDA SDK", "version": release}, "nvcc": {"version": nvcc}}
        (path / "version.json").write_text(json.dumps(content))
    return path


def test_version_file_tells_the_release(tmp_path: Path) -> None:
    path = make_toolkit(tmp_path / "usr/local/cuda-12.4", nvcc="12.4.131", release="12.4.1")
    assert find_installed_toolkits(ENV, root=tmp_path) == (
        InstalledToolkit(path=path, version=CudaVersion(12, 4), full_version="12.4.1"),
    )


@pytest.mark.parametrize("broken", [None, "", "{}", '{"cuda": 1}'])
def test_nvcc_tells_where_the_version_file_does_not(tmp_path: Path, broken: str | None) -> None:
    path = make_toolkit(tmp_path / "usr/local/cuda-13.0")
    if broken is not None:
        (path / "version.json").write_text(broken)
    (found,) = find_installed_toolkits(ENV, root=tmp_path)
    assert (found.version, found.full_version) == (CudaVersion(13, 0), "13.0.88")


def test_link_and_its_target_are_one(tmp_path: Path) -> None:
    path = make_toolkit(tmp_path / "usr/local/cuda-13.0")
    (tmp_path / "usr/local/cuda").symlink_to(path)
    (found,) = find_installed_toolkits(ENV, root=tmp_path)
    assert found.path == path


@pytest.mark.parametrize("variable", ["CUDA_HOME", "CUDA_PATH"])
def test_variable_comes_first(tmp_path: Path, variable: str) -> None:
    make_toolkit(tmp_path / "usr/local/cuda-13.0")
    mine = make_toolkit(tmp_path / "mine", nvcc="12.9.86")
    found = find_installed_toolkits({**ENV, variable: str(mine)}, root=tmp_path)
    assert [str(toolkit.version) for toolkit in found] == ["12.9", "13.0"]


def test_nvcc_on_path_leads_to_its_toolkit(tmp_path: Path) -> None:
    path = make_toolkit(tmp_path / "sdk/cuda")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/nvcc").symlink_to(path / "bin/nvcc")
    (found,) = find_installed_toolkits({"PATH": str(tmp_path / "bin")}, root=tmp_path)
    assert found.path == path


def test_toolkit_that_a_distribution_splits_over_usr(tmp_path: Path) -> None:
    usr = make_toolkit(tmp_path / "usr")
    real = tmp_path / "usr/lib/nvidia-cuda-toolkit/bin/nvcc"
    real.parent.mkdir(parents=True)
    (usr / "bin/nvcc").rename(real)
    (usr / "bin/nvcc").symlink_to(real)
    (found,) = find_installed_toolkits({"PATH": str(usr / "bin")}, root=tmp_path)
    assert found.path == usr


def test_headers_may_lie_below_targets(tmp_path: Path) -> None:
    path = make_toolkit(tmp_path / "usr/local/cuda-13.0")
    (path / "targets/x86_64-linux").mkdir(parents=True)
    (path / "include").rename(path / "targets/x86_64-linux/include")
    assert len(find_installed_toolkits(ENV, root=tmp_path)) == 1


@pytest.mark.parametrize("missing", ["bin/nvcc", "include/cuda_runtime.h"])
def test_folder_without_compiler_or_headers_is_no_toolkit(tmp_path: Path, missing: str) -> None:
    path = make_toolkit(tmp_path / "usr/local/cuda-13.0", release="13.0.1")
    (path / missing).unlink()
    assert find_installed_toolkits(ENV, root=tmp_path) == ()


def test_toolkit_that_tells_no_version_is_left_out(tmp_path: Path) -> None:
    path = make_toolkit(tmp_path / "usr/local/cuda-13.0")
    (path / "bin/nvcc").write_text("#!/bin/sh\nexit 1\n")
    assert find_installed_toolkits(ENV, root=tmp_path) == ()
