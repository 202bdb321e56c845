"""Run ``wheelyard`` in this process and kill it, without warning, at a point of its work.

``crashing.py POINT WORDS...`` where POINT is ``stage:NAME`` (in the middle of that stage),
``change:N`` (at the N-th change of the file system, before it happens) or ``count`` (not at all:
print how many changes there are). Nothing in the product knows of it: it listens to Python's
audit events.
"""

from __future__ import annotations

import os
import signal
import sys

import wheelyard.stages
from wheelyard.__main__ import main

CHANGES = frozenset(
    {"os.link", "os.mkdir", "os.remove", "os.rename", "os.rmdir", "os.symlink", "os.truncate"}
)
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT


class Crasher:
    """Counts changes and ends the process at the chosen one."""

    def __init__(self, point: str) -> None:
        kind, _, value = point.partition(":")
        self.at = int(value) if kind == "change" else -1
        self.stage = value if kind == "stage" else ""
        self.seen = 0
        self.armed = False

    def __call__(self, event: str, arguments: tuple[object, ...]) -> None:
        if not _is_change(event, arguments):
            return
        self.seen += 1
        if self.seen == self.at or self.armed:
            os.kill(os.getpid(), signal.SIGKILL)

    def arm_in(self, stage: str) -> None:
        """From here on the next change, or the next child, is the last."""
        self.armed = stage == self.stage


def _is_change(event: str, arguments: tuple[object, ...]) -> bool:
    if event == "open":
        flags = arguments[2]
        return isinstance(flags, int) and bool(flags & WRITING) and _is_file(arguments[0])
    return event in CHANGES or event == "subprocess.Popen"


def _is_file(path: object) -> bool:
    return not str(path).startswith(("/dev", "/proc"))


def run() -> int:
    """Install the listener, run, and say how many changes there were."""
    crasher = Crasher(sys.argv[1])
    timed = wheelyard.stages.Stages.timed

    def watched(self, name, work):
        def watched_work():
            if name == crasher.stage:
                crasher.arm_in(name)
            return work()

        return timed(self, name, watched_work)

    wheelyard.stages.Stages.timed = watched
    sys.addaudithook(crasher)
    code = main(sys.argv[2:])
    print(f"changes: {crasher.seen}")
    return code


if __name__ == "__main__":
    sys.exit(run())
