from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

from wheelyard.locking import held

if TYPE_CHECKING:
    from pathlib import Path


def test_lock_is_held_against_other_processes_until_a_child_that_has_it_ends(
    tmp_path: Path,
) -> None:
    lock = tmp_path / "lock"
    try_it = (
        "import fcntl, sys; stream = open(sys.argv[1], 'w')\n"
        "fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)"
    )
    command = [sys.executable, "-c", try_it, str(lock)]

    def can_take() -> bool:
        return subprocess.run(command, check=False, capture_output=True).returncode == 0

    with held(lock) as descriptor:
        assert not can_take()
        child = subprocess.Popen(["cat"], stdin=subprocess.PIPE, pass_fds=[descriptor])
    assert not can_take()
    child.communicate()
    assert can_take()
