"""The one way to start a child process: list arguments, whole environment, a log, no orphans."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import os
import shlex
import shutil
import signal
import subprocess
import threading
from collections import deque
from typing import TYPE_CHECKING

from wheelyard.errors import MachineError, ProcessError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

logger = logging.getLogger(__name__)

TAIL_LINES = 40
_KILL_AFTER_SECONDS = 5.0
_WATCH_SECONDS = 0.2


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Completed:
    """What a child left: its output (stdout and stderr together)."""

    output: str


def run(
    arguments: Sequence[str | Path],
    *,
    env: Mapping[str, str],
    cwd: Path | None = None,
    log_path: Path | None = None,
    on_line: Callable[[str], None] | None = None,
    keep_output: bool = True,
    pass_fds: Sequence[int] = (),
    give_up: Callable[[], str] | None = None,
) -> Completed:
    """Run a child to its end and return its output, or raise ``ProcessError`` with its tail.

    The output is streamed line by line to ``log_path`` (appended) and ``on_line``. When this
    process is interrupted the whole process group of the child is ended first; when it is killed,
    so is the child, which else would go on in a folder that the next run sweeps. ``give_up`` is
    asked now and then: the child is ended when it returns a reason, which ends the tail.
    """
    command = [os.fspath(argument) for argument in arguments]
    logger.debug("+ %s", shlex.join(command))
    kept: list[str] = []
    tail: deque[str] = deque(maxlen=TAIL_LINES)
    with (
        _started(command, env=env, cwd=cwd, pass_fds=pass_fds) as child,
        _log(log_path) as log,
        _watched(child, give_up) as reasons,
    ):
        assert child.stdout is not None
        log(f"+ {shlex.join(command)}\n")
        for line in child.stdout:
            log(line)
            tail.append(line)
            if keep_output:
                kept.append(line)
            if on_line is not None:
                on_line(line.rstrip("\n"))
        returncode = child.wait()
    tail.extend(reasons)
    if returncode != 0:
        raise _failure(command, returncode=returncode, tail="".join(tail), log_path=log_path)
    return Completed(output="".join(kept))


@contextlib.contextmanager
def _started(
    command: list[str],
    *,
    env: Mapping[str, str],
    cwd: Path | None,
    pass_fds: Sequence[int],
) -> Iterator[subprocess.Popen[str]]:
    if shutil.which(command[0], path=_search_path(env)) is None:
        msg = (
            f"Cannot start {command[0]!r}: there is no such program. Install it or put it on PATH."
        )
        raise MachineError(msg)
    with subprocess.Popen(
        [*leash(env, signal.SIGKILL), *command],
        env=dict(env),
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
        start_new_session=True,
        pass_fds=pass_fds,
    ) as child:
        try:
            yield child
        except BaseException:
            _end_group(child)
            raise


def leash(env: Mapping[str, str], number: signal.Signals) -> list[str]:
    """Return what stands before a command so that the child gets a signal when we are killed.

    Nothing where ``setpriv`` of util-linux is missing.
    """
    setpriv = shutil.which("setpriv", path=_search_path(env))
    name = number.name.removeprefix("SIG")
    return [] if setpriv is None else [setpriv, "--pdeathsig", name, "--"]


def _search_path(env: Mapping[str, str]) -> str:
    return env.get("PATH", os.defpath)


@contextlib.contextmanager
def _watched(
    child: subprocess.Popen[str], give_up: Callable[[], str] | None
) -> Iterator[list[str]]:
    """End the child when ``give_up`` returns a reason, and yield the list that it is put into."""
    reasons: list[str] = []
    if give_up is None:
        yield reasons
        return
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(_WATCH_SECONDS):
            reason = give_up()
            if reason:
                reasons.append(f"{reason}\n")
                _end_group(child)
                return

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield reasons
    finally:
        ended.set()
        watcher.join()


def _end_group(child: subprocess.Popen[str]) -> None:
    """End the child and everything it started, politely first."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(timeout=_KILL_AFTER_SECONDS)


@contextlib.contextmanager
def _log(log_path: Path | None) -> Iterator[Callable[[str], object]]:
    if log_path is None:
        yield lambda _line: None
        return
    log_path.parent.mkdir(parents=True, exist_ok=True)
    with log_path.open("a", encoding="utf-8", buffering=1) as stream:
        yield stream.write


def _failure(
    command: list[str], *, returncode: int, tail: str, log_path: Path | None
) -> ProcessError:
    status = f"signal {-returncode}" if returncode < 0 else f"exit status {returncode}"
    where = f"\nWhole log: {log_path}" if log_path else ""
    msg = f"{command[0]} failed ({status}). Its last lines:\n{tail.rstrip()}{where}"
    return ProcessError(msg, returncode=returncode, tail=tail, log_path=log_path)
