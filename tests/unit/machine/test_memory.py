from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from wheelyard.errors import MachineError
from wheelyard.machine.memory import available_memory, oom_kills

if TYPE_CHECKING:
    from pathlib import Path

V2 = "30 23 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n"
V1 = "31 23 0:27 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
MEMINFO = "MemTotal:       16000 kB\nMemFree:         1000 kB\nMemAvailable:    8000 kB\n"
AVAILABLE = 8000 * 1024


def memory(root: Path, *, mountinfo: str, cgroup: str, files: dict[str, str]) -> int:
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/meminfo").write_text(MEMINFO)
    (root / "proc/self/mountinfo").write_text(mountinfo)
    (root / "proc/self/cgroup").write_text(cgroup)
    for name, content in files.items():
        path = root / "sys/fs/cgroup" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return available_memory(proc=root / "proc", sys=root / "sys")


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        pytest.param({}, AVAILABLE, id="kernel-only"),
        pytest.param(
            {"job/memory.max": "5000", "job/memory.current": "3000"}, 2000, id="limit-less-usage"
        ),
        pytest.param(
            {"job/memory.max": "max", "job/memory.current": "3000"}, AVAILABLE, id="no-limit"
        ),
        pytest.param(
            {
                "job/memory.max": "5000",
                "job/memory.current": "4000",
                "job/memory.stat": "anon 1500\ninactive_file 2500\n",
            },
            3500,
            id="cached-files-give-way",
        ),
        pytest.param(
            {"job/memory.high": "4000", "job/memory.max": "9000", "job/memory.current": "3000"},
            1000,
            id="throttling-limit",
        ),
        pytest.param(
            {"memory.max": "700", "memory.current": "900", "job/memory.max": "max"},
            0,
            id="parent-is-exhausted",
        ),
    ],
)
def test_version_2(tmp_path: Path, files: dict[str, str], expected: int) -> None:
    assert memory(tmp_path, mountinfo=V2, cgroup="0::/job\n", files=files) == expected


@pytest.mark.parametrize(
    ("limit", "expected"), [("6000", 4000), ("9223372036854771712", AVAILABLE)]
)
def test_version_1(tmp_path: Path, limit: str, expected: int) -> None:
    files = {
        "memory/job/memory.limit_in_bytes": limit,
        "memory/job/memory.usage_in_bytes": "3000",
        "memory/job/memory.stat": "inactive_file 1\ntotal_inactive_file 1000\n",
    }
    assert memory(tmp_path, mountinfo=V1, cgroup="4:memory:/job\n", files=files) == expected


def test_missing_proc_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(MachineError, match=r"meminfo' does not tell MemAvailable"):
        available_memory(proc=tmp_path, sys=tmp_path)


@pytest.mark.parametrize(
    ("mountinfo", "cgroup", "files", "kills"),
    [
        pytest.param(
            *(V2, "0::/job\n", {"job/memory.events": "low 0\noom 3\noom_kill 2\n"}, 2), id="v2"
        ),
        pytest.param(
            *(V1, "4:memory:/job\n"),
            *({"memory/job/memory.oom_control": "under_oom 0\noom_kill 5\n"}, 5),
            id="v1",
        ),
        pytest.param(
            *(V2, "0::/job\n", {"memory.events": "oom_kill 9\n"}, 9), id="only-the-parent-counts"
        ),
        pytest.param(V2, "0::/job\n", {}, 0, id="nobody-counts"),
    ],
)
def test_processes_killed_for_memory_are_counted(
    tmp_path: Path, mountinfo: str, cgroup: str, files: dict[str, str], kills: int
) -> None:
    memory(tmp_path, mountinfo=mountinfo, cgroup=cgroup, files=files)
    assert oom_kills(proc=tmp_path / "proc", sys=tmp_path / "sys") == kills
