"""The sandbox: the same paths for every build, no network, nothing shared that can be written."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from wheelyard.errors import UsageError
from wheelyard.folders import remove_tree
from wheelyard.locking import held
from wheelyard.machine.namespaces import SandboxLevel
from wheelyard.run import Completed, run
from wheelyard.toolchain.sandbox_init import kernel_settings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

_SYSTEM = ("usr", "bin", "sbin", "lib", "lib32", "lib64", "libx32")
_ETC = ("ld.so.cache", "ld.so.conf", "ld.so.conf.d", "alternatives", "localtime")
_USERS = "builder:x:0:0:builder:/wy/home:/bin/sh\n"
_GROUP = "builder:x:0:\n"
_HOSTS = "127.0.0.1 localhost\n::1 localhost\n"


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Room:
    """A folder or file of this machine, and where the sandbox shows it."""

    source: Path
    inside: Path
    writable: bool = False
    of_system: bool = False
    """Whether ``source`` is a path of the system that the command sees, be it a container's."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Order:
    """A command for the sandbox, in paths of its inside."""

    command: tuple[str, ...]
    rooms: tuple[Room, ...]
    env: Mapping[str, str]
    cwd: Path
    log_path: Path | None = None
    on_line: Callable[[str], None] | None = None
    wheels: Path | None = None
    """The folder in which the command leaves a wheel, if that is what it is for."""


class Sandbox(Protocol):
    """One way to run a command with rooms at fixed paths."""

    @property
    def base(self) -> Path:
        """The folder that the fixed paths lie in."""

    @property
    def level(self) -> SandboxLevel:
        """How much it isolates."""

    def run(self, order: Order) -> Completed:
        """Run to the end; raise ``ProcessError`` on failure."""


def choose_sandbox(level: SandboxLevel, *, env: Mapping[str, str], scratch: Path) -> Sandbox:
    """Return the sandbox of that level; ``scratch`` is a folder for its own small files."""
    match level:
        case SandboxLevel.BUBBLEWRAP:
            return BubblewrapSandbox(env=env, scratch=scratch)
        case SandboxLevel.UNSHARE:
            return UnshareSandbox(env=env, scratch=scratch)
        case SandboxLevel.NONE:
            return LinkedFolders(base=scratch / "wy")
        case SandboxLevel.CONTAINER:
            msg = "A container is a sandbox that names its image: --container IMAGE."
            raise UsageError(msg)


