"""A build script that looks for what is outside of its sandbox; each try is made in a real one."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hostile.test_leavings import GOOD, Ground, ground

if TYPE_CHECKING:
    from collections.abc import Iterator

    from hostile.conftest import Tally

__all__ = ["ground"]

SECRET = "hunter2-of-the-user"
PYTHON = "/wy/environment/bin/python"
TRIES = """
import ctypes, json, os, socket, sys
from pathlib import Path
places, sockets = json.loads(sys.argv[1]), json.loads(sys.argv[2])
libc = ctypes.CDLL(None, use_errno=True)
reached = []
def attempt(name, action):
    try:
        if action() is not None:
            reached.append(name)
    except (OSError, ValueError):
        pass
def number(result):
    return None if result < 0 else result
for place in places:
    for way in (place, "/proc/self/root" + place, "/proc/1/root" + place, "/proc/1/cwd/.." + place,
                "/wy/build/../../../../.." + place, "/proc/self/cwd/../../.." + place):
        attempt("read " + way, lambda: Path(way).read_bytes())
        attempt("list " + way, lambda: os.listdir(way))
        attempt("write " + way, lambda: os.open(way, os.O_WRONLY | os.O_APPEND))
        attempt("link " + way, lambda: os.link(way, "/wy/build/stolen") or True)
        attempt("rename " + way, lambda: os.rename(way, "/wy/build/stolen") or True)
for name in sockets:
    def connect():
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(3)
            client.connect(name.replace("@", chr(0)))
        return True
    attempt("connect " + name, connect)
for family in (socket.AF_INET, socket.AF_INET6):
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
        def out():
            with socket.socket(family, kind) as client:
                client.settimeout(3)
                client.connect(("192.0.2.1" if family == socket.AF_INET else "2001:db8::1", 53))
                client.send(b"x")
            return True
        attempt(f"network {family} {kind}", out)
attempt("raw socket", lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, 1))
attempt("packet socket", lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW))
for fd in os.listdir("/proc/self/fd"):
    if int(fd) > 2:
        link = "/proc/self/fd/" + fd
        attempt("inherited " + fd, lambda: None if "/proc/" in os.readlink(link) else True)
for pid in [int(name) for name in os.listdir("/proc") if name.isdigit()]:
    environ = Path(f"/proc/{pid}/environ")
    attempt(f"secret of {pid}", lambda: True if b"hunter2" in environ.read_bytes() else None)
# a handle of the root folder of any file system, which needs no path to it
numbers = ((8, 4), (1, 4), (2, 8))
handle = ctypes.create_string_buffer(b"".join(n.to_bytes(size, "little") for n, size in numbers))
for place in ("/", "/wy/build", "/wy/source", "/usr"):
    root = os.open(place, os.O_RDONLY)
    attempt("handle in " + place, lambda: number(libc.open_by_handle_at(root, handle, 0)))
attempt("chroot", lambda: number(libc.chroot(b"/wy/build")))
attempt("mount", lambda: number(libc.mount(b"none", b"/wy/build", b"tmpfs", 0, None)))
attempt("device", lambda: os.mknod("/wy/build/disk", 0o60666, os.makedev(8, 0)) or True)
attempt("host name", lambda: number(libc.sethostname(b"x", 1)))
for name in ("torch", "links", "toolkit", "requirements", "tools", "environment", "python"):
    attempt("write " + name, lambda: os.open(f"/wy/{name}/new", os.O_WRONLY | os.O_CREAT))
for place in ("/usr/new", "/etc/new", "/new", "/etc/passwd"):
    attempt("write " + place, lambda: os.open(place, os.O_WRONLY | os.O_CREAT))
for place in ("/proc/sys/kernel/core_pattern", "/dev/mem", "/dev/kmsg", "/dev/sda"):
    attempt("write " + place, lambda: os.open(place, os.O_WRONLY))
print("REACHED " + json.dumps(reached))
print("DONE")
"""


@pytest.fixture
def outside(ground: Ground) -> Iterator[tuple[list[str], list[str]]]:
    """Lay out what a build must not reach; yield its paths and its sockets."""
    folder = ground.folder
    places = {
        "home": folder / "home" / ".ssh" / "id_ed25519",
        "yard": folder / "yard" / "wheels" / "other.whl",
        "another job": folder / "work-of-another" / "build" / "dist" / "other.whl",
        "shared torch": folder / "torch-of-another" / "torch" / "__init__.py",
        "cache of another recipe": folder / "compile" / "other" / "a" / "b" / "object",
        "kept units": folder / "compile" / "probe.units" / "group.json",
        "cache of uv": folder / "uv" / "archive" / "file.py",
        "credentials": folder / "home" / ".netrc",
        "log": ground.request.log_path,
    }
    for path in places.values():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(SECRET, encoding="ascii")
    with contextlib.ExitStack() as stack:
        short = Path(stack.enter_context(tempfile.TemporaryDirectory(dir="/tmp")))
        names = [str(short / "sccache.socket"), f"@wheelyard-hostile-{os.getpid()}"]
        for name in names:
            server = stack.enter_context(socket.socket(socket.AF_UNIX))
            server.bind(name.replace("@", "\0"))
            server.listen()
        yield [str(path) for path in places.values()], names


def test_build_reaches_nothing_that_is_not_its_own(
    ground: Ground,
    outside: tuple[list[str], list[str]],
    monkeypatch: pytest.MonkeyPatch,
    tally: Tally,
) -> None:
    for name in ("GITHUB_TOKEN", "AWS_SECRET_ACCESS_KEY", "UV_INDEX_URL", "PIP_INDEX_URL"):
        monkeypatch.setenv(name, SECRET)
    places, sockets = outside
    (ground.folder / "source" / "tries.py").write_text(TRIES, encoding="utf-8")
    command = f"{PYTHON} /wy/source/tries.py '{json.dumps(places)}' '{json.dumps(sockets)}'"
    leak = "env; cat /proc/*/environ 2>/dev/null | tr '\\0' '\\n'"
    ground.request.log_path.unlink()
    tally.meets(lambda: ground.build(f"{GOOD}\n{command}\n{leak}"))
    log = ground.request.log_path.read_text(encoding="utf-8")
    reached = [line for line in log.splitlines() if line.startswith("REACHED ")]
    assert reached == ["REACHED []"]
    assert "DONE" in log
    assert SECRET not in log
    tally.refused += 6 * 5 * len(places) + len(sockets) + 30


def test_what_a_build_reaches_is_noticed_by_these_tries(ground: Ground, tally: Tally) -> None:
    # the same tries against what it may read, so that a try that cannot succeed shows
    (ground.folder / "source" / "tries.py").write_text(TRIES, encoding="utf-8")
    command = f"{PYTHON} /wy/source/tries.py '[\"/wy/source/tries.py\"]' '[]'"
    tally.meets(lambda: ground.build(f"{GOOD}\n{command}"))
    log = ground.request.log_path.read_text(encoding="utf-8")
    assert "read /wy/source/tries.py" in log
    assert "write /proc/self/root/wy/source/tries.py" in log
