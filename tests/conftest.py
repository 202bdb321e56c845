"""What all tests share: no network, wheels written on the spot, C compiled on the spot."""

from __future__ import annotations

import functools
import ipaddress
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

# With --import-mode=importlib nothing puts this folder on the path.
sys.path.insert(0, os.fspath(Path(__file__).parent))

from wheels import write_wheel  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Callable


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
    """Return a function that compiles C source into a shared object, or an object file, of that name."""
    compiler = shutil.which("gcc")
    if compiler is None:
        pytest.skip("there is no gcc")

    def compiled(name: str, source: str, *options: str) -> Path:
        path = tmp_path / "compiled" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        text = path.with_name(f"{path.name}.c")
        text.write_text(source, encoding="utf-8")
        kind = "-c" if path.suffix == ".o" else "-shared"
        command = [compiler, kind, "-fPIC", "-o", str(path), str(text), *options]
        subprocess.run(command, check=True, env={"PATH": os.environ["PATH"], "LC_ALL": "C"})
        return path

    return compiled
