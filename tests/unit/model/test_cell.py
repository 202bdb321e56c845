"""Cells and the words they are made of: parse, print, sort, refuse."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from packaging.version import Version

from wheelyard.errors import UsageError
from wheelyard.model.cell import (
    Cell,
    CudaVersion,
    GpuArch,
    Machine,
    PythonVersion,
    TorchBuild,
    parse_gpu_archs,
    parse_version,
)

if TYPE_CHECKING:
    from collections.abc import Callable


def _cell(python: str, torch: str, machine: Machine = "x86_64") -> Cell:
    return Cell(PythonVersion.parse(python), TorchBuild.parse(torch), machine)


@pytest.mark.parametrize("text", ["3.9", "3.12", "3.14t"])
def test_printed_python_parses_to_itself(text: str) -> None:
    assert str(PythonVersion.parse(text)) == text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("3.12", PythonVersion(3, 12), id="dotted"),
        pytest.param("312", PythonVersion(3, 12), id="digits"),
        pytest.param("cp39", PythonVersion(3, 9), id="tag"),
        pytest.param("cp314t", PythonVersion(3, 14, free_threaded=True), id="free-threaded-tag"),
    ],
)
def test_python_is_read_in_every_spelling(text: str, expected: PythonVersion) -> None:
    assert PythonVersion.parse(text) == expected


def test_free_threaded_abi_tag_ends_in_t_and_python_tag_does_not() -> None:
    python = PythonVersion.parse("3.14t")
    assert (python.python_tag, python.abi_tag) == ("cp314", "cp314t")


def test_python_version_leaves_free_threading_out() -> None:
    assert PythonVersion.parse("3.14t").version == Version("3.14")


def test_free_threaded_python_sorts_after_its_sibling_and_before_the_next() -> None:
    texts = ["3.14", "3.9", "3.13t", "3.13", "3.10"]
    ordered = sorted(map(PythonVersion.parse, texts))
    assert [str(python) for python in ordered] == ["3.9", "3.10", "3.13", "3.13t", "3.14"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("13.0", CudaVersion(13, 0), id="dotted"),
        pytest.param("12.4.1", CudaVersion(12, 4), id="with-patch"),
        pytest.param("cu118", CudaVersion(11, 8), id="label"),
        pytest.param("130", CudaVersion(13, 0), id="digits"),
    ],
)
def test_cuda_is_read_in_every_spelling(text: str, expected: CudaVersion) -> None:
    assert CudaVersion.parse(text) == expected


def test_cuda_prints_dotted_and_is_labelled_as_in_local_versions() -> None:
    cuda = CudaVersion.parse("cu126")
    assert (str(cuda), cuda.label) == ("12.6", "cu126")


@pytest.mark.parametrize("text", ["2.11.0+cu130", "2.6.0+cu124"])
def test_printed_torch_build_parses_to_itself(text: str) -> None:
    assert str(TorchBuild.parse(text)) == text


def test_torch_build_label_has_no_plus() -> None:
    assert TorchBuild.parse("2.11.0+cu130").label == "torch2.11.0-cu130"


def test_torch_builds_sort_by_release_then_cuda() -> None:
    texts = ["2.10.0+cu126", "2.9.1+cu130", "2.6.0+cu126", "2.6.0+cu124"]
    ordered = sorted(map(TorchBuild.parse, texts))
    expected = ["2.6.0+cu124", "2.6.0+cu126", "2.9.1+cu130", "2.10.0+cu126"]
    assert [str(build) for build in ordered] == expected


@pytest.mark.parametrize(
    ("python", "torch", "machine", "identifier"),
    [
        pytest.param(
            "3.12", "2.11.0+cu130", "x86_64", "cp312-torch2.11.0-cu130-x86_64", id="plain"
        ),
        pytest.param(
            "3.14t", "2.15.0+cu132", "aarch64", "cp314t-torch2.15.0-cu132-aarch64", id="threaded"
        ),
    ],
)
def test_cell_identifier(python: str, torch: str, machine: Machine, identifier: str) -> None:
    assert _cell(python, torch, machine).identifier == identifier


def test_cells_sort_by_python_then_torch_then_machine() -> None:
    ordered = [
        _cell("3.9", "2.8.0+cu128"),
        _cell("3.10", "2.6.0+cu126"),
        _cell("3.10", "2.8.0+cu128", "aarch64"),
        _cell("3.10", "2.8.0+cu128"),
        _cell("3.10", "2.10.0+cu128"),
    ]
    shuffled = [ordered[i] for i in (3, 0, 4, 2, 1)]
    assert sorted(shuffled) == ordered


def test_equal_cells_are_one_member_of_a_set() -> None:
    assert len({_cell("3.12", "2.11.0+cu130"), _cell("cp312", "2.11.0+cu130")}) == 1


@pytest.mark.parametrize("text", ["7.5", "9.0a", "10.3f", "12.0+PTX", "9.0a+PTX"])
def test_printed_gpu_target_parses_to_itself(text: str) -> None:
    assert str(GpuArch.parse(text)) == text


@pytest.mark.parametrize(
    ("text", "number", "label"),
    [
        pytest.param("9.0", "90", "sm90", id="plain"),
        pytest.param("9.0a", "90a", "sm90a", id="feature"),
        pytest.param("12.0+PTX", "120", "sm120ptx", id="ptx"),
    ],
)
def test_gpu_target_is_numbered_for_nvcc_and_labelled_for_identifiers(
    text: str, number: str, label: str
) -> None:
    arch = GpuArch.parse(text)
    assert (arch.number, arch.label) == (number, label)


@pytest.mark.parametrize("text", ["9.0;8.0;12.0+PTX", "9.0, 8.0 12.0+PTX", "12.0+PTX 9.0;8.0;9.0"])
def test_gpu_targets_come_sorted_and_once_whatever_separates_them(text: str) -> None:
    assert [str(arch) for arch in parse_gpu_archs(text)] == ["8.0", "9.0", "12.0+PTX"]


@pytest.mark.parametrize("text", ["", " ", ";,"])
def test_empty_list_of_gpu_targets_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match=r"list of GPU targets is empty.*8\.0;9\.0"):
        parse_gpu_archs(text)


@pytest.mark.parametrize(
    ("parse", "text", "hint"),
    [
        pytest.param(PythonVersion.parse, "3", r"3\.12, or 3\.14t", id="python-without-minor"),
        pytest.param(PythonVersion.parse, "3.12.1", r"3\.12", id="python-with-patch"),
        pytest.param(PythonVersion.parse, "pypy3.10", r"3\.12", id="other-interpreter"),
        pytest.param(CudaVersion.parse, "13", r"13\.0 or cu130", id="cuda-without-minor"),
        pytest.param(CudaVersion.parse, "cpu", r"13\.0 or cu130", id="cpu"),
        pytest.param(TorchBuild.parse, "2.11.0", r"2\.11\.0\+cu130", id="no-local-part"),
        pytest.param(GpuArch.parse, "sm_90", r"9\.0 or 12\.0\+PTX", id="nvcc-spelling"),
        pytest.param(GpuArch.parse, "Hopper", r"9\.0", id="gpu-name"),
        pytest.param(parse_version, "latest", r"2\.11\.0", id="no-version"),
    ],
)
def test_refusal_quotes_the_text_and_shows_how_to_write_it(
    parse: Callable[[str], object], text: str, hint: str
) -> None:
    with pytest.raises(UsageError, match=f"{text!r} is not .*{hint}"):
        parse(text)


@pytest.mark.parametrize(
    ("text", "culprit"),
    [
        pytest.param("2.11.0+cpu", "cpu", id="cpu-build"),
        pytest.param("two+cu130", "two", id="no-version"),
    ],
)
def test_refusal_of_a_torch_build_quotes_the_part_that_is_wrong(text: str, culprit: str) -> None:
    with pytest.raises(UsageError, match=f"^{culprit!r} is not"):
        TorchBuild.parse(text)
