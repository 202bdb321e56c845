"""Children: their output, their log, their end."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from wheelyard.errors import MachineError, ProcessError
from wheelyard.run import TAIL_LINES, run

if TYPE_CHECKING:
    from collections.abc import Callable

ENV = {"PATH": os.environ["PATH"], "WORD": "hello"}


def _sh(script: str) -> list[str]:
    return ["sh", "-c", script]


def _is_alive(pid: int) -> bool:
    """Whether the process runs; one that waits for its parent to take notice does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state not in "ZX"


def _eventually(condition: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + 20
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.01)
    return condition()


def test_output_has_both_streams_in_order() -> None:
    assert run(_sh("echo a; echo b >&2; echo c"), env=ENV).output == "a\nb\nc\n"


def test_child_has_exactly_the_environment_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", "of the caller")
    code = "import os; print(sorted(os.environ))"
    names = run([sys.executable, "-S", "-c", code], env={"WORD": "x", "LC_ALL": "C"}).output
    assert names == "['LC_ALL', 'WORD']\n"


def test_child_starts_in_the_folder_given(tmp_path: Path) -> None:
    assert run(["pwd"], env=ENV, cwd=tmp_path).output == f"{tmp_path}\n"


def test_child_does_not_read_what_is_meant_for_us() -> None:
    code = f"from wheelyard.run import run; print(repr(run(['cat'], env={ENV!r}).output))"
    ours = [sys.executable, "-c", code]
    done = subprocess.run(ours, input="for us", check=True, capture_output=True, text=True)
    assert done.stdout == "''\n"


def test_log_has_the_command_and_every_line_and_is_appended_to(tmp_path: Path) -> None:
    log = tmp_path / "logs" / "job.log"
    run(_sh("echo one"), env=ENV, log_path=log)
    run(["echo", "two words"], env=ENV, log_path=log)
    assert log.read_text(encoding="utf-8") == (
        "+ sh -c 'echo one'\none\n+ echo 'two words'\ntwo words\n"
    )


def test_lines_reach_log_and_listener_while_the_child_still_runs(tmp_path: Path) -> None:
    log, go = tmp_path / "log", tmp_path / "go"
    seen: list[tuple[str, bool]] = []

    def listen(line: str) -> None:
        seen.append((line, f"{line}\n" in log.read_text(encoding="utf-8")))
        go.touch()

    # the child says its second line only after the first was heard
    script = f"echo [1/2]; while [ ! -e {go} ]; do sleep 0.01; done; echo [2/2]"
    run(_sh(script), env=ENV, log_path=log, on_line=listen)
    assert seen == [("[1/2]", True), ("[2/2]", True)]


def test_output_that_is_not_utf_8_is_kept_readable() -> None:
    assert run(["printf", r"a\377b"], env=ENV).output == "a\N{REPLACEMENT CHARACTER}b"


def test_output_that_nobody_wants_is_not_kept(tmp_path: Path) -> None:
    log = tmp_path / "log"
    assert not run(_sh("echo a"), env=ENV, keep_output=False, log_path=log).output
    assert "\na\n" in log.read_text(encoding="utf-8")


