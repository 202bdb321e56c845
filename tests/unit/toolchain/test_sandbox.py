"""What a command can and cannot do in the sandbox; real namespaces, each kind that works here."""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import json
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from wheelyard.errors import ProcessError
from wheelyard.machine.namespaces import SandboxLevel
from wheelyard.toolchain.sandbox import LinkedFolders, Order, Room, Sandbox, choose_sandbox

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Open = Callable[[SandboxLevel, Path], Sandbox]

PROGRAMS = {SandboxLevel.UNSHARE: "unshare", SandboxLevel.BUBBLEWRAP: "bwrap"}
CONFINING = [level for level, program in PROGRAMS.items() if shutil.which(program)]
SHOWN = ("bin", "dev", "etc", "lib", "lib32", "lib64", "libx32", "proc", "sbin", "usr", "wy")
PYTHON = Path("/wy/python/bin", f"python{sys.version_info[0]}.{sys.version_info[1]}")


@pytest.fixture(params=CONFINING, ids=str)
def sandbox(request: pytest.FixtureRequest, open_sandbox: Open, tmp_path: Path) -> Sandbox:
    """Return each sandbox that this machine allows."""
    return open_sandbox(request.param, tmp_path / "scratch")


@pytest.fixture
def inside(sandbox: Sandbox, tmp_path: Path) -> Callable[..., str]:
    """Return a function that runs a shell script in the sandbox and returns its output.

    /wy/kept is a room that can be read and /wy/work one that can be written; both are folders of
    ``tmp_path``.
    """
    for name in ("kept", "work"):
        (tmp_path / name).mkdir()
    (tmp_path / "kept" / "file").write_text("kept\n", encoding="ascii")

    def run(script: str, *, env: dict[str, str] | None = None, cwd: str = "/wy") -> str:
        order = Order(
            command=("/bin/sh", "-c", script),
            rooms=(
                Room(source=tmp_path / "kept", inside=Path("/wy/kept")),
                Room(source=tmp_path / "work", inside=Path("/wy/work"), writable=True),
                Room(source=Path(sys.base_prefix), inside=Path("/wy/python")),
            ),
            env={"PATH": "/usr/bin:/bin", **(env or {})},
            cwd=Path(cwd),
        )
        return sandbox.run(order).output

    return run


@pytest.fixture
def inside_python(inside: Callable[..., str]) -> Callable[[str], str]:
    """Return a function that runs Python code in the sandbox and returns its output."""

    def run(code: str) -> str:
        # where a Python is built with a library of its own, it looks for it where it lay
        env = {"LD_LIBRARY_PATH": str(PYTHON.parents[1] / "lib")}
        return inside(shlex.join([str(PYTHON), "-I", "-S", "-c", code]), env=env).rstrip("\n")

    return run


def test_base_is_the_same_everywhere(sandbox: Sandbox) -> None:
    assert sandbox.base == Path("/wy")


def test_only_the_system_and_the_rooms_are_there(inside: Callable[..., str]) -> None:
    assert set(inside("ls -A /").split()) <= set(SHOWN)
    assert inside("ls /wy").split() == ["kept", "python", "work"]


def test_home_is_invisible(inside: Callable[..., str], tmp_path: Path) -> None:
    script = f"ls -d /home {Path.home()} {tmp_path} 2>/dev/null || echo nothing"
    assert inside(script) == "nothing\n"


def test_user_has_no_name_of_this_machine(inside: Callable[..., str]) -> None:
    assert inside("id -un; id -gn; cat /etc/passwd").split() == [
        *("builder", "builder"),
        "builder:x:0:0:builder:/wy/home:/bin/sh",
    ]


@pytest.mark.parametrize("where", ["/", "/wy", "/wy/kept", "/usr", "/etc", "/wy/python/bin"])
def test_root_and_rooms_cannot_be_written(inside: Callable[..., str], where: str) -> None:
    with pytest.raises(ProcessError, match="Read-only file system"):
        inside(f"echo x > {where}/new")


def test_file_of_a_room_cannot_be_changed(inside: Callable[..., str], tmp_path: Path) -> None:
    for script in (
        *("echo x >> /wy/kept/file", "rm /wy/kept/file", "chmod 600 /wy/kept/file"),
        *("mv /wy/kept/file /wy/kept/other", "touch /wy/kept/file"),
    ):
        with pytest.raises(ProcessError, match="Read-only file system"):
            inside(script)
    assert (tmp_path / "kept" / "file").read_text(encoding="ascii") == "kept\n"


