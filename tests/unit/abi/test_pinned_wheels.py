"""The wheels of a torch build are those that installing it would bring."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from wheelyard.abi.pinned_wheels import collect_wheels
from wheelyard.errors import FetchError
from wheelyard.model.cell import TorchBuild
from wheelyard.network.indexes import IndexSettings

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from wheelyard.model.cell import Machine

TORCH = "2.11.0+cu130"
LINUX = 'platform_system == "Linux"'


@pytest.fixture
def collect(tmp_path: Path) -> Callable[..., list[str]]:
    """Return a function that collects from the folder that ``make_wheel`` writes into."""

    def run(torch: str = TORCH, machine: Machine = "x86_64") -> list[str]:
        settings = IndexSettings(no_index=True, find_links=(str(tmp_path / "wheels"),))
        found = collect_wheels(
            TorchBuild.parse(torch),
            machine,
            kept=tmp_path / "kept",
            settings=settings,
            env={},
            say=lambda _: None,
        )
        return [wheel.source.filename for wheel in found]

    return run


@pytest.fixture
def make_torch(make_wheel: Callable[..., Path]) -> Callable[..., Path]:
    def make(*requires: str, python: str = "cp312", version: str = "2.11.0", **more: str) -> Path:
        tag = f"{python.removesuffix('t')}-{python}-{more.pop('platform', 'manylinux_2_28_x86_64')}"
        return make_wheel(name="torch", version=version, tag=tag, requires=requires, **more)

    return make


@pytest.fixture
def make_cuda(make_wheel: Callable[..., Path]) -> Callable[..., Path]:
    def make(name: str, version: str, *requires: str, machine: str = "x86_64") -> Path:
        tag = f"py3-none-manylinux2014_{machine}.manylinux_2_17_{machine}"
        return make_wheel(name=name, version=version, tag=tag, requires=requires)

    return make


def test_pins_of_torch_for_linux_are_followed(
    collect: Callable[..., list[str]],
    make_torch: Callable[..., Path],
    make_cuda: Callable[..., Path],
) -> None:
    make_torch(
        f"nvidia-cudnn-cu13==9.1; {LINUX}",
        f'nvidia-nccl-cu13 (==2.1) ; {LINUX} and platform_machine == "x86_64"',
        f'nvidia-arm==1.0; {LINUX} and platform_machine == "aarch64"',
        'nvidia-old==1.0; python_version < "3.12"',
        'nvidia-extra==1.0; extra == "more"',
        "triton==3.6.0",
        "filelock",
    )
    for version in ("9.0", "9.1", "9.2"):
        make_cuda("nvidia-cudnn-cu13", version)
    make_cuda("nvidia-nccl-cu13", "2.1")
    assert [name.partition("-py3")[0] for name in collect()[1:]] == [
        "nvidia_cudnn_cu13-9.1",
        "nvidia_nccl_cu13-2.1",
    ]


def test_toolkit_brings_what_its_extras_pin_before_others_ask_for_any(
    collect: Callable[..., list[str]],
    make_torch: Callable[..., Path],
    make_cuda: Callable[..., Path],
    make_wheel: Callable[..., Path],
) -> None:
    make_torch("nvidia-cudnn-cu13==9.1", "cuda-toolkit[cublas,nvrtc]==13.0.2")
    make_wheel(
        name="cuda-toolkit",
        version="13.0.2",
        requires=[
            "nvidia-cublas==13.1.0.*; extra == 'cublas'",
            "nvidia-cuda-nvrtc==13.0.88.*; extra == 'nvrtc'",
            "nvidia-nvml-dev==13.0.*; extra == 'nvml'",
        ],
    )
    make_cuda("nvidia-cudnn-cu13", "9.1", "nvidia-cublas", "nvidia-nvjitlink")
    for version in ("13.0.9", "13.1.0.3", "13.2.0"):
        make_cuda("nvidia-cublas", version)
    make_cuda("nvidia-cuda-nvrtc", "13.0.88")
    # what nobody pins is the newest one, as pip takes it; no pre-release
    for version in ("12.9.1", "13.0.1", "13.1rc1"):
        make_cuda("nvidia-nvjitlink", version)
    assert [name.partition("-py")[0] for name in collect()] == [
        "torch-2.11.0-cp312-cp312-manylinux_2_28_x86_64.whl",
        "cuda_toolkit-13.0.2",
        "nvidia_cublas-13.1.0.3",
        "nvidia_cuda_nvrtc-13.0.88",
        "nvidia_cudnn_cu13-9.1",
        "nvidia_nvjitlink-13.0.1",
    ]


@pytest.mark.parametrize(
    ("pythons", "expected"),
    [
        (["cp310", "cp312", "cp314", "cp314t"], "cp312-cp312"),
        (["cp39", "cp310", "cp313t"], "cp310-cp310"),
        (["cp314t"], "cp314-cp314t"),
    ],
)
def test_wheel_of_one_python_stands_for_all(
    collect: Callable[..., list[str]],
    make_torch: Callable[..., Path],
    pythons: list[str],
    expected: str,
) -> None:
    for python in pythons:
        make_torch(python=python)
    make_torch(python="cp312", platform="win_amd64")
    make_torch(python="cp312", platform="manylinux_2_28_aarch64")
    assert collect() == [f"torch-2.11.0-{expected}-manylinux_2_28_x86_64.whl"]


def test_highest_build_tag_is_taken(
    collect: Callable[..., list[str]], make_torch: Callable[..., Path]
) -> None:
    for build in ("", "1", "2", "10"):
        make_torch(build=build)
    assert collect() == ["torch-2.11.0-10-cp312-cp312-manylinux_2_28_x86_64.whl"]


def test_build_that_is_not_the_index_s_own_needs_its_local_version(
    collect: Callable[..., list[str]], make_torch: Callable[..., Path]
) -> None:
    make_torch(python="cp312")
    make_torch(python="cp313", version="2.11.0+cu126")
    assert collect("2.11.0+cu126") == ["torch-2.11.0+cu126-cp313-cp313-manylinux_2_28_x86_64.whl"]
    with pytest.raises(FetchError, match=r"no index has a wheel of torch 2\.11\.0\+cu128 for x86"):
        collect("2.11.0+cu128")
    # the index's own wheels for this machine are CPU only
    with pytest.raises(FetchError, match="PIP_EXTRA_INDEX_URL"):
        collect("2.10.0+cu128", machine="aarch64")


def test_pin_that_no_index_has_is_named(
    collect: Callable[..., list[str]],
    make_torch: Callable[..., Path],
    make_cuda: Callable[..., Path],
) -> None:
    make_torch("nvidia-cudnn-cu13==9.1")
    make_cuda("nvidia-cudnn-cu13", "9.2")
    make_cuda("nvidia-cudnn-cu13", "9.1", machine="aarch64")
    with pytest.raises(FetchError, match=r"no index has a wheel for x86_64 .*nvidia-cudnn-cu13==9"):
        collect()
