"""Which code runs on which GPU follows NVIDIA's rules of binary and PTX compatibility."""

from __future__ import annotations

import json

import pytest

from wheelyard.abi.gpu_code import GpuCode
from wheelyard.model.cell import GpuArch
from wheelyard.model.gpu_targets import GPUS, How, gpu_coverage, gpu_name, run_on


def code(text: str) -> GpuCode:
    """For example ``8.0 9.0a 9.0+PTX``."""
    archs = [GpuArch.parse(part) for part in text.split()]
    return GpuCode(
        cubins=frozenset(arch for arch in archs if not arch.ptx),
        ptx=frozenset(GpuArch(arch.major, arch.minor, arch.feature) for arch in archs if arch.ptx),
    )


@pytest.mark.parametrize(
    ("held", "gpu", "how", "by"),
    [
        pytest.param("8.0", "8.0", "native", "8.0", id="same chip"),
        pytest.param("8.0", "8.9", "native", "8.0", id="later minor"),
        pytest.param("8.9", "8.6", "none", "", id="earlier minor"),
        pytest.param("8.0 8.6", "8.9", "native", "8.6", id="nearest of two"),
        pytest.param("8.0 9.0+PTX", "8.6", "native", "8.0", id="machine code before PTX"),
        pytest.param("8.0", "9.0", "none", "", id="later major"),
        pytest.param("9.0a", "9.0", "native", "9.0a", id="code of one chip there"),
        pytest.param("10.0a", "10.3", "none", "", id="code of one chip elsewhere"),
        pytest.param("10.0f", "10.3", "native", "10.0f", id="code of a family"),
        pytest.param("10.3f", "10.0", "none", "", id="earlier member of the family"),
        pytest.param("12.0f", "12.1", "native", "12.0f", id="the other family"),
        pytest.param("10.0f", "12.0", "none", "", id="code of another family"),
        pytest.param("10.0", "12.0", "none", "", id="Blackwell of data centres is another major"),
        pytest.param("8.0+PTX", "12.0", "ptx", "8.0+PTX", id="PTX for anything newer"),
        pytest.param("9.0+PTX", "8.0", "none", "", id="PTX for nothing older"),
        pytest.param("7.0+PTX 9.0+PTX", "10.0", "ptx", "9.0+PTX", id="newest PTX"),
        pytest.param("9.0a+PTX", "10.0", "none", "", id="PTX of one chip"),
        pytest.param("9.0a+PTX", "9.0", "ptx", "9.0a+PTX", id="PTX of this chip"),
        pytest.param("10.0f+PTX", "10.3", "ptx", "10.0f+PTX", id="PTX of a family"),
        pytest.param("10.0f+PTX", "11.0", "none", "", id="PTX of another family"),
        pytest.param("8.6", "8.7", "none", "", id="desktop code on Tegra"),
        pytest.param("8.7", "8.9", "none", "", id="Tegra code on a desktop"),
        pytest.param("8.7", "8.7", "native", "8.7", id="Tegra code on Tegra"),
        pytest.param("8.6+PTX", "8.7", "ptx", "8.6+PTX", id="PTX on Tegra"),
    ],
)
def test_code_runs_where_it_is_documented_to(held: str, gpu: str, how: str, by: str) -> None:
    run = run_on(GpuArch.parse(gpu), code(held))
    assert run.how == how
    assert str(run.by or "") == by


def test_wheel_runs_where_every_member_with_code_does() -> None:
    gpu_code = {"a.so": code("8.0 9.0"), "b.so": code("9.0"), "c.so": code("")}
    a100, h100 = gpu_coverage(gpu_code, [GpuArch(8, 0), GpuArch(9, 0)])
    assert (a100.how, a100.missing_in, a100.is_partial) == (How.NONE, ("b.so",), True)
    assert (h100.how, h100.missing_in, h100.is_partial) == (How.NATIVE, (), False)


def test_worst_member_tells_how_a_wheel_runs() -> None:
    (coverage,) = gpu_coverage({"a.so": code("9.0"), "b.so": code("8.0+PTX")}, [GpuArch(9, 0)])
    assert coverage.how is How.PTX
    assert [str(arch) for arch in coverage.by] == ["8.0+PTX", "9.0"]


def test_one_alternative_that_runs_is_enough() -> None:
    gpu_code = {
        "demo/lib_cuda118.so": code("8.0"),
        "demo/lib_cuda130.so": code("10.0"),
        "demo/sm90/ops.so": code("9.0a"),
        "demo/sm100/ops.so": code("8.0 10.0a"),
    }
    (b200,) = gpu_coverage(gpu_code, [GpuArch(10, 0)])
    assert (b200.how, b200.missing_in) == (How.NATIVE, ())
    (b300,) = gpu_coverage(gpu_code, [GpuArch(10, 3)])
    assert b300.missing_in == ("demo/sm100/ops.so", "demo/sm90/ops.so")


def test_copies_of_cuda_libraries_do_not_count_beside_others() -> None:
    gpu_code = {"demo.libs/libnvjpeg-0a1b.so.13": code("11.0"), "demo/_C.so": code("8.0")}
    (thor,) = gpu_coverage(gpu_code, [GpuArch(11, 0)])
    assert not thor.is_partial
    (alone,) = gpu_coverage({"nvidia/lib/libcudnn_adv.so.9": code("11.0")}, [GpuArch(11, 0)])
    assert alone.how is How.NATIVE


def test_wheel_without_gpu_code_says_nothing() -> None:
    assert gpu_coverage({}) == ()
    assert gpu_coverage({"a.so": code("")}) == ()


def test_all_gpus_of_the_machine_are_tried() -> None:
    gpu_code = {"a.so": code("8.0")}
    assert [one.gpu for one in gpu_coverage(gpu_code)] == [gpu.name for gpu in GPUS]
    here = {one.gpu for one in gpu_coverage(gpu_code, machine="x86_64")}
    assert "A100" in here
    assert "Jetson Orin" not in here
    assert len(gpu_coverage(gpu_code, machine="aarch64")) == len(GPUS)


def test_gpu_is_named_after_its_compute_capability() -> None:
    assert gpu_name(GpuArch(9, 0, "a")) == "H100, H200, GH200"
    assert gpu_name(GpuArch(10, 7)) == "compute capability 10.7"


def test_coverage_is_written_as_json() -> None:
    (coverage,) = gpu_coverage({"a.so": code("8.0+PTX"), "b.so": code("8.0")}, [GpuArch(9, 0)])
    assert json.loads(json.dumps(coverage.to_json())) == {
        "arch": "9.0",
        "by": ["8.0+PTX"],
        "gpu": "H100, H200, GH200",
        "how": "none",
        "missing_in": ["b.so"],
    }
