"""The build child: its whole environment, its rooms, its wheel, its failures."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from wheelyard.errors import BuildError, DiskError, OutOfMemoryError, ProcessError
from wheelyard.machine.namespaces import SandboxLevel
from wheelyard.model.cell import parse_gpu_archs
from wheelyard.model.source import FolderSource
from wheelyard.planning.plan import expand_matrix
from wheelyard.run import Completed
from wheelyard.sources.values import FetchedSource, PatchedSource
from wheelyard.toolchain.admission import Admission
from wheelyard.toolchain.caches import CACHES
from wheelyard.toolchain.compile_cache import CacheStatistics
from wheelyard.toolchain.values import Places
from wheelyard.wheels.build import BuildRequest, build_environment, build_wheel, gencode_flags

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from wheelyard.farm import Farm
    from wheelyard.model.job import Job
    from wheelyard.toolchain.compile_cache import CacheName
    from wheelyard.toolchain.sandbox import Order
    from wheelyard.toolchain.values import Toolchain

STORED = Path(__file__).with_name("build-environment")


@dataclasses.dataclass(kw_only=True)
class FakeSandbox:
    """Writes what a build child would have written, and remembers what it was asked for."""

    base: Path = Path("/wy")
    level: SandboxLevel = SandboxLevel.UNSHARE
    output: str = ""
    returncode: int = 0
    wheels: Sequence[str] = ("probe-1.1-cp312-cp312-linux_x86_64.whl",)
    statistics: Mapping[str, object] | None = None
    cache_log: str = ""
    orders: list[Order] = dataclasses.field(default_factory=list)

    def run(self, order: Order) -> Completed:
        self.orders.append(order)
        assert order.log_path is not None
        order.log_path.write_text(self.output, encoding="utf-8")
        for line in self.output.splitlines():
            assert order.on_line is not None
            order.on_line(line)
        if self.returncode:
            message = "failed"
            raise ProcessError(
                message, returncode=self.returncode, tail=self.output, log_path=order.log_path
            )
        build = next(room.source for room in order.rooms if room.inside == Path("/wy/build"))
        for name in self.wheels:
            (build / "dist" / name).write_bytes(b"wheel")
        if self.statistics is not None:
            text = json.dumps({"stats": self.statistics})
            (build / "cache.json").write_text(text, encoding="ascii")
        (build / "sccache.log").write_text(self.cache_log, encoding="utf-8")
        return Completed(output=self.output)


@pytest.fixture
def make_request(
    tmp_path: Path, make_toolchain: Callable[..., Toolchain]
) -> Callable[..., BuildRequest]:
    """Return a function that asks for a job with a toolchain made of empty folders."""

    def make(
        job: Job,
        *,
        sandbox: FakeSandbox | None = None,
        compiler: str = "g++",
        lineinfo: bool = False,
        cache: CacheName = "sccache",
        admission: Admission | None = None,
    ) -> BuildRequest:
        site = tmp_path / "torch"
        (site / "nvidia" / "cudnn" / "include").mkdir(parents=True, exist_ok=True)
        gxx = tmp_path / "compilers" / compiler
        gxx.parent.mkdir(exist_ok=True)
        return BuildRequest(
            job=dataclasses.replace(job, lineinfo=lineinfo),
            toolchain=make_toolchain(tmp_path, sandbox=sandbox or FakeSandbox(), compiler=str(gxx)),
            work=tmp_path / "work",
            compile_cache=CACHES[cache],
            cache_root=tmp_path / "compile",
            compile_jobs=3,
            log_path=tmp_path / "log",
            admission=admission,
        )

    return make


@pytest.fixture
def environment_of(
    make_request: Callable[..., BuildRequest], tmp_path: Path
) -> Callable[..., dict[str, str]]:
    """Return a function that gives the build child's environment, without paths of this test."""

    def environment(job: Job, **options: object) -> dict[str, str]:
        variables = build_environment(make_request(job, **options), Places(base=Path("/wy")))
        return {name: value.replace(f"{tmp_path}", "~") for name, value in variables.items()}

    return environment


def test_environment_of_every_recipe_and_torch_is_as_stored(
    real_farm: Farm,
    environment_of: Callable[..., dict[str, str]],
    assert_stored: Callable[[Path, str], None],
) -> None:
    """Store what the jobs of a recipe have in common, and the rest for one job of each torch."""
    jobs, _ = expand_matrix(real_farm.recipes, real_farm.matrix)
    for recipe in real_farm.recipes:
        first = {
            (job.version.version, job.cell.torch): job
            for job in reversed(jobs)
            if job.version.recipe == recipe.name
        }
        found = {job.identifier: environment_of(job) for job in first.values()}
        common = set.intersection(*(set(variables.items()) for variables in found.values()))
        text = {
            "common": dict(common),
            "jobs": {
                identifier: dict(set(variables.items()) - common)
                for identifier, variables in found.items()
            },
        }
        assert_stored(
            STORED / f"{recipe.name}.json", json.dumps(text, indent=1, sort_keys=True) + "\n"
        )


