"""Groups on a cluster: submitted as arrays, followed, and submitted again where they were cut off.

All that is remembered lies on the shared file system: what was submitted in ``state.json``, what
happened in each task's own file of events, what was made in the yard. So whoever follows may go
away and another come.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import math
import re
import time
from typing import TYPE_CHECKING, Final, Literal

import msgspec

from wheelyard.engines.local import JOB_MEMORY
from wheelyard.engines.slurm import AGAIN, End, Needs, Slurm, render_script
from wheelyard.errors import YardError
from wheelyard.files import replace_file
from wheelyard.locking import held
from wheelyard.model.decode import UNREADABLE
from wheelyard.scheduling import events

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path

    from wheelyard.model.slurm_settings import SlurmTable
    from wheelyard.scheduling.events import AnyEvent
    from wheelyard.scheduling.order import ScheduledGroup

logger = logging.getLogger(__name__)

FORMAT: Literal[1] = 1
INTERRUPTED: Final = 130
_MOST_MEMORY_TIMES = 4
_SLACK_MINUTES = 15
_LAST_LINES = 8
_OUT_OF_MEMORY = re.compile(r"slurmstepd\S*: error: .*(memory limit|oom[-_ ]kill)", re.IGNORECASE)
_TOLD = (
    events.JobStarted,
    events.Stage,
    events.Step,
    events.Remark,
    events.Unit,
    events.Found,
    events.Done,
    events.Failed,
)


class Task(msgspec.Struct, frozen=True, kw_only=True):
    """One group as one element of an array."""

    group: str
    jobs: tuple[str, ...]
    index: int
    cpus: int
    memory: int
    """In MiB."""
    minutes: int
    array: str = ""
    attempt: int = 1
    end: str = ""
    """How it ended; empty while Slurm has it."""

    @property
    def key(self) -> str:
        return f"{self.array}_{self.index}"

    @property
    def words(self) -> str:
        """What the task's fill is given beside what all have in common."""
        memory = 0.9 * self.memory / 1024
        return f"--jobs {self.cpus} --memory {memory:.2f}\n" + "".join(
            f"{name}\n" for name in self.jobs
        )

    @property
    def needs(self) -> Needs:
        return Needs(cpus=self.cpus, memory=self.memory, minutes=self.minutes)


class _State(msgspec.Struct, frozen=True, kw_only=True):
    format: Literal[1] = FORMAT
    tasks: tuple[Task, ...] = ()


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Folder:
    """Where a yard keeps what it knows of its cluster."""

    path: Path

    @property
    def tasks(self) -> Path:
        """What each element of an array builds."""
        return self.path / "tasks"

    @property
    def outputs(self) -> Path:
        """What each element said: events on stdout, the rest on stderr."""
        return self.path / "outputs"

    def events_of(self, task: Task) -> Path:
        return self.outputs / f"{task.key}.jsonl"

    def log_of(self, task: Task) -> Path:
        return self.outputs / f"{task.key}.log"

    def read(self) -> tuple[Task, ...]:
        """Return every task that was submitted, the oldest first."""
        path = self.path / "state.json"
        try:
            return msgspec.json.decode(path.read_bytes(), type=_State).tasks
        except FileNotFoundError:
            return ()
        except UNREADABLE as error:
            msg = f"{path} cannot be read: {error}. Remove it when `squeue` shows no task of it."
            raise YardError(msg) from error

    @contextlib.contextmanager
    def changing(self) -> Iterator[list[Task]]:
        """Yield the tasks to be changed, by nobody else meanwhile."""
        self.outputs.mkdir(parents=True, exist_ok=True)
        self.tasks.mkdir(exist_ok=True)
        with held(self.path / ".lock", what="another fill of this yard on the cluster"):
            tasks = list(self.read())
            try:
                yield tasks
            finally:
                text = msgspec.json.format(msgspec.json.encode(_State(tasks=tuple(tasks))))
                replace_file(self.path / "state.json", text + b"\n")


def plan_tasks(groups: Iterable[ScheduledGroup], settings: SlurmTable) -> tuple[Task, ...]:
    """Return what each group asks for: as configured, or as its recipe needs."""
    return tuple(_task(group, settings) for group in groups)


