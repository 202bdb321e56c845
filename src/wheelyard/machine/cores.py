"""How many cores this process may use."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from wheelyard.machine.cgroups import PROC, SYS, cgroup_folders, read_number, read_text

if TYPE_CHECKING:
    from pathlib import Path


def usable_cores(*, proc: Path = PROC, sys: Path = SYS, affinity: int | None = None) -> int:
    """Return the whole cores that affinity and every cgroup's quota leave, at least one."""
    allowed = len(os.sched_getaffinity(0)) if affinity is None else affinity
    quotas = (_quota(folder) for folder in cgroup_folders("cpu", proc=proc, sys=sys))
    return max(1, int(min([allowed, *(quota for quota in quotas if quota is not None)])))


def _quota(folder: Path) -> float | None:
    match read_text(folder / "cpu.max").split():
        case [quota, period] if quota != "max":
            return int(quota) / int(period)
    first = read_number(folder / "cpu.cfs_quota_us")
    period_v1 = read_number(folder / "cpu.cfs_period_us")
    if first is None or not period_v1 or first <= 0:
        return None
    return first / period_v1
