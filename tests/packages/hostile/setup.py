"""Try to leave the sandbox while the wheel is built, and put the outcome into the wheel.

hostile/outcome.json holds ``{"format": 1, "tries": [{"try", "target", "outcome", "detail"}, ...]}``
where the outcome is "allowed", "refused" or "absent" (nothing there to reach). In a sandbox that
holds, only "read" of $HOME may be allowed, the sandbox having a home of its own.

Two variables name what only the caller knows: WHEELYARD_HOSTILE_PORT, a port on 127.0.0.1 on which
something listens outside, and WHEELYARD_HOSTILE_PATHS, paths separated by colons: folders of other
jobs, the user's home, Unix sockets.

It does no harm where there is no sandbox: what it creates it removes, it opens files of others for
writing but writes nothing, and it sends signal 0, which only asks whether one may.
"""

from __future__ import annotations

import importlib.util
import json
import os
import pwd
import socket
import tempfile
import threading
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from setuptools import setup
from setuptools.command.build_py import build_py

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PORT_VARIABLE = "WHEELYARD_HOSTILE_PORT"
PATHS_VARIABLE = "WHEELYARD_HOSTILE_PATHS"

# Set aside for documentation (RFC 5737): routed, and nobody answers.
ROUTABLE = ("192.0.2.1", 80)
HOST_NAME = "example.com"
SECONDS = 3.0

SECRET_WORDS = ("TOKEN", "SECRET", "PASSWORD", "CREDENTIAL", "AUTH_SOCK")
LISTED = ("/home", "/root")
WRITTEN = ("/wy/toolkit", "/wy/python", "/wy/requirements", "/usr", "/etc")


class NothingThereError(Exception):
    """What was to be reached does not exist here."""


def attempt(name: str, target: object, action: Callable[[], str]) -> dict[str, str]:
    """Run one try and return its outcome."""
    try:
        outcome, detail = "allowed", action()
    except (NothingThereError, FileNotFoundError, NotADirectoryError) as error:
        outcome, detail = "absent", str(error)
    except OSError as error:
        outcome, detail = "refused", f"{type(error).__name__}: {error}"
    return {"try": name, "target": str(target), "outcome": outcome, "detail": detail}


# ---------------------------------------------------------------- network


def connect(address: tuple[str, int]) -> str:
    """Open a TCP connection."""
    with socket.create_connection(address, timeout=SECONDS):
        return "connected"


def connect_unix(path: str) -> str:
    """Connect to a Unix socket."""
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(SECONDS)
        client.connect(path)
    return "connected"


def resolve(host: str) -> str:
    """Resolve a host name, in a thread because the resolver takes no time limit."""
    found: list[str] = []
    failed: list[OSError] = []

    def ask() -> None:
        try:
            found.append(socket.gethostbyname(host))
        except OSError as error:
            failed.append(error)

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(SECONDS)
    if found:
        return found[0]
    raise failed[0] if failed else TimeoutError(host)


# ------------------------------------------------------------------ files


def read(path: str) -> str:
    """List a folder, or read the first byte of a file."""
    if Path(path).is_dir():
        names = sorted(entry.name for entry in Path(path).iterdir())
        return f"{len(names)} entries: {' '.join(names[:20])}"
    with Path(path).open("rb") as stream:
        return f"{len(stream.read(1))} bytes"


def write(path: str) -> str:
    """Create a file in a folder and remove it, or open a file for writing and leave it so."""
    if Path(path).is_dir():
        descriptor, name = tempfile.mkstemp(prefix=".hostile-", dir=path)
        os.close(descriptor)
        Path(name).unlink()
        return "created a file"
    with Path(path).open("r+b"):
        return "opened for writing"


def exists(path: str) -> str:
    """Look whether there is something at a path."""
    return oct(os.lstat(path).st_mode)


def real_home() -> str:
    """Return the home that the user database names, which $HOME may hide."""
    try:
        return pwd.getpwuid(os.getuid()).pw_dir
    except KeyError:
        return "/nonexistent"


def torch_files() -> list[str]:
    """Return the folder of torch, and a file in it that every user of torch imports."""
    spec = importlib.util.find_spec("torch")
    if spec is None or spec.origin is None:
        return ["/wy/torch"]
    return [str(Path(spec.origin).parent), spec.origin]


# -------------------------------------------------------------- processes


