"""A disk that is full, broken, read-only, slow or split: said plainly, and nothing is lost."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest
from faults.injecting import RUN, Action, Kind, Order, read_trace
from faults.scenarios import ALONE, differences, state
from faults.test_crash import dangling

from wheelyard.errors import DiskError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from faults.injecting import Change, Runner
    from faults.reporting import Tally

CHANGES = Kind.GROWS | Kind.SHRINKS | Kind.RENAMES
REFUSALS = {
    "full": (Action.FAIL_FROM, errno.ENOSPC, Kind.GROWS),
    "full for a moment": (Action.FAIL, errno.ENOSPC, Kind.GROWS),
    "over quota": (Action.FAIL_FROM, errno.EDQUOT, Kind.GROWS),
    "read-only": (Action.FAIL_FROM, errno.EROFS, CHANGES),
    "denied": (Action.FAIL, errno.EACCES, CHANGES),
    "broken": (Action.FAIL, errno.EIO, CHANGES),
    "not written out": (Action.FAIL, errno.EIO, Kind.SYNCS),
    "across devices": (Action.FAIL_FROM, errno.EXDEV, Kind.RENAMES),
}
SHORT = frozenset({"full", "broken", "across devices"})
"""What is tried in every run of the tests."""


@pytest.mark.parametrize("fault", REFUSALS)
@pytest.mark.parametrize("name", ALONE)
def test_refused_at_any_change_it_says_so_and_the_next_run_completes(
    name: str,
    fault: str,
    runner: Runner,
    template: Callable[[str], Path],
    folder: Path,
    tally: Tally,
) -> None:
    if fault not in SHORT:
        tally.require_time()
    action, number_of_error, kinds = REFUSALS[fault]
    before = template(name)
    known = set(dangling(before))
    shutil.copytree(before, folder)
    counting = Order(folder=folder, kinds=kinds)
    total = runner.run(name, folder, counting)[0].seen
    expected = state(folder)
    if not total:
        pytest.skip("there is no such change")
    counts = tally.begin("disk", f"{fault}, {name}", found=total, cost=3)
    for number in counts.points():
        shutil.rmtree(folder)
        shutil.copytree(before, folder)
        order = Order(folder=folder, action=action, at=number, error=number_of_error, kinds=kinds)
        [refused] = runner.run(name, folder, order)
        wrong = [text for text in dangling(folder) if text not in known]
        if refused.status not in {0, DiskError.exit_code}:
            wrong.append(f"status {refused.status}: {refused.output[-1000:]}")
        if refused.status == 0:  # it went another way
            wrong += differences(state(folder), expected)
        [again] = runner.run(name, folder, counting)
        wrong += [] if again.status == 0 else [again.output]
        wrong += differences(state(folder), expected)
        counts.tried(number, survived=not wrong, why=wrong)
    counts.require_nothing_lost()


@pytest.mark.parametrize("name", ALONE)
def test_no_name_becomes_durable_before_what_it_names(
    name: str, runner: Runner, template: Callable[[str], Path], folder: Path, tally: Tally
) -> None:
    """The order of writes, renames and syncs is what survives when the power fails."""
    shutil.copytree(template(name), folder)
    trace = folder.with_name("trace")
    [done] = runner.run(name, folder, Order(folder=folder, trace=trace))
    assert done.status == 0, done.output
    changes = read_trace(trace)
    counts = tally.begin("disk", f"order of syncs, {name}", found=0)
    counts.most = counts.found = len(changes)
    wrong = dict(lost_by_a_power_cut(changes))
    for change in changes:
        counts.tried(change, survived=change.number not in wrong, why=wrong.get(change.number))
    counts.require_nothing_lost()


def lost_by_a_power_cut(changes: list[Change]) -> list[tuple[int, str]]:
    """Return the renames whose file, or whose folder, was not made durable."""
    wrong = []
    dirty: dict[str, int] = {}
    names: dict[str, int] = {}
    for change in changes:
        path, parent = change.path, os.path.dirname(change.path)  # noqa: PTH120
        match change.what:
            case "write" | "pwrite" | "writev" | "copy" | "truncate" | "open":
                dirty[path] = change.number
            case "fsync":
                dirty.pop(path, None)
                names = {name: number for name, number in names.items() if name != path}
            case "syncfs":
                dirty.clear()
            case "rename" | "link":
                if any(name == path or name.startswith(f"{path}/") for name in dirty):
                    wrong.append((change.number, f"{change.to} was not synced before"))
                names[os.path.dirname(change.to)] = change.number  # noqa: PTH120
            case "mkdir":
                names[parent] = change.number
            case "rmdir":
                names.pop(path, None)
    wrong += [
        (number, f"the names in {name} were not synced after") for name, number in names.items()
    ]
    return wrong


@pytest.mark.parametrize("umask", [0o000, 0o027, 0o077])
def test_umask_of_whoever_runs_it_makes_no_file_unreadable_or_open_to_all(
    umask: int, runner: Runner, template: Callable[[str], Path], folder: Path, tally: Tally
) -> None:
    shutil.copytree(template("publish"), folder)
    before = os.umask(umask)
    try:
        own = type(runner)(runner.library, folder.with_name("runner"), env=runner.env)
    finally:
        os.umask(before)
    [done] = own.run("publish", folder)
    own.close()
    modes = {
        path.stat().st_mode & 0o777 for path in (folder / "site").rglob("*.*") if path.is_file()
    }
    tally.add("disk", "odd umask", survived=(done.status, modes) == (0, {0o644}))
    assert (done.status, modes) == (0, {0o644}), done.output


@pytest.mark.parametrize("name", ALONE)
def test_slow_disk_changes_nothing(
    name: str, runner: Runner, template: Callable[[str], Path], folder: Path, tally: Tally
) -> None:
    before = template(name)
    shutil.copytree(before, folder)
    runner.run(name, folder, Order(folder=folder))
    expected = state(folder)
    shutil.rmtree(folder)
    shutil.copytree(before, folder)
    [done] = runner.run(name, folder, Order(folder=folder, action=Action.SLOW, pause=0.002))
    survived = done.status == 0 and state(folder) == expected
    tally.add("disk", "slow", survived=survived)
    assert survived, done.output


NAMESPACE = ("unshare", "--user", "--map-root-user", "--mount", "--", "sh", "-c")


def in_namespace(script: str, folder: Path, runner: Runner) -> subprocess.CompletedProcess[str]:
    """Run a shell script that may mount; in it ``run SCENARIO`` runs one in ``folder``."""
    if subprocess.run([*NAMESPACE, "true"], check=False).returncode != 0:
        pytest.skip("this user may not make namespaces")
    (folder / "yard").mkdir(exist_ok=True)
    words = " ".join(RUN)
    head = f'cd {folder} && run() {{ {words} "$1" {folder} 0; }}\n'
    return subprocess.run(
        [*NAMESPACE, head + script], check=False, capture_output=True, text=True, env=runner.env
    )


@pytest.mark.parametrize("kilobytes", [8, 16, 32, 48, 64, 96])
def test_real_file_system_of_a_few_pages_is_survived(
    kilobytes: int,
    runner: Runner,
    template: Callable[[str], Path],
    folder: Path,
    tally: Tally,
) -> None:
    """What the kernel really does when a file system is full."""
    before = template("store")
    shutil.copytree(before, folder)
    runner.run("store", folder, Order(folder=folder))
    expected = state(folder)
    shutil.rmtree(folder)
    shutil.copytree(before, folder)
    script = f"""
