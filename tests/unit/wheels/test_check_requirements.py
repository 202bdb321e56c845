"""What a wheel requires is compared with the libraries that it links, and with its Python tags."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from wheelyard.wheels.archive import open_wheel
from wheelyard.wheels.check_requirements import requirement_findings
from wheelyard.wheels.findings import FindingKind, Severity
from wheelyard.wheels.labels import read_labels

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from wheelyard.wheels.findings import Finding

TORCH = ("libc10.so", "libtorch_cpu.so")


@pytest.fixture
def find(make_wheel: Callable[..., Path]) -> Callable[..., list[Finding]]:
    """Return a function that checks a wheel with these requirements and external libraries."""

    def check(
        requires: Sequence[str] = (),
        libraries: Sequence[str] = (),
        *,
        tag: str = "cp312-cp312-manylinux_2_28_x86_64",
        requires_python: str = "",
        name: str = "demo",
        severity: Severity = Severity.WARNING,
    ) -> list[Finding]:
        fields = [f"Requires-Dist: {one}" for one in requires]
        fields += [f"Requires-Python: {requires_python}"] if requires_python else []
        head = ["Metadata-Version: 2.1", f"Name: {name}", "Version: 1.0"]
        wheel = make_wheel(name=name, tag=tag, texts={"METADATA": "\n".join([*head, *fields, ""])})
        with open_wheel(wheel) as archive:
            labels = read_labels(archive)
        return list(requirement_findings(labels, libraries, severity=severity))

    return check


@pytest.mark.parametrize(
    ("requires", "libraries"),
    [
        pytest.param(["torch"], [*TORCH, "libcudart.so.13"], id="any torch"),
        pytest.param(["torch==2.11.0"], [*TORCH, "libcudart.so.13"], id="torch of that CUDA"),
        pytest.param(["torch==2.8.0"], ["libc10.so", "libcudart.so.12"], id="older torch"),
        pytest.param(["torch==2.11.0+cu128"], ["libc10.so", "libcudart.so.12"], id="local part"),
        pytest.param(["torch>=2.6"], ["libcudart.so.12"], id="torch of either CUDA"),
        pytest.param(["torch==99.0"], ["libcudart.so.12"], id="torch that is not known"),
        pytest.param(["torch==2.11.0"], ["libcudnn.so.9"], id="library that tells no CUDA"),
        pytest.param(["nvidia-cudnn-cu13", "torch"], ["libcudart.so.13"], id="CUDA packages"),
        pytest.param(["cuda-toolkit[cudart]==13.0.2"], ["libcudart.so.13"], id="toolkit"),
        pytest.param(["cuda-toolkit"], ["libcudart.so.13"], id="any toolkit"),
        pytest.param(
            ["torch==2.11.0", "nvidia-nccl-cu12; extra == 'old'"],
            ["libcudart.so.13"],
            id="other CUDA as an extra",
        ),
        pytest.param(
            ["nvidia-nccl-cu12; sys_platform == 'win32'", "torch"],
            ["libcudart.so.13"],
            id="other CUDA elsewhere",
        ),
        pytest.param(
            ["nvidia-nccl-cu12", "nvidia-nccl-cu13"], ["libcudart.so.13"], id="both of them"
        ),
        pytest.param(
            ["torch==2.6.0"],
            ["libcudart.so.11.0", "libcudart.so.12", "libcudart.so.13"],
            id="files for several CUDA releases",
        ),
        pytest.param([], ["libc.so.6"], id="nothing"),
        pytest.param(["torch; platform_machine == 'x86_64'"], TORCH, id="torch on this machine"),
    ],
)
def test_requirements_that_suit_are_no_findings(
    find: Callable[..., list[Finding]], requires: list[str], libraries: Sequence[str]
) -> None:
    assert find(requires, libraries) == []


@pytest.mark.parametrize(
    ("requires", "libraries", "message", "severity"),
    [
        pytest.param(
            ["numpy"], TORCH, r"links libc10\.so, libtorch_cpu\.so, and METADATA does not require",
            "warning", id="no torch",
        ),
        pytest.param(
            ["numpy", "torch>2; extra == 'gpu'"], TORCH,
            r"requires it only as 'torch>2; extra == \"gpu\"'", "warning", id="torch as an extra",
        ),
        pytest.param(
            ["torch==2.6.0"], ["libcudart.so.13"],
            r"links libcudart\.so\.13, of CUDA 13, .*'torch==2\.6\.0', which is for CUDA 11 and 12",
            "error", id="torch that was never built for that CUDA",
        ),
        pytest.param(
            ["torch==2.11.0+cu130"], ["libcublas.so.12"],
            r"'torch==2\.11\.0\+cu130', which is for CUDA 13", "error", id="local part",
        ),
        pytest.param(
            ["torch==2.9.0"], ["libcudart.so.13"],
            r"an installer takes for CUDA 12\. Install torch 2\.9\.0\+cu130 before",
            "warning", id="the index has it for another CUDA",
        ),
        pytest.param(
            ["torch", "nvidia-cuda-runtime-cu12", "nvidia-nccl-cu12"], ["libcudart.so.13"],
            r"requires nvidia-cuda-runtime-cu12, nvidia-nccl-cu12, of CUDA 12", "error",
            id="CUDA packages",
        ),
        pytest.param(
            ["cuda-toolkit[cudart]==13.0.*"], ["libcufft.so.11"],
            r"of CUDA 12, and METADATA requires cuda-toolkit, of CUDA 13", "error", id="toolkit",
        ),
        pytest.param(
            [], ["libcudart.so.13", "libcublas.so.13"],
            r"links libcudart\.so\.13, libcublas\.so\.13, and METADATA requires nothing",
            "warning", id="nothing brings CUDA",
        ),
    ],
)  # fmt: skip
def test_requirement_that_does_not_suit_is_found(
    find: Callable[..., list[Finding]],
    requires: list[str],
    libraries: list[str],
    message: str,
    severity: str,
) -> None:
    (finding,) = find(requires, libraries)
    assert (finding.kind, finding.severity) == (FindingKind.REQUIREMENT, severity)
    assert re.search(message, finding.message)


def test_missing_torch_is_an_error_in_ours(find: Callable[..., list[Finding]]) -> None:
    (finding,) = find(["numpy"], TORCH, severity=Severity.ERROR)
    assert finding.severity is Severity.ERROR


def test_torch_and_cuda_themselves_require_neither(find: Callable[..., list[Finding]]) -> None:
    assert find([], TORCH, name="torch") == []
    assert find([], ["libcublas.so.13"], name="nvidia-cusolver") == []


@pytest.mark.parametrize(
    ("tag", "requires_python", "refused"),
    [
        ("cp312-cp312", ">=3.9", ""),
        ("cp312-cp312", ">=3.12.4", ""),
        ("cp312-cp312", "<3.12", "cp312-cp312"),
        ("cp39-cp39", ">=3.10", "cp39-cp39"),
        ("cp38-abi3", ">=3.10", ""),
        ("cp310-abi3", "<3.10", "cp310-abi3"),
        ("py3-none", ">=3.9", ""),
        ("cp39.cp310-cp39.cp310", ">=3.10", "cp39-cp310, cp39-cp39"),
        ("cp313-cp313t", "<3.13", "cp313-cp313t"),
    ],
)
def test_tag_for_a_python_that_is_refused_is_found(
    find: Callable[..., list[Finding]], tag: str, requires_python: str, refused: str
) -> None:
    found = find(tag=f"{tag}-manylinux_2_28_x86_64", requires_python=requires_python)
    assert [one.kind for one in found] == ([FindingKind.REQUIRES_PYTHON] if refused else [])
    assert all(f"The tag says {refused}, and METADATA lets" in one.message for one in found)


def test_wheel_without_metadata_is_let_be(make_wheel: Callable[..., Path]) -> None:
    with open_wheel(make_wheel(texts={"METADATA": None})) as archive:
        labels = read_labels(archive)
    assert list(requirement_findings(labels, TORCH, severity=Severity.ERROR)) == []
