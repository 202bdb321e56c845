"""The wrapper that compiles only what a probe names, in front of a compiler that writes files."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import wheelyard.toolchain

if TYPE_CHECKING:
    from collections.abc import Callable

CHOOSE = Path(wheelyard.toolchain.__file__).with_name("wrappers") / "choose.sh"
# writes its arguments to what stands behind -o
COMPILER = """\
#!/bin/sh
words=$*
while [ $# -gt 0 ]; do
  [ "$1" = -o ] && echo "$words" >"$2"
  shift
done
[ "$words" != "${words#*broken}" ] && exit 3
exit 0
"""


@pytest.fixture
def compile_in(tmp_path: Path) -> Callable[..., int]:
    """Return a function that calls the wrapper in the source tree; it gives the exit status."""
    (tmp_path / "source" / "csrc").mkdir(parents=True)
    compiler = tmp_path / "g++"
    compiler.write_text(COMPILER, encoding="ascii")
    compiler.chmod(0o755)

    def call(*words: str, probe: str = "csrc/*.cu") -> int:
        env = {
            "PATH": os.environ["PATH"],
            "WHEELYARD_PROBE": probe,
            "WHEELYARD_SOURCE": str(tmp_path / "source"),
            "WHEELYARD_BUILD": str(tmp_path),
        }
        command = ["sh", str(CHOOSE), str(compiler), *words]
        return subprocess.run(command, env=env, check=False, cwd=tmp_path / "source").returncode

    return call


def _told(tmp_path: Path, name: str) -> list[str]:
    path = tmp_path / "probe" / name
    return path.read_text().splitlines() if path.exists() else []


def test_source_that_is_named_is_compiled_with_all_its_arguments(
    compile_in: Callable[..., int], tmp_path: Path
) -> None:
    assert compile_in("-c", "csrc/a.cu", "-DX=a b", "-o", f"{tmp_path}/a.o") == 0
    assert (tmp_path / "a.o").read_text() == f"-c csrc/a.cu -DX=a b -o {tmp_path}/a.o\n"
    assert [line.split()[-1] for line in _told(tmp_path, "compiled")] == ["csrc/a.cu"]
    assert _told(tmp_path, "left-out") == []


def test_absolute_path_of_a_source_is_the_same_source(
    compile_in: Callable[..., int], tmp_path: Path
) -> None:
    compile_in("-c", f"{tmp_path}/source/csrc/a.cu", "-o", f"{tmp_path}/a.o")
    assert [line.split()[-1] for line in _told(tmp_path, "compiled")] == ["csrc/a.cu"]


def test_source_that_is_not_named_leaves_an_empty_object(
    compile_in: Callable[..., int], tmp_path: Path
) -> None:
    assert compile_in("-c", "csrc/broken.cpp", "-o", f"{tmp_path}/b.o") == 0
    assert (tmp_path / "b.o").read_bytes() == b""
    assert _told(tmp_path, "left-out") == ["csrc/broken.cpp"]


def test_each_line_is_a_pattern(compile_in: Callable[..., int], tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        words = ("-c", f"csrc/{name}.cu", "-o", f"{tmp_path}/{name}.o")
        compile_in(*words, probe="csrc/a.cu\ncsrc/b.cu")
    assert [line.split()[-1] for line in _told(tmp_path, "compiled")] == ["csrc/a.cu", "csrc/b.cu"]
    assert _told(tmp_path, "left-out") == ["csrc/c.cu"]


def test_failure_is_the_compiler_s_and_counts_as_nothing(
    compile_in: Callable[..., int], tmp_path: Path
) -> None:
    assert compile_in("-c", "csrc/broken.cu", "-o", f"{tmp_path}/b.o") == 3
    assert _told(tmp_path, "compiled") == []


def test_link_of_what_was_left_out_makes_an_empty_file(
    compile_in: Callable[..., int], tmp_path: Path
) -> None:
    (tmp_path / "a.o").write_bytes(b"code")
    (tmp_path / "b.o").write_bytes(b"")
    objects = (f"{tmp_path}/a.o", f"{tmp_path}/b.o")
    assert compile_in("-shared", *objects, "-o", f"{tmp_path}/x.so") == 0
    assert (tmp_path / "x.so").read_bytes() == b""


def test_link_of_whole_objects_is_a_link(compile_in: Callable[..., int], tmp_path: Path) -> None:
    (tmp_path / "a.o").write_bytes(b"code")
    compile_in("-shared", f"{tmp_path}/a.o", "-o", f"{tmp_path}/x.so")
    assert (tmp_path / "x.so").read_text().startswith("-shared")


@pytest.mark.parametrize("words", [("-c", "/elsewhere/conftest.c"), ("-c", "csrc/a.cpp", "-E")])
def test_what_is_no_unit_of_the_source_is_left_to_the_compiler(
    compile_in: Callable[..., int], tmp_path: Path, words: tuple[str, ...]
) -> None:
    output = ("-o", f"{tmp_path}/test.o") if words[1].startswith("/") else ()
    assert compile_in(*words, *output) == 0
    assert _told(tmp_path, "left-out") == []
    if output:
        assert (tmp_path / "test.o").read_text().startswith("-c /elsewhere")
