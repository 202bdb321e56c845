"""The command that looks for mistakes in recipes and what belongs to them."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from wheelyard.cli.output import print_json, print_lines
from wheelyard.errors import InputFileError
from wheelyard.farm import find_farm_folder
from wheelyard.lint import Severity, lint_farm

if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping

    from wheelyard.lint import Linted, Problem


def lint(arguments: argparse.Namespace, _env: Mapping[str, str]) -> None:
    """Show all problems at once; raise if any has to be mended."""
    linted = lint_farm(arguments.farm or find_farm_folder(Path.cwd()))
    if arguments.json:
        problems = [_problem_to_json(problem) for problem in linted.problems]
        print_json({"passed": linted.passed, "problems": problems, "recipes": linted.recipes})
    else:
        print_lines(*(_line(problem) for problem in linted.problems))
    counted = _counted(linted)
    if not linted.passed:
        raise InputFileError(counted)
    if not arguments.json:
        print_lines(counted)


def _line(problem: Problem) -> str:
    place = f"{problem.file}: " if problem.file else ""
    word = "warning: " if problem.severity is Severity.WARNING else ""
    return f"{place}{word}{problem.message}"


def _problem_to_json(problem: Problem) -> dict[str, object]:
    return {"file": problem.file, "message": problem.message, "severity": problem.severity}


def _counted(linted: Linted) -> str:
    """For example ``7 recipes: 1 error, 2 warnings.``"""
    found = Counter(problem.severity for problem in linted.problems)
    words = (_number(found[severity], severity) for severity in Severity)
    return f"{_number(linted.recipes, 'recipe')}: {', '.join(words)}."


def _number(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
