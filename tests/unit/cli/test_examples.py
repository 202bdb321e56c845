"""The examples at the end of each command's help."""

from __future__ import annotations

import shlex

import pytest

from wheelyard.cli.arguments import make_parser
from wheelyard.cli.examples import EXAMPLES

CHOICES = next(
    action.choices for action in make_parser()._actions if action.dest == "command"
)  # the commands
assert CHOICES is not None
COMMANDS = sorted(CHOICES)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_teaches_by_an_example_that_it_understands(command: str) -> None:
    assert EXAMPLES[command]
    for words, purpose in EXAMPLES[command]:
        bare = words.partition(" > ")[0]
        arguments = make_parser().parse_args(shlex.split(bare))
        assert arguments.command == command
        assert purpose


@pytest.mark.parametrize("command", [None, *COMMANDS])
def test_help_fits_a_terminal_of_eighty_columns(
    command: str | None, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit):
        make_parser().parse_args([*([command] if command else []), "--help"])
    wide = [line for line in capsys.readouterr().out.splitlines() if len(line) > 80]
    assert not wide
