"""What a command line says of the compile that it is."""

from __future__ import annotations

import pytest

from wheelyard.toolchain.units import (
    for_any_python,
    source_of,
    takes_resources,
    threads_of,
    unit_digest,
)


@pytest.mark.parametrize(
    ("command", "source"),
    [
        (["nvcc", "-Ifoo.cu", "-c", "/wy/source/a.cu", "-o", "a.o"], "/wy/source/a.cu"),
        (["g++", "-c", "a.cpp"], "a.cpp"),
        (["g++", "-shared", "a.o", "-o", "x.so"], ""),
        (["g++", "--version"], ""),
    ],
)
def test_source_is_the_file_that_is_compiled(command: list[str], source: str) -> None:
    assert source_of(command) == source


@pytest.mark.parametrize(
    ("command", "takes"),
    [
        (["g++", "-c", "a.cpp"], True),
        (["g++", "-shared", "a.o", "-o", "x.so"], True),
        (["nvcc", "-dlink", "a.o"], True),
        (["gcc", "-dumpfullversion", "-dumpversion"], False),
        (["nvcc", "--version"], False),
        (["g++", "-print-file-name=libc.a"], False),
    ],
)
def test_question_to_a_compiler_takes_nothing(command: list[str], takes: bool) -> None:  # noqa: FBT001
    assert takes_resources(command) is takes


@pytest.mark.parametrize(
    ("options", "threads"),
    [
        (["-O3"], 1),
        (["--threads", "4"], 4),
        (["--threads=4"], 4),
        (["-t", "3"], 3),
        (["-t=2"], 2),
        (["-t2"], 2),
        (["--threads", "0"], 16),
        (["--threads", "many"], 1),
        (["--threads"], 1),
    ],
)
def test_threads_of_nvcc_are_cores(options: list[str], threads: int) -> None:
    many = [f"-gencode=arch=compute_{number},code=sm_{number}" for number in range(80, 100)]
    assert threads_of(["nvcc", *many, *options], cores=16) == threads


@pytest.mark.parametrize(
    ("targets", "threads"),
    [
        pytest.param([], 1, id="default-target"),
        pytest.param(["-gencode=arch=compute_90,code=sm_90"], 1, id="one"),
        pytest.param(["-gencode", "arch=compute_90,code=sm_90"], 1, id="two-words"),
        pytest.param(["--generate-code=a", "-gencode", "b", "-gencode=c"], 3, id="three"),
    ],
)
def test_threads_beyond_the_gpu_targets_have_nothing_to_do(
    targets: list[str], threads: int
) -> None:
    assert threads_of(["nvcc", "--threads", "4", *targets], cores=16) == threads


@pytest.mark.parametrize(
    ("word", "same"),
    [
        ("-I/wy/python/include/python3.12", "-I/wy/python/include/python3"),
        ("-I/wy/python/include/python3.13t", "-I/wy/python/include/python3"),
        ("/b/temp.linux-x86_64-cpython-312/a.o", "/b/temp.linux-x86_64-cpython-3/a.o"),
        ("x.cp314t-linux.so", "x.cp3-linux.so"),
        ("-DTORCH_EXTENSION_NAME=scale", "-DTORCH_EXTENSION_NAME=scale"),
        ("-gencode=arch=compute_90,code=sm_90", "-gencode=arch=compute_90,code=sm_90"),
        ("-I/opt/grasp312/include", "-I/opt/grasp312/include"),
    ],
)
def test_version_of_the_python_is_taken_out(word: str, same: str) -> None:
    assert for_any_python(word) == same


def test_unit_is_the_same_for_every_python_and_torch() -> None:
    first = ["nvcc", "-std=c++17", "-I/p/python3.12", "-DOLD", "-c", "/s/a.cu", "-o", "/b/a.o"]
    second = ["nvcc", "-std=c++20", "-I/p/python3.13", "-c", "/s/a.cu", "-o", "/b/a.o"]
    assert unit_digest(first) == unit_digest(second)


@pytest.mark.parametrize(
    "other",
    [
        ["nvcc", "-c", "/s/b.cu", "-o", "/b/a.o"],
        ["nvcc", "-c", "/s/a.cu", "-o", "/b/other/a.o"],
        ["nvcc", "-c", "/s/a.cu"],
    ],
)
def test_other_source_or_object_is_another_unit(other: list[str]) -> None:
    assert unit_digest(other) != unit_digest(["nvcc", "-c", "/s/a.cu", "-o", "/b/a.o"])
