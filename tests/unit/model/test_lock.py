"""Lock files: their names, their headers, their entries; and those of this repository."""

from __future__ import annotations

import dataclasses
import re
from typing import TYPE_CHECKING

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

from wheelyard.farm import load_farm
from wheelyard.model.cell import CudaVersion, TorchBuild
from wheelyard.model.lock import (
    Lock,
    build_lock_request,
    runtime_lock_request,
    toolkit_lock_request,
    torch_lock_request,
    without,
)
from wheelyard.planning.locks import wanted_locks

if TYPE_CHECKING:
    from pathlib import Path

    from wheelyard.model.lock import LockRequest
    from wheelyard.model.recipe import Recipe

CUDA = CudaVersion(13, 0)

TEXT = """\
# wheelyard lock of: x; Python >= 3.10; x86_64
filelock==3.20.0 ; sys_platform == 'linux' \\
    --hash=sha256:aa \\
    --hash=sha256:bb
Jinja2==3.1.6 \\
    --hash=sha256:cc
nvidia-cuda-runtime==13.0.96 ; platform_machine == 'x86_64' \\
    --hash=sha256:dd
"""
HASH = re.compile(r"    --hash=sha256:[0-9a-f]{64}( \\)?")
PIN = re.compile(r"[a-z0-9][a-z0-9.-]*==[^ ]+( ; .+)? \\")


def _request() -> LockRequest:
    return torch_lock_request(
        TorchBuild.parse("2.11.0+cu130"),
        python="3.10",
        machines=("aarch64", "x86_64"),
        requirement="torch==2.11.0",
    )


def test_header_says_requirements_python_and_machines() -> None:
    request = _request()
    assert request.header == ("# wheelyard lock of: torch==2.11.0; Python >= 3.10; aarch64, x86_64")
    assert str(request.path) == "locks/torch/2.11.0+cu130.txt"


def test_lock_names_what_it_pins_in_normalized_spelling() -> None:
    lock = Lock(request=_request(), text=TEXT)
    names = lock.names_for(python="3.12.1", machine="x86_64")
    assert names == {"filelock", "jinja2", "nvidia-cuda-runtime"}


def test_lock_brings_a_python_and_a_machine_only_what_it_pins_for_them() -> None:
    text = "setuptools==84.2.1 ; python_full_version >= '3.12' \\\n    --hash=sha256:aa\n"
    lock = Lock(request=_request(), text=TEXT + text)
    assert "setuptools" in lock.names_for(python="3.12.0", machine="x86_64")
    assert "setuptools" not in lock.names_for(python="3.11.9", machine="x86_64")
    assert "nvidia-cuda-runtime" not in lock.names_for(python="3.12.0", machine="aarch64")


def test_digest_of_a_lock_is_that_of_all_its_text() -> None:
    lock = Lock(request=_request(), text=TEXT)
    assert lock.sha256 != Lock(request=_request(), text=TEXT.replace("sha256:cc", "ce")).sha256


def test_entry_that_is_left_out_takes_its_hashes_along() -> None:
    text = without(TEXT, frozenset({canonicalize_name("jinja2")}))
    assert text == (
        "filelock==3.20.0 ; sys_platform == 'linux' \\\n"
        "    --hash=sha256:aa \\\n"
        "    --hash=sha256:bb\n"
        "nvidia-cuda-runtime==13.0.96 ; platform_machine == 'x86_64' \\\n"
        "    --hash=sha256:dd\n"
    )


def test_all_entries_left_out_leave_nothing() -> None:
    lock = Lock(request=_request(), text=TEXT)
    names = lock.names_for(python="3.12.1", machine="x86_64")
    assert not without(TEXT, names)


def test_build_lock_has_the_frontend_beside_the_recipe_s_requirements(probe: Recipe) -> None:
    request = build_lock_request(probe.version("1.0"))
    assert request.requirements == ("build", "packaging", "setuptools>=77")
    assert str(request.path) == "locks/build/probe-1.0.txt"


