"""What strangers wrote, shown to people: it commands no terminal."""

from __future__ import annotations

import io
import logging
from typing import TYPE_CHECKING

import pytest

from wheelyard.cli.output import print_lines, print_table
from wheelyard.log import printable, set_up

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path
    from subprocess import CompletedProcess

    from hostile.conftest import Tally

COMMANDS = ["\x1b[2J", "\x1b]0;title\x07", "\x9b2J", "\r", "\b", "\x00", "\u202e", "\u2066", "\x7f"]


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    logger = logging.getLogger("wheelyard")
    before = logger.handlers[:], logger.level, logger.propagate
    written = io.StringIO()
    set_up(verbose=False, stream=written)
    yield written
    logger.handlers[:], logger.level, logger.propagate = before


@pytest.mark.parametrize("command", COMMANDS, ids=ascii)
def test_no_line_of_ours_holds_a_command_for_the_terminal(
    command: str, stream: io.StringIO, capsys: pytest.CaptureFixture[str], tally: Tally
) -> None:
    def show() -> None:
        print_lines(f"a{command}b")
        print_table(("A", "B"), [(f"a{command}", f"b{command}")])
        logging.getLogger("wheelyard.hostile").info("a%sb", command)

    tally.meets(show)
    shown = capsys.readouterr().out + stream.getvalue()
    assert command not in shown
    assert ascii(command)[1:-1] in shown


def test_words_of_every_language_stay_as_they_are() -> None:
    text = "naïve 数据\n\tÅngström 💣"
    assert printable(text) == text


def test_report_of_a_wheel_with_commands_in_its_names_shows_them_as_text(
    make_wheel: Callable[..., Path],
    wheelyard: Callable[..., CompletedProcess[str]],
    tally: Tally,
) -> None:
    wheel = make_wheel(
        files={"demo/\x1b[2J.py": b"", "demo/\u202etxt.py": b""}, requires=["a\x1b[2Jb"]
    )
    done = tally.meets(lambda: wheelyard("check", wheel))
    assert not any(command in done.stdout + done.stderr for command in COMMANDS)  # type: ignore[union-attr]
