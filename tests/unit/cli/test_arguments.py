"""The words of the command line."""

from __future__ import annotations

import inspect
import re

import pytest

import wheelyard
from wheelyard import errors
from wheelyard.cli.arguments import LEVELS, make_parser
from wheelyard.model.record import TestLevel

COMMANDS = (
    *(
        "accept",
        "adopt",
        "build",
        "bundle",
        "check",
        "clean",
        "completion",
        "doctor",
        "explain",
        "fetch",
        "fill",
    ),
    *(
        "find",
        "get",
        "import",
        "index",
        "install",
        "lint",
        "list",
        "log",
        "matrix",
        "new",
        "page",
        "plan",
    ),
    *("probe", "prune", "publish", "remove", "schema", "show", "smoke", "uninstall", "update"),
    *("verify", "yank"),
)


def _help(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    with pytest.raises(SystemExit) as caught:
        make_parser().parse_args([*words, "--help"])
    assert caught.value.code == 0
    return capsys.readouterr().out


def test_every_command_is_listed_in_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    text = _help(capsys)
    listed = re.findall(r"^    ([a-z]+) +\S", text, re.MULTILINE)
    assert sorted(listed) == sorted(COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_takes_the_common_options(
    capsys: pytest.CaptureFixture[str], command: str
) -> None:
    text = _help(capsys, command)
    yard = "--yard [DIR]" if command == "list" else "--yard DIR"
    for option in ("--farm DIR", yard, "--json", "--verbose"):
        assert option in text


def test_levels_are_those_of_the_records() -> None:
    assert tuple(TestLevel) == LEVELS


def test_help_names_the_exit_code_of_every_error(capsys: pytest.CaptureFixture[str]) -> None:
    text = " ".join(_help(capsys).partition("exit codes:")[2].split())
    documented = {int(number) for number in re.findall(r"(?:^|, )(\d+) ", text)}
    raised = {
        kind.exit_code
        for _, kind in inspect.getmembers(errors, inspect.isclass)
        if issubclass(kind, errors.WheelyardError)
    }
    assert documented == raised | {0, errors.INTERRUPTED_EXIT_CODE}


def test_version_of_a_recipe_is_not_that_of_wheelyard(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = make_parser().parse_args(["build", "probe", "--version", "1.0"])
    assert arguments.recipe_version == "1.0"
    with pytest.raises(SystemExit):
        make_parser().parse_args(["--version"])
    assert capsys.readouterr().out == f"{wheelyard.__version__}\n"


@pytest.mark.parametrize(
    "words",
    [
        pytest.param([], id="no-command"),
        pytest.param(["bake"], id="unknown-command"),
        pytest.param(["build", "probe", "--gpus", "9.0"], id="unknown-option"),
        pytest.param(["build", "probe", "--jobs", "many"], id="no-number"),
        pytest.param(["build", "probe", "--sandbox", "docker"], id="unknown-sandbox"),
        pytest.param(["update", "wheels"], id="unknown-kind"),
        pytest.param(["check"], id="no-wheel"),
    ],
)
def test_wrong_usage_ends_with_its_exit_code(
    capsys: pytest.CaptureFixture[str], words: list[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        make_parser().parse_args(words)
    assert caught.value.code == errors.UsageError.exit_code
    assert "--help` shows more" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        pytest.param(["chek"], "there is no command 'chek'. Did you mean 'check'?", id="near"),
        pytest.param(
            ["build", "--sandbox", "xyz"],
            "there is no --sandbox 'xyz'. Known: bubblewrap, unshare, none.",
            id="far",
        ),
        pytest.param(["check"], "the following arguments are required: WHEEL", id="missing"),
        pytest.param(["completion"], "the following arguments are required: shell\n", id="shell"),
    ],
)
def test_a_mistake_is_told_without_all_that_is_right(
    capsys: pytest.CaptureFixture[str], words: list[str], message: str
) -> None:
    with pytest.raises(SystemExit):
        make_parser().parse_args(words)
    said = capsys.readouterr().err
    assert message in said
    assert "--help` shows more." in said
    assert "usage:" not in said
