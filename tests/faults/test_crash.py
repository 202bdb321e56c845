"""SIGKILL at every change of the file system: the next run comes to the same state."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest
from faults.injecting import Action, Kind, Order
from faults.scenarios import ALONE, differences, state

from wheelyard.yard.verifying import verify

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from faults.injecting import Runner
    from faults.reporting import Tally


def dangling(folder: Path) -> list[str]:
    """Return what a page names that is not there, right after the kill."""
    wrong: list[str] = []
    for top in ("yard", "site"):
        if list((folder / top).rglob("index.v1.json")):
            problems = verify(folder / top).problems
            wrong += [
                text.replace(str(folder), "")
                for text in problems
                if "index" in text and "is not there" in text
            ]
    return wrong


@pytest.mark.parametrize("action", [Action.KILL, Action.TEAR], ids=["kill", "torn"])
@pytest.mark.parametrize("name", ALONE)
def test_killed_at_any_change_and_run_again_gives_the_same_state(
    name: str,
    action: Action,
    runner: Runner,
    template: Callable[[str], Path],
    folder: Path,
    tally: Tally,
) -> None:
    before = template(name)
    kinds = Kind.GROWS if action is Action.TEAR else Kind.ALL

    def run(order: Order) -> int:
        [done] = runner.run(name, folder, order)
        assert done.status in ({0} if order.action is Action.COUNT else {0, -9}), done.output
        return done.seen

    shutil.copytree(before, folder)
    counting = Order(folder=folder, kinds=kinds)
    total = run(counting)
    expected, known = state(folder), set(dangling(before))
    counts = tally.begin("crash", f"{name} ({action.name.lower()})", found=total)
    for number in counts.points():
        shutil.rmtree(folder)
        shutil.copytree(before, folder)
        run(Order(folder=folder, action=action, at=number, kinds=kinds))
        wrong = [text for text in dangling(folder) if text not in known]
        run(counting)
        wrong += differences(state(folder), expected)
        counts.tried(number, survived=not wrong, why=wrong)
    counts.require_nothing_lost()
