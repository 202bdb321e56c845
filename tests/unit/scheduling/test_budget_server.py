"""The budget behind its socket: real clients, that wait, fail, are killed, or talk nonsense."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from wheelyard.machine.namespaces import SandboxLevel
from wheelyard.scheduling.budget_server import BudgetServer, UnitRun, serve_budget
from wheelyard.toolchain.sandbox import Order, Room, Sandbox, choose_sandbox
from wheelyard.toolchain.values import Places

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

GIB = 2**30
SLEEP = (
    *("sh", "-c"),
    'touch "$0.on"; for n in $(seq 3000); do [ ! -e "$0" ] || exit 0; sleep 0.01; done; exit 9',
)
"""Compiles until a file is there."""


def _about(job: str = "g/x") -> dict[str, object]:
    memory = {"device": 2 * GIB, "host": GIB}
    return {"group": job.partition("/")[0], "job": job, "memory": memory, "share": "s"}


@pytest.fixture
def runs() -> list[UnitRun]:
    return []


@pytest.fixture
def server(runs: list[UnitRun]) -> Iterator[BudgetServer]:
    with serve_budget(cores=2, memory=4 * GIB, on_unit=runs.append) as server:
        yield server


@pytest.fixture
def compiling(
    tools: Path, server: BudgetServer
) -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """Return a function that starts a command as a compile of a source; all are ended after."""
    started: list[subprocess.Popen[bytes]] = []

    def start(
        source: str, command: tuple[str, ...], *, kind: str = "device", job: str = "g/x"
    ) -> subprocess.Popen[bytes]:
        env = {
            "PATH": os.environ["PATH"],
            "WHEELYARD_BUDGET": str(server.path),
            "WHEELYARD_UNIT": json.dumps(_about(job)),
        }
        # the last words are arguments that the command does not look at
        words = [*command, "-c", source, "-o", f"{source}.o"]
        child = subprocess.Popen(
            [tools / "budget" / "admit", kind, *words],
            env=env,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        started.append(child)
        return child

    yield start
    for child in started:
        with child:
            child.kill()


def _until(condition: Callable[[], object]) -> None:
    for _ in range(3000):
        if condition():
            return
        time.sleep(0.01)
    pytest.fail("it never came")


def _names(server: BudgetServer) -> list[str]:
    return sorted(run.name for run in server.running)


def test_compile_waits_for_its_turn_and_gets_it(
    compiling: Callable[..., subprocess.Popen[bytes]], server: BudgetServer, tmp_path: Path
) -> None:
    gate = str(tmp_path / "gate")
    for name in ("a.cu", "b.cu"):
        compiling(name, (*SLEEP, gate))
    _until(lambda: len(server.running) == 2)
    third = compiling("c.cu", ("true",))
    _until(lambda: len(server.waiting) == 1)
    assert server.memory_used == 4 * GIB
    Path(gate).touch()
    assert third.wait() == 0
    _until(lambda: len(server.runs) == 3)
    assert {run.name for run in server.runs} == {"a.cu", "b.cu", "c.cu"}
    assert all(run.status == 0 and run.asked <= run.started for run in server.runs)
    assert server.memory_used == 0


def test_status_and_output_are_the_compiler_s(
    compiling: Callable[..., subprocess.Popen[bytes]], runs: list[UnitRun]
) -> None:
    child = compiling("a.cu", ("sh", "-c", "echo out; echo err >&2; exit 7"))
    assert child.communicate() == (b"out\n", b"err\n")
    assert child.returncode == 7
    _until(lambda: len(runs) == 2)
    assert [run.status for run in runs] == [None, 7]


def test_compiler_that_is_killed_is_reported_as_by_a_shell(
    compiling: Callable[..., subprocess.Popen[bytes]], server: BudgetServer
) -> None:
    child = compiling("a.cu", ("sh", "-c", "kill -9 $$"))
    assert child.wait() == 128 + signal.SIGKILL
    _until(lambda: server.runs)
    assert server.runs[0].status == 137


def test_killed_client_gives_back_what_it_held_and_takes_its_compiler_along(
    compiling: Callable[..., subprocess.Popen[bytes]], server: BudgetServer, tmp_path: Path
) -> None:
    gate, pid = tmp_path / "gate", tmp_path / "pid"
    script = f'echo $$ >"{pid}.new"; mv "{pid}.new" "{pid}"; exec sleep 60'
    running = [compiling("a.cu", ("sh", "-c", script)), compiling("b.cu", (*SLEEP, str(gate)))]
    _until(lambda: len(server.running) == 2)
    waiting = compiling("c.cu", (*SLEEP, str(gate)))
    _until(lambda: pid.exists() and len(server.waiting) == 1)
    running[0].kill()
    _until(lambda: _names(server) == ["b.cu", "c.cu"])
    compiler = int(pid.read_text())
    _until(lambda: not _alive(compiler))
    gate.touch()
    assert waiting.wait() == 0
    assert {run.name: run.status for run in server.runs}["a.cu"] is None


def _alive(pid: int) -> bool:
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    return False


def test_client_that_is_killed_while_it_waits_is_forgotten(
    compiling: Callable[..., subprocess.Popen[bytes]], server: BudgetServer, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    for name in ("a.cu", "b.cu"):
        compiling(name, (*SLEEP, str(gate)))
    _until(lambda: len(server.running) == 2)
    waiting = compiling("c.cu", ("touch", str(tmp_path / "compiled")))
    _until(lambda: len(server.waiting) == 1)
    waiting.kill()
    _until(lambda: not server.waiting)
    gate.touch()
    _until(lambda: not server.running)
    assert not (tmp_path / "compiled").exists()


def test_daemon_that_a_compile_leaves_behind_holds_nothing(
    compiling: Callable[..., subprocess.Popen[bytes]], server: BudgetServer, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    script = f"({SLEEP[2]}) >/dev/null 2>&1 &".replace("$0", str(gate))
    child = compiling("a.cu", ("sh", "-c", script))
    assert child.wait() == 0
    _until(lambda: len(server.runs) == 1)
    assert server.memory_used == 0
    gate.touch()


def test_what_a_compile_starts_in_its_turn_does_not_ask_again(
    compiling: Callable[..., subprocess.Popen[bytes]],
) -> None:
    child = compiling("a.cu", ("sh", "-c", 'echo "[$WHEELYARD_BUDGET]"'))
    assert child.communicate()[0] == b"[]\n"


def test_second_python_waits_for_the_first_and_is_told_to_look_afresh(
    compiling: Callable[..., subprocess.Popen[bytes]], server: BudgetServer, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    server.join("g/312")
    server.join("g/313")
    compiling("a.cu", (*SLEEP, str(gate)), job="g/312")
    _until(lambda: server.running)
    second = compiling("a.cu", ("true",), job="g/313")
    _until(lambda: server.waiting)
    host = compiling("a.cpp", ("true",), job="g/313", kind="host")
    assert host.wait() == 0
    assert [ask.job for ask in server.waiting] == ["g/313"]
    gate.touch()
    # the script beside the client, which wants a cache server that is not here
    second.wait()
    _until(lambda: len(server.runs) == 3)
    assert [run.fresh for run in sorted(server.runs, key=lambda run: run.started)][-1] is True


@pytest.mark.parametrize(
    "level",  # a container wants an image: tests/integration/test_container.py
    [level for level in SandboxLevel if level is not SandboxLevel.CONTAINER],
)
def test_compile_in_every_kind_of_sandbox_reaches_the_budget_outside(
    open_sandbox: Callable[[SandboxLevel, Path], Sandbox],
    server: BudgetServer,
    tools: Path,
    tmp_path: Path,
    level: SandboxLevel,
) -> None:
    sandbox = (
        choose_sandbox(level, env=os.environ, scratch=tmp_path / "s")
        if level is SandboxLevel.NONE
        else open_sandbox(level, tmp_path / "s")
    )
    places = Places(base=sandbox.base)
    (tmp_path / "work").mkdir()
    order = Order(
        command=(str(places.tools / "budget" / "admit"), "device", "/bin/echo", "a.cu"),
        rooms=(
            Room(source=tools, inside=places.tools),
            Room(source=server.path, inside=places.budget),
            Room(source=tmp_path / "work", inside=places.build, writable=True),
        ),
        env={
            "PATH": "/usr/bin:/bin",
            "WHEELYARD_BUDGET": str(places.budget),
            "WHEELYARD_UNIT": json.dumps(_about()),
        },
        cwd=places.build,
    )
    assert sandbox.run(order).output == "a.cu\n"
    _until(lambda: server.runs)
    assert [(run.name, run.status) for run in server.runs] == [("a.cu", 0)]


def test_build_that_begins_takes_nothing_and_is_not_noted(
    compiling: Callable[..., subprocess.Popen[bytes]], server: BudgetServer
) -> None:
    server.join("g/312")
    server.join("g/313")
    assert compiling("a.cu", ("true",), job="g/312").wait() == 0
    _until(lambda: server.runs)
    env = {"PATH": os.environ["PATH"], "WHEELYARD_BUDGET": str(server.path)}
    env["WHEELYARD_UNIT"] = json.dumps(_about("g/313"))
    admit = compiling("z.cu", ("true",)).args
    assert isinstance(admit, list)
    subprocess.run([admit[0], "begin", "true"], env=env, check=True)
    assert compiling("a.cu", ("true",), job="g/313").wait() == 0
    _until(lambda: len(server.runs) == 3)
    assert not any(run.fresh for run in server.runs)


@pytest.mark.parametrize(
    "rubbish",
    [
        pytest.param(b"hello\n", id="text"),
        pytest.param(b"{}\n", id="empty"),
        pytest.param(b"\xff\xfe\n", id="bytes"),
        pytest.param(b'{"about": null, "kind": "device", "command": ["a.cu"]}\n', id="nobody"),
        pytest.param(b'{"about": [', id="cut-off"),
        pytest.param(b"[" * 200_000 + b"\n", id="deep"),
        pytest.param(b'{"more": ' + b"[" * 200_000 + b"\n", id="deeper"),
        pytest.param(b"x" * 9_000_000, id="endless"),
        pytest.param(json.dumps({"about": _about(), "kind": "device"}).encode() + b"\n", id="less"),
        pytest.param(
            json.dumps(
                {
                    "about": _about() | {"memory": {"device": -5, "host": 10**30}},
                    "kind": "x",
                    "command": ["a.cu", "--threads", "9999999999999999999"],
                }
            ).encode()
            + b"\nmore\n",
            id="numbers",
        ),
    ],
)
def test_rubbish_ends_its_own_connection_only(
    compiling: Callable[..., subprocess.Popen[bytes]], server: BudgetServer, rubbish: bytes
) -> None:
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(server.path))
        with contextlib.suppress(ConnectionError):
            client.sendall(rubbish)
    assert compiling("a.cu", ("true",)).wait() == 0
    _until(lambda: not server.running and not server.waiting)
    assert server.memory_used == 0


def test_client_that_never_reads_or_never_asks_holds_up_nobody(
    compiling: Callable[..., subprocess.Popen[bytes]], server: BudgetServer
) -> None:
    line = json.dumps({"about": _about(), "kind": "device", "command": ["cc", "z.cu"]}).encode()
    with contextlib.ExitStack() as stack:
        silent = [stack.enter_context(socket.socket(socket.AF_UNIX)) for _ in range(50)]
        for client in silent:
            client.connect(str(server.path))
        silent[0].sendall(line + b"\n")
        assert compiling("a.cu", ("true",)).wait() == 0


def test_more_connections_than_descriptors_wait_until_some_are_closed(tools: Path) -> None:
    script = """
        import resource, socket, sys, threading, time
        from wheelyard.scheduling.budget_server import serve_budget
        with serve_budget(cores=1, memory=2**40) as server:
            resource.setrlimit(resource.RLIMIT_NOFILE, (20, 20))
            print(server.path, flush=True)
            sys.stdin.read()
    """
    command = [sys.executable, "-c", textwrap.dedent(script)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None
        path = child.stdout.readline().strip()
        many = [socket.socket(socket.AF_UNIX) for _ in range(60)]
        for client in many:
            client.connect(path)
        _until(lambda: len(list(Path(f"/proc/{child.pid}/fd").iterdir())) == 20)
        last = many[-1]
        line = {"about": _about(), "kind": "device", "command": ["cc", "z.cu"]}
        last.sendall(json.dumps(line).encode() + b"\n")
        for client in many[:-1]:
            client.close()
        last.settimeout(30)
        assert last.recv(10) == b"go\n"
        last.close()
        child.communicate("")
    assert child.returncode == 0


def test_killed_server_fails_those_that_wait_and_leaves_those_that_run(
    tools: Path, tmp_path: Path
) -> None:
    script = """
        import sys
        from wheelyard.scheduling.budget_server import serve_budget
        with serve_budget(cores=1, memory=2**40) as server:
            print(server.path, flush=True)
            sys.stdin.read()
    """
    gate = tmp_path / "gate"
    command = [sys.executable, "-c", textwrap.dedent(script)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None
        path = child.stdout.readline().strip()
        env = {"PATH": os.environ["PATH"], "WHEELYARD_BUDGET": path}
        env["WHEELYARD_UNIT"] = json.dumps(_about())
        admit = [str(tools / "budget" / "admit"), "device"]
        running = subprocess.Popen([*admit, *SLEEP, str(gate), "a.cu"], env=env)
        _until(lambda: Path(f"{gate}.on").exists())
        waiting = subprocess.Popen([*admit, "true", "b.cu"], env=env, stderr=subprocess.PIPE)
        time.sleep(0.2)
        assert waiting.poll() is None
        child.kill()
        assert b"does not answer" in waiting.communicate()[1]
        assert waiting.returncode == 75
        gate.touch()
        assert running.wait() == 0
        later = subprocess.run([*admit, "true", "c.cu"], env=env, check=False, capture_output=True)
        assert later.returncode == 75


def test_server_that_stops_frees_its_socket_and_keeps_its_notes(tools: Path) -> None:
    with serve_budget(cores=1, memory=GIB) as server:
        client = socket.socket(socket.AF_UNIX)
        client.connect(str(server.path))
        line = {"about": _about(), "kind": "device", "command": ["nvcc", "/b/source/x/z.cu"]}
        client.sendall(json.dumps(line).encode() + b"\n")
        assert client.recv(10) == b"go\n"
    assert client.recv(10) == b""
    client.close()
    assert not server.path.exists()
    assert [(run.name, run.ended) for run in server.runs] == [("x/z.cu", None)]
    server.leave("g/x")
    assert "budget" not in {thread.name for thread in threading.enumerate()}


def test_storm_of_compiles_and_kills_never_takes_more_than_there_is(
    compiling: Callable[..., subprocess.Popen[bytes]], server: BudgetServer
) -> None:
    children = [
        compiling(f"{number}.cu", ("sh", "-c", "sleep 0.02"), job=f"g{number % 3}/x")
        for number in range(40)
    ]
    for child in children[::5]:
        child.kill()
    for child in children:
        child.wait()
    _until(lambda: not server.running and not server.waiting)
    moments = [(run.started, 1, run.memory) for run in server.runs]
    moments += [(run.ended or 0.0, -1, -run.memory) for run in server.runs]
    cores = memory = 0
    for _, more_cores, more_memory in sorted(moments):
        cores, memory = cores + more_cores, memory + more_memory
        assert cores <= 2
        assert memory <= 4 * GIB
    assert sum(run.status == 0 for run in server.runs) >= 32
