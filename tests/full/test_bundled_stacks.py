"""Whole training stacks: found, bundled, installed where there is loopback alone, imported.

`WHEELYARD_WHEELS` names a folder of finished wheels of ours (folders in it count, too). They are
served as an index, so this is the way of who has no clone and no yard. What has no wheel there
yet is named in the reason of the skip.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from wheelyard.model.cell import PythonVersion
from wheelyard.model.index_page import HTML_NAME, JSON_NAME, project_html, project_json, root_json
from wheelyard.shipping.parts import index_file
from wheelyard.shipping.wheel import read_wheel
from wheelyard.toolchain.interpreters import find_interpreter

if TYPE_CHECKING:
    import contextlib
    from collections.abc import Callable, Iterator

    from wheelyard.shipping.wheel import BundledWheel

pytestmark = [pytest.mark.heavy, pytest.mark.network]

FOLDER_VARIABLE = "WHEELYARD_WHEELS"
NAMESPACE = ("unshare", "--user", "--map-root-user", "--net")
LOOPBACK_ONLY = (*NAMESPACE, "sh", "-c", 'ip link set lo up && exec "$@"', "sh")


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Stack:
    """What is asked for, in which cell, and what is imported afterwards."""

    requirements: tuple[str, ...]
    python: str
    torch: str
    ours: tuple[str, ...]
    imports: tuple[str, ...]


_MEGATRON = ("megatron.core", "transformer_engine.pytorch")
STACKS = {
    "megatron-core 0.16.1 with all of ours": Stack(
        requirements=(
            *("megatron-core[mlm,dev]==0.16.1", "transformer-engine[pytorch]==2.11.0"),
            *("mamba-ssm==2.3.0", "flash-attn", "nv-grouped-gemm", "causal-conv1d"),
            *("fast-hadamard-transform", "apex"),
        ),
        python="3.12",
        torch="2.11.0+cu130",
        ours=(
            *("transformer-engine-torch", "mamba-ssm", "flash-attn", "nv-grouped-gemm"),
            *("causal-conv1d", "fast-hadamard-transform", "apex"),
        ),
        imports=(
            *(*_MEGATRON, "mamba_ssm", "flash_attn", "grouped_gemm", "causal_conv1d"),
            *("fast_hadamard_transform", "apex"),
        ),
    ),
    "megatron-core 0.16.1 without kernels of dev": Stack(
        requirements=(
            *("megatron-core[mlm]==0.16.1", "transformer-engine[pytorch]==2.11.0"),
            *("nv-grouped-gemm", "causal-conv1d", "fast-hadamard-transform"),
        ),
        python="3.12",
        torch="2.11.0+cu130",
        ours=(
            *("transformer-engine-torch", "nv-grouped-gemm", "causal-conv1d"),
            "fast-hadamard-transform",
        ),
        imports=(*_MEGATRON, "grouped_gemm", "causal_conv1d", "fast_hadamard_transform"),
    ),
    "the guide's, dev": Stack(
        requirements=("megatron-core[mlm,dev]==0.15.3", "transformer-engine[pytorch]==2.9.0"),
        python="3.11",
        torch="2.6.0+cu124",
        ours=("transformer-engine-torch", "mamba-ssm", "causal-conv1d", "nv-grouped-gemm"),
        # the Triton of torch 2.6 asks for a driver where megatron, transformer_engine and mamba_ssm
        # make their kernels, at import: without a GPU their extensions are all that can be shown
        imports=("selective_scan_cuda", "causal_conv1d", "grouped_gemm"),
    ),
    "the guide's, lts": Stack(
        requirements=("megatron-core[mlm,lts]==0.15.3",),
        python="3.11",
        torch="2.6.0+cu124",
        ours=(),
        imports=("megatron.core",),
    ),
}


def _wheels() -> list[Path]:
    named = os.environ.get(FOLDER_VARIABLE)
    if not named:
        pytest.skip(f"{FOLDER_VARIABLE} names no folder of wheels")
    # of two of one version the one that is compatible with more systems comes first
    return sorted(Path(named).resolve().rglob("*.whl"), key=lambda path: path.name)


def _is_for(path: Path, stack: Stack) -> bool:
    tag = f"cp{stack.python.replace('.', '')}"
    version, _, label = stack.torch.partition("+")
    return f"-{tag}-{tag}-" in path.name and f"{label}.torch{version}" in path.name


@pytest.fixture(params=STACKS)
def stack(request: pytest.FixtureRequest) -> Stack:
    found = STACKS[request.param]
    having = {path.name.partition("-")[0] for path in _wheels() if _is_for(path, found)}
    lacking = [name for name in found.ours if name.replace("-", "_") not in having]
    if lacking:
        pytest.skip(f"no wheel of {', '.join(lacking)} for {found.python}, torch {found.torch}")
    return found


@pytest.fixture
def index(
    stack: Stack,
    room: Path,
    serve_folder: Callable[[Path], contextlib.AbstractContextManager[str]],
) -> Iterator[str]:
    """Serve the wheels of the stack's cell as a published index."""
    by_version: dict[tuple[str, str], BundledWheel] = {}
    for path in filter(lambda one: _is_for(one, stack), _wheels()):
        wheel = read_wheel(path, sha256=hashlib.sha256(path.read_bytes()).hexdigest())
        by_version.setdefault((wheel.name, str(wheel.version)), wheel)
    site = room / "site"
    for folder in (site / "wheels", site / "index" / "simple"):
        folder.mkdir(parents=True)
    projects: dict[str, list[BundledWheel]] = {}
    for wheel in by_version.values():
        projects.setdefault(wheel.name, []).append(wheel)
        shutil.copy(wheel.path, site / "wheels")
        (site / "wheels" / f"{wheel.filename}.metadata").write_bytes(wheel.metadata)
    for name, wheels in projects.items():
        folder = site / "index" / "simple" / name
        folder.mkdir()
        files = [index_file(wheel) for wheel in wheels]
        (folder / JSON_NAME).write_bytes(project_json(name, files))
        (folder / HTML_NAME).write_bytes(project_html(name, files))
    (site / "index" / "simple" / JSON_NAME).write_bytes(root_json(projects))
    with serve_folder(site) as url:
        yield f"{url}/index/simple/"


