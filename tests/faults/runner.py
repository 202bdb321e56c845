"""Runs scenarios: reads one as a line of JSON, forks for it, tells how it ended."""

from __future__ import annotations

import contextlib
import ctypes
import json
import mmap
import os
import signal
import sys
import time
import traceback
from pathlib import Path

from faults.injecting import root_offset
from faults.scenarios import NUMBER, SCENARIOS

from wheelyard.errors import INTERRUPTED_EXIT_CODE, DiskError, WheelyardError
from wheelyard.files import describe_disk_error

CRASHED = 99
"""The status of a scenario that raised what is no error of ours."""
PATIENCE = 300
"""Seconds after which whoever still runs waits for a lock that never comes."""
MOMENT = 1.0
"""Seconds."""
_PR_SET_CHILD_SUBREAPER = 36


class Orders:
    """The file that the preloaded library reads."""

    def __init__(self, path: Path) -> None:
        with path.open("r+b") as file:
            self._shared = mmap.mmap(file.fileno(), 0)

    def give(self, order: bytes, root: int) -> None:
        offset = root_offset()
        number = root.to_bytes(4, sys.byteorder, signed=True)
        self._shared[:] = order[:offset] + number + order[offset + 4 :]

    def take_back(self) -> int:
        """Watch no more; return how many changes were seen."""
        self._shared[8:16] = bytes(8)
        return int.from_bytes(self._shared[:8], sys.byteorder)


def act(scenario: str, folder: Path, number: int = 0) -> int:
    """Run a scenario as the process of that number in a crowd; none may take for ever."""
    os.environ[NUMBER] = str(number)
    signal.alarm(PATIENCE)
    try:
        SCENARIOS[scenario].act(folder)
    except WheelyardError as error:
        sys.stderr.write(f"wheelyard: {error}\n")
        return error.exit_code
    except OSError as error:  # what the command line makes of it
        sys.stderr.write(f"wheelyard: {describe_disk_error(error)}\n")
        return DiskError.exit_code
    except SystemExit as error:
        return int(error.code or 0)
    except KeyboardInterrupt:
        return INTERRUPTED_EXIT_CODE
    except BaseException:  # noqa: BLE001 - it must not come back into the loop
        traceback.print_exc()
        return CRASHED
    return 0


def start(asked: dict[str, object], number: int, orders: Orders) -> int:
    child = os.fork()
    if child:
        return child
    output = os.open(f"{asked['output']}.{number}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    os.dup2(output, 1)
    os.dup2(output, 2)
    if asked["order"] is not None and asked["copies"] == 1:
        orders.give(bytes.fromhex(str(asked["order"])), os.getpid())
    status = act(str(asked["scenario"]), Path(str(asked["folder"])), number)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def reap() -> int:
    """Take leave of orphans that have ended; return how many go on.

    One that was sent a signal takes a moment to end.
    """
    ends = time.monotonic() + MOMENT
    while True:
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        children = Path(f"/proc/self/task/{os.getpid()}/children").read_text(encoding="ascii")
        if not children.split() or time.monotonic() > ends:
            return len(children.split())
        time.sleep(0.01)


def main() -> None:
    del os.environ["PYTHONPATH"]
    match sys.argv[1:]:
        case [scenario, folder, number]:
            sys.exit(act(scenario, Path(folder), int(number)))
        case _:
            serve()


def serve() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    orders = Orders(Path(sys.argv[1]))
    for line in sys.stdin:
        asked = json.loads(line)
        if asked["order"] is not None and asked["copies"] > 1:
            orders.give(bytes.fromhex(asked["order"]), 0)
        children = [start(asked, number, orders) for number in range(asked["copies"])]
        statuses = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
        seen = orders.take_back()
        answer = {"left": reap(), "seen": seen, "statuses": statuses}
        sys.__stdout__.write(json.dumps(answer) + "\n")
        sys.__stdout__.flush()


if __name__ == "__main__":
    main()
