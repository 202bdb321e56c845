"""How much memory this process may still take."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from wheelyard.errors import MachineError
from wheelyard.machine.cgroups import PROC, SYS, cgroup_folders, read_number, read_text

if TYPE_CHECKING:
    from pathlib import Path

_LIMIT_AND_USAGE = (
    ("memory.max", "memory.current"),
    ("memory.high", "memory.current"),
    ("memory.limit_in_bytes", "memory.usage_in_bytes"),
)
_OOM_KILL = re.compile(r"^oom_kill (\d+)$", re.MULTILINE)
_RECLAIMABLE = re.compile(r"^(?:total_)?inactive_file (\d+)$", re.MULTILINE)


def available_memory(*, proc: Path = PROC, sys: Path = SYS) -> int:
    """Return bytes: what the kernel calls available, or what the tightest cgroup has left."""
    path = proc / "meminfo"
    match = re.search(r"^MemAvailable:\s+(\d+) kB$", read_text(path), re.MULTILINE)
    if match is None:
        msg = f"{str(path)!r} does not tell MemAvailable. Mount /proc, or say --jobs yourself."
        raise MachineError(msg)
    folders = cgroup_folders("memory", proc=proc, sys=sys)
    return min([int(match[1]) * 1024, *(left for folder in folders for left in _left(folder))])


def oom_kills(*, proc: Path = PROC, sys: Path = SYS) -> int:
    """Return how many processes of the innermost cgroup that counts were killed for memory."""
    for folder in cgroup_folders("memory", proc=proc, sys=sys):
        for name in ("memory.events", "memory.oom_control"):
            match = _OOM_KILL.search(read_text(folder / name))
            if match is not None:
                return int(match[1])
    return 0


def _left(folder: Path) -> list[int]:
    """Return what each limit of the group leaves; cached files give way, so they do not count."""
    cached = max(map(int, _RECLAIMABLE.findall(read_text(folder / "memory.stat"))), default=0)
    left = []
    for limit_name, usage_name in _LIMIT_AND_USAGE:
        limit, usage = read_number(folder / limit_name), read_number(folder / usage_name)
        if limit is not None and usage is not None:
            left.append(max(0, limit - max(0, usage - cached)))
    return left
