"""What is said to Slurm, and what becomes of a task by what Slurm says of it."""

from __future__ import annotations

import os
import subprocess
import time
from typing import TYPE_CHECKING, Any

import pytest

from wheelyard.engines.slurm import End, Live, Slurm, render_script
from wheelyard.engines.slurm_run import Folder, SlurmRun, Task, plan_tasks
from wheelyard.errors import InputFileError, MachineError, UsageError, YardError
from wheelyard.model.slurm_settings import SlurmTable, with_words
from wheelyard.scheduling import events
from wheelyard.scheduling.order import schedule

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from wheelyard.engines.slurm import Needs
    from wheelyard.model.job import Job
    from wheelyard.scheduling.events import AnyEvent

QUICK = SlurmTable(poll=0.01)


class _Cluster:
    """A cluster that ends every task as it is told to, one state after another."""

    def __init__(self, *ends: End) -> None:
        self.ends = list(ends)
        self.submitted: list[tuple[tuple[int, ...], Needs]] = []
        self.waiting: dict[str, Live] = {}

    def submit(self, indices: Sequence[int], needs: Needs, **_words: object) -> str:
        self.submitted.append((tuple(indices), needs))
        return str(len(self.submitted))

    def live(self) -> dict[str, Live] | None:
        return self.waiting

    def end(self, _key: str) -> End:
        return self.ends.pop(0)


class _Followed:
    """A run on such a cluster, with a yard that is a set of identifiers."""

    def __init__(self, folder: Path, cluster: _Cluster, settings: SlurmTable) -> None:
        self.folder = Folder(path=folder)
        self.told: list[AnyEvent] = []
        self.yard: set[str] = set()
        words: dict[str, Any] = {"command": ["fill"], "is_done": self.yard.__contains__}
        slurm: Any = cluster
        self.run = SlurmRun(slurm, self.folder, settings, tell=self.told.append, **words)


@pytest.fixture
def follow(tmp_path: Path) -> Callable[..., _Followed]:
    def make(*ends: End, settings: SlurmTable = QUICK) -> _Followed:
        return _Followed(tmp_path / "slurm", _Cluster(*ends), settings)

    return make


def _task(*jobs: str, memory: int = 1000) -> Task:
    return Task(group="g", jobs=jobs or ("a", "b"), index=0, cpus=2, memory=memory, minutes=30)


def _done(job: str) -> events.Done:
    return events.Done(
        time=time.time(),
        job=job,
        filename="x.whl",
        sha256="",
        made=True,
        seconds=1.0,
        cache_hits=0,
        cache_misses=0,
    )


def _names(followed: _Followed, kind: type[Any]) -> list[str]:
    return [event.job for event in followed.told if isinstance(event, kind)]


