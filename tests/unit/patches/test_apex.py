"""The transformations of apex's setup.py, on texts of the same shape that are run afterwards."""

from __future__ import annotations

import os
import subprocess
import sys
import types
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Mapping

PATCHES = Path(__file__).parents[3] / "patches" / "apex"

SETUP = """\
import glob, os, subprocess, sys, warnings
from datetime import datetime
from kit import CUDA_HOME, Version, load, nvcc_version, setup, torch

this_dir = os.getcwd()
ext_modules = []


def check_cuda_torch_binary_vs_bare_metal(cuda_dir):
    bare_metal_version = nvcc_version(cuda_dir)
    torch_binary_version = Version(torch.version.cuda)
    if (bare_metal_version != torch_binary_version):
        raise RuntimeError("another CUDA")


check_cuda_torch_binary_vs_bare_metal(CUDA_HOME)
stamp = datetime.today().strftime("%y.%m.%d")
sources = ["a.cpp"] + glob.glob("kernels/*.cu")
subprocess.run(["git", "submodule", "update", "--init", "libs/front/"])
_getter = load(name="_getter", sources=["probe.cu"])
nccl = _getter.get_nccl_version()
targets = ["-gencode", "arch=compute_70,code=sm_70", "-gencode=arch=compute_90,code=sm_90"]
options = {"cxx": [], "nvcc": ["-O3"] + targets + ["-Iarch"]}
ext_modules.append(torch.Extension(sources, options))
ext_modules.append(torch.Extension(["b.cpp"], []))
parallel = None


class Build:
    def finalize_options(self):
        if parallel is not None:
            self.parallel = parallel


setup(
    name="apex",
    version="0.1",
    build=Build,
    stamp=stamp,
    nccl=nccl,
    ext_modules=ext_modules,
)
"""


class Extension:
    def __init__(self, sources: list[str], options: object) -> None:
        self.sources = sources
        self.extra_compile_args = options


def apply(tree: Path, name: str) -> str:
    """Return what the patch says; nothing if it went well."""
    (patch,) = PATCHES.glob(f"*-{name}.py")
    command = [sys.executable, str(patch), str(tree)]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert bool(done.returncode) == bool(done.stderr)
    return done.stderr


def apply_all(tree: Path) -> None:
    for patch in sorted(PATCHES.glob("*.py")):
        name = patch.stem.partition("-")[2]
        if name != "compile-group-norm-v2":
            assert apply(tree, name) == ""


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "setup.py").write_text(SETUP)
    (tmp_path / "kernels").mkdir()
    for name in ("b", "c", "a"):
        (tmp_path / "kernels" / f"{name}.cu").touch()
    (tmp_path / "libs" / "front").mkdir(parents=True)
    (tmp_path / "libs" / "front" / "LICENSE.txt").touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("APEX_VERSION", "0.1.post20260708")
    monkeypatch.setenv("MAX_JOBS", "16")
    monkeypatch.setenv("MAKEFLAGS", "")
    return tmp_path


def run_setup(
    tree: Path, monkeypatch: pytest.MonkeyPatch, *, nvcc: str = "13.0", torch_cuda: str = "13.0"
) -> Mapping[str, Any]:
    """Run it and return what it gives to setup()."""
    import packaging.version  # noqa: PLC0415

    given: dict[str, Any] = {}

    def refuse(*_: object, **__: object) -> None:
        pytest.fail("setup.py compiles or runs something")

    kit = types.ModuleType("kit")
    torch = types.SimpleNamespace(
        version=types.SimpleNamespace(cuda=torch_cuda),
        cuda=types.SimpleNamespace(nccl=types.SimpleNamespace(version=lambda: (2, 28, 9))),
        Extension=Extension,
    )
    kit.__dict__.update(
        CUDA_HOME="/cuda", Version=packaging.version.Version, load=refuse, torch=torch,
        nvcc_version=lambda _home: packaging.version.Version(nvcc), setup=given.update,
    )  # fmt: skip
    monkeypatch.setitem(sys.modules, "kit", kit)
    monkeypatch.setattr(subprocess, "run", refuse)
    text = (tree / "setup.py").read_text()
    text = text.replace("setup(\n", "setup(dict(\n").removesuffix(")\n") + "))\n"
    exec(compile(text, "setup.py", "exec"), {})  # noqa: S102
    return given


