"""What a process and all its descendants take: processor time and memory, from /proc."""

from __future__ import annotations

import contextlib
import ctypes
import os
from typing import TYPE_CHECKING, NamedTuple

from wheelyard.machine.cgroups import PROC

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")
_SET_CHILD_SUBREAPER = 36
_PAGE = os.sysconf("SC_PAGE_SIZE")


class Process(NamedTuple):
    """One process as it stands."""

    parent: int
    cpu_seconds: float
    memory: int
    """Bytes that are its own: what it shares, such as libraries, does not count."""
    started: int
    """Ticks since the machine started: tells it from a later process of the same number."""
    state: str
    """For example ``S``, or ``Z`` for one that has ended and was not waited for."""


def read_processes(*, proc: Path = PROC) -> dict[int, Process]:
    """Return every process that can be seen, by its number."""
    found = {}
    for folder in proc.iterdir():
        if folder.name.isdigit():
            process = _read(folder)
            if process is not None:
                found[int(folder.name)] = process
    return found


def family(root: int, processes: Mapping[int, Process]) -> dict[int, Process]:
    """Return ``root`` and all that descend from it, namespaces or not."""
    children: dict[int, list[int]] = {}
    for number, process in processes.items():
        children.setdefault(process.parent, []).append(number)
    found: dict[int, Process] = {}
    waiting = [root]
    while waiting:
        number = waiting.pop()
        if number in processes and number not in found:
            found[number] = processes[number]
            waiting += children.get(number, [])
    return found


@contextlib.contextmanager
def adopting_orphans() -> Iterator[None]:
    """Let what our children leave behind become our child, so that ``family`` still finds it."""
    prctl = ctypes.CDLL(None).prctl
    prctl(_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    try:
        yield
    finally:
        prctl(_SET_CHILD_SUBREAPER, 0, 0, 0, 0)


def _read(folder: Path) -> Process | None:
    try:
        # the name stands in brackets and may hold anything
        fields = (folder / "stat").read_text(errors="replace").rpartition(")")[2].split()
        pages = (folder / "statm").read_text().split()
    except OSError:
        return None  # it has ended
    resident, shared = int(pages[1]), int(pages[2])
    return Process(
        parent=int(fields[1]),
        cpu_seconds=(int(fields[11]) + int(fields[12])) / _TICKS,
        memory=max(0, resident - shared) * _PAGE,
        started=int(fields[19]),
        state=fields[0],
    )
