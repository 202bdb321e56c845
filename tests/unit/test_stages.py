"""The build stage: what happens when the memory does not suffice."""

from __future__ import annotations

import dataclasses
import logging
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from wheelyard.errors import BuildError, OutOfMemoryError, ProcessError, UsageError
from wheelyard.farm import load_farm
from wheelyard.machine.namespaces import SandboxLevel
from wheelyard.model.source import FolderSource
from wheelyard.progress import PlainProgress
from wheelyard.run import Completed
from wheelyard.sources.values import FetchedSource
from wheelyard.stages import Run, Stages, bring_compiled, build, patch, share_compiled
from wheelyard.toolchain.admission import Admission
from wheelyard.toolchain.compile_cache import CacheStatistics
from wheelyard.toolchain.sccache import Sccache, object_name
from wheelyard.wheels.build import BuildRequest
from wheelyard.workshop import Options, open_workshop
from wheelyard.yard.store import open_yard

if TYPE_CHECKING:
    from collections.abc import Callable

    from wheelyard.model.job import Job
    from wheelyard.toolchain.sandbox import Order
    from wheelyard.toolchain.values import Toolchain

KILLED = "g++: fatal error: Killed signal terminated program cc1plus\n"


@dataclasses.dataclass(kw_only=True)
class CrowdedSandbox:
    """Kills compilers while more than so many may run at once, and dirties the tree."""

    most: int
    error: str = KILLED
    """What the second try ends with."""
    base: Path = Path("/wy")
    level: SandboxLevel = SandboxLevel.UNSHARE
    jobs: list[int] = dataclasses.field(default_factory=list)
    leftovers: list[str] = dataclasses.field(default_factory=list)

    def run(self, order: Order) -> Completed:
        rooms = {str(room.inside): room.source for room in order.rooms}
        self.leftovers += [path.name for path in rooms["/wy/source"].glob("*.egg-info")]
        self.leftovers += [path.name for path in rooms["/wy/build"].glob("objects")]
        (rooms["/wy/source"] / "probe.egg-info").touch()
        (rooms["/wy/build"] / "objects").mkdir()
        self.jobs.append(int(order.env["MAX_JOBS"]))
        assert order.log_path is not None
        output = KILLED if len(self.jobs) == 1 else self.error
        if self.jobs[-1] > self.most:
            with order.log_path.open("a", encoding="utf-8") as log:
                log.write(output)
            message = "failed"
            raise ProcessError(message, returncode=1, tail=output, log_path=order.log_path)
        (rooms["/wy/build"] / "dist" / "probe-1.1-cp312-cp312-linux_x86_64.whl").touch()
        return Completed(output="")


@pytest.fixture
def one_run(
    make_probe_job: Callable[..., Job],
    make_toolchain: Callable[..., Toolchain],
    probe_farm: Path,
    tmp_path: Path,
) -> Callable[..., tuple[Run, BuildRequest]]:
    """Return a function that begins a run of a job without patches, and asks for its build."""
    job = make_probe_job()
    job = dataclasses.replace(job, version=dataclasses.replace(job.version, patches=()))
    env = {"HOME": str(tmp_path), "PATH": "", "WHEELYARD_CACHE": str(tmp_path / "cache")}

    def begin(
        options: Options,
        *,
        sandbox: object = None,
        jobs: int = 2,
        admission: Admission | None = None,
    ) -> tuple[Run, BuildRequest]:
        workshop = open_workshop(
            load_farm(probe_farm), open_yard(tmp_path / "yard"), env=env, options=options
        )
        run = Run(
            job=job,
            fingerprint=workshop.fingerprint(make_probe_job()),
            workshop=workshop,
            work=tmp_path / "work",
            log_path=tmp_path / "log",
            stages=Stages(PlainProgress()),
        )
        request = BuildRequest(
            job=job,
            toolchain=make_toolchain(tmp_path, sandbox=sandbox or CrowdedSandbox(most=9)),
            work=run.work,
            compile_cache=Sccache(),
            cache_root=tmp_path / "compile",
            compile_jobs=jobs,
            log_path=run.log_path,
            admission=admission,
        )
        return run, request

    return begin


