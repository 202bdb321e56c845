"""First process inside the namespaces: lays out the file system, gives up every right, runs.

Run by ``unshare`` with a plain interpreter, so it is standard library only and imports nothing
of wheelyard. Its one argument is a JSON file: ``root`` (an empty folder), ``binds`` (source,
target, writable), ``links`` (target, path), ``command``, ``cwd``, ``env``.
"""

from __future__ import annotations

import ctypes
import fcntl
import json
import os
import re
import socket
import struct
import sys
from pathlib import Path

MS_RDONLY, MS_REMOUNT, MS_BIND, MS_REC, MS_PRIVATE = 1, 32, 4096, 16384, 1 << 18
MNT_DETACH = 2
PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}
PR_CAPBSET_DROP, PR_SET_NO_NEW_PRIVS, PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL = 24, 38, 47, 4
SIOCGIFFLAGS, SIOCSIFFLAGS, IFF_UP = 0x8913, 0x8914, 1
CAPABILITY_VERSION_3 = 0x20080522
LAST_CAPABILITY = 63
# statvfs flags that a bind mount in a user namespace must keep when it is made read-only
KEPT_FLAGS = os.ST_NOSUID | os.ST_NODEV | os.ST_NOEXEC | os.ST_NOATIME | os.ST_NODIRATIME
DEVICES = ("null", "zero", "full", "random", "urandom")

libc = ctypes.CDLL(None, use_errno=True)


def _call(result: int, what: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def mount(source: str, target: str, kind: str | None, flags: int, data: str | None = None) -> None:
    """Call mount(2)."""
    kind_bytes = kind.encode() if kind else None
    data_bytes = data.encode() if data else None
    arguments = (source.encode(), target.encode(), kind_bytes, ctypes.c_ulong(flags), data_bytes)
    _call(libc.mount(*arguments), f"mount {source} on {target}")


def bind(source: str, target: str, *, writable: bool) -> None:
    """Show ``source`` at ``target``; read-only with everything mounted below it, unless said."""
    if Path(source).is_dir():
        Path(target).mkdir(parents=True, exist_ok=True)
    else:
        Path(target).parent.mkdir(parents=True, exist_ok=True)
        Path(target).touch()
    mount(source, target, None, MS_BIND | MS_REC)
    if writable:
        return
    for point in _mount_points_below(os.path.realpath(target)):
        kept = os.statvfs(point).f_flag & KEPT_FLAGS
        mount("none", point, None, MS_BIND | MS_REMOUNT | MS_RDONLY | kept)


def _mount_points_below(target: str) -> list[str]:
    """Return the mounts at and below ``target``; passing one over would leave it writable."""
    text = Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="surrogateescape")
    # the kernel writes blanks and backslashes in octal, and everything else as it is
    points = [
        re.sub(r"\\(\d{3})", lambda match: chr(int(match[1], 8)), line.split(" ")[4])
        for line in text.rstrip("\n").split("\n")
    ]
    if target not in points:
        message = f"{target} is not among the mounts"
        raise OSError(message)
    return [point for point in points if point == target or point.startswith(f"{target}/")]


def make_devices(root: str) -> None:
    """Give the harmless devices only."""
    mount("none", f"{root}/dev", "tmpfs", 0, "mode=755")
    for name in DEVICES:
        bind(f"/dev/{name}", f"{root}/dev/{name}", writable=True)
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        Path(f"{root}/dev/{name}").symlink_to(f"/proc/self/fd/{number}")
    Path(f"{root}/dev/fd").symlink_to("/proc/self/fd")
    Path(root, "dev", "shm").mkdir()
    mount("none", os.path.join(root, "dev", "shm"), "tmpfs", 0, "mode=1777")  # noqa: PTH118


def make_proc(root: str) -> None:
    """Mount a /proc of our own processes only, of which nothing else can be written.

    Containers that mask parts of /proc refuse it. The host's own would show every other process
    and its environment, so that there is no sandbox on such a machine. Whoever is root outside
    owns the kernel's settings in there, for which no capability is asked: they are read-only each.
    The whole cannot be, since CUDA names its threads in /proc/self and fails where it may not.
    """
    Path(f"{root}/proc").mkdir()
    mount("proc", f"{root}/proc", "proc", 0)
    kept = os.statvfs(f"{root}/proc").f_flag & KEPT_FLAGS
    for entry in kernel_settings(Path(root, "proc")):
        mount(str(entry), str(entry), None, MS_BIND)
        mount("none", str(entry), None, MS_BIND | MS_REMOUNT | MS_RDONLY | kept)


def kernel_settings(proc: Path) -> list[Path]:
    """Return what of a /proc belongs to no process."""
    entries = sorted(proc.iterdir())
    return [each for each in entries if not each.name.isdecimal() and not each.is_symlink()]


def enter(root: str) -> None:
    """Make ``root`` the root of the file system, and let go of the old one."""
    old = f"{root}/.old"
    Path(old).mkdir()
    number = PIVOT_ROOT[os.uname().machine]
    _call(libc.syscall(number, root.encode(), old.encode()), "pivot_root")
    os.chdir("/")
    _call(libc.umount2(b"/.old", MNT_DETACH), "umount the old root")
    Path("/.old").rmdir()


def bring_loopback_up() -> None:
    """Compile caches speak to their server over loopback."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        request = struct.pack("16sh14x", b"lo", 0)
        flags = struct.unpack("16sh14x", fcntl.ioctl(control, SIOCGIFFLAGS, request))[1]
        fcntl.ioctl(control, SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", flags | IFF_UP))


def give_up_rights() -> None:
    """Drop every capability for good: being root in here must not allow a remount."""
    for capability in range(LAST_CAPABILITY + 1):
        libc.prctl(PR_CAPBSET_DROP, capability, 0, 0, 0)
    libc.prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)
    _call(libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "no_new_privs")
    header = struct.pack("Ii", CAPABILITY_VERSION_3, 0)
    nothing = struct.pack("6I", 0, 0, 0, 0, 0, 0)
    _call(libc.capset(header, nothing), "capset")


def main() -> None:
    """Lay out, enter, give up, run."""
    spec = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    root = spec["root"]
    mount("none", "/", None, MS_REC | MS_PRIVATE)
    mount("none", root, "tmpfs", 0, "mode=755")
    Path(f"{root}/dev").mkdir()
    make_devices(root)
    for source, target, writable in spec["binds"]:
        bind(source, f"{root}{target}", writable=writable)
    for target, path in spec["links"]:
        Path(f"{root}{path}").parent.mkdir(parents=True, exist_ok=True)
        Path(f"{root}{path}").symlink_to(target)
    make_proc(root)
    enter(root)
    mount("none", "/", None, MS_REMOUNT | MS_RDONLY | MS_BIND)
    bring_loopback_up()
    give_up_rights()
    os.chdir(spec["cwd"])
    os.execve(spec["command"][0], spec["command"], spec["env"])  # noqa: S606 - no shell wanted


if __name__ == "__main__":
    try:
        main()
    except OSError as error:
        sys.exit(f"wheelyard sandbox: {error}")
