"""What a family of processes takes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

from wheelyard.machine.processes import Process, adopting_orphans, family, read_processes

if TYPE_CHECKING:
    from pathlib import Path


def _process(parent: int) -> Process:
    return Process(parent=parent, cpu_seconds=0.0, memory=0, started=0, state="S")


def test_family_is_all_that_descends_from_one() -> None:
    processes = {number: _process(parent) for number, parent in ((2, 1), (3, 2), (4, 3), (5, 1))}
    assert set(family(2, processes)) == {2, 3, 4}
    assert not family(9, processes)


def test_name_of_a_process_may_hold_anything(tmp_path: Path) -> None:
    folder = tmp_path / "77"
    folder.mkdir()
    fields = " ".join(["S", "7", *["0"] * 9, "150", "50", *["0"] * 6, "4711", "0"])
    (folder / "stat").write_text(f"77 (a) b (c) {fields}\n")
    (folder / "statm").write_text("900 500 100 0 0 0 0\n")
    (tmp_path / "meminfo").write_text("")
    (tmp_path / "78").mkdir()
    ticks, page = os.sysconf("SC_CLK_TCK"), os.sysconf("SC_PAGE_SIZE")
    assert read_processes(proc=tmp_path) == {
        77: Process(parent=7, cpu_seconds=200 / ticks, memory=400 * page, started=4711, state="S")
    }


def test_child_of_this_process_is_found_with_its_memory() -> None:
    code = "data = bytearray(b'x') * 50_000_000; print(flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as child:
        assert child.stdout is not None
        child.stdout.readline()
        processes = read_processes()
        assert child.pid in family(os.getpid(), processes)
        assert processes[child.pid].memory > 45_000_000
        child.communicate(b"\n")


def test_orphan_of_a_child_stays_in_the_family() -> None:
    code = "import subprocess; print(subprocess.Popen(['sleep', '60'], stdout=2).pid)"
    with adopting_orphans():
        said = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
        orphan = int(said.stdout)
        assert orphan in family(os.getpid(), read_processes())
        os.kill(orphan, signal.SIGKILL)
        os.waitpid(orphan, 0)
