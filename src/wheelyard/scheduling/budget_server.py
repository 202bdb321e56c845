"""The budget behind a Unix socket: a compile connects, waits for its turn, and hangs up at its end.

The kernel closes a connection however the process behind it ends, so nothing stays taken.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import logging
import selectors
import socket
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

from wheelyard.machine.cores import usable_cores
from wheelyard.machine.memory import available_memory
from wheelyard.scheduling.asking import read_ask
from wheelyard.scheduling.budget import Ask, Budget, Go, Kind

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

logger = logging.getLogger(__name__)

_LONGEST_LINE = 8 * 2**20
"""Above what the kernel takes for the arguments of a process, in JSON."""
_LONGEST_REPORT = 64
_LONGEST_FOLDER = 70
_RESERVE = 2**29
"""Bytes that are never given out: for this process, and for what was measured too low."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class UnitRun:
    """One compile or link that was let in; times are seconds since the epoch."""

    job: str
    group: str
    name: str
    """For example ``csrc/scale.cu`` or ``link scale.so``."""
    kind: Kind
    memory: int
    cores: int
    asked: float
    started: float
    ended: float | None = None
    """``None`` while it runs."""
    status: int | None = None
    """As a shell says it, for example 137 for SIGKILL; ``None`` also where it was cut off."""
    fresh: bool = False


@dataclasses.dataclass(kw_only=True, slots=True)
class _Client:
    """A connection, and how far its compile is."""

    connection: socket.socket
    number: int
    asked: float
    text: bytearray = dataclasses.field(default_factory=bytearray)
    ask: Ask | None = None
    run: UnitRun | None = None


