"""Many processes over one yard, one published folder, one cache: nothing twice, torn or stuck."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from typing import TYPE_CHECKING

import pytest
from faults.injecting import RUN, Action, Order
from faults.scenarios import arrivals, differences, state

from wheelyard.yard.verifying import verify

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from faults.injecting import Runner
    from faults.reporting import Tally

CROWDS = [2, 4, 16]


@pytest.fixture
def settled(
    runner: Runner, template: Callable[[str], Path], folder: Path
) -> Callable[[], list[str]]:
    """Return a function that brings all to its end and says what is not as it has to be."""
    before = template("settle")
    quiet = Order(folder=folder)
    shutil.copytree(before, folder)
    runner.run("settle", folder, quiet)
    expected = state(folder)
    shutil.rmtree(folder)
    shutil.copytree(before, folder)

    def differences_at_the_end() -> list[str]:
        [done] = runner.run("settle", folder, quiet)
        wrong = [] if done.status == 0 else [done.output]
        wrong += [problem for top in ("yard", "site") for problem in verify(folder / top).problems]
        return wrong + differences(state(folder), expected)

    return differences_at_the_end


@pytest.mark.parametrize("size", CROWDS)
def test_crowd_that_does_everything_at_once_leaves_what_one_leaves(
    size: int, runner: Runner, settled: Callable[[], list[str]], folder: Path, tally: Tally
) -> None:
    ended = runner.run("mix", folder, Order(folder=folder), copies=size)
    wrong = [done.output for done in ended if done.status != 0] + settled()
    counts = tally.begin("crowd", "everything at once", found=size)
    for number in range(size):
        counts.tried(number, survived=not wrong, why=wrong)
    counts.require_nothing_lost()


@pytest.mark.parametrize("size", CROWDS)
def test_crowd_is_not_held_up_by_one_that_is_killed(
    size: int, runner: Runner, settled: Callable[[], list[str]], folder: Path, tally: Tally
) -> None:
    """Whoever makes the n-th change dies of it, maybe with a lock; the others go on."""
    counts = tally.begin("crowd", "one of many is killed", found=200)
    for number in counts.points():
        order = Order(folder=folder, action=Action.KILL, at=number)
        ended = runner.run("mix", folder, order, copies=size)
        wrong = [done.output for done in ended if done.status not in {0, -9}]
        counts.tried(number, survived=not wrong, why=wrong)
    wrong = settled()
    counts.tried("the end", survived=not wrong, why=wrong)
    counts.require_nothing_lost()


@pytest.mark.parametrize("size", CROWDS)
def test_wheels_of_many_yards_are_all_in_the_folder_that_they_publish_into(
    size: int, runner: Runner, template: Callable[[str], Path], folder: Path, tally: Tally
) -> None:
    shutil.copytree(template("publish own"), folder)
    ended = runner.run("publish own", folder, Order(folder=folder), copies=size)
    site = json.loads((folder / "site" / "wheelyard.json").read_text())
    named = {entry["filename"] for entry in site["entries"]}
    wanted = {record.filename for _, record, _ in arrivals(folder)[:size]}
    wrong = [done.output for done in ended if done.status != 0]
    wrong += [*verify(folder / "site").problems, *sorted(wanted - named)]
    counts = tally.begin("crowd", "many yards, one site", found=size)
    for number in range(size):
        counts.tried(number, survived=not wrong, why=wrong)
    counts.require_nothing_lost()


@pytest.mark.parametrize("size", CROWDS)
def test_folder_of_the_cache_is_made_once(
    size: int, runner: Runner, folder: Path, tally: Tally
) -> None:
    folder.mkdir()
    ended = runner.run("make once", folder, Order(folder=folder), copies=size)
    wrong = [done.output for done in ended if done.status != 0]
    fills = (folder / "fills").read_text()
    tally.add("crowd", "one cache", survived=not wrong and fills == "x")
    assert (wrong, fills) == ([], "x")


HOST = ("unshare", "--user", "--map-root-user", "--uts", "--pid", "--fork", "--mount-proc", "--")


def on_host(name: str, scenario: str, folder: Path, number: int, runner: Runner) -> list[str]:
    words = " ".join([*RUN, scenario, str(folder), str(number)])
    # a process before it, so that the numbers differ
    return [*HOST, "sh", "-c", f"hostname {name}; {'true; ' * number} {words}"]


def test_two_hosts_over_one_file_system(
    runner: Runner, settled: Callable[[], list[str]], folder: Path, tally: Tally
) -> None:
    """Neither knows the other's processes, whose numbers mean nothing or somebody else there."""
    if subprocess.run([*HOST, "true"], check=False).returncode != 0:
        pytest.skip("this user may not make namespaces")
    hosts = [
        subprocess.Popen(
            on_host(f"host{number}", "mix", folder, number, runner),
            env=runner.env,
            stderr=subprocess.PIPE,
            text=True,
        )
        for number in range(4)
    ]
    told = [host.communicate(timeout=300)[1] for host in hosts]
    wrong = [text for host, text in zip(hosts, told, strict=True) if host.returncode != 0]
    wrong += settled()
    counts = tally.begin("crowd", "hosts over one file system", found=len(hosts))
    for number in range(len(hosts)):
        counts.tried(number, survived=not wrong, why=wrong)
    counts.require_nothing_lost()


def test_lock_of_a_living_process_of_another_host_is_waited_for_and_of_a_dead_one_taken(
    runner: Runner, folder: Path, tally: Tally
) -> None:
    if subprocess.run([*HOST, "true"], check=False).returncode != 0:
        pytest.skip("this user may not make namespaces")
    folder.mkdir()
    first = subprocess.Popen(
        on_host("first", "hold", folder, 0, runner), env=runner.env, start_new_session=True
    )
    while not (folder / "held").exists():
        assert first.poll() is None
    second = subprocess.Popen(
        on_host("second", "take", folder, 1, runner),
        env=runner.env,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert second.stderr is not None
    said = second.stderr.readline()
    assert " on first has it" in said
    assert second.poll() is None
    os.killpg(first.pid, signal.SIGKILL)
    first.wait()
    assert second.wait(timeout=30) == 0
    second.stderr.close()
    tally.add("crowd", "dead holder on another host", survived=True)