def test_variables_of_the_recipe_win_over_ours(
    make_probe_job: Callable[..., Job],
    recipe_text: str,
    environment_of: Callable[..., dict[str, str]],
) -> None:
    text = recipe_text.replace('PROBE = "version"', 'PROBE = "version", MAX_JOBS = "1"')
    environment = environment_of(make_probe_job(text=text))
    assert environment["PROBE"] == "version"
    assert environment["MAX_JOBS"] == "1"


def test_gpu_targets_reach_torch_and_nvcc(
    make_probe_job: Callable[..., Job], environment_of: Callable[..., dict[str, str]]
) -> None:
    environment = environment_of(make_probe_job(gpu_archs="9.0a;12.0+PTX"))
    assert environment["TORCH_CUDA_ARCH_LIST"] == "9.0a;12.0+PTX"
    assert environment["WHEELYARD_GENCODE"] == (
        "-gencode arch=compute_90a,code=sm_90a -gencode arch=compute_120,code=sm_120 "
        "-gencode arch=compute_120,code=compute_120"
    )


def test_one_gpu_target_is_one_option() -> None:
    assert gencode_flags(parse_gpu_archs("8.0")) == "-gencode arch=compute_80,code=sm_80"


def test_number_of_jobs_reaches_every_tool_that_counts(
    make_probe_job: Callable[..., Job], environment_of: Callable[..., dict[str, str]]
) -> None:
    environment = environment_of(make_probe_job())
    assert environment["MAX_JOBS"] == environment["CMAKE_BUILD_PARALLEL_LEVEL"] == "3"


BUDGET = Admission(socket=Path("/run/b/budget"), memory=2**30)


def test_where_a_budget_decides_more_compiles_may_wait_than_run(
    make_probe_job: Callable[..., Job], environment_of: Callable[..., dict[str, str]]
) -> None:
    environment = environment_of(make_probe_job(), admission=BUDGET)
    assert environment["MAX_JOBS"] == environment["CMAKE_BUILD_PARALLEL_LEVEL"] == "64"
    assert environment["WHEELYARD_BUDGET"] == "/wy/budget"
    assert json.loads(environment["WHEELYARD_UNIT"])["memory"]["device"] == 2**30


def test_half_the_jobs_are_half_for_tools_and_twice_the_memory_for_the_budget(
    make_probe_job: Callable[..., Job], make_request: Callable[..., BuildRequest]
) -> None:
    request = make_request(make_probe_job(), admission=BUDGET).with_half_the_jobs()
    environment = build_environment(request, Places(base=Path("/wy")))
    assert environment["MAX_JOBS"] == "1"
    assert json.loads(environment["WHEELYARD_UNIT"])["memory"]["device"] == 2**31
    alone = make_request(make_probe_job()).with_half_the_jobs().with_half_the_jobs()
    assert (alone.compile_jobs, alone.admission) == (1, None)


def test_line_numbers_are_kept_only_when_asked_for(
    make_probe_job: Callable[..., Job], environment_of: Callable[..., dict[str, str]]
) -> None:
    assert "WHEELYARD_LINEINFO" not in environment_of(make_probe_job())
    assert environment_of(make_probe_job(), lineinfo=True)["WHEELYARD_LINEINFO"] == "1"


def test_without_compile_cache_the_wrappers_know_of_none(
    make_probe_job: Callable[..., Job], environment_of: Callable[..., dict[str, str]]
) -> None:
    assert environment_of(make_probe_job())["WHEELYARD_COMPILE_CACHE"] == "/wy/tools/cache/sccache"
    environment = environment_of(make_probe_job(), cache="none")
    assert "WHEELYARD_COMPILE_CACHE" not in environment


@pytest.mark.parametrize(
    ("cxx", "there", "cc"),
    [
        pytest.param("g++", ["gcc", "cc"], "gcc", id="gcc"),
        pytest.param("g++-13", ["gcc", "gcc-13"], "gcc-13", id="same-version"),
        pytest.param(
            "x86_64-conda-linux-gnu-g++", ["x86_64-conda-linux-gnu-gcc"], None, id="conda"
        ),
        pytest.param("c++", ["cc", "gcc"], "cc", id="generic"),
        pytest.param("clang++", ["clang", "gcc"], "clang", id="clang"),
        pytest.param("clang++-17", ["clang-17"], "clang-17", id="clang-version"),
        pytest.param("g++", [], "g++", id="none-beside-it"),
    ],
)
def test_c_compiler_is_the_one_that_belongs_to_the_c_plus_plus_compiler(
    make_probe_job: Callable[..., Job],
    environment_of: Callable[..., dict[str, str]],
    tmp_path: Path,
    cxx: str,
    there: list[str],
    cc: str | None,
) -> None:
    (tmp_path / "compilers").mkdir()
    for name in there:
        (tmp_path / "compilers" / name).touch()
    environment = environment_of(make_probe_job(), compiler=cxx)
    assert environment["WHEELYARD_CXX"] == environment["NVCC_CCBIN"] == f"~/compilers/{cxx}"
    assert environment["WHEELYARD_CC"] == f"~/compilers/{cc or there[0]}"
    # its own programs, an assembler for example, are found too
    assert "~/compilers" in environment["PATH"].split(":")