def test_runtime_lock_has_what_the_wheel_requires(probe: Recipe) -> None:
    request = runtime_lock_request(probe.version("1.0"), CUDA)
    assert request.requirements == ("packaging",)
    assert str(request.path) == "locks/runtime/probe-1.0.txt"


def test_runtime_lock_is_one_for_each_cuda_major_where_requirements_follow_it(
    probe: Recipe,
) -> None:
    version = probe.version("1.0")
    contents = dataclasses.replace(version.contents, requires=("core-cu{cuda-major}==1.0",))
    version = dataclasses.replace(version, contents=contents)
    request = runtime_lock_request(version, CUDA)
    assert request.requirements == ("core-cu13==1.0",)
    assert str(request.path) == "locks/runtime/probe-1.0-cu13.txt"


def test_runtime_lock_has_what_runs_beside_the_wheel(probe: Recipe) -> None:
    version = probe.version("1.0")
    contents = dataclasses.replace(version.contents, beside=("core-cu{cuda-major}==1.0",))
    request = runtime_lock_request(dataclasses.replace(version, contents=contents), CUDA)
    assert request.requirements == ("core-cu13==1.0", "packaging")
    assert request.name == "probe-1.0-cu13"


def test_what_torch_brings_is_not_locked_twice(probe: Recipe) -> None:
    version = probe.version("1.0")
    requires = ("triton>=3.5", "einops")
    contents = dataclasses.replace(version.contents, requires=requires)
    request = runtime_lock_request(dataclasses.replace(version, contents=contents), CUDA)
    assert request.requirements == ("einops",)


@pytest.mark.parametrize(
    ("python", "oldest"), [("", "3.9"), (">=3.10", "3.10"), (">3.10,<3.13", "3.11"), ("<3", "3.9")]
)
def test_locks_of_a_version_serve_no_python_that_it_does_not_take(
    probe: Recipe, python: str, oldest: str
) -> None:
    version = probe.version("1.0")
    conditions = dataclasses.replace(version.conditions, python=SpecifierSet(python))
    version = dataclasses.replace(version, conditions=conditions)
    assert build_lock_request(version).python == oldest
    assert runtime_lock_request(version, CUDA).python == oldest


def test_toolkit_lock_serves_both_machines() -> None:
    request = toolkit_lock_request(CudaVersion(13, 0), Requirement("cuda-toolkit[nvcc]==13.0.*"))
    assert request.header.endswith("of: cuda-toolkit[nvcc]==13.0.*; Python >= 3.9; aarch64, x86_64")
    assert str(request.path) == "locks/toolkit/13.0.txt"


@pytest.fixture(params=[".", "tests/packages"])
def farm_folder(request: pytest.FixtureRequest, repository: Path) -> Path:
    return repository / str(request.param)


def test_every_lock_that_the_farm_wants_is_there_and_current(farm_folder: Path) -> None:
    farm = load_farm(farm_folder)
    for request in wanted_locks(farm):
        has_pins = "==" in without(farm.lock(request).text, frozenset())
        assert has_pins == bool(request.requirements), request.path


def test_every_lock_that_is_there_is_wanted(farm_folder: Path) -> None:
    wanted = {farm_folder / request.path for request in wanted_locks(load_farm(farm_folder))}
    assert set(farm_folder.glob("locks/*/*")) == wanted


def test_every_entry_of_a_lock_is_pinned_and_hashed_and_no_url_stands_in_it(
    farm_folder: Path,
) -> None:
    paths = list(farm_folder.glob("locks/*/*.txt"))
    assert paths
    for path in paths:
        text = path.read_text(encoding="utf-8")
        assert "://" not in text
        hashed = True
        for line in text.splitlines()[1:]:
            if line.startswith(" "):
                assert HASH.fullmatch(line), f"{path}: {line}"
                hashed = True
                continue
            assert PIN.fullmatch(line), f"{path}: {line}"
            assert hashed, f"{path}: the entry before {line} has no hash"
            hashed = False
        assert hashed, f"{path}: the last entry has no hash"
