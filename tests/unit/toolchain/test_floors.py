"""The floor: what compiles on this machine asks no more than older systems have."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from wheelyard.machine.compilers import find_gxx
from wheelyard.machine.libc import Libc, find_libc
from wheelyard.model.matrix import parse_machine
from wheelyard.model.platform import DEFAULT_FLOOR, PlatformFloor
from wheelyard.model.policies import policy_for
from wheelyard.toolchain.floors import HEADERS, SOURCES, floor_needed, link_request
from wheelyard.toolchain.tools import provide_tools

if TYPE_CHECKING:
    from pathlib import Path

SOURCE = """
#include <chrono>
#include <cmath>
#include <condition_variable>
#include <cstdlib>
#include <dlfcn.h>
#include <exception>
#include <iostream>
#include <memory>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

namespace std {
void __throw_bad_array_new_length();
}
std::mutex mutex;
std::condition_variable changed;

double numbers(double a, double b) { return pow(a, b) + exp(a) + log2(b) + hypot(a, b); }
long read(const char* text) { return std::strtol(text, nullptr, 10); }
std::shared_ptr<int> hold(const std::shared_ptr<int>& one) { return one; }
void* load(const char* name) { std::cout << name; return dlopen(name, RTLD_NOW); }
bool wait() {
  std::unique_lock<std::mutex> lock(mutex);
  changed.wait(lock);
  return changed.wait_for(lock, std::chrono::seconds(1)) == std::cv_status::timeout;
}
void start() { std::thread([] {}).join(); }
void too_long() { std::__throw_bad_array_new_length(); }
struct Problem : std::runtime_error {
  using std::runtime_error::runtime_error;
  std::logic_error cause{"one"};
};
Problem move(Problem& one) { return std::move(one); }
void move(Problem& to, Problem& from) { to = std::move(from); }
std::exception_ptr copy(const std::exception_ptr& one) { return one; }
"""
_VERSION = re.compile(r"\S+@@?((?:GLIBC|GLIBCXX|CXXABI)_\S+)")


@pytest.fixture(scope="module")
def tools(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return tools that hold compiles to manylinux_2_28."""
    return provide_tools(
        find_gxx(os.environ),
        cache=tmp_path_factory.mktemp("cache"),
        env=os.environ,
        compile_cache=None,
        floor=DEFAULT_FLOOR,
    )


def _compile(tools: Path, folder: Path, source: str, *, floor: bool) -> Path:
    """Compile and link through the wrapper, as a build does."""
    env = {
        "PATH": os.environ["PATH"],
        "WHEELYARD_CC": str(find_gxx(os.environ).path),
        "WHEELYARD_CXX": str(find_gxx(os.environ).path),
    }
    if floor:
        env["CPLUS_INCLUDE_PATH"] = str(tools / "floor" / "include")
        env["WHEELYARD_FLOOR"] = str(tools / "floor" / "lib")
    (folder / "x.cc").write_text(source, encoding="utf-8")
    wrapper = str(tools / "g++")
    subprocess.run(
        [wrapper, "-O2", "-fPIC", "-c", "x.cc", "-o", "x.o"], cwd=folder, env=env, check=True
    )
    command = [wrapper, "-shared", "x.o", "-o", "x.so", "-lm", "-ldl", "-lpthread"]
    subprocess.run(command, cwd=folder, env=env, check=True)
    return folder / "x.so"


