"""What is wrong with an environment, told from real ones that are wrong in one way."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from wheelyard.doctor.environment import environment_lines
from wheelyard.finding.environment import find_environment

if TYPE_CHECKING:
    from pathlib import Path

    from wheelyard.doctor.line import Line


class Environment:
    """A virtual environment whose distributions are written by hand."""

    def __init__(self, folder: Path) -> None:
        command = [os.path.realpath(sys.executable), "-m", "venv", "--without-pip", str(folder)]
        subprocess.run(command, check=True)
        self.folder = folder
        self.python = folder / "bin" / "python"
        (self.site,) = folder.glob("lib/python*/site-packages")

    def has(self, name: str, version: str, *files: str, requires: str = "") -> None:
        info = self.site / f"{name.replace('-', '_')}-{version}.dist-info"
        info.mkdir()
        lines = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}"]
        lines += [f"Requires-Dist: {requires}"] if requires else []
        (info / "METADATA").write_text("\n".join([*lines, "", ""]))
        (info / "RECORD").write_text("".join(f"{file},,\n" for file in files))
        for file in files:
            (self.site / file).parent.mkdir(parents=True, exist_ok=True)
            (self.site / file).write_text("")

    def has_torch(self, version: str, cuda: str | None) -> None:
        self.has("torch", version.partition("+")[0], "torch/version.py")
        text = f"__version__ = {version!r}\ncuda: Optional[str] = {cuda!r}\n"
        (self.site / "torch" / "version.py").write_text(text)

    def has_toolkit(self, version: str) -> None:
        folder = self.folder / "no-root" / "usr" / "local" / f"cuda-{version.rpartition('.')[0]}"
        for file in ("bin/nvcc", "include/cuda_runtime.h"):
            (folder / file).parent.mkdir(parents=True)
            (folder / file).write_text("")
        (folder / "version.json").write_text(f'{{"cuda": {{"version": "{version}"}}}}')

    def lines(self, *, driver: str | None = None) -> dict[str, Line]:
        found = environment_lines(
            self.python,
            {"PATH": "", "HOME": str(self.folder)},
            driver=driver,
            machine="x86_64",
            root=self.folder / "no-root",
        )
        return {line.subject: line for line in found}


@pytest.fixture
def environment(tmp_path: Path) -> Environment:
    return Environment(tmp_path / "env")


def test_environment_with_nothing_wrong_has_no_warning(environment: Environment) -> None:
    environment.has_torch("2.11.0+cu130", "13.0")
    environment.has("nvidia-cuda-runtime", "13.0.96")
    environment.has("nvidia-cudnn-cu13", "9.19.0.56", "nvidia/cudnn/include/cudnn.h")
    environment.has("apex", "0.1.post20260708+cu130.torch2.11.0", "apex/optimizers/__init__.py")
    environment.has("setuptools", "80.9.0")
    lines = environment.lines(driver="580.65.06")
    assert {line.status for line in lines.values()} == {"ok"}
    assert lines["torch"].finding == "2.11.0+cu130, CUDA 13.0, runtime wheels 13.0.96"
    assert lines["cudnn.h"].finding.endswith("nvidia/cudnn/include/cudnn.h")


def test_torch_without_cuda_is_the_wrong_build(environment: Environment) -> None:
    environment.has_torch("2.11.0+cpu", None)
    line = environment.lines()["torch"]
    assert line.status == "warn"
    assert "was built without CUDA" in line.finding
    python = environment.python
    assert line.remedy == f"uv pip install --python {python} --reinstall torch==2.11.0"
    environment.has("pip", "25.0")
    line = environment.lines()["torch"]
    assert line.remedy == f"{python} -m pip install --force-reinstall torch==2.11.0"


def test_torch_that_the_driver_cannot_run_is_told_with_one_that_it_can(
    environment: Environment,
) -> None:
    environment.has_torch("2.11.0+cu130", "13.0")
    line = environment.lines(driver="550.54.14")["torch"]
    assert line.status == "warn"
    assert "550.54.14 is too old for CUDA 13.0" in line.finding
    assert "It still runs torch 2.10.0+cu128" in line.finding
    assert line.remedy.endswith(" torch==2.10.0")


def test_runtimes_of_two_cudas_are_named_with_those_to_remove(environment: Environment) -> None:
    environment.has_torch("2.11.0+cu130", "13.0")
    environment.has("nvidia-cuda-runtime", "13.0.96")
    environment.has("nvidia-nccl-cu13", "2.28.9")
    environment.has("nvidia-cublas-cu12", "12.8.4.1")
    environment.has("nvidia-cudnn-cu12", "9.10.2.21")
    line = environment.lines()["CUDA runtime"]
    assert "CUDA 12 and 13 are mixed: nvidia-cublas-cu12, nvidia-cudnn-cu12" in line.finding
    assert line.remedy.startswith("uv pip uninstall --python ")
    assert line.remedy.endswith(" nvidia-cublas-cu12 nvidia-cudnn-cu12")


def test_apex_of_the_index_is_a_namesake(environment: Environment) -> None:
    environment.has("apex", "0.9.10.dev0", "apex/__init__.py")
    line = environment.lines()["apex"]
    assert line.status == "warn"
    assert "apex 0.9.10.dev0 is another project of that name" in line.finding
    assert line.remedy.endswith(" apex && wheelyard find apex --here")


def test_extension_for_another_torch_is_told(environment: Environment) -> None:
    environment.has_torch("2.10.0+cu128", "12.8")
    environment.has("flash-attn", "2.8.3+cu130.torch2.11.0.sm90")
    line = environment.lines()["flash-attn"]
    assert "is for torch 2.11.0+cu130, and 2.10.0+cu128 is installed" in line.finding
    assert line.remedy == "wheelyard find flash-attn --here --torch 2.10.0+cu128"


@pytest.mark.parametrize(
    ("local", "fits"),
    [
        ("cu13torch2.11cxx11abiTRUE", True),
        ("cu12torch2.11cxx11abiTRUE", False),
        ("cu13torch2.10cxx11abiTRUE", False),
        ("cu13torch2.11cxx11abiFALSE", False),
    ],
)
def test_upstreams_extension_for_another_torch_cuda_or_abi_is_told(
    environment: Environment,
    local: str,
    fits: bool,  # noqa: FBT001
) -> None:
    environment.has_torch("2.11.0+cu130", "13.0")
    environment.has("flash-attn", f"2.8.3+{local}")
    assert ("flash-attn" not in environment.lines()) is fits


def test_two_projects_that_brought_one_module_are_told(environment: Environment) -> None:
    environment.has("grouped-gemm", "0.3.0", "grouped_gemm_backend.so")
    environment.has("nv-grouped-gemm", "1.1.4.post8", "grouped_gemm_backend.so")
    line = environment.lines()["nv-grouped-gemm"]
    assert line.finding.startswith("grouped-gemm and nv-grouped-gemm both brought ")
    assert line.remedy.endswith(
        "grouped-gemm nv-grouped-gemm && wheelyard find nv-grouped-gemm --here"
    )


def test_requirements_that_are_not_met_are_told_with_what_is_there(
    environment: Environment,
) -> None:
    environment.has("megatron-core", "0.15.3", requires="setuptools<80")
    environment.has("setuptools", "81.0")
    environment.has("mamba-ssm", "2.3.0", requires="einops")
    lines = environment.lines()
    assert lines["megatron-core"].finding == "needs setuptools<80, and has 81.0"
    assert lines["megatron-core"].remedy.endswith(" 'setuptools<80'")
    assert lines["mamba-ssm"].finding == "needs einops, and has nothing"


def test_many_unmet_requirements_do_not_fill_the_page(environment: Environment) -> None:
    for number in range(9):
        environment.has(f"needy{number}", "1.0", requires="nothing-like-it")
    assert "3 more requirements are not met" in environment.lines()["environment"].finding


def test_toolkit_that_torch_was_not_built_with_is_told(environment: Environment) -> None:
    environment.has_torch("2.11.0+cu130", "13.0")
    environment.has_toolkit("12.4.1")
    line = environment.lines()["CUDA toolkit"]
    assert "torch 2.11.0+cu130 was built with CUDA 13.0" in line.finding
    assert (line.remedy, "wheelyard build" in line.finding) == ("", True)
    environment.has_toolkit("13.0.2")
    line = environment.lines()["CUDA toolkit"]
    assert line.remedy.startswith("export CUDA_HOME=")
    assert line.remedy.endswith("/usr/local/cuda-13.0")


def test_setuptools_that_torch_does_not_take_is_told(environment: Environment) -> None:
    environment.has_torch("2.11.0+cu130", "13.0")
    environment.has("setuptools", "99.0")
    line = environment.lines()["setuptools"]
    assert line.status == "warn"
    assert "99.0, torch 2.11.0 needs <82" in line.finding


def test_python_that_does_not_run_is_a_line(tmp_path: Path) -> None:
    lines = environment_lines(
        tmp_path / "python", {"PATH": ""}, driver=None, machine="x86_64", root=tmp_path
    )
    (line,) = lines
    assert line.status == "warn"
    assert "does not run" in line.finding


def test_active_environment_is_looked_into_before_the_path(environment: Environment) -> None:
    env = {"VIRTUAL_ENV": str(environment.folder), "PATH": "/usr/bin"}
    assert find_environment(env) == environment.python
    assert find_environment({"PATH": ""}) is None
