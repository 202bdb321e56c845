"""What all tests share: no network, wheels written on the spot, C compiled on the spot."""

from __future__ import annotations

import functools
import ipaddress
import os
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

# With --import-mode=importlib nothing puts this folder on the path.
sys.path.insert(0, os.fspath(Path(__file__).parent))

from chromium import open_page
from faults.reporting import pytest_addoption, pytest_configure
from github import GithubDouble
from native import compile_source, fatbin, link, write_torch_site
from redist import change_small_site, serve, write_small_site
from s3 import s3_env, s3_server
from wheels import write_wheel
from yards import killed_at, make, make_report_fixture, snapshot, yard

if TYPE_CHECKING:
    import contextlib
    from collections.abc import Callable, Iterator

    from chromium import Page
    from redist import Site


__all__ = [
    "killed_at",
    "make",
    "make_report_fixture",
    "pytest_addoption",
    "pytest_configure",
    "s3_env",
    "s3_server",
    "snapshot",
    "yard",
]


@pytest.fixture(scope="session")
def chromium() -> Iterator[Page]:
    """Start a browser; the tests share a tab."""
    with open_page() as page:
        yield page


@pytest.fixture
def github() -> Iterator[GithubDouble]:
    """Serve a GitHub with one empty repository."""
    with GithubDouble() as double:
        yield double


@pytest.fixture(autouse=True)
def _no_network(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let unit tests connect to this machine only."""
    if request.node.get_closest_marker("network"):
        return
    connect = socket.socket.connect

    def guarded(self: socket.socket, address: object) -> None:
        if self.family in (socket.AF_INET, socket.AF_INET6) and not _is_here(address):
            pytest.fail(f"a unit test connects to {address!r}; mark it network")
        connect(self, address)  # type: ignore[arg-type]

    monkeypatch.setattr(socket.socket, "connect", guarded)


def _is_here(address: object) -> bool:
    host = str(address[0]) if isinstance(address, tuple) else ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


@pytest.fixture
def make_wheel(tmp_path: Path) -> Callable[..., Path]:
    """Return ``wheels.write_wheel``, writing into a folder of this test."""
    return functools.partial(write_wheel, tmp_path / "wheels")


@pytest.fixture
def compile_c(tmp_path: Path) -> Callable[..., Path]:
    """Return ``native.compile_source``, writing into a folder of this test."""
    return functools.partial(compile_source, tmp_path / "compiled")


@pytest.fixture
def link_c(tmp_path: Path) -> Callable[..., Path]:
    """Return ``native.link``: shared objects out of symbol names."""
    return functools.partial(link, tmp_path / "compiled")


@pytest.fixture(scope="session")
def link_once(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Return ``native.link`` for what several tests use and none changes."""
    return functools.partial(link, tmp_path_factory.mktemp("linked"))


@pytest.fixture(scope="session")
def make_fatbin() -> Callable[..., bytes]:
    """Return ``native.fatbin``."""
    return fatbin


@pytest.fixture(scope="session")
def make_torch_site(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Return ``native.write_torch_site``: a torch made of a few symbols, not to be changed."""

    @functools.cache
    def site(*, cxx11_abi: int = 1, cuda: int = 13) -> Path:
        return write_torch_site(tmp_path_factory.mktemp("torch"), cxx11_abi=cxx11_abi, cuda=cuda)

    return site


@pytest.fixture
def redist_site(tmp_path: Path) -> Site:
    """Return a site of NVIDIA's form with a small CUDA 12.4.1."""
    return write_small_site(tmp_path / "redist")


@pytest.fixture
def redist_url(redist_site: Site) -> Iterator[str]:
    """Serve that site; return its URL."""
    with serve(redist_site.folder) as url:
        yield url


@pytest.fixture
def dishonest_redist_url(tmp_path: Path) -> Iterator[str]:
    """Serve a site whose archives are all of them a sign-in page."""
    site = write_small_site(tmp_path / "dishonest")
    for archive in site.folder.rglob("*.tar.xz"):
        archive.write_bytes(b"<!DOCTYPE html><title>Sign in</title>")
    with serve(site.folder) as url:
        yield url


@pytest.fixture
def change_component(redist_site: Site) -> Callable[..., None]:
    """Return a function that publishes a component anew with some files changed."""
    return functools.partial(change_small_site, redist_site)


@pytest.fixture(scope="session")
def serve_folder() -> Callable[[Path], contextlib.AbstractContextManager[str]]:
    """Return ``redist.serve``: it serves a folder on loopback and yields the URL."""
    return serve
