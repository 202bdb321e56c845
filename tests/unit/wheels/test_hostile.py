"""A setup.py that tries to leave the sandbox, built on the same path as every other one."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import json
import os
import re
import shutil
import socket
import sys
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest

from wheelyard.machine.compilers import find_gxx
from wheelyard.machine.namespaces import SandboxLevel
from wheelyard.model.source import FolderSource
from wheelyard.sources.values import FetchedSource, PatchedSource
from wheelyard.toolchain.compile_cache import NoCache
from wheelyard.toolchain.tools import provide_tools
from wheelyard.wheels.build import BuildRequest, build_wheel

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from wheelyard.model.job import Job
    from wheelyard.toolchain.sandbox import Sandbox
    from wheelyard.toolchain.values import Toolchain

PROGRAMS = {SandboxLevel.UNSHARE: "unshare", SandboxLevel.BUBBLEWRAP: "bwrap"}
CONFINING = [level for level, program in PROGRAMS.items() if shutil.which(program)]
FRONTEND = ("build", "packaging", "pyproject_hooks", "setuptools")
OLDEST_SETUPTOOLS = 70
OWN_SERVER = re.compile(r"1 processes: sccache|process \d+ \(sccache\)")


class Try(NamedTuple):
    """One try of the hostile setup.py, and what came of it."""

    name: str
    target: str
    outcome: str
    detail: str


class Built(NamedTuple):
    """Everything that was tried, and what there was to reach outside."""

    tries: list[Try]
    port: int
    other_job: Path
    agent: Path

    def outcomes(self, name: str, *targets: object) -> dict[str, str]:
        """Return what came of the tries of that name, by target; all of them were made."""
        found = {item.target: item.outcome for item in self.tries if item.name == name}
        wanted = [str(target) for target in targets] or list(found)
        assert wanted
        return {target: found[target] for target in wanted}


@pytest.fixture(scope="module", params=CONFINING, ids=str)
def built(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    open_sandbox: Callable[[SandboxLevel, Path], Sandbox],
    make_probe_job: Callable[..., Job],
    make_toolchain: Callable[..., Toolchain],
    repository: Path,
) -> Iterator[Built]:
    folder = tmp_path_factory.mktemp("hostile")
    sandbox = open_sandbox(request.param, folder / "sandbox")
    _lay_out(folder)
    other_job, agent = folder / "other-job", folder / "agent.sock"
    other_job.mkdir()
    (other_job / "result").touch()
    with (
        pytest.MonkeyPatch.context() as patch,
        socket.create_server(("127.0.0.1", 0)) as server,
        socket.socket(socket.AF_UNIX) as listener,
    ):
        listener.bind(str(agent))
        listener.listen()
        port = server.getsockname()[1]
        patch.setenv("GITHUB_TOKEN", "hunter2")
        patch.setenv("SSH_AUTH_SOCK", str(agent))
        variables = {
            "WHEELYARD_HOSTILE_PATHS": f"{other_job}:{other_job}/result:{Path.home()}:{agent}",
            "WHEELYARD_HOSTILE_PORT": str(port),
        }
        job = _with_environment(make_probe_job(), variables)
        wheel, _ = build_wheel(
            _source(repository / "tests" / "packages" / "hostile", folder),
            BuildRequest(
                job=job,
                toolchain=make_toolchain(
                    folder,
                    sandbox=sandbox,
                    tools=provide_tools(
                        find_gxx(os.environ), cache=folder, env=os.environ, compile_cache="sccache"
                    ),
                ),
                work=folder / "work",
                compile_cache=NoCache(),
                cache_root=folder / "compile",
                compile_jobs=1,
                log_path=folder / "log",
            ),
        )
        with zipfile.ZipFile(wheel.path) as archive:
            report = json.loads(archive.read("hostile/outcome.json"))
        assert report["format"] == 1
        tries = [
            Try(item["try"], item["target"], item["outcome"], item["detail"])
            for item in report["tries"]
        ]
        yield Built(tries, port, other_job, agent)


def _with_environment(job: Job, variables: dict[str, str]) -> Job:
    build = dataclasses.replace(job.version.build, environment=tuple(variables.items()))
    return dataclasses.replace(job, version=dataclasses.replace(job.version, build=build))


def _source(project: Path, folder: Path) -> PatchedSource:
    tree = shutil.copytree(project, folder / "source")
    fetched = FetchedSource(source=FolderSource(path="hostile"), path=project, digest="")
    return PatchedSource(tree=tree, source=fetched, patches=(), digest="")


def _lay_out(folder: Path) -> None:
    """Write a torch and a toolkit of nothing, and the build frontend that runs beside pytest."""
    for name in ("torch/torch", "links", "toolkit", "requirements"):
        (folder / name).mkdir(parents=True)
    (folder / "torch/torch/__init__.py").touch()
    for name in FRONTEND:
        _copy_distribution(name, folder / "requirements")


def _copy_distribution(name: str, target: Path) -> None:
    try:
        distribution = importlib.metadata.distribution(name)
    except importlib.metadata.PackageNotFoundError:
        pytest.skip(f"{name} is not installed beside pytest")
    if name == "setuptools" and int(distribution.version.partition(".")[0]) < OLDEST_SETUPTOOLS:
        pytest.skip(f"setuptools {distribution.version} cannot build a wheel by itself")
    for file in distribution.files or ():
        if ".." not in file.parts and file.suffix != ".pyc":
            (target / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(str(file.locate()), target / file)


def test_network_is_refused(built: Built) -> None:
    assert set(built.outcomes("connect", "192.0.2.1:80").values()) == {"refused"}
    assert set(built.outcomes("resolve").values()) == {"refused"}


def test_service_on_loopback_is_refused(built: Built) -> None:
    assert built.outcomes("connect", f"127.0.0.1:{built.port}").popitem()[1] == "refused"


def test_socket_of_an_agent_is_out_of_reach(built: Built) -> None:
    assert set(built.outcomes("connect", built.agent).values()) == {"absent"}


def test_home_is_out_of_reach(built: Built) -> None:
    # a Python may lie in a home, whose folders then show the way to it and nothing else
    prefix = Path(sys.base_prefix)
    for item in built.tries:
        if item.name == "read" and item.outcome == "allowed" and item.target != "/wy/build/home":
            home = Path(item.target)
            assert prefix.is_relative_to(home), item
            assert item.detail == f"1 entries: {prefix.relative_to(home).parts[0]}"
    assert set(built.outcomes("write", Path.home()).values()) <= {"absent", "refused"}


def test_folders_of_other_jobs_are_out_of_reach(built: Built) -> None:
    for name in ("exists", "read", "write"):
        outcomes = built.outcomes(name, built.other_job, built.other_job / "result")
        assert set(outcomes.values()) == {"absent"}
    assert (built.other_job / "result").stat().st_size == 0


def test_shared_environment_is_refused(built: Built) -> None:
    shared = ("/wy/torch/torch", "/wy/torch/torch/__init__.py", "/wy/toolkit", "/wy/python")
    outcomes = built.outcomes("write", *shared, "/wy/requirements", "/usr", "/etc")
    assert set(outcomes.values()) == {"refused"}


def test_other_processes_are_out_of_reach(built: Built) -> None:
    assert set(built.outcomes("enter-other-root").values()) == {"absent"}
    seen = [item for item in built.tries if item.name in {"see-processes", "signal-processes"}]
    assert len(seen) == 2
    for item in seen:
        # the cache's server is the build's own, but neither its parent nor its child
        assert item.outcome == "absent" or OWN_SERVER.fullmatch(item.detail), item


def test_secrets_are_out_of_reach(built: Built) -> None:
    assert set(built.outcomes("read-secrets").values()) == {"absent"}


def test_nothing_is_allowed_but_its_own_home(built: Built) -> None:
    ways = {str(path) for path in Path(sys.base_prefix).parents}
    allowed = {
        item.target
        for item in built.tries
        if item.outcome == "allowed" and not OWN_SERVER.fullmatch(item.detail)
    }
    assert allowed - ways == {"/wy/build/home"}