def test_setup_py_needs_neither_git_nor_compiler(
    tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    apply_all(tree)
    assert run_setup(tree, monkeypatch)["nccl"] == (2, 28)


def test_a_submodule_that_is_not_there_stops_the_build(
    tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tree / "libs" / "front" / "LICENSE.txt").unlink()
    apply_all(tree)
    with pytest.raises(FileNotFoundError, match="libs/front"):
        run_setup(tree, monkeypatch)


def test_another_minor_release_of_cuda_is_a_warning(
    tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    apply_all(tree)
    with pytest.warns(UserWarning, match=r"torch has CUDA 13\.0, nvcc 13\.2"):
        run_setup(tree, monkeypatch, nvcc="13.2")


def test_another_major_release_of_cuda_stops_the_build(
    tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    apply_all(tree)
    with pytest.raises(RuntimeError, match="another CUDA"):
        run_setup(tree, monkeypatch, nvcc="12.9")


def test_the_version_comes_from_the_recipe_and_so_does_the_date(
    tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    apply_all(tree)
    given = run_setup(tree, monkeypatch)
    assert (given["version"], given["stamp"]) == ("0.1.post20260708", "0.1.post20260708")


def test_a_build_without_version_stops(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("APEX_VERSION")
    apply_all(tree)
    with pytest.raises(KeyError, match="APEX_VERSION"):
        run_setup(tree, monkeypatch)


def test_sources_are_in_order_whatever_the_folder_says(
    tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    apply_all(tree)
    monkeypatch.setattr("glob.glob", lambda _pattern: ["kernels/b.cu", "kernels/a.cu"])
    first, _ = run_setup(tree, monkeypatch)["ext_modules"]
    assert first.sources == ["a.cpp", "kernels/a.cu", "kernels/b.cu"]


def test_gpu_targets_go_however_they_are_written_and_other_flags_stay(
    tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    apply_all(tree)
    first, second = run_setup(tree, monkeypatch)["ext_modules"]
    assert first.extra_compile_args == {"cxx": [], "nvcc": ["-O3", "-Iarch"]}
    assert second.extra_compile_args == []


@pytest.mark.parametrize("flag", ["-arch=sm_70", "--generate-code=arch=compute_70"])
def test_a_gpu_target_in_an_unknown_form_stops_the_build(
    tree: Path, monkeypatch: pytest.MonkeyPatch, flag: str
) -> None:
    text = (tree / "setup.py").read_text()
    (tree / "setup.py").write_text(text.replace('"-Iarch"', f'"{flag}"'))
    apply_all(tree)
    with pytest.raises(RuntimeError, match="in another form"):
        run_setup(tree, monkeypatch)


@pytest.mark.parametrize(
    ("jobs", "extensions"), [(1, 1), (2, 1), (4, 2), (16, 8), (64, 16)], ids=str
)
def test_extensions_and_tokens_together_are_max_jobs(
    tree: Path, monkeypatch: pytest.MonkeyPatch, jobs: int, extensions: int
) -> None:
    monkeypatch.setenv("MAX_JOBS", str(jobs))
    apply_all(tree)
    build = run_setup(tree, monkeypatch)["build"]()
    build.finalize_options()
    assert build.parallel == extensions
    # ninja would take MAX_JOBS as -j, and with -j it takes no part in a jobserver
    assert "MAX_JOBS" not in os.environ
    flag, jobserver = os.environ["MAKEFLAGS"].split(" --jobserver-auth=fifo:")
    assert flag == f" -j{jobs}"
    pipe = os.open(jobserver, os.O_RDWR | os.O_NONBLOCK)
    tokens = os.read(pipe, 4096) if jobs > extensions else b""
    os.close(pipe)
    assert len(tokens) + extensions == jobs


@pytest.mark.parametrize(
    ("patch", "old", "new", "reason"),
    [
        ("relax-cuda-check", "bare_metal_version !=", "bare_metal_version <", "found 0"),
        ("relax-cuda-check", "def check_cuda", "def look_at_cuda", "found 0"),
        ("stay-offline", '"submodule", "update"', '"lfs", "pull"', "update`, found 0"),
        ("stay-offline", " = load(", " = compile_now(", "load(), found 0"),
        ("stay-offline", ".get_nccl_version()", ".version", "get_nccl_version(), found 0"),
        ("same-every-day", "datetime.today()", "datetime.now()", "strftime(), found 0"),
        ("same-every-day", "glob.glob", "glob.iglob", "glob.glob(), found 0"),
        ("same-every-day", '"0.1"', '"0.2"', 'setup(version="0.1"), found 0'),
        ("targets-of-the-farm", "ext_modules=ext_modules", "ext_modules=[]", "found 0"),
        ("one-budget-of-jobs", "ext_modules=ext_modules", "ext_modules=[]", "found 0"),
        ("one-budget-of-jobs", "self.parallel = parallel", "pass", "found 0"),
    ],
)
def test_what_is_not_found_stops_the_job_and_the_file_stays(
    tree: Path, patch: str, old: str, new: str, reason: str
) -> None:
    text = (tree / "setup.py").read_text()
    assert text.count(old) == 1
    changed = text.replace(old, new)
    (tree / "setup.py").write_text(changed)
    assert reason in apply(tree, patch)
    assert (tree / "setup.py").read_text() == changed


HOST = "#pragma once\nstd::tuple<int> best;\n"
KERNEL = "#pragma once\n#include <cooperative_groups.h>\ncg::this_cluster().sync();\n"


def _group_norm(tree: Path, *, host: str = HOST, kernel: str = KERNEL) -> tuple[Path, Path]:
    folder = tree / "apex/contrib/csrc/group_norm_v2"
    folder.mkdir(parents=True)
    paths = folder / "gn_cuda_host_template.cuh", folder / "gn_cuda_kernel.cuh"
    for path, text in zip(paths, (host, kernel), strict=True):
        path.write_text(text)
    return paths


def test_tuple_is_included_where_it_is_used(tmp_path: Path) -> None:
    host, _ = _group_norm(tmp_path)
    assert apply(tmp_path, "compile-group-norm-v2") == ""
    assert host.read_text() == HOST.replace(
        "once\n", "once\n#include <algorithm>\n#include <tuple>\n"
    )


def test_a_gpu_without_clusters_has_one_that_stops_the_kernel(tmp_path: Path) -> None:
    _, kernel = _group_norm(tmp_path)
    assert apply(tmp_path, "compile-group-norm-v2") == ""
    head, _, tail = kernel.read_text().partition(
        "#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 900\n"
    )
    inside, _, after = tail.partition("#endif\n")
    assert head.startswith("#pragma once\n#include <cooperative_groups.h>\n")
    assert after == "cg::this_cluster().sync();\n"
    for used in ("sync", "barrier_arrive", "barrier_wait", "map_shared_rank"):
        assert f" {used}(" in inside
    assert inside.count("__trap();") == 4


@pytest.mark.parametrize(
    "texts",
    [
        {"host": "#pragma once\nint a;\n"},
        {"host": HOST + "#include <tuple>\n"},
        {"kernel": KERNEL.replace("this_cluster", "no_cluster")},
        {"kernel": KERNEL + "#if __CUDA_ARCH__ < 900\n"},
        {"kernel": KERNEL.replace("#include <cooperative_groups.h>\n", "")},
    ],
    ids=["host-not-used", "host-mended", "kernel-not-used", "kernel-mended", "kernel-no-place"],
)
def test_headers_of_another_shape_stop_the_job_and_stay(
    tmp_path: Path, texts: dict[str, str]
) -> None:
    host, kernel = _group_norm(tmp_path, **texts)
    assert "narrow `versions`" in apply(tmp_path, "compile-group-norm-v2")
    assert host.read_text() == texts.get("host", HOST)
    assert kernel.read_text() == texts.get("kernel", KERNEL)
