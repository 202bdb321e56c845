"""Inject a fault at the n-th change of the file system, in a process that is started for it.

The changes are seen where the C library makes them, by ``injector.c``, so that those of children
(git, uv, compilers) count as well. A runner is started once with it and imports what is tried;
each try is a fork of that, which costs milliseconds.
"""

from __future__ import annotations

import dataclasses
import enum
import json
import os
import shutil
import struct
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

SOURCE = Path(__file__).with_name("injector.c")
TESTS = Path(__file__).parents[1]
RUN = (sys.executable, "-P", "-m", "faults.runner")
"""With a file of orders it is a runner; with a scenario, folder and number it runs that once."""
ORDER_VARIABLE = "FAULTS_ORDER"
_LAYOUT = struct.Struct("=qqiiiiq1024s1024sq")


class Action(enum.IntEnum):
    """What happens at a change; the values are those of ``injector.c``."""

    COUNT = 0
    KILL = 1
    TEAR = 2
    """Of a write, half is written before the kill."""
    FAIL = 3
    FAIL_FROM = 4
    """This change and all after it."""
    SLOW = 5
    JUMP = 6
    """The clock jumps back and forth."""
    KILL_CHILD = 7
    """Only changes of children count, and the child dies of it."""
    INTERRUPT = 8
    """As Ctrl-C does."""


class Kind(enum.IntFlag):
    """Kinds of changes; the values are those of ``injector.c``."""

    GROWS = 1
    SHRINKS = 2
    SYNCS = 4
    RENAMES = 8
    ALL = 15


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Order:
    """What is done at which change below ``folder``."""

    folder: Path
    action: Action = Action.COUNT
    at: int = -1
    error: int = 0
    kinds: Kind = Kind.ALL
    pause: float = 0.0
    trace: Path | None = None
    """A file that names every change."""

    def pack(self, root: int) -> bytes:
        trace = b"" if self.trace is None else os.fsencode(self.trace)
        numbers = (self.action, self.error, root, self.kinds, int(self.pause * 1e9))
        return _LAYOUT.pack(0, self.at, *numbers, os.fsencode(self.folder), trace, 0)


class Change(NamedTuple):
    """One change, as the trace has it."""

    number: int
    pid: int
    what: str
    path: str
    to: str


class Done(NamedTuple):
    """What came of a try."""

    status: int
    """The exit status; a signal's number below zero."""
    seen: int
    """How many changes there were."""
    output: str
    left: int = 0
    """Children that went on when all was over."""

    @property
    def was_killed(self) -> bool:
        return self.status == -9


def read_trace(path: Path) -> list[Change]:
    """Read what changes there were, in their order."""
    changes = []
    for line in path.read_text(encoding="utf-8", errors="surrogateescape").splitlines():
        number, pid, what, place, to = line.split("\t")
        changes.append(Change(int(number), int(pid), what, place, to))
    return sorted(changes)


def compile_injector(folder: Path) -> Path:
    """Compile the library that is preloaded."""
    compiler = shutil.which("gcc")
    assert compiler is not None, "the faults are injected by a C library: install gcc"
    target = folder / "injector.so"
    command = [compiler, "-O2", "-shared", "-fPIC", "-o", target, SOURCE]
    subprocess.run(command, check=True)
    return target


class Runner:
    """A process with the library in it, which forks for every try."""

    def __init__(
        self,
        library: Path,
        folder: Path,
        *,
        env: Mapping[str, str],
        prefix: Sequence[str] = (),
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._order = folder / "order"
        self._order.write_bytes(bytes(_LAYOUT.size))
        self.library = library
        self.env = {**env, "PYTHONPATH": str(TESTS)}
        preloaded = {"LD_PRELOAD": str(library), ORDER_VARIABLE: str(self._order)}
        self._child = subprocess.Popen(
            [*prefix, *RUN, self._order],
            env={**self.env, **preloaded},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def run(
        self, scenario: str, folder: Path, order: Order | None = None, *, copies: int = 1
    ) -> list[Done]:
        """Run a scenario in so many processes at once, under an order if there is one."""
        output = self._folder / "output"
        asked = {
            "copies": copies,
            "folder": str(folder),
            "order": None if order is None else order.pack(0).hex(),
            "output": str(output),
            "scenario": scenario,
        }
        assert self._child.stdin is not None
        assert self._child.stdout is not None
        self._child.stdin.write(json.dumps(asked) + "\n")
        self._child.stdin.flush()
        line = self._child.stdout.readline()
        assert line, "the runner has ended"
        answer = json.loads(line)
        return [
            Done(
                status,
                answer["seen"],
                Path(f"{output}.{number}").read_text(errors="replace"),
                answer["left"],
            )
            for number, status in enumerate(answer["statuses"])
        ]

    def close(self) -> None:
        assert self._child.stdin is not None
        self._child.stdin.close()
        self._child.wait()
        assert self._child.stdout is not None
        self._child.stdout.close()


def root_offset() -> int:
    """Return where an order has the process that is killed."""
    return struct.calcsize("=qqii")
