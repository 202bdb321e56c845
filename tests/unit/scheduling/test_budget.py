"""Who may compile now: the accounting, without sockets and clocks."""

from __future__ import annotations

import dataclasses
import itertools
import random
from typing import TYPE_CHECKING

import pytest

from wheelyard.scheduling.budget import PATIENCE, Ask, Budget, Kind

if TYPE_CHECKING:
    from collections.abc import Callable

GIB = 2**30


@pytest.fixture
def make_ask() -> Callable[..., Ask]:
    """Return a function that makes the next ask; jobs named ``g/x`` are of the group ``g``."""
    numbers = itertools.count(1)

    def make(
        job: str = "g/x",
        unit: str = "",
        *,
        kind: Kind = "device",
        memory: int = GIB,
        cores: int = 1,
        share: str = "s",
    ) -> Ask:
        number = next(numbers)
        return Ask(
            number=number,
            job=job,
            group=job.partition("/")[0],
            share=share,
            unit=unit or f"unit {number}",
            kind=kind,
            memory=memory,
            cores=cores,
        )

    return make


def _started(budget: Budget) -> list[int]:
    return [go.ask.number for go in budget.admit()]


def test_compiles_start_while_cores_last(make_ask: Callable[..., Ask]) -> None:
    budget = Budget(cores=3, memory=100 * GIB)
    for cores in (2, 1, 1):
        budget.ask(make_ask(cores=cores))
    assert _started(budget) == [1, 2]
    budget.end(2, succeeded=True)
    assert _started(budget) == [3]


def test_compiles_start_while_memory_lasts(make_ask: Callable[..., Ask]) -> None:
    budget = Budget(cores=9, memory=5 * GIB)
    for memory in (3, 2, 1):
        budget.ask(make_ask(memory=memory * GIB))
    assert _started(budget) == [1, 2]
    budget.end(1, succeeded=False)
    assert _started(budget) == [3]


def test_memory_of_a_build_itself_is_not_given_out(make_ask: Callable[..., Ask]) -> None:
    budget = Budget(cores=9, memory=4 * GIB)
    budget.join("g/x", memory=2 * GIB)
    for _ in range(3):
        budget.ask(make_ask())
    assert len(_started(budget)) == 2
    budget.leave("g/x")
    assert len(_started(budget)) == 1


@pytest.mark.parametrize("memory", [GIB, 0])
def test_compile_that_takes_more_than_there_is_runs_alone(
    make_ask: Callable[..., Ask], memory: int
) -> None:
    budget = Budget(cores=2, memory=memory)
    budget.ask(make_ask(memory=9 * GIB, cores=16))
    budget.ask(make_ask())
    assert _started(budget) == [1]
    budget.end(1, succeeded=True)
    assert _started(budget) == [2]


def test_builds_that_take_all_memory_themselves_still_compile(
    make_ask: Callable[..., Ask],
) -> None:
    budget = Budget(cores=2, memory=2 * GIB)
    budget.join("g/x", memory=9 * GIB)
    for _ in range(2):
        budget.ask(make_ask())
    assert _started(budget) == [1]
    budget.end(1, succeeded=True)
    assert _started(budget) == [2]


def test_question_waits_for_nothing(make_ask: Callable[..., Ask]) -> None:
    budget = Budget(cores=1, memory=GIB)
    budget.ask(make_ask())
    budget.ask(make_ask(kind="question", memory=0, cores=0))
    assert _started(budget) == [1, 2]


def test_job_of_higher_priority_goes_first_and_its_device_code_before_all(
    make_ask: Callable[..., Ask],
) -> None:
    budget = Budget(cores=1, memory=GIB)
    budget.join("short/x", priority=10.0)
    budget.join("long/x", priority=99.0)
    for job, kind in (("short/x", "device"), ("long/x", "host"), ("long/x", "device")):
        budget.ask(make_ask(job, kind=kind))
    order = []
    while started := _started(budget):
        order += started
        budget.end(started[0], succeeded=True)
    assert order == [3, 2, 1]


def test_unit_that_a_job_of_the_group_compiles_is_waited_for(make_ask: Callable[..., Ask]) -> None:
    budget = Budget(cores=9, memory=99 * GIB)
    for job in ("g/312", "g/313", "g/314"):
        budget.ask(make_ask(job, "scale"))
        budget.ask(make_ask(job, "binding", kind="host"))
    assert sorted(_started(budget)) == [1, 2, 4, 6]
    budget.end(1, succeeded=True)
    # both find it made, so that they need not wait for one another
    assert _started(budget) == [3, 5]


def test_failed_unit_is_compiled_by_one_of_those_that_waited(make_ask: Callable[..., Ask]) -> None:
    budget = Budget(cores=9, memory=99 * GIB)
    for job in ("g/312", "g/313", "g/314"):
        budget.ask(make_ask(job, "scale"))
    assert _started(budget) == [1]
    budget.end(1, succeeded=False)
    assert _started(budget) == [2]


def test_other_torch_waits_too_since_part_of_the_work_is_shared(
    make_ask: Callable[..., Ask],
) -> None:
    budget = Budget(cores=9, memory=99 * GIB)
    for job in ("torch1/312", "torch2/312", "torch2/313"):
        budget.ask(make_ask(job, "scale"))
    assert _started(budget) == [1]
    budget.end(1, succeeded=True)
    assert _started(budget) == [2]
    budget.end(2, succeeded=True)
    assert _started(budget) == [3]


