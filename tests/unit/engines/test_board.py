"""What a fill shows of itself."""

from __future__ import annotations

import pytest

from wheelyard.engines.board import Board, shorten
from wheelyard.scheduling import events

GIB = 2**30
JOBS = tuple(f"causal-conv1d-1.7.0-cp31{minor}-torch2.11.0-cu130-x86_64" for minor in (2, 3, 4))


def _board() -> Board:
    board = Board()
    board.tell(
        events.FillStarted(
            time=100.0,
            cores=4,
            memory=16 * GIB,
            jobs=tuple(
                events.Expected(job=job, group="g", leader=job == JOBS[0], seconds=60.0)
                for job in JOBS
            ),
        )
    )
    board.tell(events.JobStarted(time=100.0, job=JOBS[0], log="/a/log"))
    board.tell(events.Stage(time=101.0, job=JOBS[0], name="build", state="begin"))
    board.tell(events.Step(time=110.0, job=JOBS[0], done=3, total=12))
    board.tell(events.Usage(time=110.0, cores=3.14, memory=2 * GIB, jobs={JOBS[0]: 2 * GIB}))
    return board


def _failed(job: str) -> events.Failed:
    return events.Failed(
        time=120.0, job=job, stage="build", message="no", exit_code=10, log="/a/log"
    )


def test_running_job_is_one_line_with_steps_time_and_memory() -> None:
    lines = _board().lines(130.0, width=120)
    assert lines[0].split() == [JOBS[0], "build", "3/12", "0:30/1:00", "2.0G"]
    assert lines[1] == ("0 of 3 done, 1 running; cores 3.1/4; memory 2.0/16.0 GiB; 2:30 left")
    assert len(lines) == 2


def test_job_that_waits_for_its_leader_is_promised_no_time() -> None:
    board = _board()
    board.tell(events.JobStarted(time=100.0, job=JOBS[1], log="/a/log"))
    assert board.lines(190.0, width=120)[1].split() == [JOBS[1], "starting", "1:30", "0.0G"]


@pytest.mark.parametrize("width", [60, 80, 200])
def test_no_line_is_wider_than_the_terminal(width: int) -> None:
    board = _board()
    board.rows[JOBS[0]].total = 1234
    assert max(map(len, board.lines(99_999.0, width=width))) <= width


def test_line_of_80_columns_still_tells_python_and_torch() -> None:
    (line, _) = _board().lines(130.0, width=80)
    assert line.startswith("causal-conv1d-1.7.0-c…")
    assert shorten(JOBS[0], 43) in line


def test_job_that_ended_makes_room() -> None:
    board = _board()
    board.tell(_failed(JOBS[0]))
    board.tell(events.JobStarted(time=120.0, job=JOBS[1], log="/a/log"))
    board.tell(
        events.Done(
            time=150.0,
            job=JOBS[1],
            filename="a.whl",
            sha256="1" * 64,
            made=True,
            seconds=30.0,
            cache_hits=3,
            cache_misses=1,
        )
    )
    board.tell(events.Cut(time=151.0, job=JOBS[2], reason="deadline", was_running=False))
    assert board.lines(160.0, width=200) == (
        "1 of 3 done, 1 failed; cores 3.1/4; memory 2.0/16.0 GiB",
    )
    assert (len(board.done), len(board.failed), len(board.cut)) == (1, 1, 1)


def test_step_counts_are_shown_while_it_compiles_only() -> None:
    board = _board()
    board.tell(events.Stage(time=140.0, job=JOBS[0], name="smoke", state="begin"))
    assert "3/12" not in board.lines(141.0, width=120)[0]


@pytest.mark.parametrize(
    ("width", "expected"),
    [(8, "abcdef  "), (6, "abcdef"), (5, "ab…ef"), (4, "a…ef")],
)
def test_identifier_is_shortened_in_its_middle(width: int, expected: str) -> None:
    assert shorten("abcdef", width) == expected
