"""Whether this user may make the namespaces that a build is confined in."""

from __future__ import annotations

import dataclasses
import shutil
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

from wheelyard.errors import MachineError, ProcessError
from wheelyard.machine.cgroups import PROC, read_text
from wheelyard.run import run

if TYPE_CHECKING:
    from collections.abc import Mapping

_BUBBLEWRAP = ("--unshare-all", "--ro-bind", "/", "/", "--proc", "/proc", "true")
_UNSHARE = (
    *("--user", "--map-root-user", "--mount", "--net", "--pid", "--ipc"),
    *("--fork", "--mount-proc", "true"),
)
_SYSCTLS = (
    ("kernel/unprivileged_userns_clone", "0", "1"),
    ("user/max_user_namespaces", "0", "15000"),
    ("kernel/apparmor_restrict_unprivileged_userns", "1", "0"),
)
_CONTAINER_MARKS = (".dockerenv", "run/.containerenv", "run/systemd/container")
_CONTAINER_REMEDY = (
    "start the container with --security-opt seccomp=unconfined --security-opt apparmor=unconfined"
)


class SandboxLevel(StrEnum):
    """What a build can be confined with here."""

    BUBBLEWRAP = "bubblewrap"
    UNSHARE = "unshare"
    CONTAINER = "container"
    """An image's own system, through a container engine."""
    NONE = "none"


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class SandboxSupport:
    """A sandbox level, with the reason and the remedy where it is ``none``."""

    level: SandboxLevel
    reason: str = ""
    remedy: str = ""


def find_sandbox(
    env: Mapping[str, str], *, proc: Path = PROC, root: Path = Path("/")
) -> SandboxSupport:
    """Try to make user, mount and network namespaces, the better tool first."""
    programs = {
        level: shutil.which(name, path=env.get("PATH", ""))
        for level, name in ((SandboxLevel.BUBBLEWRAP, "bwrap"), (SandboxLevel.UNSHARE, "unshare"))
    }
    failures: list[str] = []
    for level, program in programs.items():
        failure = _try(level, program, env) if program else None
        if program and failure is None:
            return SandboxSupport(level=level)
        failures += [failure] if failure else []
    if not any(programs.values()):
        return SandboxSupport(
            level=SandboxLevel.NONE,
            reason="neither bwrap nor unshare is on PATH",
            remedy="apt-get install bubblewrap / dnf install bubblewrap",
        )
    return _refused("; ".join(failures), proc=proc, root=root)


def _try(level: SandboxLevel, program: str, env: Mapping[str, str]) -> str | None:
    """Return why the program cannot make the namespaces, or ``None`` when it can."""
    options = _BUBBLEWRAP if level is SandboxLevel.BUBBLEWRAP else _UNSHARE
    try:
        run([program, *options], env=env)
    except ProcessError as error:
        lines = error.tail.strip().splitlines()
        return lines[-1] if lines else f"{program} ended with status {error.returncode}"
    except (MachineError, OSError) as error:
        return str(error)
    return None


def _refused(reason: str, *, proc: Path, root: Path) -> SandboxSupport:
    """Name the setting that forbids namespaces, as far as the system tells it."""
    for name, forbidding, allowing in _SYSCTLS:
        if read_text(proc / "sys" / name).strip() == forbidding:
            key = name.replace("/", ".")
            return SandboxSupport(
                level=SandboxLevel.NONE,
                reason=f"{reason} ({key} is {forbidding})",
                remedy=f"sudo sysctl -w {key}={allowing}",
            )
    if any((root / mark).exists() for mark in _CONTAINER_MARKS):
        return SandboxSupport(
            level=SandboxLevel.NONE,
            reason=f"{reason} (this is a container)",
            remedy=_CONTAINER_REMEDY,
        )
    return SandboxSupport(
        level=SandboxLevel.NONE,
        reason=reason,
        remedy="ask the administrator to allow unprivileged user namespaces",
    )
