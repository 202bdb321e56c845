from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from wheelyard.machine.cgroups import cgroup_folders, read_number, read_text

if TYPE_CHECKING:
    from pathlib import Path

V2_MOUNT = "30 23 0:26 {root} /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n"
V1_MOUNT = (
    "31 23 0:27 {root} /sys/fs/cgroup/cpu rw,nosuid shared:5 - cgroup cgroup rw,cpu,cpuacct\n"
)


def write_process(proc: Path, *, cgroup: str, mountinfo: str) -> None:
    (proc / "self").mkdir(parents=True)
    (proc / "self/cgroup").write_text(cgroup)
    (proc / "self/mountinfo").write_text(mountinfo)


@pytest.mark.parametrize(
    ("cgroup", "mountinfo", "folders"),
    [
        pytest.param(
            "0::/user.slice/job\n",
            V2_MOUNT.format(root="/"),
            ["fs/cgroup/user.slice/job", "fs/cgroup/user.slice", "fs/cgroup"],
            id="v2-from-own-group-to-the-top",
        ),
        pytest.param(
            "4:cpu,cpuacct:/box\n2:memory:/elsewhere\n",
            V1_MOUNT.format(root="/"),
            ["fs/cgroup/cpu/box", "fs/cgroup/cpu"],
            id="v1-by-controller",
        ),
        pytest.param(
            "0::/docker/abc\n",
            V2_MOUNT.format(root="/docker/abc"),
            ["fs/cgroup"],
            id="container-that-sees-the-path-of-the-host",
        ),
        pytest.param(
            "0::/docker/abcdef/x\n",
            V2_MOUNT.format(root="/docker/abc"),
            ["fs/cgroup"],
            id="group-outside-the-mount",
        ),
        pytest.param(
            "2:memory:/box\n",
            V1_MOUNT.format(root="/"),
            [],
            id="other-controller",
        ),
    ],
)
def test_folders_that_limit_this_process(
    tmp_path: Path, cgroup: str, mountinfo: str, folders: list[str]
) -> None:
    write_process(tmp_path / "proc", cgroup=cgroup, mountinfo=mountinfo)
    found = cgroup_folders("cpu", proc=tmp_path / "proc", sys=tmp_path / "sys")
    assert [str(path.relative_to(tmp_path / "sys")) for path in found] == folders


def test_machine_without_cgroups_has_no_folders(tmp_path: Path) -> None:
    assert cgroup_folders("cpu", proc=tmp_path, sys=tmp_path) == ()


@pytest.mark.parametrize(("text", "number"), [("12\n", 12), ("-1\n", -1), ("max\n", None)])
def test_limit_is_a_number_or_none(tmp_path: Path, text: str, number: int | None) -> None:
    (tmp_path / "limit").write_text(text)
    assert read_number(tmp_path / "limit") == number


def test_file_that_is_not_there_is_empty(tmp_path: Path) -> None:
    assert read_text(tmp_path / "nothing") == ""
