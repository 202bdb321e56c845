"""What holds for every workflow: pins, permissions, nothing foreign in scripts."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from workflows import Evaluator  # type: ignore[import-not-found]

FOLDER = Path(__file__).parents[3] / ".github" / "workflows"
PATHS = sorted(FOLDER.glob("*.yml"))
each = pytest.mark.parametrize("path", PATHS, ids=lambda path: path.name)
RUNS_FOREIGN_CODE = {"build", "smoke"}


def _load(path: Path) -> dict[Any, Any]:
    return dict(yaml.safe_load(path.read_text(encoding="utf-8")))


def _steps(path: Path) -> list[dict[str, Any]]:
    return [step for job in _load(path)["jobs"].values() for step in job["steps"]]


def test_there_are_the_three_workflows() -> None:
    assert [path.name for path in PATHS] == ["ci.yml", "farm.yml", "update.yml"]


@each
def test_nothing_is_permitted_but_what_a_job_names(path: Path) -> None:
    document = _load(path)
    assert document["permissions"] == {}
    assert all("permissions" in job for job in document["jobs"].values())


@each
def test_jobs_have_time_limits_and_workflows_do_not_pile_up(path: Path) -> None:
    document = _load(path)
    assert document["concurrency"]["group"]
    assert all(job["timeout-minutes"] <= 360 for job in document["jobs"].values())


@each
def test_actions_are_pinned_to_commits_with_their_versions_behind(path: Path) -> None:
    lines = re.findall(r"uses: (.*)", path.read_text(encoding="utf-8"))
    pattern = re.compile(r"[\w./-]+@[0-9a-f]{40} # v\d+(\.\d+)*")
    assert not [line for line in lines if not pattern.fullmatch(line)]


def test_every_workflow_has_the_same_commit_of_an_action() -> None:
    text = "\n".join(path.read_text(encoding="utf-8") for path in PATHS)
    pins: dict[str, set[str]] = {}
    for name, pin in re.findall(r"uses: ([\w.-]+/[\w.-]+)[\w./-]*(@.*)", text):
        pins.setdefault(name, set()).add(pin)
    assert not {name: found for name, found in pins.items() if len(found) > 1}


@each
def test_no_expression_stands_in_a_script(path: Path) -> None:
    assert not [step["run"] for step in _steps(path) if "${{" in step.get("run", "")]


@each
def test_no_checkout_leaves_credentials_behind(path: Path) -> None:
    checkouts = [step for step in _steps(path) if "actions/checkout" in step.get("uses", "")]
    assert checkouts
    assert all(step["with"]["persist-credentials"] is False for step in checkouts)


def test_farm_never_runs_for_a_pull_request() -> None:
    document = _load(FOLDER / "farm.yml")
    # YAML takes a bare `on` for a truth value
    assert set(document[True]) == {"schedule", "workflow_dispatch"}


def test_jobs_that_run_foreign_code_hold_nothing_worth_stealing() -> None:
    document = _load(FOLDER / "farm.yml")
    for name in RUNS_FOREIGN_CODE:
        job = document["jobs"][name]
        assert job["permissions"] == {"contents": "read"}
        assert "environment" not in job
        text = yaml.safe_dump(job)
        assert "secrets." not in text
        assert "github.token" not in text


def test_publish_builds_and_tries_nothing() -> None:
    document = _load(FOLDER / "farm.yml")
    scripts = " ".join(step.get("run", "") for step in document["jobs"]["publish"]["steps"])
    commands = set(re.findall(r"bin/wheelyard (\w+)", scripts))
    assert commands == {"accept", "publish"}


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("inputs.round || '0'", "0"),
        ("inputs.name || 'x'", "there"),
        ("vars.a == 'true' && inputs.name != ''", True),
        ("!cancelled() && (vars.b == '' || vars.a == 'no')", True),
        ("fromJSON(vars.json)", {"include": []}),
    ],
)
def test_expressions_are_understood(expression: str, expected: object) -> None:
    context = {"inputs": {"name": "there"}, "vars": {"a": "true", "json": '{"include":[]}'}}
    assert Evaluator(context, {"cancelled": lambda: False}).value(expression) == expected