def test_failure_has_status_tail_and_log(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with pytest.raises(ProcessError) as caught:
        run(_sh(f"seq {TAIL_LINES + 60}; exit 3"), env=ENV, log_path=log)
    error = caught.value
    assert error.returncode == 3
    assert error.tail.splitlines() == [str(number) for number in range(61, TAIL_LINES + 61)]
    assert error.log_path == log
    assert str(error).startswith("sh failed (exit status 3). Its last lines:\n61\n")
    assert str(error).endswith(f"\n{TAIL_LINES + 60}\nWhole log: {log}")


def test_death_by_a_signal_is_told_as_such() -> None:
    with pytest.raises(ProcessError, match=r"failed \(signal 9\)") as caught:
        run(_sh("kill -9 $$"), env=ENV)
    assert caught.value.returncode == -9


def test_missing_program_is_named_with_what_to_do() -> None:
    expected = "Cannot start 'no-such-program': there is no such program.*Install it"
    with pytest.raises(MachineError, match=expected):
        run(["no-such-program"], env=ENV)


def test_program_is_looked_for_on_the_path_of_its_own_environment(tmp_path: Path) -> None:
    program = tmp_path / "only-here"
    program.write_text("#!/bin/sh\necho found\n", encoding="ascii")
    program.chmod(0o755)
    assert run(["only-here"], env={"PATH": f"{tmp_path}:/bin"}).output == "found\n"


def test_missing_folder_is_not_taken_for_a_missing_program(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nowhere"):
        run(["pwd"], env=ENV, cwd=tmp_path / "nowhere")


@pytest.mark.parametrize("interrupt", [KeyboardInterrupt, RuntimeError])
def test_interruption_ends_the_child_and_what_it_started(
    interrupt: type[BaseException],
) -> None:
    pids: list[int] = []

    def listen(line: str) -> None:
        pids.extend(map(int, line.split()))
        raise interrupt

    with pytest.raises(interrupt):
        run(_sh("sleep 1000 & echo $$ $!; wait"), env=ENV, on_line=listen)
    assert len(pids) == 2
    assert _eventually(lambda: not any(map(_is_alive, pids)))


def test_child_that_will_not_listen_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wheelyard.run._KILL_AFTER_SECONDS", 0.1)
    pids: list[int] = []

    def listen(line: str) -> None:
        pids.append(int(line))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(_sh("trap '' TERM; echo $$; while :; do sleep 0.1; done"), env=ENV, on_line=listen)
    assert not _is_alive(pids[0])


def test_only_the_files_named_are_passed_on() -> None:
    read, write = os.pipe()
    try:
        code = "import os; print(sorted(map(int, os.listdir('/proc/self/fd'))))"
        ask = [sys.executable, "-I", "-S", "-c", code]
        # one more is the listing's own
        assert run(ask, env=ENV).output == "[0, 1, 2, 3]\n"
        passed = run(ask, env=ENV, pass_fds=[write]).output
        assert str(write) in passed
    finally:
        os.close(read)
        os.close(write)


def test_command_is_logged_as_a_shell_would_take_it(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG, logger="wheelyard.run"):
        run(["echo", "a b"], env=ENV)
    assert "+ echo 'a b'" in caplog.text


def test_children_of_several_threads_do_not_mix_their_output() -> None:
    outputs: dict[int, str] = {}

    def start(number: int) -> None:
        outputs[number] = run(_sh(f"for i in 1 2 3; do echo {number}; done"), env=ENV).output

    threads = [threading.Thread(target=start, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert outputs == {number: f"{number}\n" * 3 for number in range(4)}


def test_child_is_ended_when_it_is_given_up_with_the_reason_last() -> None:
    lines: list[str] = []
    with pytest.raises(ProcessError) as caught:
        run(
            _sh("echo begun; exec sleep 600"),
            env=ENV,
            on_line=lines.append,
            give_up=lambda: "nothing came" if lines else "",
        )
    assert caught.value.tail == "begun\nnothing came\n"


def test_child_that_ends_by_itself_is_not_given_up() -> None:
    assert run(_sh("echo done"), env=ENV, give_up=lambda: "").output == "done\n"


def test_child_ends_when_we_are_killed(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    script = f"echo $$ > {mark}; sleep 60"
    code = f"""
import os
from wheelyard.run import run
run(["sh", "-c", {script!r}], env=dict(os.environ))
"""
    parent = subprocess.Popen([sys.executable, "-c", code])
    assert _eventually(lambda: mark.is_file() and mark.read_text().endswith("\n"))
    child = int(mark.read_text())
    parent.kill()
    parent.wait()
    ended = _eventually(lambda: not _is_alive(child))
    if not ended:
        os.kill(child, signal.SIGKILL)
    assert ended
