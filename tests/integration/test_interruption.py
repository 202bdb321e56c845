"""What is left when a build is cut off: by Ctrl-C, by a full disk, by SIGKILL anywhere."""

from __future__ import annotations

import contextlib
import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.build

CRASHER = Path(__file__).with_name("crashing.py")
STAGES = ("fetch", "toolchain", "patch", "build", "repair", "check", "smoke", "store")


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


def _state(yard: Path) -> dict[str, object]:
    """Everything in the yard that must come out the same, whatever happened on the way."""
    state: dict[str, object] = {}
    for path in sorted(yard.rglob("*")):
        name = str(path.relative_to(yard))
        if path.is_dir() or name.startswith(("logs/", "locks/")):
            continue
        if path.suffix != ".json" or name.startswith("index/"):
            text = path.read_bytes()
            state[name] = None if name.startswith("index/") else text
            continue
        document = json.loads(path.read_text())
        for key in ("created", "seconds", "measurements"):
            document.pop(key, None)
        document.get("origin", {}).pop("build", None)
        state[name] = document
    return state


def _crash(farm: Path, yard: Path, *, point: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(CRASHER), point, "build", "tinyscale"]
    return subprocess.run(
        [*command, "--farm", str(farm), "--yard", str(yard)],
        check=False,
        capture_output=True,
        text=True,
    )


@pytest.mark.parametrize("stage", STAGES)
def test_killed_in_a_stage_and_run_again_gives_the_same_yard(
    built, wheelyard, farm, tmp_path, stage
):
    expected = _state(built[0])
    yard = tmp_path / "yard"
    killed = _crash(farm, yard, point=f"stage:{stage}")
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    wheelyard("build", "tinyscale", "--farm", farm, "--yard", yard)
    assert _state(yard) == expected


@pytest.mark.heavy
def test_killed_at_every_change_of_the_file_system_gives_the_same_yard(
    built, wheelyard, farm, tmp_path
):
    """The harness: later stages are in it by themselves, since it watches what is written."""
    expected = _state(built[0])
    listing = _crash(farm, tmp_path / "counted", point="count")
    total = int(listing.stdout.rpartition("changes: ")[2])
    assert total > 50
    wrong = []
    for number in range(1, total + 1):
        yard = tmp_path / "yard"
        shutil.rmtree(yard, ignore_errors=True)
        _crash(farm, yard, point=f"change:{number}")
        done = wheelyard("build", "tinyscale", "--farm", farm, "--yard", yard, check=False)
        if done.returncode != 0 or _state(yard) != expected:
            wrong.append((number, done.stderr[-500:]))
    print(f"killed at {total} changes, wrong afterwards: {len(wrong)}")
    assert wrong == []