@pytest.fixture
def room(tmp_path: Path) -> Iterator[Path]:
    """Return a folder that is emptied afterwards: torch in it lies there several times."""
    yield tmp_path
    shutil.rmtree(tmp_path, ignore_errors=True)


def test_stack_is_found_bundled_and_works_where_there_is_no_network(
    stack: Stack, index: str, room: Path
) -> None:
    if subprocess.run([*LOOPBACK_ONLY, "true"], check=False).returncode != 0:
        pytest.skip("this user may not make network namespaces")
    cell = ("--python", stack.python, "--torch", stack.torch, "--index", index)
    words = (*stack.requirements, *cell, "--yard", room / "yard")
    found = _wheelyard("find", *words)
    assert found["fits"][0]["works_now"], found["fits"][0]["commands"]

    output = room / "stack.tar"
    told = _wheelyard("bundle", *words, "-o", output)
    with tarfile.open(output) as archive:
        archive.extract("install.py", room, filter="data")

    target = room / "environment"
    python = find_interpreter(PythonVersion.parse(stack.python), os.environ).executable
    install = [str(python), "-I", str(room / "install.py"), str(output), "--into", str(target)]
    done = _offline(install, room)
    assert done.returncode == 0, done.stderr
    assert f"digest sha256:{told['digest']}" in done.stderr
    for name in stack.ours:
        assert f"  {name} " in done.stderr

    own = str(target / "bin" / "python")
    imports = "; ".join(f"import {name}" for name in ("torch", *stack.imports))
    done = _offline([own, "-c", f"{imports}; print(torch.__version__)"], room)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[-1] == stack.torch
    done = _offline([str(python), "-m", "pip", "--python", own, "check"], room)
    assert done.returncode == 0, done.stdout


def _wheelyard(*words: object) -> dict[str, Any]:
    command = [sys.executable, "-m", "wheelyard", *map(str, words), "--json"]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


def _offline(command: list[str], home: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*LOOPBACK_ONLY, *command],
        check=False,
        capture_output=True,
        text=True,
        # megatron-core 0.15 asks torch for the GPU's architecture when it is imported
        env={"PATH": "/usr/bin:/bin", "HOME": str(home), "TORCH_CUDA_ARCH_LIST": "9.0"},
    )