class BudgetServer:
    """Admits compiles in a thread of its own; made by ``serve_budget``."""

    def __init__(
        self, listener: socket.socket, budget: Budget, on_unit: Callable[[UnitRun], object]
    ) -> None:
        self.path = Path(listener.getsockname())
        self._listener = listener
        self._budget = budget
        self._on_unit = on_unit
        self._lock = threading.Lock()
        self._runs: list[UnitRun] = []
        self._clients: dict[int, _Client] = {}
        self._arrived = 0
        self._selector = selectors.DefaultSelector()
        self._waker, self._woken = socket.socketpair()
        self._stopped = False
        self._deaf = False
        self._thread = threading.Thread(target=self._serve, name="budget", daemon=True)

    @property
    def runs(self) -> tuple[UnitRun, ...]:
        """What has ended so far, and what was started and never ended when the server stopped."""
        with self._lock:
            return tuple(self._runs)

    @property
    def running(self) -> tuple[UnitRun, ...]:
        with self._lock:
            return tuple(c.run for c in self._clients.values() if c.run is not None)

    @property
    def waiting(self) -> tuple[Ask, ...]:
        with self._lock:
            return self._budget.waiting

    @property
    def memory_used(self) -> int:
        with self._lock:
            return self._budget.memory_used

    def join(self, job: str, *, priority: float = 0.0, memory: int = 0) -> None:
        """Say that a job begins: how urgent it is, and what it takes beside its compiles."""
        with self._lock:
            self._budget.join(job, priority=priority, memory=memory)
        self._wake()

    def leave(self, job: str) -> None:
        """Say that a job ended; what it claimed beside its compiles is free."""
        with self._lock:
            self._budget.leave(job)
        self._wake()

    def start(self) -> None:
        for endpoint in (self._listener, self._woken):
            endpoint.settimeout(0.0)
            self._selector.register(endpoint, selectors.EVENT_READ)
        self._thread.start()

    def stop(self) -> None:
        """Hang up on everybody: compiles that wait fail, those that run come to their end."""
        self._stopped = True
        self._wake()
        self._thread.join()

    def _wake(self) -> None:
        with contextlib.suppress(OSError):  # it has stopped
            self._waker.send(b".", socket.MSG_DONTWAIT)

    def _serve(self) -> None:
        try:
            while not self._stopped:
                ready = [key.fileobj for key, _ in self._selector.select()]
                told: list[UnitRun] = []
                with self._lock:
                    for endpoint in ready:
                        self._attend(endpoint, told)
                    self._admit(told)
                for run in told:
                    self._on_unit(run)
        finally:
            self._close()

    def _attend(self, endpoint: object, told: list[UnitRun]) -> None:
        if endpoint is self._listener:
            self._accept()
        elif endpoint is self._woken:
            self._woken.recv(4096)
        elif isinstance(endpoint, socket.socket):
            client = self._clients.get(endpoint.fileno())
            if client is not None:
                self._read(client, told)

    def _accept(self) -> None:
        try:
            connection, _ = self._listener.accept()
        except (BlockingIOError, ConnectionError):
            return
        except OSError as error:
            if error.errno not in {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}:
                raise
            # who wants to connect waits in the kernel until somebody has hung up
            self._selector.unregister(self._listener)
            self._deaf = True
            return
        connection.settimeout(0.0)
        self._arrived += 1
        client = _Client(connection=connection, number=self._arrived, asked=time.time())
        self._clients[connection.fileno()] = client
        self._selector.register(connection, selectors.EVENT_READ)

    def _read(self, client: _Client, told: list[UnitRun]) -> None:
        try:
            received = client.connection.recv(1 << 16)
        except BlockingIOError:
            return
        except OSError:
            received = b""
        if not received:
            self._drop(client, told)
            return
        client.text += received
        if client.ask is None:
            self._hear(client, told)
        elif len(client.text) > _LONGEST_REPORT:
            self._drop(client, told)

    def _hear(self, client: _Client, told: list[UnitRun]) -> None:
        """Read what is asked, once it is there whole."""
        line, newline, _ = client.text.partition(b"\n")
        if not newline:
            if len(client.text) > _LONGEST_LINE:
                self._drop(client, told)
            return
        try:
            ask = read_ask(bytes(line), number=client.number, cores=self._budget.cores)
        except (ValueError, RecursionError) as error:
            logger.debug("the budget was asked with rubbish: %s", error)
            self._drop(client, told)
            return
        client.text.clear()
        client.ask = ask
        self._budget.ask(ask)

    def _admit(self, told: list[UnitRun]) -> None:
        """Tell everybody who may start; who is gone makes room for another."""
        by_number = {client.number: client for client in self._clients.values()}
        while admitted := self._budget.admit():
            gone = [go for go in admitted if not self._tell(by_number[go.ask.number], go, told)]
            if not gone:
                return
            for go in gone:
                self._drop(by_number[go.ask.number], told)

    def _tell(self, client: _Client, go: Go, told: list[UnitRun]) -> bool:
        try:
            # a few bytes into an empty buffer: it never waits for who does not read
            client.connection.send(b"fresh\n" if go.fresh else b"go\n", socket.MSG_NOSIGNAL)
        except OSError:
            return False
        ask = go.ask
        if ask.kind == "question":
            return True
        client.run = UnitRun(
            job=ask.job,
            group=ask.group,
            name=ask.name,
            kind=ask.kind,
            memory=ask.memory,
            cores=ask.cores,
            asked=client.asked,
            started=time.time(),
            fresh=go.fresh,
        )
        told.append(client.run)
        return True

    def _drop(self, client: _Client, told: list[UnitRun]) -> None:
        """Take back all that a connection held."""
        report, newline, _ = client.text.partition(b"\n")
        status = int(report) if client.ask and newline and report.isdigit() else None
        self._budget.end(client.number, succeeded=status == 0)
        self._clients.pop(client.connection.fileno(), None)
        self._selector.unregister(client.connection)
        client.connection.close()
        if client.run is not None:
            run = dataclasses.replace(client.run, ended=time.time(), status=status)
            self._runs.append(run)
            told.append(run)
        if self._deaf:
            self._selector.register(self._listener, selectors.EVENT_READ)
            self._deaf = False

    def _close(self) -> None:
        with self._lock:
            self._runs += [c.run for c in self._clients.values() if c.run is not None]
            for client in self._clients.values():
                client.connection.close()
            self._clients.clear()
            self._selector.close()
            for endpoint in (self._listener, self._woken, self._waker):
                endpoint.close()


def memory_to_give() -> int:
    """Return what compiles may take on this machine: all that is available but a tenth."""
    available = available_memory()
    return max(0, available - max(_RESERVE, available // 10))


@contextlib.contextmanager
def serve_budget(
    *,
    cores: int | None = None,
    memory: int | None = None,
    on_unit: Callable[[UnitRun], object] = lambda _run: None,
) -> Iterator[BudgetServer]:
    """Admit compiles while the block lasts; without numbers, by what this machine has left.

    ``on_unit`` is called in the server's thread when a compile starts and when it has ended; it
    must be quick and must not raise. Give a build ``WHEELYARD_BUDGET=<server.path>``.
    """
    budget = Budget(
        cores=usable_cores() if cores is None else cores,
        memory=memory_to_give() if memory is None else memory,
    )
    # the path of a socket has at most 107 bytes, so that a cache folder will not do
    place = tempfile.gettempdir() if len(tempfile.gettempdir()) < _LONGEST_FOLDER else "/tmp"  # noqa: S108
    with (
        tempfile.TemporaryDirectory(prefix="wheelyard-", dir=place) as folder,
        socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener,
    ):
        listener.bind(str(Path(folder, "budget")))
        listener.listen(4096)
        server = BudgetServer(listener, budget, on_unit)
        server.start()
        try:
            yield server
        finally:
            server.stop()
