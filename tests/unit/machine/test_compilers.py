from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from wheelyard.errors import MachineError
from wheelyard.machine.compilers import find_gxx

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Program = Callable[[str, str], Path]

GCC = """case "$1" in
--version) echo "g++ (Debian 12.2.0-14) 12.2.0"; echo "(C) 2022 Free Software Foundation, Inc.";;
-dumpfullversion) echo 12.2.0;;
-dumpmachine) echo x86_64-linux-gnu;;
*) exit 1;;
esac"""
OLD_GCC = GCC.replace("echo 12.2.0;;", "echo 6;;")
CLANG = """case "$1" in
--version) echo "Ubuntu clang version 18.1.3 (1ubuntu1)"; echo "Target: aarch64-pc-linux-gnu";;
-dumpmachine) echo aarch64-pc-linux-gnu;;
*) echo "error: unknown argument" >&2; exit 1;;
esac"""


@pytest.fixture
def env(tmp_path: Path) -> dict[str, str]:
    return {"PATH": str(tmp_path / "bin")}


def test_gxx_is_asked_for_version_and_target(program: Program, env: dict[str, str]) -> None:
    path = program("g++", GCC)
    found = find_gxx(env)
    assert (found.path, found.name, found.version) == (path, "gcc", (12, 2, 0))
    assert (found.major, found.target, found.machine) == (12, "x86_64-linux-gnu", "x86_64")
    assert str(found) == "gcc 12.2.0"


def test_cxx_wins_over_path(program: Program, env: dict[str, str]) -> None:
    program("g++", GCC)
    clang = program("clang++-18", CLANG)
    found = find_gxx({**env, "CXX": "clang++-18"})
    assert (found.path, found.name, found.version) == (clang, "clang", (18, 1, 3))
    assert found.machine == "aarch64"


def test_cxx_may_be_a_path(program: Program) -> None:
    path = program("g++-12", GCC)
    assert find_gxx({"PATH": "", "CXX": str(path)}).path == path


def test_launcher_and_options_in_cxx_are_passed_over(program: Program, env: dict[str, str]) -> None:
    path = program("g++", GCC)
    assert find_gxx({**env, "CXX": "/usr/bin/ccache g++ -m64"}).path == path


def test_cxx_that_is_not_there_is_not_replaced(program: Program, env: dict[str, str]) -> None:
    program("g++", GCC)
    with pytest.raises(MachineError, match=r"looked for g\+\+-99 .* as CXX says. Correct CXX"):
        find_gxx({**env, "CXX": "g++-99"})


def test_other_name_serves_where_gxx_is_missing(program: Program, env: dict[str, str]) -> None:
    path = program("c++", GCC)
    assert find_gxx(env).path == path


def test_link_to_a_compiler_cache_is_passed_over(
    program: Program, env: dict[str, str], tmp_path: Path
) -> None:
    cache = program("ccache", "exit 1")
    masquerade = tmp_path / "masquerade"
    masquerade.mkdir()
    (masquerade / "g++").symlink_to(cache)
    path = program("g++", GCC)
    assert find_gxx({"PATH": f"{masquerade}:{env['PATH']}"}).path == path


def test_real_path_is_behind_the_links(
    program: Program, env: dict[str, str], tmp_path: Path
) -> None:
    real = program("x86_64-linux-gnu-g++-12", GCC)
    (tmp_path / "bin/g++").symlink_to(real.name)
    found = find_gxx(env)
    assert (found.path.name, found.real_path) == ("g++", real.resolve())


def test_gcc_that_tells_its_major_only(program: Program, env: dict[str, str]) -> None:
    program("g++", OLD_GCC)
    assert find_gxx(env).version == (6, 0, 0)


def test_no_compiler_tells_what_to_install(env: dict[str, str]) -> None:
    with pytest.raises(MachineError, match=r"looked for g\+\+, c\+\+ .*apt-get install g\+\+"):
        find_gxx(env)


def test_other_compilers_are_refused(program: Program, env: dict[str, str]) -> None:
    program("g++", "echo 'nvc++ 24.1-0 64-bit target'")
    with pytest.raises(MachineError, match=r"neither gcc nor clang: it calls itself 'nvc\+\+"):
        find_gxx(env)


def test_compiler_that_does_not_run_is_named(program: Program, env: dict[str, str]) -> None:
    program("g++", "echo cannot load libmpc >&2; exit 1")
    with pytest.raises(MachineError, match=r"(?s)does not answer --version.*cannot load libmpc"):
        find_gxx(env)
