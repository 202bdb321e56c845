"""What is compared before anything is compiled."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from wheelyard.errors import MachineError
from wheelyard.machine.compilers import Compiler
from wheelyard.model.cell import Cell, CudaVersion, PythonVersion, TorchBuild
from wheelyard.toolchain.preflight import Preflight, check_toolchain, header_folders
from wheelyard.toolchain.values import Toolkit, TorchEnvironment

if TYPE_CHECKING:
    from collections.abc import Callable

HEADERS = ("cuda_runtime.h", "cublas_v2.h", "cusparse.h", "cusolverDn.h")


@pytest.fixture
def compare(tmp_path: Path) -> Callable[..., Preflight]:
    """Return a function that checks torch 2.11.0+cu130 against a toolkit and a compiler."""

    def run(
        *,
        torch: str = "2.11.0+cu130",
        cuda: str = "13.0",
        compiler: tuple[str, int] = ("gcc", 12),
        gcc_major: int | None = None,
        in_toolkit: tuple[str, ...] = HEADERS,
        in_torch: tuple[str, ...] = (),
    ) -> Preflight:
        for folder, names in (("cuda/include", in_toolkit), ("site/nvidia/cu13/include", in_torch)):
            (tmp_path / folder).mkdir(parents=True)
            for name in names:
                (tmp_path / folder / name).touch()
        name, major = compiler
        assert name in {"gcc", "clang"}
        return check_toolchain(
            Cell(PythonVersion(3, 12), TorchBuild.parse(torch), "x86_64"),
            toolkit=Toolkit(
                path=tmp_path / "cuda",
                cuda=CudaVersion.parse(cuda),
                provider="installed",
                digest="",
            ),
            torch=TorchEnvironment(
                path=tmp_path,
                site=tmp_path / "site",
                origin="locked",
                digest="",
                torch_version=torch,
            ),
            compiler=Compiler(
                path=Path("/usr/bin/g++"),
                real_path=Path("/usr/bin/g++"),
                name="clang" if name == "clang" else "gcc",
                version=(major, 0, 0),
                target="x86_64-linux-gnu",
            ),
            gcc_major=gcc_major,
        )

    return run


def test_toolchain_that_fits_has_no_warnings(compare: Callable[..., Preflight]) -> None:
    assert not compare().warnings


def test_another_minor_release_of_cuda_is_a_warning(compare: Callable[..., Preflight]) -> None:
    assert compare(cuda="13.2").warnings == (
        "torch has CUDA 13.0, the toolkit 13.2: fine within one major.",
    )


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        pytest.param(
            {"cuda": "12.8"},
            r"built with CUDA 13\.0, the toolkit at .*/cuda is CUDA 12\.8: another major release\. "
            r"Set CUDA_HOME to a 13\.0 toolkit",
            id="another-major-release",
        ),
        pytest.param(
            {"compiler": ("gcc", 99)},
            r"gcc 99 is too new for CUDA 13\.0: its nvcc takes gcc up to \d+\. "
            r"It is /usr/bin/g\+\+; name another with CXX=",
            id="compiler-too-new",
        ),
        pytest.param(
            {"compiler": ("gcc", 7)},
            r"gcc 7 is too old for torch 2\.11\.0: it needs gcc \d+ or later\. It is /usr/bin",
            id="compiler-too-old",
        ),
        pytest.param(
            {"gcc_major": 13},
            r"matrix wants gcc 13, /usr/bin/g\+\+ is gcc 12\. Set CXX=/usr/bin/g\+\+-13",
            id="not-the-farm-s-compiler",
        ),
        pytest.param(
            {"in_toolkit": HEADERS[:2]},
            r"No cusparse\.h, cusolverDn\.h in .*/cuda/include or in torch's own CUDA wheels",
            id="headers-missing",
        ),
    ],
)
def test_what_does_not_fit_is_told_with_a_remedy(
    compare: Callable[..., Preflight], words: dict[str, object], expected: str
) -> None:
    with pytest.raises(MachineError, match=expected):
        compare(**words)


def test_everything_that_does_not_fit_is_told_at_once(compare: Callable[..., Preflight]) -> None:
    with pytest.raises(MachineError) as caught:
        compare(cuda="12.8", compiler=("gcc", 99), in_toolkit=())
    assert len(str(caught.value).splitlines()) == 3


def test_headers_may_come_with_torch_s_own_wheels(compare: Callable[..., Preflight]) -> None:
    assert not compare(in_toolkit=HEADERS[:1], in_torch=HEADERS[1:]).warnings


def test_bounds_of_gcc_are_not_held_against_clang(compare: Callable[..., Preflight]) -> None:
    assert not compare(compiler=("clang", 7), gcc_major=12).warnings


def test_header_folders_are_those_of_torch_s_cuda_wheels(tmp_path: Path) -> None:
    for name in ("cudnn/include", "cu13/include", "cu13/lib"):
        (tmp_path / "nvidia" / name).mkdir(parents=True)
    torch = TorchEnvironment(
        path=tmp_path, site=tmp_path, origin="locked", digest="", torch_version=""
    )
    assert header_folders(torch) == (
        tmp_path / "nvidia/cu13/include",
        tmp_path / "nvidia/cudnn/include",
    )