def test_tasks_ask_for_what_their_recipes_need(make_probe_job: Callable[..., Job]) -> None:
    groups = schedule(make_probe_job(python=python) for python in ("3.11", "3.12", "3.13"))
    (task,) = plan_tasks(groups, SlurmTable(cpus=4))
    assert (task.cpus, len(task.jobs)) == (4, 3)
    assert task.memory == 4 * 2048 + 2 * 768
    # effort: 60 + 3 targets x 240, and 60 for each of the others; 30 s beside for each
    assert task.minutes == -(-int(1.5 * ((780 + 120) / 4 + 90)) // 60) + 15


def test_configuration_replaces_what_recipes_need(make_probe_job: Callable[..., Job]) -> None:
    settings = SlurmTable(cpus=2, memory=5.5, minutes=90, most_minutes=60)
    (task,) = plan_tasks(schedule([make_probe_job()]), settings)
    assert (task.memory, task.minutes) == (5632, 60)


def test_groups_that_need_the_same_are_one_array(follow: Callable[..., _Followed]) -> None:
    followed = follow()
    followed.run.submit([_task("a"), _task("b"), _task("c", memory=9000)])
    cluster: Any = followed.run._slurm
    assert [indices for indices, _ in cluster.submitted] == [(0, 1), (2,)]
    assert [task.key for task in followed.folder.read()] == ["1_0", "1_1", "2_2"]


def test_what_the_cluster_has_is_not_submitted_again(follow: Callable[..., _Followed]) -> None:
    followed = follow()
    followed.run.submit([_task("a", "b")])
    assert followed.run.submit([_task("b")]) == ()
    (task,) = followed.run.submit([_task("b", "c")])
    assert task.jobs == ("c",)


def test_done_jobs_of_a_finished_task_are_told_once(follow: Callable[..., _Followed]) -> None:
    followed = follow(End(state="COMPLETED", exit_code=0))
    (task,) = followed.run.submit([_task()])
    lines = [events.encode(_done(job)) for job in ("a", "b", "a")]
    followed.folder.events_of(task).write_bytes(b"".join(lines) + b'{"event": "done", "jo')
    followed.run.follow()
    assert _names(followed, events.Done) == ["a", "b"]
    assert followed.folder.read()[0].end == "COMPLETED"


@pytest.mark.parametrize(
    "end",
    [
        End(state="TIMEOUT", exit_code=0),
        End(state="NODE_FAIL"),
        End(state="PREEMPTED"),
        End(state="FAILED", exit_code=130),
        End(state=""),
    ],
    ids=["time limit", "node", "preempted", "told to stop", "forgotten"],
)
def test_task_that_was_cut_off_goes_on_with_what_is_left(
    follow: Callable[..., _Followed], end: End
) -> None:
    followed = follow(end, End(state="COMPLETED", exit_code=0))
    followed.yard.add("a")
    followed.run.submit([_task()])
    followed.run._settle(followed.folder.read())
    first, second = followed.folder.read()
    assert (second.jobs, second.attempt, second.memory) == (("b",), 2, first.memory)
    followed.yard.add("b")
    followed.run.follow()
    assert _names(followed, events.Done) == ["a", "b"]
    assert not _names(followed, events.Failed)


def test_memory_is_doubled_up_to_four_times_and_then_it_is_a_failure(
    follow: Callable[..., _Followed],
) -> None:
    followed = follow(*[End(state="OUT_OF_MEMORY", exit_code=0)] * 3)
    followed.run.submit([_task()])
    followed.run.follow()
    assert [task.memory for task in followed.folder.read()] == [1000, 2000, 4000]
    assert _names(followed, events.Failed) == ["a", "b"]


def test_memory_may_be_missed_where_slurm_calls_it_a_failure(
    follow: Callable[..., _Followed],
) -> None:
    followed = follow(End(state="FAILED", exit_code=0), End(state="COMPLETED", exit_code=0))
    (task,) = followed.run.submit([_task()])
    line = "slurmstepd-n1: error: Exceeded job memory limit\n"
    followed.folder.log_of(task).write_text(line)
    followed.run._settle(followed.folder.read())
    assert [one.memory for one in followed.folder.read()] == [1000, 2000]


def test_attempts_come_to_an_end(follow: Callable[..., _Followed]) -> None:
    settings = SlurmTable(poll=0.01, attempts=3)
    followed = follow(*[End(state="TIMEOUT")] * 3, settings=settings)
    followed.run.submit([_task()])
    followed.run.follow()
    assert [task.attempt for task in followed.folder.read()] == [1, 2, 3]
    assert _names(followed, events.Failed) == ["a", "b"]


def test_cancelled_task_is_not_begun_again(follow: Callable[..., _Followed]) -> None:
    followed = follow(End(state="CANCELLED", exit_code=0))
    followed.run.submit([_task()])
    followed.run.follow()
    assert _names(followed, events.Cut) == ["a", "b"]
    assert len(followed.folder.read()) == 1


def test_jobs_that_failed_are_not_tried_again(follow: Callable[..., _Followed]) -> None:
    followed = follow(End(state="FAILED", exit_code=17))
    (task,) = followed.run.submit([_task()])
    failed = events.Failed(time=1.0, job="b", stage="build", message="no", exit_code=10, log="/log")
    followed.folder.events_of(task).write_bytes(events.encode(_done("a")) + events.encode(failed))
    followed.run.follow()
    assert (_names(followed, events.Done), _names(followed, events.Failed)) == (["a"], ["b"])


def test_task_that_ends_without_a_word_is_a_failure_with_its_log(
    follow: Callable[..., _Followed],
) -> None:
    followed = follow(End(state="FAILED", exit_code=75))
    (task,) = followed.run.submit([_task("a")])
    followed.folder.log_of(task).write_text("mkdir: no space\n")
    followed.run.follow()
    (event,) = [one for one in followed.told if isinstance(one, events.Failed)]
    assert "as FAILED (exit code 75)" in event.message
    assert "mkdir: no space" in event.message


def test_slurm_that_does_not_answer_settles_nothing(follow: Callable[..., _Followed]) -> None:
    followed = follow(End(state="COMPLETED", exit_code=0))
    followed.run.submit([_task()])
    followed.yard |= {"a", "b"}
    cluster: Any = followed.run._slurm
    answers = [None, None, {"1_0": Live(state="RUNNING", node="n1")}, {}]
    cluster.live = lambda: answers.pop(0)
    followed.run.follow()
    assert not answers
    assert _names(followed, events.Done) == ["a", "b"]


def test_state_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    (tmp_path / "state.json").write_text("{")
    with pytest.raises(YardError, match="Remove it when `squeue` shows no task of it"):
        Folder(path=tmp_path).read()


# -- the script, run by a real shell


def _run_script(tmp_path: Path, body: str) -> subprocess.Popen[str]:
    tasks = tmp_path / "tasks dir"
    tasks.mkdir()
    (tasks / "3.txt").write_text("--jobs 2 --memory 1.50\njob-a\njob-b\n")
    program = tmp_path / "a program"
    program.write_text(f"#!/bin/sh\n{body}\n")
    program.chmod(0o755)
    script = render_script(
        command=[str(program), "fill", "--json"], scratch=str(tmp_path / "scratch"), tasks=tasks
    )
    (tmp_path / "task.sh").write_text(script)
    (tmp_path / "scratch").mkdir()
    env = {"PATH": os.environ["PATH"], "SLURM_ARRAY_JOB_ID": "9", "SLURM_ARRAY_TASK_ID": "3"}
    return subprocess.Popen(
        ["sh", str(tmp_path / "task.sh")], env=env, stdout=subprocess.PIPE, text=True
    )


def test_script_builds_its_group_offline_on_the_node_s_own_disk(tmp_path: Path) -> None:
    show = (
        'echo "$@"; echo "$WHEELYARD_OFFLINE $WHEELYARD_WORK"; touch "$WHEELYARD_WORK/x"; exit 17'
    )
    child = _run_script(tmp_path, show)
    stdout, _ = child.communicate(timeout=20)
    work = tmp_path / "scratch" / "wheelyard-work-9-3"
    assert stdout.splitlines() == [
        "fill --json --jobs 2 --memory 1.50 job-a job-b",
        f"true {work}",
    ]
    assert child.returncode == 17
    assert not work.exists()


def test_script_that_is_told_to_stop_tells_its_fill_and_waits(tmp_path: Path) -> None:
    trap = 'trap "echo stopping; sleep 0.3; echo over; exit 130" TERM'
    child = _run_script(tmp_path, f"{trap}\necho ready\nsleep 60 >/dev/null 2>&1 &\nwait")
    assert child.stdout is not None
    with child.stdout as stdout:
        assert stdout.readline() == "ready\n"
        child.terminate()
        assert stdout.read().splitlines() == ["stopping", "over"]
    assert child.wait(timeout=20) == 130


# -- Slurm's own programs, as far as their answers go


def _slurm(tmp_path: Path, **programs: str) -> Slurm:
    for name, body in programs.items():
        path = tmp_path / name
        path.write_text(f"#!/bin/sh\n{body}\n")
        path.chmod(0o755)
    env = {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    return Slurm(SlurmTable(), env=env)


@pytest.mark.parametrize(
    ("scontrol", "sacct", "expected"),
    [
        ("echo 'JobId=3 JobState=TIMEOUT Reason=x ExitCode=0:15'", "exit 1", ("TIMEOUT", 0)),
        ("exit 1", "echo 'CANCELLED by 0|0:0'", ("CANCELLED", 0)),
        ("exit 1", "echo 'FAILED|130:0'", ("FAILED", 130)),
        ("exit 1", "exit 1", ("", None)),
        ("exit 1", "echo", ("", None)),
    ],
)
def test_end_is_read_from_the_controller_or_from_accounting(
    tmp_path: Path, scontrol: str, sacct: str, expected: tuple[str, int | None]
) -> None:
    end = _slurm(tmp_path, scontrol=scontrol, sacct=sacct).end("3_1")
    assert (end.state, end.exit_code) == expected


def test_queue_is_read_by_task(tmp_path: Path) -> None:
    slurm = _slurm(tmp_path, squeue="echo '7_0|RUNNING|n1'; echo '7_1|PENDING|'; echo rubbish")
    assert slurm.live() == {
        "7_0": Live(state="RUNNING", node="n1"),
        "7_1": Live(state="PENDING", node=""),
    }


def test_queue_that_cannot_be_asked_says_nothing(tmp_path: Path) -> None:
    assert (
        _slurm(tmp_path, squeue="echo 'Unable to contact slurm controller'; exit 1").live() is None
    )


def test_submission_that_names_no_job_is_an_error(tmp_path: Path) -> None:
    slurm = _slurm(tmp_path, sbatch="echo sbatch: hello")
    with pytest.raises(MachineError, match="which names no job"):
        slurm.submit([0], _task().needs, script=tmp_path, outputs=tmp_path, name="x")


def test_submission_names_what_was_configured(tmp_path: Path) -> None:
    slurm = _slurm(tmp_path, sbatch=f'printf "%s\\n" "$@" > {tmp_path}/said; echo "12;cluster"')
    settings = SlurmTable(partition="p", account="a", gpu="gpu:1", at_once=4, options=("--nice",))
    slurm = Slurm(settings, env=slurm._env)
    words = {"script": tmp_path / "task.sh", "outputs": tmp_path, "name": "x"}
    assert slurm.submit([0, 3], _task().needs, **words) == "12"  # type: ignore[arg-type]
    said = (tmp_path / "said").read_text().splitlines()
    assert {"--array=0,3%4", "--mem=1000M", "--time=30", "--cpus-per-task=2"} <= set(said)
    assert {"--partition=p", "--account=a", "--gres=gpu:1", "--signal=B:TERM@60"} <= set(said)
    assert said[-2:] == ["--nice", f"{tmp_path}/task.sh"]


# -- settings


def test_words_of_the_command_line_win() -> None:
    found = with_words(SlurmTable(cpus=4), ("cpus=16", "most-minutes=60", "options=--nice --hold"))
    assert (found.cpus, found.most_minutes, found.options) == (16, 60, ("--nice", "--hold"))


@pytest.mark.parametrize(
    ("word", "error", "message"),
    [
        ("cpu=1", UsageError, "Did you mean 'cpus'"),
        ("cpus", UsageError, "is no KEY=VALUE"),
        ("cpus=many", InputFileError, "given 'many' - for `cpus`"),
        ("attempts=0", InputFileError, "given '0' - for `attempts`"),
    ],
)
def test_wrong_word_is_refused(word: str, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        with_words(SlurmTable(), (word,))
