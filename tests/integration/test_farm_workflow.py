"""The farm's workflow, every script of its jobs run here: it is not first tried in production."""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
from pathlib import Path

import pytest
from workflows import Runner, copy_repository

from wheelyard.machine.folders import cache_folder

pytestmark = [pytest.mark.build, pytest.mark.network]

REPOSITORY = Path(__file__).parents[2]
GROUP = f"tinyscale-1.0.0-torch2.11.0-cu130-{platform.machine()}"


def _minor() -> str:
    """The Python that this user has the torch of the tests for."""
    folders = sorted((cache_folder(os.environ) / "torch").glob("torch2.11.0-cu130-cp3*"))
    found = {match[1] for path in folders if (match := re.search(r"-cp3(\d+)-", path.name))}
    return max(found, key=int)


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a repository whose farm is the one of the tests, for one Python."""
    folder = tmp_path_factory.mktemp("repository") / "repository"
    copy_repository(REPOSITORY, folder)
    packages = folder / "tests" / "packages"
    for name in ("recipes", "locks", "patches"):
        shutil.rmtree(folder / name, ignore_errors=True)
    for name in ("recipes", "locks", "tinyscale"):
        shutil.copytree(packages / name, folder / name)
    (folder / "patches").mkdir()
    (folder / "matrix.toml").write_text(
        f'[axes]\npython = ["3.{_minor()}"]\ntorch = ["2.11.0+cu130"]\n'
        f'machine = ["{platform.machine()}"]\n\n'
        '[[runners]]\nselect = "*"\nbuild = ["here"]\ngpu = ["gpu-box"]\n'
    )
    return folder


@pytest.fixture
def runner(template: Path, tmp_path: Path) -> Runner:
    def checkout(workspace: Path) -> None:
        shutil.copytree(template, workspace, dirs_exist_ok=True)
        # what a hosted runner downloads for ten minutes is here already
        cache = workspace / "cache"
        cache.mkdir()
        for path in cache_folder(os.environ).iterdir():
            if path.name not in {"compile", "work"}:
                (cache / path.name).symlink_to(path)

    return Runner(REPOSITORY / ".github/workflows/farm.yml", tmp_path, checkout=checkout)


@pytest.fixture
def env(tmp_path: Path) -> dict[str, str]:
    """The environment of a runner, with a `gh` that writes down what it is asked for."""
    programs = tmp_path / "bin"
    programs.mkdir()
    gh = programs / "gh"
    gh.write_text(f'#!/bin/sh\necho "$GH_REPO" "$@" >> {tmp_path}/gh.txt\n')
    gh.chmod(0o755)
    uv = Path(shutil.which("uv") or Path(os.sys.executable).with_name("uv"))
    (programs / "uv").symlink_to(uv)
    kept = ("HOME", "LANG", "LC_", "UV_", "PIP_", "SSL_", "REQUESTS_", "HTTP", "http", "NO_", "no_")
    found = {name: text for name, text in os.environ.items() if name.startswith(kept)}
    return found | {"PATH": f"{programs}:{os.environ['PATH']}"}


def _context(**needs: object) -> dict[str, object]:
    return {
        "github": {"ref_name": "main", "repository": "someone/wheels", "token": "t"},
        "inputs": {"select": "tinyscale-*", "deadline": "1h", "round": "0", "ticket": "t1"},
        "needs": needs,
        "vars": {"WHEELYARD_NEW_INDEX": "true"},
    }


def test_a_farm_s_run_plans_builds_tries_and_takes_in(runner: Runner, env, tmp_path):
    planned = runner.run("plan", context=_context(), env=env)
    assert planned.result == "success", planned.log
    assert (planned.outputs["jobs"], planned.outputs["waves"]) == ("1", "1")
    (entry,) = json.loads(planned.outputs["matrix"])["include"]
    assert (entry["group"], entry["runner"]) == (GROUP, ["here"])
    (gpu,) = json.loads(planned.outputs["gpu"])["include"]
    assert gpu["runner"] == ["gpu-box"]

    plan = {"outputs": planned.outputs, "result": "success"}
    context = {**_context(plan=plan), "matrix": entry}
    built = runner.run("build", context=context, env=env, name="build-one")
    assert built.result == "success", built.log
    assert any((tmp_path / "caches" / f"objects-{GROUP}-1").rglob("*"))
    artifact = tmp_path / "artifacts" / f"built-{GROUP}"
    (record,) = artifact.glob("records/*.json")
    assert json.loads(record.read_text())["identifier"] == entry["jobs"]

    tried = runner.run("smoke", context={**context, "matrix": gpu}, env=env, name="smoke-one")
    if shutil.which("nvidia-smi") is None:
        assert tried.codes["Try the wheels on a GPU"] == 6, tried.log
        assert "There is no GPU with a driver here" in tried.log
    else:
        assert tried.result == "success", tried.log

    publish = runner.run("publish", context=_context(plan=plan), env=env)
    assert publish.codes["Take what was planned, and nothing else"] == 0, publish.log
    workspace = tmp_path / "workspaces" / "publish"
    (wheel,) = workspace.glob("yard/wheels/*.whl")
    (brought,) = artifact.glob("wheels/*.whl")
    assert wheel.read_bytes() == brought.read_bytes()
    assert publish.outputs["again"] == "false"


def test_farm_without_an_index_builds_nothing(runner: Runner, env, tmp_path):
    planned = runner.run("plan", context={**_context(), "vars": {}}, env=env)
    assert planned.codes["Plan"] == 2
    assert "WHEELYARD_INDEX" in planned.log
    assert not (tmp_path / "artifacts").exists()


def test_deadline_is_survived_by_another_round(runner: Runner, env, tmp_path):
    planned = runner.run("plan", context=_context(), env=env)
    (entry,) = json.loads(planned.outputs["matrix"])["include"]
    plan = {"outputs": planned.outputs, "result": "success"}
    context = {**_context(plan=plan), "matrix": entry}
    context["inputs"] = {**context["inputs"], "deadline": "2s"}
    built = runner.run("build", context=context, env=env, name="build-one")
    assert built.result == "success", built.log
    artifact = tmp_path / "artifacts" / f"built-{GROUP}"
    assert (artifact / "deadline").exists()
    assert not list(artifact.glob("wheels/*.whl"))

    publish = runner.run("publish", context=_context(plan=plan), env=env)
    assert publish.result == "success", publish.log
    assert publish.outputs["again"] == "true"
    assert "Publish" in runner.skipped

    needs = {"outputs": publish.outputs, "result": "success"}
    again = runner.run("again", context=_context(plan=plan, publish=needs), env=env)
    assert again.result == "success", again.log
    asked = (tmp_path / "gh.txt").read_text()
    assert asked.startswith("someone/wheels workflow run farm.yml --ref main -f select=tinyscale-*")
    assert asked.rstrip().endswith("-f ticket=t1 -f round=1")


def test_publishing_takes_no_file_that_was_tampered_with(runner: Runner, env, tmp_path):
    planned = runner.run("plan", context=_context(), env=env)
    (entry,) = json.loads(planned.outputs["matrix"])["include"]
    plan = {"outputs": planned.outputs, "result": "success"}
    runner.run("build", context={**_context(plan=plan), "matrix": entry}, env=env, name="build")
    (wheel,) = (tmp_path / "artifacts" / f"built-{GROUP}").glob("wheels/*.whl")
    wheel.write_bytes(wheel.read_bytes() + b"more")
    publish = runner.run("publish", context=_context(plan=plan), env=env)
    assert publish.codes["Say what was refused"] == 1
    assert "its record says" in publish.log
    assert not list((tmp_path / "workspaces" / "publish").glob("yard/wheels/*.whl"))
