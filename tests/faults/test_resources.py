"""Clocks that jump, limits that are low, children that die, paths that are long, many jobs."""

from __future__ import annotations

import contextlib
import json
import shutil
from typing import TYPE_CHECKING

import pytest
from faults.injecting import Action, Order, Runner, RunnerEndedError
from faults.scenarios import MANY, differences, state
from faults.test_pipeline import begin, left_over, result, tiny_farm
from faults.tiny_farm import put_farm

from wheelyard.errors import INTERRUPTED_EXIT_CODE
from wheelyard.yard.verifying import verify

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from faults.reporting import Tally
    from faults.tiny_farm import TinyFarm

__all__ = ["begin", "tiny_farm"]
TEN_YEARS = 315_360_000.0


@pytest.fixture
def limited(runner: Runner, tmp_path: Path) -> Iterator[Callable[[Sequence[str]], Runner]]:
    """Return a function that starts a runner behind a program that limits it."""
    started: list[Runner] = []

    def start(prefix: Sequence[str]) -> Runner:
        folder = tmp_path / f"limited{len(started)}"
        started.append(Runner(runner.library, folder, env=runner.env, prefix=prefix))
        return started[-1]

    yield start
    for one in started:
        one.close()


def expected_of(runner: Runner, begin: Callable[[], None], folder: Path) -> dict[str, object]:
    """Return what the whole job comes to when nothing happens; begin anew."""
    begin()
    [done] = runner.run("build", folder, Order(folder=folder))
    assert done.status == 0, done.output
    expected = result(folder)
    begin()
    return expected


def wrong_at_the_end(folder: Path, expected: dict[str, object]) -> list[str]:
    problems = [*verify(folder / "yard").problems, *verify(folder / "site").problems]
    return problems + differences(result(folder), expected) + left_over(folder)


def test_clock_that_jumps_changes_nothing(
    runner: Runner, begin: Callable[[], None], folder: Path, tally: Tally
) -> None:
    expected = expected_of(runner, begin, folder)
    order = Order(folder=folder, action=Action.JUMP, pause=TEN_YEARS)
    runner.run("tell the time", folder, order)
    assert (folder / "clock").read_text() == "jumps"
    [done] = runner.run("build", folder, order)
    wrong = [done.output] if done.status else wrong_at_the_end(folder, expected)
    tally.add("resources", "clock jumps by ten years", survived=not wrong)
    assert not wrong


def test_sixty_four_open_files_are_enough(
    runner: Runner,
    limited: Callable[[Sequence[str]], Runner],
    begin: Callable[[], None],
    folder: Path,
    tally: Tally,
) -> None:
    expected = expected_of(runner, begin, folder)
    [done] = limited(["prlimit", "--nofile=64:64"]).run("build", folder)
    wrong = [done.output] if done.status else wrong_at_the_end(folder, expected)
    tally.add("resources", "64 open files", survived=not wrong)
    assert not wrong


@pytest.mark.parametrize("length", [300, 1000, 3000])
def test_long_path_builds_the_same_or_is_refused_in_words(
    length: int,
    runner: Runner,
    begin: Callable[[], None],
    tiny_farm: tuple[TinyFarm, str],
    folder: Path,
    tally: Tally,
) -> None:
    """A socket's path has 108 bytes, a name 255, a path 4096."""
    tally.require_time()
    expected = expected_of(runner, begin, folder)
    long = folder.with_name("long").joinpath(*["x" * 100] * (length // 100))
    made, url = tiny_farm
    put_farm(made, long, url=url)
    [done] = runner.run("build", long)
    if done.status == 0:
        wrong = wrong_at_the_end(long, expected)
    else:
        is_told = done.status < 30 and "Traceback" not in done.output
        wrong = [] if is_told else [done.output]
    tally.add("resources", "long path", survived=not wrong)
    assert not wrong


@pytest.mark.parametrize("action", [Action.KILL_CHILD, Action.INTERRUPT], ids=["child", "ctrl-c"])
def test_dying_child_or_ctrl_c_leaves_no_process_and_the_next_run_completes(
    action: Action, runner: Runner, begin: Callable[[], None], folder: Path, tally: Tally
) -> None:
    tally.require_time()
    expected = expected_of(runner, begin, folder)
    [whole] = runner.run("build", folder, Order(folder=folder, action=action))
    name = "a child dies" if action is Action.KILL_CHILD else "Ctrl-C"
    counts = tally.begin("resources", name, found=whole.seen, cost=6)
    for number in counts.points():
        begin()
        [hit] = runner.run("build", folder, Order(folder=folder, action=action, at=number))
        wrong = []
        if not 0 <= hit.status < 30 and hit.status != INTERRUPTED_EXIT_CODE:
            wrong.append(f"status {hit.status}: {hit.output[-1500:]}")
        if hit.left:
            wrong.append(f"{hit.left} processes went on")
        [again] = runner.run("build", folder, Order(folder=folder))
        wrong += [again.output[-1500:]] if again.status else wrong_at_the_end(folder, expected)
        counts.tried(number, survived=not wrong, why=wrong)
    counts.require_nothing_lost()


@pytest.mark.parametrize("megabytes", [8, 12, 16, 20, 24, 25, 26, 27, 28])
@pytest.mark.parametrize("name", ["store", "publish"])
def test_too_little_memory_loses_nothing(
    name: str,
    megabytes: int,
    runner: Runner,
    limited: Callable[[Sequence[str]], Runner],
    template: Callable[[str], Path],
    folder: Path,
    tally: Tally,
) -> None:
    before = template(name)
    quiet = Order(folder=folder)
    shutil.copytree(before, folder)
    runner.run(name, folder, quiet)
    expected = state(folder)
    shutil.rmtree(folder)
    shutil.copytree(before, folder)
    prefix = ["sh", "-c", f'ulimit -d {megabytes * 1024}; exec "$@"', "sh"]
    starving = limited(prefix)
    was_enough = False
    with contextlib.suppress(RunnerEndedError):  # there may be too little even to begin
        [starved] = starving.run(name, folder, quiet)
        was_enough = starved.status == 0
    [again] = runner.run(name, folder, quiet)
    survived = again.status == 0 and state(folder) == expected
    if not was_enough:
        tally.add("resources", "too little memory", survived=survived)
    assert survived
    if was_enough:
        pytest.skip("that is enough here")


def test_thousands_of_wheels_are_listed_with_few_open_files_and_after_a_kill(
    runner: Runner,
    limited: Callable[[Sequence[str]], Runner],
    template: Callable[[str], Path],
    folder: Path,
    tally: Tally,
) -> None:
    before = template("many")
    shutil.copytree(before, folder)
    [whole] = limited(["prlimit", "--nofile=64:64"]).run("many", folder, Order(folder=folder))
    assert whole.status == 0, whole.output
    expected = state(folder)
    page = json.loads(
        (folder / "yard/index/torch2.11.0-cu130/simple/demo-ext/index.v1.json").read_bytes()
    )
    assert len(page["files"]) == MANY
    counts = tally.begin("resources", "thousands of wheels", found=whole.seen, cost=15)
    for number in counts.points():
        shutil.rmtree(folder)
        shutil.copytree(before, folder)
        runner.run("many", folder, Order(folder=folder, action=Action.KILL, at=number))
        [again] = runner.run("many", folder, Order(folder=folder))
        wrong = [] if again.status == 0 else [again.output]
        wrong += differences(state(folder), expected)
        counts.tried(number, survived=not wrong, why=wrong)
    counts.require_nothing_lost()