mount -t tmpfs -o size={kilobytes}k none yard || exit 90
run store; first=$?
mount -o remount,size=4m yard && run store || exit 91
cp -r yard kept
exit $first
"""
    done = in_namespace(script, folder, runner)
    (folder / "yard").rmdir()
    wrong = [] if done.returncode in {0, DiskError.exit_code} else [done.stderr]
    if not wrong:
        (folder / "kept").rename(folder / "yard")
        wrong = differences(state(folder), expected)
    tally.add("disk", "real small disk", survived=not wrong)
    assert not wrong


def test_pruning_takes_no_space(
    runner: Runner, template: Callable[[str], Path], folder: Path, tally: Tally
) -> None:
    shutil.copytree(template("prune"), folder)
    full = Order(folder=folder, action=Action.FAIL_FROM, at=1, error=errno.ENOSPC, kinds=Kind.GROWS)
    [done] = runner.run("prune", folder, full)
    tally.add("disk", "prune without any space", survived=done.status == 0)
    assert done.status == 0, done.output


def test_full_disk_can_be_pruned(
    runner: Runner, template: Callable[[str], Path], folder: Path, tally: Tally
) -> None:
    """Whoever frees space needs some: for the name in the lock, and for the index."""
    shutil.copytree(template("store"), folder)
    script = """
mount -t tmpfs -o size=256k none yard && run store || exit 90
rm yard/index/state.json
dd if=/dev/zero of=yard/wheels/.part-cut.whl bs=1k status=none
touch full && run prune || exit 91
test ! -e yard/wheels/.part-cut.whl && test -e yard/index/state.json
"""
    done = in_namespace(script, folder, runner)
    tally.add("disk", "prune on a full disk", survived=done.returncode == 0)
    assert done.returncode == 0, done.stderr