def _task(group: ScheduledGroup, settings: SlurmTable) -> Task:
    build = group.group.leader.version.build
    jobs = group.group.jobs
    needed = settings.cpus * build.memory_per_job + min(2, len(jobs)) * JOB_MEMORY
    seconds = 1.5 * (group.cpu_seconds / settings.cpus + group.overhead * len(jobs))
    minutes = settings.minutes or math.ceil(seconds / 60) + _SLACK_MINUTES
    return Task(
        group=group.group.name,
        jobs=tuple(job.identifier for job in jobs),
        index=0,
        cpus=settings.cpus,
        memory=math.ceil(settings.memory * 1024) or math.ceil(needed / 2**20),
        minutes=min(minutes, settings.most_minutes),
    )


class SlurmRun:
    """Submits tasks and follows them to their ends."""

    def __init__(
        self,
        slurm: Slurm,
        folder: Folder,
        settings: SlurmTable,
        *,
        command: Sequence[str],
        is_done: Callable[[str], bool],
        tell: Callable[[AnyEvent], object] = lambda _event: None,
    ) -> None:
        self._slurm = slurm
        self._folder = folder
        self._settings = settings
        self._command = command
        self._is_done = is_done
        """Whether the yard has the job, by its identifier."""
        self._tell = tell
        self._read: dict[str, int] = {}
        self._told: dict[str, AnyEvent] = {}
        """The last word on each job: done, failed or cut."""

    def submit(self, tasks: Iterable[Task]) -> tuple[Task, ...]:
        """Submit those groups that no task on the cluster has yet; return the new ones."""
        with self._folder.changing() as known:
            if all(task.end for task in known):
                known.clear()  # of an earlier fill
            taken = {name for task in known if not task.end for name in task.jobs}
            new = [
                msgspec.structs.replace(task, jobs=left)
                for task in tasks
                if (left := tuple(name for name in task.jobs if name not in taken))
            ]
            return self._submit(new, known)

    def _submit(self, new: Sequence[Task], known: list[Task]) -> tuple[Task, ...]:
        """Submit one array for all that need the same, and note each as soon as it is there."""
        submitted: list[Task] = []
        first = max((task.index for task in known), default=-1) + 1
        numbered = [
            msgspec.structs.replace(task, index=first + number) for number, task in enumerate(new)
        ]
        script = self._folder.path / "task.sh"
        replace_file(script, self._script().encode())
        for needs in dict.fromkeys(task.needs for task in numbered):
            batch = [task for task in numbered if task.needs == needs]
            for task in batch:
                replace_file(self._folder.tasks / f"{task.index}.txt", task.words.encode())
            array = self._slurm.submit(
                [task.index for task in batch],
                needs,
                script=script,
                outputs=self._folder.outputs,
                name="wheelyard",
            )
            added = [msgspec.structs.replace(task, array=array) for task in batch]
            known += added
            submitted += added
        return tuple(submitted)

    def _script(self) -> str:
        return render_script(
            command=self._command, scratch=self._settings.scratch, tasks=self._folder.tasks
        )

    def follow(self) -> None:
        """Tell what happens until Slurm has nothing more of ours."""
        over = {task.key for task in self._folder.read() if task.end}
        while True:
            tasks = [task for task in self._folder.read() if task.key not in over]
            live = self._slurm.live()
            for task in tasks:
                self._hear(task)
            if live is not None:
                self._settle([task for task in tasks if task.key not in live])
                if all(task.end for task in self._folder.read()):
                    return
            time.sleep(self._settings.poll)

    def _hear(self, task: Task) -> None:
        """Pass on what a task wrote since it was last looked at."""
        try:
            with self._folder.events_of(task).open("rb") as file:
                file.seek(self._read.get(task.key, 0))
                received = file.read()
        except FileNotFoundError:
            return
        buffer = bytearray()
        for line in events.lines_of(buffer, received):
            with contextlib.suppress(ValueError):
                event = events.decode(line)
                if isinstance(event, _TOLD):
                    self._pass_on(event)
        self._read[task.key] = self._read.get(task.key, 0) + len(received) - len(buffer)

    def _pass_on(self, event: AnyEvent) -> None:
        if isinstance(event, (events.Done, events.Failed, events.Cut)):
            before = self._told.get(event.job)
            if isinstance(before, events.Done) or type(before) is type(event):
                return  # another attempt found it done
            self._told[event.job] = event
        self._tell(event)

    def _settle(self, gone: Sequence[Task]) -> None:
        """Deal with the tasks that Slurm has no more: finished, failed, or to be gone on with."""
        keys = {task.key for task in gone if not task.end}
        if not keys:
            return
        with self._folder.changing() as known:
            again: list[Task] = []
            for at, task in enumerate(known):
                if task.end or task.key not in keys:
                    continue  # somebody else has dealt with it
                self._hear(task)
                end = self._slurm.end(task.key)
                known[at] = msgspec.structs.replace(task, end=end.state or "UNKNOWN")
                next_task = self._judge(task, end)
                again += [] if next_task is None else [next_task]
            if again:
                self._submit(again, known)

    def _judge(self, task: Task, end: End) -> Task | None:
        """Return the task that goes on where this one stopped, or say what became of its jobs."""
        left = tuple(
            name
            for name in task.jobs
            if not isinstance(self._told.get(name), (events.Done, events.Failed))
            and not self._is_done(name)
        )
        for name in task.jobs:
            if name not in self._told and name not in left:
                self._tell_found(name)
        if not left:
            return None
        if end.state == "CANCELLED":
            self._cut(left)
            return None
        was_told_to_stop = end.exit_code == INTERRUPTED
        if end.state in AGAIN or was_told_to_stop or not end.state:
            why = "it came to its time limit" if was_told_to_stop else f"it ended as {end.state}"
            return self._again(task, left, why=why, memory=task.memory, end=end)
        if end.state == "OUT_OF_MEMORY" or _was_killed_for_memory(self._folder.log_of(task)):
            return self._again(
                task, left, why="it ran out of memory", memory=2 * task.memory, end=end
            )
        self._fail(task, left, end)
        return None

    def _again(
        self, task: Task, left: tuple[str, ...], *, why: str, memory: int, end: End
    ) -> Task | None:
        needed = self._needed(task)
        if task.attempt >= self._settings.attempts or memory > _MOST_MEMORY_TIMES * needed:
            self._fail(task, left, end)
            return None
        logger.info("%s (%s): %s; submitting it again", task.group, task.key, why)
        return msgspec.structs.replace(
            task, jobs=left, attempt=task.attempt + 1, memory=memory, array="", end=""
        )

    def _needed(self, task: Task) -> int:
        """Return the memory that the first attempt at the group was given."""
        firsts = (one.memory for one in self._folder.read() if one.group == task.group)
        return min(firsts, default=task.memory)

    def _tell_found(self, name: str) -> None:
        """Say that a job is done whose task did not come to say it."""
        self._pass_on(
            events.Done(
                time=time.time(),
                job=name,
                filename="",
                sha256="",
                made=True,
                seconds=0.0,
                cache_hits=0,
                cache_misses=0,
            )
        )

    def _cut(self, left: Iterable[str]) -> None:
        for name in left:
            self._pass_on(
                events.Cut(time=time.time(), job=name, reason="interrupted", was_running=True)
            )

    def _fail(self, task: Task, left: Iterable[str], end: End) -> None:
        log = self._folder.log_of(task)
        lines = _tail(log)
        message = (
            f"Slurm ended task {task.key} as {end.state or 'unknown'} (exit code {end.exit_code}), "
            f"attempt {task.attempt} with {task.memory} MiB and {task.minutes} min.{lines}"
        )
        for name in left:
            self._pass_on(
                events.Failed(
                    time=time.time(),
                    job=name,
                    stage="slurm",
                    message=message,
                    exit_code=1,
                    log=str(log),
                )
            )


def _was_killed_for_memory(log: Path) -> bool:
    """Clusters without cgroups say it in the task's log only, and call it a failure."""
    return _OUT_OF_MEMORY.search(_tail(log)) is not None


def _tail(log: Path) -> str:
    try:
        lines = log.read_text(encoding="utf-8", errors="replace").rstrip().splitlines()
    except FileNotFoundError:
        return ""
    return "".join(f"\n{line}" for line in lines[-_LAST_LINES:])
