"""The page of every command's usage, made from the parser itself."""

from __future__ import annotations

import argparse
import os
import re
import sys
import textwrap
from typing import TYPE_CHECKING

from wheelyard.cli.arguments import make_parser

if TYPE_CHECKING:
    from collections.abc import Iterator

TITLE = "# Usage of every command\n"
INTRODUCTION = """
What `wheelyard COMMAND --help` prints, from the same source, so that it is always whole. Options
that every command has (`--farm`, `--yard`, `--json`, `--network`, `--verbose`) are in
[commands.md](commands.md), as is what each command is for.
"""
COMMON = "common options"


def usage_page() -> str:
    """Return the page."""
    return "\n".join([TITLE, INTRODUCTION.strip(), "", *_sections()])


def subparsers() -> dict[str, argparse.ArgumentParser]:
    """Return the parser of each command."""
    for action in make_parser()._actions:
        if isinstance(action, argparse._SubParsersAction):
            return dict(action.choices)
    msg = "the parser has no commands"
    raise ValueError(msg)


def _sections() -> Iterator[str]:
    width = os.environ.pop("COLUMNS", None)
    os.environ["COLUMNS"] = "96"
    try:
        for name, parser in sorted(subparsers().items()):
            usage = textwrap.dedent(
                f"       {parser.format_usage().removeprefix('usage: ')}"
            ).rstrip()
            yield f"## {name}\n\n{parser.description}\n\n```text\n{usage}\n```\n"
            yield from _table(parser)
    finally:
        del os.environ["COLUMNS"]
        if width is not None:
            os.environ["COLUMNS"] = width


def _table(parser: argparse.ArgumentParser) -> Iterator[str]:
    groups = [
        [action for action in group._group_actions if action.dest != "help"]
        for group in parser._action_groups
        if group.title != COMMON or any(action.nargs == "?" for action in group._group_actions)
    ]
    rows = [_row(parser, action) for actions in groups for action in actions]
    if rows:
        yield "| argument | what it is |\n|---|---|\n" + "\n".join(rows) + "\n"


def _row(parser: argparse.ArgumentParser, action: argparse.Action) -> str:
    formatter = parser._get_formatter()
    name = formatter._format_action_invocation(action)
    text = formatter._expand_help(action) if action.help else ""
    escaped = re.sub(r"([|*<>\[\]])", r"\\\1", text)
    return f"| `{name.replace('|', '/')}` | {escaped} |"


if __name__ == "__main__":
    sys.stdout.write(usage_page())
