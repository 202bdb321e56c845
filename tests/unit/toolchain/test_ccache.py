"""ccache in place of sccache: its settings, and what it says that it did."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from wheelyard.machine.compilers import find_gxx
from wheelyard.toolchain.ccache import Ccache
from wheelyard.toolchain.compile_cache import CacheReport
from wheelyard.toolchain.tools import provide_tools
from wheelyard.toolchain.values import Places


def test_results_are_counted_by_kind(tmp_path: Path) -> None:
    text = (
        "# /wy/source/a.cu\ncache_miss\npreprocessed_cache_miss\n# /wy/source/b.cpp\n"
        "direct_cache_hit\n# c.cu\npreprocessed_cache_hit\n# d.c\nunsupported_compiler_option\n"
    )
    (tmp_path / "ccache.log").write_text(text, encoding="utf-8")
    assert Ccache().read(tmp_path) == CacheReport(hits={"C/C++": 1, "CUDA": 1}, misses={"CUDA": 1})


def test_log_that_is_not_there_counts_as_nothing(tmp_path: Path) -> None:
    assert Ccache().read(tmp_path) == CacheReport(hits={}, misses={})


def test_its_objects_lie_apart_from_those_of_sccache() -> None:
    assert Ccache().folder(Path("compile/probe")) == Path("compile/probe.ccache")


@pytest.mark.skipif(shutil.which("ccache") is None, reason="there is no ccache on PATH")
def test_second_compile_is_found_and_another_compiler_is_told_apart(tmp_path: Path) -> None:
    gxx = find_gxx(os.environ)
    tools = provide_tools(gxx, cache=tmp_path, env=os.environ, compile_cache="ccache")
    places = Places(base=tmp_path)
    places.build.mkdir()
    (tmp_path / "a.cpp").write_text("int a;\n", encoding="ascii")

    def compile_for(compilers: str) -> CacheReport:
        variables = Ccache().variables(places, compilers=compilers)
        env = {"PATH": os.environ["PATH"], "WHEELYARD_BUILD": str(places.build), **variables}
        command = [str(tools / "drive-build"), str(tools / "cache/ccache"), str(gxx.path)]
        command += ["-c", "a.cpp", "-o", "a.o"]
        env["WHEELYARD_COMPILE_CACHE"] = str(tools / "cache/ccache")
        subprocess.run(command, check=True, cwd=tmp_path, env=env)
        return Ccache().read(places.build)

    assert compile_for("one") == CacheReport(hits={}, misses={"C/C++": 1})
    assert compile_for("one") == CacheReport(hits={"C/C++": 1}, misses={"C/C++": 1})
    assert compile_for("other") == CacheReport(hits={"C/C++": 1}, misses={"C/C++": 2})
