"""Upstream made once, proxies made for each test, and an environment that can reach only these."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
from faults.certificates import Certificates
from faults.fetching import Fetcher
from faults.proxy import FaultProxy
from faults.upstream import Upstream, make_upstream

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


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