@pytest.fixture
def build(
    make_probe_job: Callable[..., Job],
    make_request: Callable[..., BuildRequest],
    tmp_path: Path,
) -> Callable[..., object]:
    """Return a function that builds the probe in a fake sandbox."""

    def run(
        sandbox: FakeSandbox,
        *,
        python: str = "3.12",
        admission: Admission | None = None,
        **options: object,
    ) -> object:
        (tmp_path / "source").mkdir(exist_ok=True)
        fetched = FetchedSource(source=FolderSource(path="p"), path=tmp_path, digest="")
        patched = PatchedSource(tree=tmp_path / "source", source=fetched, patches=(), digest="")
        request = make_request(make_probe_job(python=python), sandbox=sandbox, admission=admission)
        return build_wheel(patched, request, **options)  # type: ignore[arg-type]

    return run


def test_only_source_build_temporary_files_and_cache_can_be_written(
    build: Callable[..., object], tmp_path: Path
) -> None:
    sandbox = FakeSandbox()
    build(sandbox)
    (order,) = sandbox.orders
    assert {str(room.inside): room.source for room in order.rooms if room.writable} == {
        "/tmp": tmp_path / "work" / "build" / "tmp",
        "/wy/build": tmp_path / "work" / "build",
        "/wy/cache": tmp_path / "compile",
        "/wy/source": tmp_path / "source",
    }
    assert order.cwd == Path("/wy/source")


def test_socket_of_the_budget_is_shown_and_cannot_be_replaced(
    build: Callable[..., object],
) -> None:
    sandbox = FakeSandbox()
    build(sandbox, admission=BUDGET)
    rooms = {room.inside: room for room in sandbox.orders[0].rooms}
    assert rooms[Path("/wy/budget")].source == BUDGET.socket
    assert not rooms[Path("/wy/budget")].writable


def test_child_is_the_standard_frontend_without_isolation(build: Callable[..., object]) -> None:
    sandbox = FakeSandbox()
    build(sandbox)
    assert sandbox.orders[0].command == (
        *("/wy/tools/drive-build", "/wy/environment/bin/python", "-m", "build", "--wheel"),
        *("--no-isolation", "--skip-dependency-check", "--outdir", "/wy/build/dist", "/wy/source"),
    )


def test_objects_lie_in_a_folder_that_every_python_shares(
    build: Callable[..., object], tmp_path: Path
) -> None:
    build(FakeSandbox())
    text = (tmp_path / "work" / "build" / "distutils.cfg").read_text(encoding="utf-8")
    assert text == "[build_ext]\nbuild_temp = /wy/build/objects\n"


def test_wheel_comes_with_its_digest_and_the_counts_of_the_cache(
    build: Callable[..., object], tmp_path: Path
) -> None:
    counts = {"cache_hits": {"counts": {"CUDA": 1}}, "cache_misses": {"counts": {"CUBIN": 2}}}
    built = build(FakeSandbox(statistics=counts))
    assert isinstance(built, tuple)
    wheel, cache = built
    assert wheel.path.parent == tmp_path / "work" / "build" / "dist"
    assert wheel.sha256 == hashlib.sha256(b"wheel").hexdigest()
    assert wheel.log_path == tmp_path / "log"
    assert cache == CacheStatistics(hits={"CUDA": 1}, misses={"CUBIN": 2})


def test_later_python_that_compiled_device_code_again_says_why(
    build: Callable[..., object], tmp_path: Path
) -> None:
    def log(python: str, flag: str, key: str) -> str:
        words = [f"-I/wy/python/include/python{python}", flag, "-c", "/wy/source/csrc/a.cu"]
        said = (
            *(f"[a.o]: get_cached_or_compile: {json.dumps(words)}", f"[a.o]: Hash key: {key * 64}"),
            *(
                '[a.compute_90.ptx]: get_cached_or_compile: ["-x"]',
                f"[a.compute_90.ptx]: Hash key: {key * 63}1",
                "[a.compute_90.ptx]: Cache miss in 0.0 s",
            ),
        )
        return "".join(f"[t DEBUG sccache::compiler::compiler] {line}\n" for line in said)

    (tmp_path / "source").mkdir()
    first = build(FakeSandbox(cache_log=log("3.12", "-DA=1", "a")))
    again = build(FakeSandbox(cache_log=log("3.13", "-DA=2", "b")), python="3.13")
    assert isinstance(first, tuple)
    assert isinstance(again, tuple)
    assert first[1].reasons == ()
    assert again[1].reasons == (
        "csrc/a.cu: otherwise than for probe-1.1-cp312-torch2.11.0-cu130-x86_64: +-DA=2 --DA=1",
    )
    # the cache counts every file below its own folder as an object
    assert not list((tmp_path / "compile").rglob("*.json"))