def test_writable_room_keeps_what_is_written(inside: Callable[..., str], tmp_path: Path) -> None:
    inside("cp ../kept/file copy && mkdir -p a/b && echo more > a/b/c", cwd="/wy/work")
    assert (tmp_path / "work" / "copy").read_text(encoding="ascii") == "kept\n"
    assert (tmp_path / "work" / "a" / "b" / "c").read_text(encoding="ascii") == "more\n"
    assert (tmp_path / "work" / "copy").owner() == tmp_path.owner()


def test_room_within_a_room_is_shown_whatever_their_order(sandbox: Sandbox, tmp_path: Path) -> None:
    (tmp_path / "outer" / "inner").mkdir(parents=True)
    (tmp_path / "other").mkdir()
    order = Order(
        command=("/bin/touch", "/wy/outer/inner/file"),
        rooms=(
            Room(source=tmp_path / "other", inside=Path("/wy/outer/inner"), writable=True),
            Room(source=tmp_path / "outer", inside=Path("/wy/outer")),
        ),
        env={},
        cwd=Path("/"),
    )
    sandbox.run(order)
    assert [path.name for path in (tmp_path / "other").iterdir()] == ["file"]
    assert not list((tmp_path / "outer" / "inner").iterdir())


def test_single_file_can_be_a_room(sandbox: Sandbox, tmp_path: Path) -> None:
    (tmp_path / "script").write_text("echo it runs\n", encoding="ascii")
    room = Room(source=tmp_path / "script", inside=Path("/wy/elsewhere/script"))
    order = Order(command=("/bin/sh", str(room.inside)), rooms=(room,), env={}, cwd=Path("/"))
    assert sandbox.run(order).output == "it runs\n"


@pytest.mark.parametrize("name", ["with space", "缓存", "quote's", "back\\slash"])
@pytest.mark.parametrize("level", CONFINING, ids=str)
def test_rooms_are_read_only_wherever_they_lie(
    level: SandboxLevel, name: str, open_sandbox: Open, tmp_path: Path
) -> None:
    sandbox = open_sandbox(level, tmp_path / name / "scratch")
    room = Room(source=tmp_path / name, inside=Path("/wy/room"))
    script = "touch /wy/room/new && echo written"
    order = Order(command=("/bin/sh", "-c", script), rooms=(room,), env={}, cwd=Path("/"))
    with pytest.raises(ProcessError, match="Read-only file system"):
        sandbox.run(order)
    assert not (tmp_path / name / "new").exists()


# Mounts a file system below a folder, and shows the folder as a room.
MOUNT = """
import os, pathlib, sys
from wheelyard.machine.namespaces import SandboxLevel
from wheelyard.toolchain.sandbox import Order, Room, choose_sandbox

folder = pathlib.Path(sys.argv[2])
sandbox = choose_sandbox(SandboxLevel(sys.argv[1]), env=os.environ, scratch=folder / "scratch")
room = Room(source=folder / "outer", inside=pathlib.Path("/wy/room"))
script = "cat /wy/room/inner/file; touch /wy/room/inner/file && echo written"
env = {"PATH": "/usr/bin:/bin"}
order = Order(command=("/bin/sh", "-c", script), rooms=(room,), env=env, cwd=pathlib.Path("/"))
print(sandbox.run(order).output)
"""


def test_mount_below_a_room_is_read_only_too(sandbox: Sandbox, tmp_path: Path) -> None:
    inner = tmp_path / "outer" / "inner"
    inner.mkdir(parents=True)
    mount = 'mount -t tmpfs none "$1" && echo mounted > "$1/file" && shift && exec "$@"'
    python = (sys.executable, "-c", MOUNT, sandbox.level, tmp_path)
    done = subprocess.run(
        [
            "unshare",
            "--user",
            "--map-root-user",
            "--mount",
            "sh",
            "-c",
            mount,
            "sh",
            inner,
            *python,
        ],
        check=False,
        capture_output=True,
        text=True,
    )
    assert "mounted\n" in done.stderr
    assert "Read-only file system" in done.stderr


