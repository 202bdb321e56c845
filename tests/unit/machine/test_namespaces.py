from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from wheelyard.machine.namespaces import SandboxLevel, find_sandbox

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from wheelyard.machine.namespaces import SandboxSupport

    Program = Callable[[str, str], Path]

REFUSED = "echo 'unshare: unshare failed: Operation not permitted' >&2; exit 1"


def look(tmp_path: Path) -> SandboxSupport:
    env = {"PATH": str(tmp_path / "bin")}
    return find_sandbox(env, proc=tmp_path / "proc", root=tmp_path)


def test_bubblewrap_is_preferred(program: Program, tmp_path: Path) -> None:
    program("bwrap", "exit 0")
    program("unshare", "exit 0")
    assert look(tmp_path).level is SandboxLevel.BUBBLEWRAP


def test_unshare_serves_where_bubblewrap_fails(program: Program, tmp_path: Path) -> None:
    program("bwrap", "exit 1")
    program("unshare", "exit 0")
    assert look(tmp_path).level is SandboxLevel.UNSHARE


def test_unshare_is_asked_for_user_mount_and_network(program: Program, tmp_path: Path) -> None:
    asked = tmp_path / "asked"
    program("unshare", f'echo "$@" > {asked}')
    assert look(tmp_path).level is SandboxLevel.UNSHARE
    assert {"--user", "--mount", "--net"} <= set(asked.read_text().split())


@pytest.mark.parametrize(
    ("name", "value", "remedy"),
    [
        pytest.param(
            "kernel/unprivileged_userns_clone",
            "0",
            "sudo sysctl -w kernel.unprivileged_userns_clone=1",
            id="debian",
        ),
        pytest.param(
            "kernel/apparmor_restrict_unprivileged_userns",
            "1",
            "sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0",
            id="ubuntu",
        ),
        pytest.param(
            "user/max_user_namespaces",
            "0",
            "sudo sysctl -w user.max_user_namespaces=15000",
            id="rhel",
        ),
    ],
)
def test_setting_that_forbids_is_named(
    program: Program, tmp_path: Path, name: str, value: str, remedy: str
) -> None:
    program("unshare", REFUSED)
    setting = tmp_path / "proc/sys" / name
    setting.parent.mkdir(parents=True)
    setting.write_text(f"{value}\n")
    support = look(tmp_path)
    assert (support.level, support.remedy) == (SandboxLevel.NONE, remedy)
    assert "Operation not permitted" in support.reason


def test_container_needs_other_flags(program: Program, tmp_path: Path) -> None:
    program("unshare", REFUSED)
    (tmp_path / ".dockerenv").touch()
    assert "seccomp=unconfined" in look(tmp_path).remedy


def test_refusal_without_a_known_setting_has_a_remedy_too(program: Program, tmp_path: Path) -> None:
    program("unshare", REFUSED)
    support = look(tmp_path)
    assert support.reason == "unshare: unshare failed: Operation not permitted"
    assert support.remedy


def test_neither_program(tmp_path: Path) -> None:
    support = look(tmp_path)
    assert support.level is SandboxLevel.NONE
    assert support.reason == "neither bwrap nor unshare is on PATH"