def test_progress_is_what_ninja_says(build: Callable[..., object]) -> None:
    steps: list[tuple[int, int]] = []
    output = "running build_ext\n[1/12] nvcc a.cu\nwarning: [9/9] of them\n[2/12] nvcc b.cu\n"
    build(FakeSandbox(output=output), on_step=lambda done, total: steps.append((done, total)))
    assert steps == [(1, 12), (2, 12)]


def test_compile_error_shows_the_last_lines_and_the_log(
    build: Callable[..., object], tmp_path: Path
) -> None:
    output = "".join(f"line {number}\n" for number in range(30)) + "a.cu(3): error: no such type\n"
    with pytest.raises(BuildError) as caught:
        build(FakeSandbox(output=output, returncode=1))
    message = str(caught.value)
    identifier = "probe-1.1-cp312-torch2.11.0-cu130-x86_64"
    assert message.startswith(f"{identifier} did not compile (exit status 1).")
    assert "a.cu(3): error: no such type" in message
    assert "line 29" in message
    assert "line 3\n" not in message
    assert f"Whole log: {tmp_path / 'log'} (or `wheelyard log {identifier}`)" in message


@pytest.mark.parametrize(
    ("output", "returncode"),
    [
        pytest.param("g++: fatal error: Killed signal terminated program cc1plus\n", 1, id="gcc"),
        pytest.param("nvcc error   : 'cicc' died due to signal 9 (Kill signal)\n", 1, id="nvcc"),
        pytest.param("sccache: Compiler killed by signal 9\n", 1, id="cache"),
        pytest.param("FAILED: [code=137] /wy/build/a.o\n", 1, id="ninja"),
        pytest.param("Killed\n", 1, id="shell"),
        pytest.param("", 137, id="whole-build"),
    ],
)
def test_compiler_that_was_killed_is_told_as_lack_of_memory(
    build: Callable[..., object], output: str, returncode: int
) -> None:
    output += "".join(f"ninja: line {number}\n" for number in range(50))
    with pytest.raises(OutOfMemoryError) as caught:
        build(FakeSandbox(output=output, returncode=returncode))
    assert "memory did not suffice for 3 at once with 2.0 GiB each" in str(caught.value)
    assert "`memory-per-job` in recipes/probe.toml" in str(caught.value)


def test_kill_that_only_the_kernel_tells_of_counts(
    build: Callable[..., object], monkeypatch: pytest.MonkeyPatch
) -> None:
    counts = iter([4, 5])
    monkeypatch.setattr("wheelyard.wheels.build.oom_kills", lambda: next(counts))
    with pytest.raises(OutOfMemoryError):
        build(FakeSandbox(output="internal compiler error\n", returncode=1))


def test_ordinary_failure_is_not_lack_of_memory(build: Callable[..., object]) -> None:
    output = "a.cu(3): error: Killed is not a type\nsignal 9 handler\n"
    with pytest.raises(BuildError) as caught:
        build(FakeSandbox(output=output, returncode=1))
    assert not isinstance(caught.value, OutOfMemoryError)


def test_full_disk_is_told_as_such(build: Callable[..., object]) -> None:
    output = "nvcc: cannot write a.o: No space left on device\nninja: build stopped\n"
    with pytest.raises(DiskError, match=r"disk became full .*\n?.*wheelyard clean"):
        build(FakeSandbox(output=output, returncode=1))


@pytest.mark.parametrize(
    ("wheels", "expected"),
    [
        pytest.param((), "built without error but left no wheel", id="none"),
        pytest.param(
            ("a-1-py3-none-any.whl", "b-1-py3-none-any.whl"),
            "several wheels where one is wanted: 'a-1-py3-none-any.whl', 'b-1-py3-none-any.whl'",
            id="two",
        ),
    ],
)
def test_exactly_one_wheel_is_wanted(
    build: Callable[..., object], tmp_path: Path, wheels: tuple[str, ...], expected: str
) -> None:
    with pytest.raises(BuildError) as caught:
        build(FakeSandbox(wheels=wheels))
    assert expected in str(caught.value)
    assert f"Log: {tmp_path / 'log'}" in str(caught.value)