def test_no_environment_leaks_in(
    inside: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET_TOKEN", "hunter2")
    names = {line.partition("=")[0] for line in inside("env", env={"MINE": "1"}).splitlines()}
    assert names - {"PWD", "_", "SHLVL"} == {"PATH", "MINE"}
    every = inside("cat /proc/*/environ | tr '\\0' '\\n'")
    assert "hunter2" not in every


def test_value_of_a_variable_arrives_as_it_is(inside: Callable[..., str]) -> None:
    value = "two words\n'quoted' \"twice\" $HOME 世界 --option"
    assert inside('printf %s "$VALUE"', env={"VALUE": value}) == value


def test_no_network_but_loopback(inside: Callable[..., str]) -> None:
    lines = inside("cat /proc/net/dev").splitlines()[2:]
    assert [line.split(":")[0].strip() for line in lines] == ["lo"]
    assert not inside("cat /proc/net/route").splitlines()[1:]


def test_no_address_can_be_reached(inside_python: Callable[[str], str]) -> None:
    code = """
import socket
for family, address in ((socket.AF_INET, "192.0.2.1"), (socket.AF_INET6, "2001:db8::1")):
    try:
        socket.socket(family).connect((address, 80))
    except OSError as error:
        print(error.errno)
"""
    numbers = {int(word) for word in inside_python(code).split()}
    # network unreachable, address not available, no such address family
    assert numbers
    assert numbers <= {101, 99, 97}


def test_loopback_works_inside(inside_python: Callable[[str], str]) -> None:
    code = """
import socket
server = socket.create_server(("127.0.0.1", 0))
client = socket.create_connection(server.getsockname(), timeout=5)
print("connected")
"""
    assert inside_python(code) == "connected"


def test_loopback_is_not_that_of_this_machine(inside_python: Callable[[str], str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        code = f"""
import socket
try:
    socket.create_connection({server.getsockname()!r}, timeout=5)
except ConnectionRefusedError:
    print("refused")
"""
        assert inside_python(code) == "refused"


def test_abstract_socket_of_this_machine_cannot_be_reached(
    inside_python: Callable[[str], str],
) -> None:
    name = f"\0wheelyard-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(name)
        server.listen()
        code = f"""
import socket
try:
    socket.socket(socket.AF_UNIX).connect({name!r})
except ConnectionRefusedError:
    print("refused")
"""
        assert inside_python(code) == "refused"


def test_no_capabilities_and_no_way_to_new_ones(inside: Callable[..., str]) -> None:
    status = dict(
        line.split(":\t", 1)
        for line in inside("cat /proc/self/status").splitlines()
        if "\t" in line
    )
    kinds = ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")
    assert {kind: int(status[kind], 16) for kind in kinds} == dict.fromkeys(kinds, 0)
    assert status["NoNewPrivs"] == "1"


@pytest.mark.parametrize("what", ["/wy/kept", "/usr", "/"])
def test_nothing_can_be_remounted(inside_python: Callable[[str], str], what: str) -> None:
    assert inside_python(_remount(what, "0")) == "refused"


@pytest.mark.parametrize("what", ["/wy/kept", "/usr"])
def test_nothing_can_be_remounted_in_namespaces_of_its_own(
    inside_python: Callable[[str], str], what: str
) -> None:
    # user and mount namespace: every capability in there, over mounts that are locked
    assert inside_python(_remount(what, "0x10000000 | 0x00020000")) == "refused"


def _remount(what: str, namespaces: str) -> str:
    return f"""
import ctypes, pathlib
libc = ctypes.CDLL(None, use_errno=True)
flags = {namespaces}
if flags and libc.unshare(flags):
    print("refused")
    raise SystemExit
remounted = libc.mount(b"none", {what.encode()!r}, None, ctypes.c_ulong(4096 | 32), None) == 0
unmounted = libc.umount2({what.encode()!r}, 2) == 0
try:
    pathlib.Path({what!r}, "new").touch()
    written = True
except OSError:
    written = False
print("done" if remounted or unmounted or written else "refused")
"""


def test_kernel_settings_cannot_be_written(inside_python: Callable[[str], str]) -> None:
    # whoever is root outside owns them: no capability is asked
    code = """
import os
for folder, folders, files in os.walk("/proc"):
    if folder == "/proc":
        folders[:] = [name for name in folders if not name.isdecimal() and name != "self"]
    for name in files:
        path = f"{folder}/{name}"
        if not os.path.islink(path) and os.stat(path).st_mode & 0o222:
            try:
                os.close(os.open(path, os.O_WRONLY))
            except OSError:
                continue
            print(path)
"""
    assert inside_python(code) == ""


def test_threads_can_be_named(inside_python: Callable[[str], str]) -> None:
    # CUDA does, through /proc, and starts nowhere where it may not
    code = """
from pathlib import Path
name = next(Path("/proc/self/task").iterdir()) / "comm"
name.write_text("named")
print(name.read_text().strip())
"""
    assert inside_python(code) == "named"


def test_foreign_processes_are_invisible(inside: Callable[..., str]) -> None:
    pids = {int(word) for word in inside("cd /proc && echo [0-9]*").split()}
    # itself, and where there is one the process that looks after the namespace
    assert pids <= {1, 2, 3}
    assert os.getpid() not in pids


def test_foreign_processes_get_no_signal(inside: Callable[..., str]) -> None:
    script = f"kill -0 {os.getpid()} 2>/dev/null && echo reached || echo unknown"
    assert inside(script) == "unknown\n"


def test_shared_memory_is_its_own(inside: Callable[..., str]) -> None:
    mine = Path("/dev/shm", f"wheelyard-test-{os.getpid()}")
    with contextlib.ExitStack() as stack:
        try:
            mine.touch()
            stack.callback(mine.unlink)
        except OSError:
            pytest.skip("/dev/shm cannot be written here")
        assert not inside("ls /dev/shm; echo x > /dev/shm/works")


def test_harmless_devices_only(inside: Callable[..., str]) -> None:
    names = set(inside("ls /dev").split())
    assert {"full", "null", "random", "shm", "urandom", "zero"} <= names
    links = {"core", "fd", "ptmx", "pts", "stderr", "stdin", "stdout"}
    assert names - links <= {"console", "full", "null", "random", "shm", "tty", "urandom", "zero"}
    assert inside("echo x > /dev/null; head -c 3 /dev/zero | wc -c") == "3\n"


def test_failure_has_the_tail_of_the_output_and_a_log(sandbox: Sandbox, tmp_path: Path) -> None:
    lines: list[str] = []
    order = Order(
        command=("/bin/sh", "-c", "echo [1/1]; echo broken >&2; exit 5"),
        rooms=(),
        env={},
        cwd=Path("/"),
        log_path=tmp_path / "log",
        on_line=lines.append,
    )
    with pytest.raises(ProcessError) as caught:
        sandbox.run(order)
    assert caught.value.returncode == 5
    assert caught.value.tail == "[1/1]\nbroken\n"
    assert lines == ["[1/1]", "broken"]
    assert (tmp_path / "log").read_text(encoding="utf-8").endswith("[1/1]\nbroken\n")


def test_nothing_is_left_behind(sandbox: Sandbox, tmp_path: Path) -> None:
    sandbox.run(Order(command=("/bin/true",), rooms=(), env={}, cwd=Path("/")))
    assert [path.name for path in (tmp_path / "scratch").iterdir()] == ["etc"]


def _is_locked(path: Path) -> bool:
    with path.open("a", encoding="ascii") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def _eventually(condition: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + 20
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.02)
    return condition()


# The command takes a lock, starts a child in a session of its own that keeps it, and stays.
HOLD = "exec 9>/wy/work/lock; flock 9; setsid sleep 1000 & touch /wy/work/ready; wait"
RUN = f"""
import os, pathlib, sys
import wheelyard.run
from wheelyard.machine.namespaces import SandboxLevel
from wheelyard.toolchain.sandbox import Order, Room, choose_sandbox

# what is no member of the process group gets no polite signal, and would be waited for in vain
wheelyard.run._KILL_AFTER_SECONDS = 0.1
folder = pathlib.Path(sys.argv[2])
sandbox = choose_sandbox(SandboxLevel(sys.argv[1]), env=os.environ, scratch=folder / "scratch")
room = Room(source=folder / "work", inside=pathlib.Path("/wy/work"), writable=True)
env = {{"PATH": "/usr/bin:/bin"}}
command = ("/bin/sh", "-c", {HOLD!r})
sandbox.run(Order(command=command, rooms=(room,), env=env, cwd=pathlib.Path("/")))
"""


@pytest.fixture
def wheelyard(sandbox: Sandbox, tmp_path: Path) -> Iterator[tuple[subprocess.Popen[bytes], Path]]:
    """Start another process that runs a long command; yield it, and the lock that shows life."""
    work = tmp_path / "work"
    work.mkdir()
    with subprocess.Popen([sys.executable, "-c", RUN, sandbox.level, tmp_path]) as process:
        assert _eventually((work / "ready").exists)
        assert _is_locked(work / "lock")
        yield process, work / "lock"
        process.kill()


def test_child_dies_with_what_it_started_when_wheelyard_is_killed(
    wheelyard: tuple[subprocess.Popen[bytes], Path],
) -> None:
    process, lock = wheelyard
    process.kill()
    process.wait()
    assert _eventually(lambda: not _is_locked(lock))


def test_child_is_gone_when_wheelyard_is_interrupted(
    wheelyard: tuple[subprocess.Popen[bytes], Path],
) -> None:
    process, lock = wheelyard
    process.send_signal(signal.SIGINT)
    process.wait()
    assert not _is_locked(lock)


@pytest.fixture
def linked(tmp_path: Path) -> LinkedFolders:
    sandbox = choose_sandbox(SandboxLevel.NONE, env=os.environ, scratch=tmp_path / "scratch")
    assert isinstance(sandbox, LinkedFolders)
    return sandbox


def _linked_order(sandbox: Sandbox, folder: Path, script: str) -> Order:
    (folder / "room").mkdir(parents=True, exist_ok=True)
    (folder / "room" / "name").write_text(folder.name, encoding="ascii")
    return Order(
        command=("/bin/sh", "-c", script),
        rooms=(
            Room(source=folder / "room", inside=sandbox.base / "room"),
            Room(source=folder, inside=Path("/usr/share/elsewhere")),
        ),
        env={"PATH": "/usr/bin:/bin"},
        cwd=sandbox.base / "room",
    )


def test_without_namespaces_rooms_are_links_at_the_same_names(
    linked: LinkedFolders, tmp_path: Path
) -> None:
    for name in ("first", "second"):
        order = _linked_order(linked, tmp_path / name, f"cat name {linked.base}/room/name")
        assert linked.run(order).output == name * 2
    assert (linked.base / "room").readlink() == tmp_path / "second" / "room"
    assert not Path("/usr/share/elsewhere").exists()


def test_without_namespaces_the_folder_worked_in_has_the_same_real_path_for_every_job(
    linked: LinkedFolders, tmp_path: Path
) -> None:
    seen = set()
    for name in ("first", "second"):
        order = _linked_order(linked, tmp_path / name, "pwd -P; cat name; echo made >file")
        room = dataclasses.replace(order.rooms[0], writable=True)
        where, _, content = linked.run(dataclasses.replace(order, rooms=(room,))).output.partition(
            "\n"
        )
        assert content == name
        # what it made comes back
        assert (tmp_path / name / "room" / "file").read_text(encoding="ascii") == "made\n"
        seen.add(where)
    assert seen == {str((linked.base / "room").parent.resolve() / "room")}


def test_without_namespaces_what_a_killed_process_left_does_not_matter(
    linked: LinkedFolders, tmp_path: Path
) -> None:
    (linked.base / "room" / "deep").mkdir(parents=True)
    order = _linked_order(linked, tmp_path / "job", "cat name")
    assert linked.run(order).output == "job"


def test_without_namespaces_a_failure_gives_the_folder_back(
    linked: LinkedFolders, tmp_path: Path
) -> None:
    order = _linked_order(linked, tmp_path / "job", "exit 3")
    room = dataclasses.replace(order.rooms[0], writable=True)
    with pytest.raises(ProcessError):
        linked.run(dataclasses.replace(order, rooms=(room,)))
    assert (tmp_path / "job" / "room" / "name").exists()


def test_without_namespaces_one_job_runs_at_a_time(linked: LinkedFolders, tmp_path: Path) -> None:
    ready, go = tmp_path / "ready", tmp_path / "go"
    slow = f"touch {ready}; while [ ! -e {go} ]; do sleep 0.01; done; cat name"
    outputs: list[str] = []
    order = _linked_order(linked, tmp_path / "first", slow)
    thread = threading.Thread(target=lambda: outputs.append(linked.run(order).output))
    thread.start()
    assert _eventually(ready.exists)
    assert _is_locked(linked.base / ".lock")
    go.touch()
    # waits for the other, whose links it would change under its feet
    outputs.append(linked.run(_linked_order(linked, tmp_path / "second", "cat name")).output)
    thread.join()
    assert outputs == ["first", "second"]
    assert not _is_locked(linked.base / ".lock")


def test_without_namespaces_the_environment_is_still_clean(
    linked: LinkedFolders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET_TOKEN", "hunter2")
    code = "import json, os; print(json.dumps(sorted(os.environ)))"
    order = _linked_order(linked, tmp_path / "job", shlex.join([sys.executable, "-IS", "-c", code]))
    assert set(json.loads(linked.run(order).output)) <= {"LC_CTYPE", "PATH", "PWD", "SHLVL", "_"}