def status(folder: Path) -> dict[str, str]:
    """Return the fields of /proc/PID/status."""
    lines = (folder / "status").read_text().splitlines()
    return {key: value.strip() for key, _, value in (line.partition(":") for line in lines)}


def processes() -> dict[int, dict[str, str]]:
    """Return the status of every process that can be seen, by its number."""
    found = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                found[int(folder.name)] = status(folder)
            except OSError:
                continue  # it ended meanwhile
    return found


def foreign_processes() -> dict[int, str]:
    """Return the names of the processes that neither started this one nor were started by it."""
    # kernel threads have no memory of their own, and are nobody's jobs
    seen = {pid: fields for pid, fields in processes().items() if "VmSize" in fields}
    parents = {pid: int(fields["PPid"]) for pid, fields in seen.items()}

    def line_of(pid: int) -> Iterator[int]:
        while pid in parents:
            yield pid
            pid = parents[pid]

    me = os.getpid()
    mine = set(line_of(me)) | {pid for pid in parents if me in line_of(pid)}
    found = {pid: fields["Name"] for pid, fields in seen.items() if pid not in mine}
    if not found:
        msg = "no foreign process in /proc"
        raise NothingThereError(msg)
    return found


def see_processes() -> str:
    """Count the foreign processes."""
    names = foreign_processes()
    return f"{len(names)} processes: {' '.join(sorted(set(names.values()))[:20])}"


def signal_processes() -> str:
    """Ask whether a signal could be sent to any foreign process."""
    refusal: OSError | None = None
    for pid, name in sorted(foreign_processes().items()):
        try:
            os.kill(pid, 0)
        except OSError as error:
            refusal = error
        else:
            return f"process {pid} ({name})"
    raise refusal or PermissionError("no process could be signalled")


def enter_other_root() -> str:
    """Look for a process whose root folder is another one than ours and can be listed."""
    for pid in sorted(processes()):
        root = f"/proc/{pid}/root"
        try:
            if not Path(root).samefile("/"):
                return f"{root}: {read(root)}"
        except OSError:
            continue
    msg = "no process with another root folder"
    raise NothingThereError(msg)


# ------------------------------------------------------------------ tries


def read_secrets() -> str:
    """Return the names, and only the names, of variables that look like secrets."""
    names = sorted(name for name in os.environ if any(word in name for word in SECRET_WORDS))
    if not names:
        msg = "no such variable"
        raise NothingThereError(msg)
    return " ".join(names)


def is_socket(path: str) -> bool:
    """Say whether a path is a Unix socket, or is named like one."""
    try:
        return path.endswith(".sock") or Path(path).is_socket()
    except OSError:
        return False


def paths_to_try() -> list[str]:
    """Return the paths that the caller named."""
    return [path for path in os.environ.get(PATHS_VARIABLE, "").split(":") if path]


def run_tries() -> Iterator[dict[str, str]]:
    """Yield the outcome of every try."""
    loopback = ("127.0.0.1", int(os.environ.get(PORT_VARIABLE, "22")))
    yield attempt("connect", f"{loopback[0]}:{loopback[1]}", partial(connect, loopback))
    yield attempt("connect", f"{ROUTABLE[0]}:{ROUTABLE[1]}", partial(connect, ROUTABLE))
    yield attempt("resolve", HOST_NAME, partial(resolve, HOST_NAME))
    for path in (os.environ.get("HOME", "/nonexistent"), real_home(), *LISTED):
        yield attempt("read", path, partial(read, path))
    for path in (*torch_files(), *WRITTEN):
        yield attempt("write", path, partial(write, path))
    yield attempt("read-secrets", "environment", read_secrets)
    yield attempt("see-processes", "/proc", see_processes)
    yield attempt("signal-processes", "/proc", signal_processes)
    yield attempt("enter-other-root", "/proc", enter_other_root)
    for path in paths_to_try():
        yield attempt("exists", path, partial(exists, path))
        if is_socket(path):
            yield attempt("connect", path, partial(connect_unix, path))
        else:
            yield attempt("read", path, partial(read, path))
            yield attempt("write", path, partial(write, path))


class BuildPyAndTry(build_py):
    """Run the tries once, where the files of the wheel are gathered."""

    def run(self) -> None:
        super().run()
        report = {"format": 1, "tries": list(run_tries())}
        text = json.dumps(report, indent=1, sort_keys=True) + "\n"
        Path(self.build_lib, "hostile", "outcome.json").write_text(text)


setup(cmdclass={"build_py": BuildPyAndTry})
