"""The compiler wrappers, in front of compilers that print what they are called with."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import wheelyard.toolchain
from wheelyard.machine.compilers import find_gxx
from wheelyard.toolchain.sccache import read_counts, read_steps
from wheelyard.toolchain.tools import provide_tools

if TYPE_CHECKING:
    from collections.abc import Callable

WRAPPERS = Path(wheelyard.toolchain.__file__).with_name("wrappers")
# each argument in brackets, behind the name it was called by
PRINTER = '#!/bin/sh\nprintf "%s" "$(basename "$0")"; printf " [%s]" "$@"; echo\n'


@pytest.fixture
def fakes(tmp_path: Path) -> Path:
    """Write a toolkit, host compilers and a compile cache that print their arguments."""
    for name in ("cuda/bin/nvcc", "bin/g++-12", "bin/gcc-12", "bin/sccache"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(PRINTER, encoding="ascii")
        path.chmod(0o755)
    return tmp_path


@pytest.fixture
def call(fakes: Path) -> Callable[..., list[str]]:
    """Return a function that calls a wrapper by a name; lines are the calls that came of it."""

    def run(wrapper: str, name: str, *arguments: str, **variables: str) -> list[str]:
        program = fakes / "tools" / name
        program.parent.mkdir(exist_ok=True)
        shutil.copyfile(WRAPPERS / wrapper, program)
        program.chmod(0o755)
        env = {
            "PATH": os.environ["PATH"],
            "CUDA_HOME": str(fakes / "cuda"),
            "WHEELYARD_CC": str(fakes / "bin/gcc-12"),
            "WHEELYARD_CXX": str(fakes / "bin/g++-12"),
            "WHEELYARD_COMPILE_CACHE": str(fakes / "bin/sccache"),
            "WHEELYARD_SOURCE": "/wy/source",
            **variables,
        }
        done = subprocess.run(
            [program, *arguments], env=env, check=True, capture_output=True, text=True
        )
        return done.stdout.replace(f"{fakes}/", "").splitlines()

    return run


def test_what_links_takes_the_libraries_of_the_floor_first(
    call: Callable[..., list[str]],
) -> None:
    words = ("-shared", "a.o", "-L/usr/lib", "-o", "a.so")
    found = call("host-compiler.sh", "g++", *words, WHEELYARD_FLOOR="/wy/floor")
    assert found == ["sccache [bin/g++-12] [-L/wy/floor] [-shared] [a.o] [-L/usr/lib] [-o] [a.so]"]


@pytest.mark.parametrize("option", ["-c", "-E", "-S", "-M", "-nostdlib"])
def test_what_does_not_link_is_called_as_it_was(
    call: Callable[..., list[str]], option: str
) -> None:
    with_floor = call("host-compiler.sh", "g++", option, "a.cc", WHEELYARD_FLOOR="/wy/floor")
    assert with_floor == call("host-compiler.sh", "g++", option, "a.cc")


@pytest.fixture
def nvcc(call: Callable[..., list[str]]) -> Callable[..., list[str]]:
    def run(*arguments: str, **variables: str) -> list[str]:
        return call("nvcc.sh", "nvcc", *arguments, **variables)

    return run


def test_seed_is_the_path_of_the_source_within_the_tree(nvcc: Callable[..., list[str]]) -> None:
    assert nvcc("-c", "/wy/source/csrc/a.cu", "-o", "a.o") == [
        "sccache [cuda/bin/nvcc] [-frandom-seed=csrc/a.cu] [-c] [/wy/source/csrc/a.cu] [-o] [a.o]"
    ]


@pytest.mark.parametrize("source", ["csrc/a.cu", "/elsewhere/csrc/a.cu"])
def test_seed_of_a_source_that_is_named_otherwise_is_its_name(
    nvcc: Callable[..., list[str]], source: str
) -> None:
    assert f"[-frandom-seed={source}]" in nvcc("-c", source)[0]


def test_each_source_has_a_seed_of_its_own(nvcc: Callable[..., list[str]]) -> None:
    sources = ("/wy/source/a.cu", "/wy/source/b.cu", "/wy/source/x/a.cu")
    assert len({nvcc("-c", source)[0].split()[2] for source in sources}) == 3


@pytest.mark.parametrize("option", ["-lineinfo", "--generate-line-info"])
def test_lineinfo_is_dropped(nvcc: Callable[..., list[str]], option: str) -> None:
    assert nvcc("-O3", option, "-c", "a.cu") == [
        "sccache [cuda/bin/nvcc] [-frandom-seed=a.cu] [-O3] [-c] [a.cu]"
    ]


def test_lineinfo_is_kept_when_it_is_asked_for(nvcc: Callable[..., list[str]]) -> None:
    assert "[-lineinfo]" in nvcc("-lineinfo", "-c", "a.cu", WHEELYARD_LINEINFO="1")[0]


@pytest.mark.parametrize("option", ["-c", "--compile", "-dc", "--device-c", "-dw"])
def test_every_way_to_ask_for_an_object_is_cached(
    nvcc: Callable[..., list[str]], option: str
) -> None:
    assert nvcc(option, "a.cu")[0].startswith("sccache [cuda/bin/nvcc] [-frandom-seed=a.cu]")


def test_arguments_survive_whatever_stands_in_them(nvcc: Callable[..., list[str]]) -> None:
    strange = ("-DNAME=a b", '-DQUOTED="x"', "-D$HOME", "-DSTAR=*", "-DEMPTY=", "", "-I/a;b\\c")
    expected = " ".join(f"[{argument}]" for argument in strange)
    assert nvcc(*strange, "-c", "my file.cu") == [
        f"sccache [cuda/bin/nvcc] [-frandom-seed=my file.cu] {expected} [-c] [my file.cu]"
    ]


@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param(["--version"], id="version"),
        pytest.param(["-shared", "a.o", "b.o", "-o", "x.so", "-lcudart"], id="link"),
        pytest.param(["-dlink", "a.o", "-o", "linked.o"], id="device-link"),
        pytest.param(["a.cu", "-o", "program"], id="compile-and-link"),
        pytest.param(["-c", "a.cpp", "-o", "a.o"], id="host-source"),
        pytest.param(["-E", "a.cu"], id="preprocess"),
    ],
)
def test_everything_else_goes_to_nvcc_as_it_is(
    nvcc: Callable[..., list[str]], arguments: list[str]
) -> None:
    assert nvcc(*arguments) == [f"nvcc {' '.join(f'[{argument}]' for argument in arguments)}"]


def test_without_a_compile_cache_the_seed_is_still_given(nvcc: Callable[..., list[str]]) -> None:
    assert nvcc("-c", "a.cu", WHEELYARD_COMPILE_CACHE="") == [
        "nvcc [-frandom-seed=a.cu] [-c] [a.cu]"
    ]


def test_nvcc_that_has_no_such_option_is_not_given_it(nvcc: Callable[..., list[str]]) -> None:
    assert nvcc("-c", "a.cu", WHEELYARD_NO_SEED="1") == ["sccache [cuda/bin/nvcc] [-c] [a.cu]"]


def test_nvcc_s_failure_is_the_wrapper_s(nvcc: Callable[..., list[str]], fakes: Path) -> None:
    (fakes / "cuda/bin/nvcc").write_text("#!/bin/sh\nexit 7\n", encoding="ascii")
    with pytest.raises(subprocess.CalledProcessError) as caught:
        nvcc("--version")
    assert caught.value.returncode == 7


@pytest.mark.parametrize(
    ("name", "compiler"),
    [("g++", "g++-12"), ("c++", "g++-12"), ("gcc", "gcc-12"), ("cc", "gcc-12")],
)
def test_host_compiler_is_the_one_of_the_name_it_is_called_by(
    call: Callable[..., list[str]], name: str, compiler: str
) -> None:
    arguments = ("-c", "my file.cpp", "-DA=b c", "")
    assert call("host-compiler.sh", name, *arguments) == [
        f"sccache [bin/{compiler}] [-c] [my file.cpp] [-DA=b c] []"
    ]


def test_host_compiler_works_without_a_compile_cache(call: Callable[..., list[str]]) -> None:
    assert call("host-compiler.sh", "g++", "-c", "a.cpp", WHEELYARD_COMPILE_CACHE="") == [
        "g++-12 [-c] [a.cpp]"
    ]


@pytest.fixture
def _budget(fakes: Path) -> None:
    """Write a client of the budget that prints its arguments."""
    path = fakes / "tools" / "budget" / "admit"
    path.parent.mkdir(parents=True)
    path.write_text(PRINTER, encoding="ascii")
    path.chmod(0o755)


@pytest.mark.usefixtures("_budget")
def test_every_call_of_a_compiler_asks_the_budget_where_there_is_one(
    call: Callable[..., list[str]],
) -> None:
    budget = {"WHEELYARD_BUDGET": "/wy/budget"}
    assert call("nvcc.sh", "nvcc", "-c", "a b.cu", **budget) == [
        "admit [device] [bin/sccache] [cuda/bin/nvcc] [-frandom-seed=a b.cu] [-c] [a b.cu]"
    ]
    assert call("nvcc.sh", "nvcc", "-dlink", "a.o", WHEELYARD_COMPILE_CACHE="", **budget) == [
        "admit [device] [cuda/bin/nvcc] [-dlink] [a.o]"
    ]
    assert call("host-compiler.sh", "g++", "-c", "a b.cpp", **budget) == [
        "admit [host] [bin/sccache] [bin/g++-12] [-c] [a b.cpp]"
    ]


def test_compile_with_a_cache_server_of_its_own_keeps_apart_what_it_writes(
    fakes: Path, tmp_path: Path
) -> None:
    tools = provide_tools(
        find_gxx(os.environ), cache=tmp_path / "cache", env=os.environ, compile_cache="sccache"
    )
    build = tmp_path / "build"
    build.mkdir()
    (tmp_path / "a.c").write_text("int a;\n", encoding="ascii")
    env = {
        "PATH": os.environ["PATH"],
        "HOME": str(build),
        "SCCACHE_DIR": str(tmp_path / "compile"),
        "WHEELYARD_CACHE_SERVER": "1",
        "WHEELYARD_BUILD": str(build),
        "WHEELYARD_COMPILE_CACHE": str(tools / "cache" / "sccache"),
    }
    compiler = [env["WHEELYARD_COMPILE_CACHE"], str(find_gxx(os.environ).path)]
    command = [str(tools / "budget" / "fresh"), *compiler, "-c", str(tmp_path / "a.c")]
    command += ["-o", str(build / "a.o")]
    for _ in range(2):
        subprocess.run(command, env=env, check=True)
    assert (build / "a.o").exists()
    assert not (build / "cache.json").exists()
    assert read_counts(build) == ({"C/C++": 1}, {"C/C++": 1})
    assert sorted(step.hit is True for step in read_steps(build)) == [False, True]


def test_build_child_without_a_compile_cache_is_what_it_drives(
    call: Callable[..., list[str]], fakes: Path
) -> None:
    program = str(fakes / "bin/sccache")
    assert call("drive-build.sh", "drive-build", program, "a b", WHEELYARD_COMPILE_CACHE="") == [
        "sccache [a b]"
    ]


@pytest.mark.parametrize(
    ("option", "seeded"), [("-frandom-seed <seed>", "yes"), ("-fno-such-thing", "no")]
)
def test_build_child_asks_nvcc_whether_it_takes_a_seed(
    call: Callable[..., list[str]], fakes: Path, option: str, seeded: str
) -> None:
    (fakes / "cuda/bin/nvcc").write_text(f"#!/bin/sh\necho '{option}'\n", encoding="ascii")
    answer = '[ -n "$WHEELYARD_NO_SEED" ] && echo no || echo yes'
    driven = ("sh", "-c", answer)
    assert call("drive-build.sh", "drive-build", *driven, WHEELYARD_COMPILE_CACHE="") == [seeded]


def test_build_child_whose_cache_does_not_start_says_why(
    call: Callable[..., list[str]], fakes: Path
) -> None:
    script = "#!/bin/sh\necho no room left >&2\nexit 2\n"
    (fakes / "bin/sccache").write_text(script, encoding="ascii")
    with pytest.raises(subprocess.CalledProcessError) as caught:
        call(
            "drive-build.sh",
            *("drive-build", "echo", "built"),
            WHEELYARD_BUILD=str(fakes),
            WHEELYARD_CACHE_SERVER="1",
            SCCACHE_SERVER_UDS=str(fakes / "socket"),
        )
    assert caught.value.returncode == 70
    assert "The compile cache did not start:\nno room left" in caught.value.stderr
    assert "built" not in caught.value.stdout


def test_build_child_keeps_status_and_statistics_and_ends_the_cache(
    fakes: Path, tmp_path: Path
) -> None:
    tools = provide_tools(
        find_gxx(os.environ), cache=tmp_path / "cache", env=os.environ, compile_cache="sccache"
    )
    build = tmp_path / "build"
    build.mkdir()
    env = {
        "PATH": os.environ["PATH"],
        "HOME": str(build),
        "SCCACHE_DIR": str(tmp_path / "compile"),
        "SCCACHE_SERVER_UDS": str(build / "s"),
        "WHEELYARD_BUILD": str(build),
        "WHEELYARD_CACHE_SERVER": "1",
        "WHEELYARD_COMPILE_CACHE": str(tools / "cache" / "sccache"),
    }
    done = subprocess.run(
        [tools / "drive-build", "sh", "-c", "echo built; exit 3"],
        env=env,
        check=False,
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout) == (3, "built\n")
    assert '"stats"' in (build / "cache.json").read_text(encoding="utf-8")
    # nobody answers any more
    asked = [str(tools / "cache" / "sccache"), "--stop-server"]
    assert subprocess.run(asked, env=env, check=False, capture_output=True).returncode != 0
