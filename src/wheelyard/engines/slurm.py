"""Slurm as its own programs show it: what is submitted, what runs, how it ended."""

from __future__ import annotations

import dataclasses
import logging
import re
import shlex
from typing import TYPE_CHECKING, Final

from wheelyard.errors import MachineError, ProcessError
from wheelyard.run import run

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from wheelyard.model.slurm_settings import SlurmTable

logger = logging.getLogger(__name__)

ENDED: Final = frozenset(
    {
        *("BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "NODE_FAIL"),
        *("OUT_OF_MEMORY", "PREEMPTED", "REVOKED", "TIMEOUT"),
    }
)
AGAIN: Final = frozenset({"BOOT_FAIL", "NODE_FAIL", "PREEMPTED", "REVOKED", "TIMEOUT"})
"""Ends that the node or the clock brought about: another task goes on from there."""

_NUMBER = re.compile(r"\d+")
_STATE = re.compile(r"\bJobState=([A-Z_]+)")
_EXIT = re.compile(r"\bExitCode=(\d+):\d+")
_SCRIPT: Final = """\
#!/bin/sh
# One group of jobs. What it made so far is in the yard and in the compile cache, so it may be
# ended at any time and run again.
work={scratch}/wheelyard-work-$SLURM_ARRAY_JOB_ID-$SLURM_ARRAY_TASK_ID
rm -rf -- "$work"
mkdir -p -- "$work" || exit 75
export WHEELYARD_WORK="$work" WHEELYARD_OFFLINE=true
set -- $(cat {tasks}/"$SLURM_ARRAY_TASK_ID".txt)
{command} "$@" &
child=$!
trap 'kill -TERM "$child" 2>/dev/null' TERM INT
while :; do
  wait "$child"
  code=$?
  kill -0 "$child" 2>/dev/null || break
done
rm -rf -- "$work"
exit "$code"
"""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Needs:
    """What one task of an array is given."""

    cpus: int
    memory: int
    """In MiB."""
    minutes: int


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Live:
    """A task that Slurm still has: it waits or runs."""

    state: str
    node: str


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class End:
    """How a task ended, as far as Slurm says it."""

    state: str
    """Empty where it does not remember."""
    exit_code: int | None = None


class Slurm:
    """The cluster that this machine submits to."""

    def __init__(self, settings: SlurmTable, *, env: Mapping[str, str]) -> None:
        self._settings = settings
        self._env = env

    def submit(
        self, indices: Sequence[int], needs: Needs, *, script: Path, outputs: Path, name: str
    ) -> str:
        """Submit an array, and return its number; each index is one task."""
        settings = self._settings
        throttle = f"%{settings.at_once}" if settings.at_once else ""
        command = ["sbatch", "--parsable", "--requeue", "--open-mode=append", "--export=ALL"]
        command += [f"--array={','.join(map(str, indices))}{throttle}", f"--job-name={name}"]
        command += ["--nodes=1", "--ntasks=1", f"--cpus-per-task={needs.cpus}"]
        command += [f"--mem={needs.memory}M", f"--time={needs.minutes}"]
        command += [f"--output={outputs}/%A_%a.jsonl", f"--error={outputs}/%A_%a.log"]
        command += [f"--signal=B:TERM@{settings.notice}"] if settings.notice else []
        for option in ("partition", "account", "qos", "constraint"):
            value = getattr(settings, option)
            command += [f"--{option}={value}"] if value else []
        command += [f"--gres={settings.gpu}"] if settings.gpu else []
        answer = self._ask([*command, *settings.options, str(script)])
        number = answer.strip().splitlines()[-1].partition(";")[0] if answer.strip() else ""
        if _NUMBER.fullmatch(number) is None:
            msg = f"sbatch answered {answer.strip()!r}, which names no job. Try it by hand."
            raise MachineError(msg)
        return number

    def live(self) -> dict[str, Live] | None:
        """Return what this user's tasks do, by ``ARRAY_INDEX``; nothing if Slurm says nothing."""
        command = ["squeue", "--me", "--noheader", "--array", "--format=%i|%T|%N"]
        try:
            lines = self._ask(command).splitlines()
        except MachineError as error:
            logger.warning("%s", error)
            return None
        rows = (line.split("|") for line in lines if line.count("|") == 2)
        return {key.strip(): Live(state=state, node=node) for key, state, node in rows}

    def end(self, key: str) -> End:
        """Return how a task ended: from the controller, or from accounting where there is one."""
        accounting = ["sacct", "--noheader", "--parsable2", "--allocations"]
        answers = (
            ["scontrol", "show", "job", "--oneliner", key],
            [*accounting, f"--jobs={key}", "--format=State,ExitCode"],
        )
        for command in answers:
            try:
                found = _read_end(self._ask(command))
            except MachineError as error:
                logger.debug("%s", error)
                continue
            if found is not None:
                return found
        return End(state="")

    def cancel(self, arrays: Iterable[str]) -> None:
        self._ask(["scancel", *arrays])

    def _ask(self, command: Sequence[str]) -> str:
        try:
            return run(command, env=self._env).output
        except ProcessError as error:
            msg = f"{shlex.join(command)} failed: {error.tail.strip()[-300:]}"
            raise MachineError(msg) from error


def _read_end(answer: str) -> End | None:
    state, code = _STATE.search(answer), _EXIT.search(answer)
    if state is not None:
        return End(state=state[1], exit_code=int(code[1]) if code else None)
    for line in answer.splitlines():
        word, _, exit_code = line.partition("|")
        first = exit_code.partition(":")[0]
        name = word.split(" ")[0]
        if name in ENDED:
            return End(state=name, exit_code=int(first) if first.isdigit() else None)
    return None


def render_script(*, command: Sequence[str], scratch: str, tasks: Path) -> str:
    """Return the script of every task; it reads what to build from ``tasks/INDEX.txt``."""
    return _SCRIPT.format(
        command=shlex.join(command), scratch=shlex.quote(scratch), tasks=shlex.quote(str(tasks))
    )
