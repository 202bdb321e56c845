"""Commands that show what there is."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Run = Callable[..., subprocess.CompletedProcess[str]]


def test_list_shows_recipes_with_their_versions(wheelyard: Run, probe_farm: Path) -> None:
    done = wheelyard("list", "--farm", probe_farm)
    assert done.returncode == 0
    assert [line.split(None, 1) for line in done.stdout.splitlines()] == [
        ["RECIPE", "VERSIONS  WHAT IT IS"],
        ["probe", "1.1, 1.0  Looks around"],
    ]


def test_list_says_the_same_to_programs(wheelyard: Run, probe_farm: Path) -> None:
    done = wheelyard("list", "--farm", probe_farm, "--json")
    assert json.loads(done.stdout) == {
        "format": 1,
        "recipes": [
            {
                "homepage": "https://example.org/probe",
                "license": "MIT",
                "name": "probe",
                "summary": "Looks around",
                "versions": ["1.1", "1.0"],
            }
        ],
    }


def test_list_finds_the_farm_around_the_current_folder(
    wheelyard: Run, probe_farm: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(probe_farm / "recipes")
    assert "probe" in wheelyard("list").stdout


def test_list_imports_nothing_that_only_builds_need(probe_farm: Path) -> None:
    code = (
        "import sys; from wheelyard.__main__ import main; code = main(sys.argv[1:]); "
        "print(sorted({name.partition('.')[0] for name in sys.modules}), file=sys.stderr); "
        "raise SystemExit(code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "list", "--farm", probe_farm],
        check=True,
        capture_output=True,
        text=True,
        env=os.environ,
    )
    assert "probe" in done.stdout
    assert "'wheelyard'" in done.stderr
    for name in ("auditwheel", "build", "elftools", "pypi_simple", "requests", "rich", "uv"):
        assert f"'{name}'" not in done.stderr, name


def test_matrix_shows_wanted_jobs_and_how_many_are_not(wheelyard: Run, probe_farm: Path) -> None:
    done = wheelyard("matrix", "probe", "--farm", probe_farm)
    *jobs, blank, summary = done.stdout.splitlines()
    assert jobs[0] == "probe-1.1-cp311-torch2.11.0-cu130-x86_64"
    assert not blank
    assert len(jobs) == len(set(jobs))
    assert summary == f"{len(jobs)} wanted, {24 - len(jobs)} not (with --impossible: why)"


def test_matrix_shows_what_is_impossible_with_the_reason(wheelyard: Run, probe_farm: Path) -> None:
    done = wheelyard("matrix", "probe", "--impossible", "--farm", probe_farm)
    (line,) = [
        line
        for line in done.stdout.splitlines()
        if line.startswith("probe-1.1-cp312-torch2.8.0-cu128-aarch64 ")
    ]
    assert line.endswith("torch 2.8.0 on aarch64 has no CUDA wheels on the index.")


def test_matrix_says_the_same_to_programs(wheelyard: Run, probe_farm: Path) -> None:
    result = json.loads(wheelyard("matrix", "--json", "--farm", probe_farm).stdout)
    assert len(result["wanted"]) + len(result["unwanted"]) == 24
    assert result["wanted"][0] == {
        "gpu_archs": ["8.0", "9.0", "12.0"],
        "group": "probe-1.1-torch2.11.0-cu130-x86_64",
        "identifier": "probe-1.1-cp311-torch2.11.0-cu130-x86_64",
    }
    assert result["unwanted"][0].keys() == {"cell", "impossible", "reason", "recipe"}


@pytest.mark.parametrize("command", ["matrix", "build", "fetch"])
def test_unknown_recipe_gets_the_nearest_name(
    wheelyard: Run, probe_farm: Path, command: str
) -> None:
    done = wheelyard(command, "prob", "--farm", probe_farm)
    assert done.returncode == 4
    assert done.stderr.startswith(
        "wheelyard: There is no recipe 'prob'. Did you mean 'probe'? Known: probe."
    )
    assert not done.stdout


def test_plan_shows_jobs_with_their_state(wheelyard: Run, probe_farm: Path, tmp_path: Path) -> None:
    words = ("--farm", probe_farm, "--yard", tmp_path / "yard")
    done = wheelyard("plan", "probe-1.1-cp312-torch2.11.0-*-x86_64", *words)
    assert done.returncode == 0
    assert [line.split() for line in done.stdout.splitlines()[:2]] == [
        ["STATE", "JOB"],
        ["missing", "probe-1.1-cp312-torch2.11.0-cu130-x86_64"],
    ]
    assert done.stdout.endswith("\n1 jobs; 0 more have no lock (--json: which)\n")


def test_plan_says_which_jobs_have_no_lock_and_what_to_do(wheelyard: Run, probe_farm: Path) -> None:
    (probe_farm / "locks/torch/2.8.0+cu128.txt").unlink()
    done = wheelyard("plan", "--json", "--farm", probe_farm)
    result = json.loads(done.stdout)
    assert {item["state"] for item in result["jobs"]} == {"missing"}
    assert all(len(item["plan_fingerprint"]) == 64 for item in result["jobs"])
    assert all("torch2.8.0" in item["identifier"] for item in result["unlocked"])
    assert "wheelyard update torch 2.8.0+cu128" in result["unlocked"][0]["reason"]


def test_plan_of_jobs_that_all_lack_their_lock_is_no_error(
    wheelyard: Run, probe_farm: Path
) -> None:
    (probe_farm / "locks/torch/2.8.0+cu128.txt").unlink()
    done = wheelyard("plan", "*-torch2.8.0-*", "--farm", probe_farm)
    assert done.returncode == 0
    assert "0 jobs; 6 more have no lock" in done.stdout


def test_plan_with_a_selector_that_matches_nothing_is_an_error(
    wheelyard: Run, probe_farm: Path
) -> None:
    done = wheelyard("plan", "apex-*", "--farm", probe_farm)
    assert done.returncode == 4
    assert "No job matches 'apex-*'. `wheelyard matrix` shows" in done.stderr


def test_schema_prints_what_is_committed(
    wheelyard: Run, probe_farm: Path, repository: Path
) -> None:
    result = json.loads(wheelyard("schema", "--farm", probe_farm).stdout)
    for kind, schema in result["schemas"].items():
        path = repository / "docs" / "schemas" / f"{kind}.schema.json"
        assert json.loads(path.read_text(encoding="utf-8")) == schema