@pytest.fixture
def build_in(
    one_run: Callable[..., tuple[Run, BuildRequest]], tmp_path: Path
) -> Callable[..., object]:
    """Return a function that runs the build stage in a sandbox, with so many jobs."""
    upstream = tmp_path / "upstream"
    upstream.mkdir()
    (upstream / "setup.py").touch()
    fetched = FetchedSource(source=FolderSource(path="upstream"), path=upstream, digest="sha256:1")

    def build_it(
        sandbox: CrowdedSandbox, *, jobs: int, admission: Admission | None = None
    ) -> object:
        run, request = one_run(Options(), sandbox=sandbox, jobs=jobs, admission=admission)
        return build(run, fetched, patch(run, fetched, request.toolchain), request)

    return build_it


@pytest.mark.parametrize("move", ["bring", "share"])
def test_shared_cache_that_fails_is_told_and_holds_up_no_build(
    one_run: Callable[..., tuple[Run, BuildRequest]],
    caplog: pytest.LogCaptureFixture,
    tmp_path: Path,
    move: str,
) -> None:
    caplog.set_level(logging.INFO, logger="wheelyard")
    (tmp_path / "file").touch()
    run, request = one_run(Options(shared_cache=str(tmp_path / "file" / "store")))
    if move == "bring":
        bring_compiled(run, request)
    else:
        path = request.cache_folder / object_name("a" * 64)
        path.parent.mkdir(parents=True)
        path.touch()
        cache = CacheStatistics(hits={}, misses={}, keys=frozenset({"a" * 64}))
        share_compiled(run, request, cache)
    assert ("warning: the shared cache" in caplog.text) is (move == "share")
    assert ("brought 0 compiled objects" in caplog.text) is (move == "bring")


@pytest.mark.parametrize("options", [Options(), Options(shared_cache="s", compile_cache="none")])
def test_without_a_shared_cache_nothing_is_said_of_one(
    one_run: Callable[..., tuple[Run, BuildRequest]],
    caplog: pytest.LogCaptureFixture,
    options: Options,
) -> None:
    caplog.set_level(logging.INFO, logger="wheelyard")
    bring_compiled(*one_run(options))
    assert not caplog.text


def test_shared_cache_takes_objects_of_sccache_alone(
    one_run: Callable[..., tuple[Run, BuildRequest]],
) -> None:
    with pytest.raises(UsageError, match="takes the objects of sccache"):
        bring_compiled(*one_run(Options(shared_cache="s", compile_cache="ccache")))


def test_killed_compile_is_tried_once_more_with_half_the_jobs_and_a_fresh_tree(
    build_in: Callable[..., object], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="wheelyard")
    sandbox = CrowdedSandbox(most=2)
    compiled = build_in(sandbox, jobs=5)
    assert sandbox.jobs == [5, 2]
    assert sandbox.leftovers == []
    assert getattr(compiled, "compile_jobs", None) == 2
    said = caplog.text
    assert "a compile was killed (SIGKILL)" in said
    assert "building again with 2 compiles at once" in said


def test_second_kill_ends_the_build(build_in: Callable[..., object]) -> None:
    sandbox = CrowdedSandbox(most=1)
    with pytest.raises(OutOfMemoryError, match="did not suffice for 2 at once"):
        build_in(sandbox, jobs=4)
    assert sandbox.jobs == [4, 2]


def test_other_error_of_the_second_try_is_not_taken_for_a_kill(
    build_in: Callable[..., object],
) -> None:
    with pytest.raises(BuildError) as caught:
        build_in(CrowdedSandbox(most=0, error="a.cu(3): error: no such type\n"), jobs=4)
    assert not isinstance(caught.value, OutOfMemoryError)


def test_one_compile_alone_that_is_killed_is_not_tried_again(
    build_in: Callable[..., object],
) -> None:
    sandbox = CrowdedSandbox(most=0)
    with pytest.raises(OutOfMemoryError):
        build_in(sandbox, jobs=1)
    assert sandbox.jobs == [1]


def test_beside_other_builds_one_alone_is_tried_again_with_more_memory(
    build_in: Callable[..., object],
) -> None:
    sandbox = CrowdedSandbox(most=1)
    build_in(sandbox, jobs=1, admission=Admission(socket=Path("/run/b"), memory=2**30))
    assert sandbox.jobs == [64, 1]
