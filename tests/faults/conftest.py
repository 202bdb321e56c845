"""Upstream made once, proxies made for each test, an environment that reaches only these; a runner
that faults are injected into."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

import pytest
from faults.certificates import Certificates
from faults.fetching import Fetcher
from faults.injecting import Runner, compile_injector
from faults.proxy import FaultProxy
from faults.reporting import TALLY
from faults.scenarios import SCENARIOS, put_arrival
from faults.upstream import Upstream, make_upstream

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from faults.reporting import Tally
    from tests.yards import Made


@pytest.fixture(scope="session")
def upstream(tmp_path_factory: pytest.TempPathFactory) -> Upstream:
    return make_upstream(tmp_path_factory.mktemp("upstream"))


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture
def serve(upstream: Upstream) -> Iterator[Callable[..., FaultProxy]]:
    """Return a function that starts a proxy (its arguments) which runs until the test ends."""
    running: list[FaultProxy] = []

    def start(**arguments: object) -> FaultProxy:
        running.append(FaultProxy(upstream.world, **arguments))  # type: ignore[arg-type]
        return running[-1]

    yield start
    for proxy in running:
        proxy.close()


@pytest.fixture
def outside(serve: Callable[..., FaultProxy]) -> FaultProxy:
    """Return the ordinary proxy that stands for the way out: it lets nothing through."""
    return serve()


@pytest.fixture
def env(tmp_path: Path, outside: FaultProxy) -> dict[str, str]:
    """Return the environment of somebody who reaches this machine, and ``outside``."""
    home = tmp_path / "home"
    home.mkdir()
    return {
        "HOME": str(home),
        "LC_ALL": "C",
        "PATH": os.environ["PATH"],
        "https_proxy": outside.url,
        "no_proxy": "127.0.0.1",
    }


@pytest.fixture
def fetcher(
    upstream: Upstream, tmp_path: Path, env: dict[str, str], certificates: Certificates
) -> Fetcher:
    certificate = str(certificates.authority)
    return Fetcher(upstream=upstream, cache=tmp_path / "cache", env=env, certificate=certificate)


@pytest.fixture(scope="session")
def tally(request: pytest.FixtureRequest) -> Tally:
    """Return where faults are counted."""
    counted: Tally = request.config.stash[TALLY]
    return counted


@pytest.fixture(scope="session")
def runner(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runner]:
    """Return the process that scenarios are tried in."""
    folder = tmp_path_factory.mktemp("runner")
    env = {"HOME": str(folder), "LC_ALL": "C.UTF-8", "PATH": os.environ["PATH"]}
    running = Runner(compile_injector(folder), folder, env=env)
    yield running
    running.close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return where a scenario acts; the same place every time, as paths are written down."""
    return tmp_path / "here"


@pytest.fixture
def template(tmp_path: Path, folder: Path, make: Callable[..., Made]) -> Callable[[str], Path]:
    """Return a function that makes what a scenario starts from."""

    def prepare(name: str) -> Path:
        wheels = (
            make(),
            make(torch="2.12.1+cu130"),
            make(name="another", archs_label="-sm90a"),
        )
        for made in wheels:
            put_arrival(folder, made.path, made.record, made.report)
        SCENARIOS[name].prepare(folder)
        kept = tmp_path / "before"
        shutil.move(folder, kept)
        return kept

    return prepare