def _system_rooms(scratch: Path) -> tuple[list[Room], list[tuple[str, str]]]:
    """Return the system's own folders as rooms, and the links among them."""
    rooms: list[Room] = []
    links: list[tuple[str, str]] = []
    for name in _SYSTEM:
        path = Path("/", name)
        if path.is_symlink():
            links.append((str(path.readlink()), str(path)))
        elif path.is_dir():
            rooms.append(Room(source=path, inside=path))
    etc = scratch / "etc"
    etc.mkdir(parents=True, exist_ok=True)
    for name, text in (("passwd", _USERS), ("group", _GROUP), ("hosts", _HOSTS)):
        (etc / name).write_text(text, encoding="utf-8")
        rooms.append(Room(source=etc / name, inside=Path("/etc", name)))
    rooms += [
        Room(source=Path("/etc", name), inside=Path("/etc", name))
        for name in _ETC
        if Path("/etc", name).exists()
    ]
    return rooms, links


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class UnshareSandbox:
    """User, mount, network, process and IPC namespaces through util-linux's unshare."""

    env: Mapping[str, str]
    scratch: Path
    base: Path = Path("/wy")
    level: SandboxLevel = SandboxLevel.UNSHARE

    def run(self, order: Order) -> Completed:
        self.scratch.mkdir(parents=True, exist_ok=True)
        system, links = _system_rooms(self.scratch)
        with tempfile.TemporaryDirectory(dir=self.scratch, prefix="sandbox-") as folder:
            root = Path(folder, "root")
            root.mkdir()
            spec = {
                "binds": [
                    [str(room.source), str(room.inside), room.writable]
                    for room in (*system, *_outermost_first(order.rooms))
                ],
                "command": list(order.command),
                "cwd": str(order.cwd),
                "env": dict(order.env),
                "links": links,
                "root": str(root),
            }
            path = Path(folder, "spec.json")
            path.write_text(json.dumps(spec), encoding="utf-8")
            return run(
                [*self._unshare(), sys.executable, "-I", "-S", _init_path(), path],
                env=_child_env(self.env),
                log_path=order.log_path,
                on_line=order.on_line,
            )

    def _unshare(self) -> list[str]:
        flags = ["--user", "--map-root-user", "--mount", "--net", "--pid", "--ipc"]
        return ["unshare", *flags, "--fork", "--kill-child", "--"]


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class BubblewrapSandbox:
    """The same rooms through bubblewrap."""

    env: Mapping[str, str]
    scratch: Path
    base: Path = Path("/wy")
    level: SandboxLevel = SandboxLevel.BUBBLEWRAP

    def run(self, order: Order) -> Completed:
        self.scratch.mkdir(parents=True, exist_ok=True)
        system, links = _system_rooms(self.scratch)
        arguments = ["bwrap", "--unshare-all", "--die-with-parent", "--cap-drop", "ALL"]
        arguments += ["--uid", "0", "--gid", "0", "--clearenv"]
        arguments += ["--dev", "/dev", "--tmpfs", "/dev/shm"]  # noqa: S108 - of the sandbox
        for room in (*system, *_outermost_first(order.rooms)):
            # a plain bind is mounted so that device files in it cannot be opened
            is_device = room.writable and room.source.is_relative_to("/dev")
            kind = "--dev-bind" if is_device else "--bind" if room.writable else "--ro-bind"
            arguments += [kind, str(room.source), str(room.inside)]
        for target, path in links:
            arguments += ["--symlink", target, path]
        arguments += ["--proc", "/proc"]
        # to the owner of the kernel's settings, who is root, capabilities do not matter
        for entry in kernel_settings(Path("/proc")):
            arguments += ["--ro-bind", str(entry), str(entry)]
        arguments += ["--remount-ro", "/"]
        for name, value in order.env.items():
            arguments += ["--setenv", name, value]
        arguments += ["--chdir", str(order.cwd), "--", *order.command]
        return run(
            arguments,
            env=_child_env(self.env),
            log_path=order.log_path,
            on_line=order.on_line,
        )


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class LinkedFolders:
    """No namespaces: a stable folder of links stands in for the rooms, one job at a time.

    Nothing is isolated; the record, doctor and the table say ``sandbox: none``.
    """

    base: Path
    level: SandboxLevel = SandboxLevel.NONE

    def run(self, order: Order) -> Completed:
        self.base.mkdir(parents=True, exist_ok=True)
        with held(self.base / ".lock"):
            for room in order.rooms:
                _link(room, self.base)
            with _lent(order, self.base):
                return run(
                    order.command,
                    env=order.env,
                    cwd=order.cwd,
                    log_path=order.log_path,
                    on_line=order.on_line,
                )


def _link(room: Room, base: Path) -> None:
    if not room.inside.is_relative_to(base):
        return
    temporary = room.inside.with_name(f".{room.inside.name}.new")
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(room.source)
    if room.inside.is_dir() and not room.inside.is_symlink():
        remove_tree(room.inside)  # lent to a command of a process that was killed
    temporary.replace(room.inside)


@contextlib.contextmanager
def _lent(order: Order, base: Path) -> Iterator[None]:
    """Put the folder that the command works in really there, while it runs.

    A program that asks where it is learns the target of a link. That names the job, so no two
    Pythons would find the same in the compile cache.
    """
    room = next((room for room in order.rooms if room.inside == order.cwd), None)
    if room is None or not room.writable or not room.inside.is_relative_to(base):
        yield
        return
    try:
        room.inside.unlink()
        room.source.rename(room.inside)
    except OSError:  # it lies on another disk
        _link(room, base)
        yield
        return
    try:
        yield
    finally:
        room.inside.rename(room.source)


def _outermost_first(rooms: Sequence[Room]) -> list[Room]:
    return sorted(rooms, key=lambda room: len(room.inside.parts))


def _init_path() -> Path:
    return Path(__file__).with_name("sandbox_init.py")


def _child_env(env: Mapping[str, str]) -> dict[str, str]:
    """The launcher itself needs a search path and nothing else; the order brings its own."""
    return {"PATH": env.get("PATH", os.defpath)}