def _above_floor(library: Path) -> set[str]:
    listed = subprocess.run(
        ["nm", "-D", "--undefined-only", "--with-symbol-versions", library],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    policy = policy_for(DEFAULT_FLOOR.glibc, parse_machine(os.uname().machine))
    return {
        match[0]
        for match in _VERSION.finditer(listed)
        if not policy.has_version(match[1], glibc=DEFAULT_FLOOR.glibc)
    }


def test_what_is_compiled_asks_for_no_more_than_the_floor_has(tools: Path, tmp_path: Path) -> None:
    assert not _above_floor(_compile(tools, tmp_path, SOURCE, floor=True))


@pytest.mark.skipif(find_libc().version < (2, 35), reason="this system is as old as the floor")
def test_without_it_the_same_source_asks_for_newer_systems(tools: Path, tmp_path: Path) -> None:
    found = _above_floor(_compile(tools, tmp_path, SOURCE, floor=False))
    assert {"__libc_single_threaded@GLIBC_2.32", "dlopen@GLIBC_2.34"} <= found


@pytest.mark.skipif(find_libc().version < (2, 36), reason="this system has no such function")
def test_what_has_no_older_version_still_says_that_it_is_new(tools: Path, tmp_path: Path) -> None:
    source = "#include <cstdlib>\nunsigned number() { return arc4random(); }\n"
    library = _compile(tools, tmp_path, source, floor=True)
    assert _above_floor(library) == {"arc4random@GLIBC_2.36"}


def test_what_is_linked_so_runs_on_this_system(tools: Path, tmp_path: Path) -> None:
    source = SOURCE + (
        "int destroyed = 0;\n"
        "struct Counted { int other = 0; ~Counted() { ++destroyed; } };\n"
        "int thrown() {\n"
        "  std::exception_ptr one;\n"
        "  try { throw Counted(); } catch (...) { one = std::current_exception(); }\n"
        "  std::exception_ptr two = copy(one);\n"
        "  one = nullptr;\n"
        "  if (destroyed != 0) return 1;\n"
        "  try { std::rethrow_exception(two); } catch (const Counted&) { }\n"
        "  two = nullptr;\n"
        "  return destroyed - 1;\n"
        "}\n"
        'extern "C" double answer() {\n'
        '  Problem one("40"), two(move(one));\n'
        "  move(one, two);\n"
        "  if (thrown() != 0) return 0.0;\n"
        '  return exp(0.0) + read(one.what()) + (one.cause.what() == std::string("one"));\n'
        "}\n"
    )
    library = _compile(tools, tmp_path, source, floor=True)
    code = (
        "import ctypes, sys; f = ctypes.CDLL(sys.argv[1]).answer; "
        "f.restype = ctypes.c_double; print(f())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, library], check=True, capture_output=True, text=True
    )
    assert done.stdout == "42.0\n"


def test_compiler_may_know_libstdcxx_by_its_full_name_only(tmp_path: Path) -> None:
    gxx = find_gxx(os.environ)
    script = tmp_path / "g++"
    script.write_text(
        "#!/bin/sh\n"
        '[ "$*" != -print-file-name=libstdc++.so ] || { echo libstdc++.so; exit; }\n'
        f'exec {gxx.path} "$@"\n',
        encoding="utf-8",
    )
    script.chmod(0o755)
    tools = provide_tools(
        dataclasses.replace(gxx, path=script),
        cache=tmp_path,
        env=os.environ,
        compile_cache=None,
        floor=DEFAULT_FLOOR,
    )
    assert not _above_floor(_compile(tools, tmp_path, SOURCE, floor=True))


def test_nothing_is_needed_but_the_libraries_of_the_system(tools: Path, tmp_path: Path) -> None:
    library = _compile(tools, tmp_path, SOURCE, floor=True)
    dynamic = subprocess.run(["readelf", "-d", library], check=True, capture_output=True, text=True)
    needed = set(re.findall(r"\(NEEDED\).*\[(.*)\]", dynamic.stdout))
    assert needed <= {"libc.so.6", "libgcc_s.so.1", "libm.so.6", "libstdc++.so.6"}
    assert "PATH" not in dynamic.stdout


@pytest.mark.parametrize(
    ("version", "needed"),
    [((2, 28), False), ((2, 17), False), ((2, 29), True), ((2, 41), True)],
)
def test_floor_is_needed_on_newer_systems_only(version: tuple[int, int], *, needed: bool) -> None:
    assert floor_needed(DEFAULT_FLOOR, Libc(name="glibc", version=version)) is needed


def test_headers_lie_where_compilers_look_for_them() -> None:
    assert all((SOURCES / "include" / name).is_file() for name in HEADERS)


def test_another_floor_makes_other_tools(tools: Path, tmp_path: Path) -> None:
    other = provide_tools(
        find_gxx(os.environ),
        cache=tmp_path,
        env=os.environ,
        compile_cache=None,
        floor=PlatformFloor(glibc=(2, 17)),
    )
    assert other.name != tools.name


def test_request_names_what_the_policy_has(tmp_path: Path) -> None:
    words = link_request(DEFAULT_FLOOR, "x86_64", folder=tmp_path, gxx=tmp_path / "g++")
    assert words["glibc"] == [2, 28]
    assert "3.4.24" in json.dumps(words["versions"])
    assert "3.4.29" not in json.dumps(words["versions"])
