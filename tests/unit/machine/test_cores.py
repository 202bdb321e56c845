from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from wheelyard.machine.cores import usable_cores

if TYPE_CHECKING:
    from pathlib import Path

V2 = "30 23 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n"
V1 = "31 23 0:27 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n"


def cores(root: Path, *, mountinfo: str, cgroup: str, files: dict[str, str]) -> int:
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/self/mountinfo").write_text(mountinfo)
    (root / "proc/self/cgroup").write_text(cgroup)
    for name, content in files.items():
        path = root / "sys/fs/cgroup" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return usable_cores(proc=root / "proc", sys=root / "sys", affinity=8)


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        pytest.param({"job/cpu.max": "350000 100000\n"}, 3, id="quota-is-rounded-down"),
        pytest.param({"job/cpu.max": "50000 100000\n"}, 1, id="at-least-one"),
        pytest.param({"job/cpu.max": "max 100000\n"}, 8, id="no-limit"),
        pytest.param({"job/cpu.max": "1600000 100000\n"}, 8, id="affinity-is-tighter"),
        pytest.param(
            {"job/cpu.max": "max 100000\n", "cpu.max": "200000 100000\n"}, 2, id="parent-is-tighter"
        ),
    ],
)
def test_quota_of_version_2(tmp_path: Path, files: dict[str, str], expected: int) -> None:
    assert cores(tmp_path, mountinfo=V2, cgroup="0::/job\n", files=files) == expected


@pytest.mark.parametrize(("quota", "expected"), [("400000", 4), ("-1", 8)])
def test_quota_of_version_1(tmp_path: Path, quota: str, expected: int) -> None:
    files = {"cpu/job/cpu.cfs_quota_us": quota, "cpu/job/cpu.cfs_period_us": "100000\n"}
    assert cores(tmp_path, mountinfo=V1, cgroup="3:cpu:/job\n", files=files) == expected


def test_without_cgroups_affinity_decides(tmp_path: Path) -> None:
    assert usable_cores(proc=tmp_path, sys=tmp_path) == len(os.sched_getaffinity(0))
