"""What is left when a compile is cut off by Ctrl-C or SIGKILL, or a disk is full.

tests/faults kills the whole of a job at every change of the file system.
"""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.build


def _descendants(pid: int) -> set[int]:
    parents: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError, IndexError):
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
                parents[int(entry.name)] = int(fields[1])
    found = {pid}
    while True:
        more = {child for child, parent in parents.items() if parent in found} - found
        if not more:
            return found - {pid}
        found |= more


def _alive(pids: set[int]) -> set[int]:
    living = set()
    for pid in pids:
        with contextlib.suppress(OSError, IndexError):
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
            if state != "Z":
                living.add(pid)
    return living


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGKILL, -9)])
def test_interrupted_build_leaves_no_children(
    built, farm, tmp_path, empty_compile_cache, number, code
):
    empty_compile_cache()
    yard = tmp_path / "yard"
    command = [sys.executable, "-m", "wheelyard", "build", "tinyscale"]
    child = subprocess.Popen(
        [*command, "--farm", str(farm), "--yard", str(yard)], stderr=subprocess.DEVNULL
    )
    log = None
    for _ in range(600):
        log = next(iter(yard.glob("logs/*.log")), None)
        if log is not None and "building 'tinyscale_cuda'" in log.read_text():
            break
        time.sleep(0.1)
    else:
        pytest.fail("the compile did not start")
    family = _descendants(child.pid)
    assert family
    child.send_signal(number)
    assert child.wait(timeout=60) == code
    for _ in range(100):
        if not _alive(family):
            break
        time.sleep(0.1)
    assert not _alive(family)
    assert not list(yard.glob("wheels/*"))


def test_full_disk_is_named_and_leaves_nothing_half_written(built, wheelyard, farm, tmp_path):
    yard = tmp_path / "yard"
    yard.mkdir()
    namespace = ["unshare", "--user", "--map-root-user", "--mount", "--"]
    if subprocess.run([*namespace, "true"], check=False).returncode != 0:
        pytest.skip("this user may not make namespaces")
    script = 'mount -t tmpfs -o size=32k none "$0" && "$@"; code=$?; find "$0"/wheels "$0"/records'
    full = [*namespace, "sh", "-c", f"{script} -type f; exit $code", str(yard)]
    failed = wheelyard(
        "build", "tinyscale", "--farm", farm, "--yard", yard, prefix=full, check=False
    )
    assert failed.returncode == 15, failed.stderr
    assert "No space left" in failed.stderr or "full" in failed.stderr
    assert ".whl" not in failed.stdout