def test_same_source_of_unrelated_jobs_is_not_waited_for(make_ask: Callable[..., Ask]) -> None:
    budget = Budget(cores=9, memory=99 * GIB)
    budget.ask(make_ask("a/x", "scale", share="a"))
    budget.ask(make_ask("b/x", "scale", share="b"))
    assert _started(budget) == [1, 2]


def test_one_job_that_names_a_unit_twice_does_not_wait_for_itself(
    make_ask: Callable[..., Ask],
) -> None:
    budget = Budget(cores=9, memory=99 * GIB)
    for _ in range(2):
        budget.ask(make_ask("g/x", "scale"))
    assert _started(budget) == [1, 2]


def test_unit_made_since_the_job_began_needs_a_fresh_look_into_the_cache(
    make_ask: Callable[..., Ask],
) -> None:
    budget = Budget(cores=9, memory=99 * GIB)
    budget.join("g/312")
    budget.join("g/313")
    budget.ask(make_ask("g/312", "scale"))
    assert [go.fresh for go in budget.admit()] == [False]
    budget.end(1, succeeded=True)
    budget.ask(make_ask("g/313", "scale"))
    budget.ask(make_ask("g/313", "other"))
    assert [go.fresh for go in budget.admit()] == [True, False]
    # this one's cache server starts later, and reads what is there
    budget.join("g/314")
    budget.ask(make_ask("g/314", "scale"))
    assert [go.fresh for go in budget.admit()] == [False]


def test_what_was_made_before_the_cache_server_started_needs_no_fresh_look(
    make_ask: Callable[..., Ask],
) -> None:
    budget = Budget(cores=9, memory=99 * GIB)
    budget.join("g/312")
    budget.join("g/313")
    budget.ask(make_ask("g/312", "scale"))
    budget.admit()
    budget.end(1, succeeded=True)
    begin = make_ask("g/313", kind="question", memory=0, cores=0)
    budget.ask(dataclasses.replace(begin, begins=True))
    budget.ask(make_ask("g/313", "scale"))
    assert [go.fresh for go in budget.admit()] == [False, False]


def test_small_compiles_fill_the_room_that_a_large_one_cannot_use_but_not_for_ever(
    make_ask: Callable[..., Ask],
) -> None:
    budget = Budget(cores=9, memory=4 * GIB)
    small = make_ask(memory=2 * GIB)
    budget.ask(small)
    assert _started(budget) == [small.number]
    large = make_ask(memory=4 * GIB)
    budget.ask(large)
    running, passed = [small.number], 0
    while large.number not in running:
        budget.ask(make_ask(memory=2 * GIB))
        started = _started(budget)
        passed += len(started) - (large.number in started)
        assert passed <= PATIENCE + 1
        running += started
        budget.end(running.pop(0), succeeded=True)
        running += _started(budget)
    assert passed > 1


def test_job_of_low_priority_does_not_starve(make_ask: Callable[..., Ask]) -> None:
    budget = Budget(cores=1, memory=GIB)
    budget.join("high/x", priority=99.0)
    budget.ask(make_ask("high/x"))
    running = _started(budget)
    low = make_ask("low/x")
    budget.ask(low)
    for turn in itertools.count():
        budget.ask(make_ask("high/x"))
        budget.end(running[0], succeeded=True)
        running = _started(budget)
        if running == [low.number]:
            break
        assert turn <= PATIENCE


@pytest.mark.parametrize("seed", range(60))
def test_whatever_happens_the_budget_holds_and_everything_ends(
    make_ask: Callable[..., Ask], seed: int
) -> None:
    chance = random.Random(seed)  # noqa: S311 - repeatable
    budget = Budget(cores=chance.randint(1, 8), memory=chance.randint(2, 16) * GIB)
    asks = [
        make_ask(
            f"{chance.choice('abc')}/{chance.randint(1, 4)}",
            chance.choice(["", "one", "two", "three"]),
            kind=chance.choice(["device", "host"]),
            memory=chance.randint(0, 5 * GIB),
            cores=chance.randint(1, 3),
            share=chance.choice("st"),
        )
        for _ in range(chance.randint(1, 150))
    ]
    for job in {ask.job for ask in asks}:
        budget.join(job, priority=chance.random(), memory=chance.randint(0, GIB))
    coming = list(reversed(asks))
    ended: set[int] = set()
    finished: set[tuple[str, str]] = set()
    makers: dict[tuple[str, str], str] = {}
    steps = 0
    while len(ended) < len(asks):
        steps += 1
        assert steps < 100 * len(asks), "it stands still"
        for _ in range(min(len(coming), chance.randint(0, 5))):
            budget.ask(coming.pop())
        for go in budget.admit():
            key = (go.ask.share, go.ask.unit)
            if go.ask.kind == "device" and (go.ask.group, go.ask.unit) not in finished:
                assert makers.get(key, go.ask.job) == go.ask.job, "compiled twice at once"
                makers[key] = go.ask.job
        running = budget.running
        if len(running) > 1:
            assert sum(ask.cores for ask in running) <= budget.cores
            assert budget.memory_used <= budget.memory
        unlucky = budget.waiting and chance.random() < 0.05
        hung_up = chance.sample(budget.waiting, k=1) if unlucky else []
        done = chance.sample(running, k=chance.randint(0, len(running)))
        for ask in (*done, *hung_up):
            succeeded = chance.random() < 0.9
            budget.end(ask.number, succeeded=succeeded)
            ended.add(ask.number)
            if ask in done and succeeded:
                finished.add((ask.group, ask.unit))
        makers = {
            (ask.share, ask.unit): ask.job
            for ask in budget.running
            if ask.kind == "device" and (ask.group, ask.unit) not in finished
        }
    assert not budget.running
    assert not budget.waiting
