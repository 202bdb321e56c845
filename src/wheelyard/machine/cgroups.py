"""The control groups that this process lives in, of either version."""

from __future__ import annotations

from pathlib import Path

PROC = Path("/proc")
SYS = Path("/sys")


def cgroup_folders(controller: str, *, proc: Path = PROC, sys: Path = SYS) -> tuple[Path, ...]:
    """Return the folders whose limits hold for this process: its own group and those above it.

    Folders of both versions are returned where a machine mounts both; a reader looks for the
    files of either.
    """
    groups = _groups(_lines(proc / "self" / "cgroup"))
    folders: list[Path] = []
    for line in _lines(proc / "self" / "mountinfo"):
        mount, _, filesystem = line.partition(" - ")
        root, mount_point = mount.split()[3:5]
        key = _hierarchy(filesystem.split(), controller)
        if key is not None and key in groups and mount_point.startswith("/sys/"):
            top = sys / mount_point.removeprefix("/sys/")
            folders += _upwards(top / _below(groups[key], root), top)
    return tuple(folders)


def read_number(path: Path) -> int | None:
    """Return the number that the file holds; ``None`` where it has no limit or is not there."""
    text = read_text(path).strip()
    return int(text) if text.lstrip("-").isdigit() else None


def read_text(path: Path) -> str:
    """Return the content of a file of the kernel, empty where it is not there or not ours."""
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _lines(path: Path) -> list[str]:
    return read_text(path).splitlines()


def _groups(lines: list[str]) -> dict[str, str]:
    """Map each controller to the path of our group; version 2 is the controller without a name."""
    fields = [line.split(":", 2) for line in lines]
    return {name: path for _number, controllers, path in fields for name in controllers.split(",")}


def _hierarchy(filesystem: list[str], controller: str) -> str | None:
    """Return the key of ``_groups`` that a mount belongs to, if it is one we ask about."""
    match filesystem:
        case ["cgroup2", *_]:
            return ""
        case ["cgroup", _, options] if controller in options.split(","):
            return controller
        case _:
            return None


def _below(group: str, root: str) -> str:
    """Return the group's path below the mount; a container often sees the host's path."""
    root = root.rstrip("/")
    if group != root and not group.startswith(f"{root}/"):
        return ""
    return group.removeprefix(root).strip("/")


def _upwards(folder: Path, top: Path) -> list[Path]:
    parents = [folder, *folder.parents]
    return parents[: parents.index(top) + 1]
