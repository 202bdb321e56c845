"""Mistakes in recipes and in what belongs to them, each found beside all the others."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from wheelyard.farm import load_farm
from wheelyard.lint import Severity, lint_farm
from wheelyard.planning.locks import wanted_locks

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable
    from pathlib import Path

    from wheelyard.farm import Farm

RECIPE = "recipes/probe.toml"
Change = tuple[str, str]


@pytest.fixture
def farm(probe_farm: Path) -> Path:
    """Return a farm that nothing is wrong with."""
    (probe_farm / "recipes/probe/smoke.py").write_text('"""Try it."""\n', encoding="utf-8")
    for patch in (probe_farm / "patches/probe").iterdir():
        patch.write_text("Why: it has to.\n\n--- a/x\n+++ b/x\n", encoding="utf-8")
    change(probe_farm, ('"2.8.0+cu128"', '"2.8.0+cu128", "2.7.1+cu126"'), file="matrix.toml")
    for request in wanted_locks(load_farm(probe_farm)):
        (probe_farm / request.path).write_text(f"{request.header}\n", encoding="utf-8")
    return probe_farm


def change(farm: Path, *changes: Change, file: str = RECIPE) -> None:
    path = farm / file
    text = path.read_text(encoding="utf-8")
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    path.write_text(text, encoding="utf-8")


def found(farm: Path) -> list[tuple[str, str, str]]:
    return [(one.file, one.severity, one.message) for one in lint_farm(farm).problems]


def test_sound_farm_has_no_problems(farm: Path) -> None:
    assert found(farm) == []
    assert lint_farm(farm).passed
    assert lint_farm(farm).recipes == 1


def test_farm_of_this_repository_has_no_problems(real_farm: Farm) -> None:
    assert found(real_farm.folder) == []


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        pytest.param(
            [('"MIT"', '"mit or apache2"')], "`license` is no SPDX expression", id="no-licence"
        ),
        pytest.param([('"MIT"', '"mit"')], "`license` is 'mit'; SPDX writes 'MIT'", id="spelling"),
        pytest.param(
            [('"https://example.org/probe"', '"example.org"')],
            "`homepage` is 'example.org', which is no URL",
            id="homepage",
        ),
        pytest.param([('"Looks around"', '" "')], "`summary` is ' '", id="summary"),
        pytest.param(
            [("memory-per-job = 2.0\n", "")], "`build.memory-per-job` is missing", id="memory"
        ),
        pytest.param(
            [("effort = { host = 60.0, device = 240.0 }\n", "")],
            "`build.effort` is missing",
            id="effort",
        ),
        pytest.param(
            [("device = 240.0", "device = 0.0")],
            "`build.effort.device` is 0, and there are GPU targets",
            id="device",
        ),
        pytest.param([('["probe_cuda"]', "[]")], "`wheel.extensions` is empty", id="no-extensions"),
        pytest.param(
            [('["probe_cuda"]', '["other.cuda"]')],
            "'other.cuda' is an extension, but 'other' is no top level",
            id="extension-elsewhere",
        ),
        pytest.param(
            [("top-levels = ", 'libraries = ["probe._ops"]\ntop-levels = ')],
            "'probe._ops' is no library of a top level",
            id="library-elsewhere",
        ),
        pytest.param(
            [('"12.0" = ["8.0", "9.0"]', '"12.0" = ["8.0", "12.0"]')],
            "`gpu-archs.'12.0'`: CUDA 12.0 cannot compile for 12.0",
            id="nvcc-cannot",
        ),
        pytest.param(
            [('["9.0", "8.0", "12.0"]', '["9.0", "12.1"]')],
            "`gpu-archs.'12.8'`: CUDA 12.8 cannot compile for 12.1",
            id="of-a-later-cuda",
        ),
        pytest.param(
            [('torch = ">=2.7"', 'torch = ">=3"')],
            "1.1 can be built for no torch build of matrix.toml (2.11.0+cu130: needs torch >=3",
            id="no-torch",
        ),
        pytest.param(
            [('"probe-1.0.tar.gz"', '"prove-1.0.tar.gz"')],
            "1.0 is made of 'prove-1.0.tar.gz', which is another's",
            id="another-s-sdist",
        ),
        pytest.param(
            [("0002-new-torch", "0001-new-torch")],
            "the patches of 1.1 are not numbered in their order: ['0001', '0001']",
            id="numbers",
        ),
    ],
)
def test_mistake_in_a_recipe_is_found(farm: Path, changes: list[Change], message: str) -> None:
    series = farm / "patches/probe"
    (series / "0001-new-torch.patch").write_bytes((series / "0001-first.patch").read_bytes())
    change(farm, *changes)
    errors = [one for one in lint_farm(farm).problems if one.severity is Severity.ERROR]
    assert [one.file for one in errors] == [RECIPE]
    assert errors[0].message.startswith(message)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        pytest.param(
            [('"12.0" = ["8.0", "9.0"]', '"13.2" = ["9.0"]')],
            "`gpu-archs.'13.2'` is for no torch build of matrix.toml",
            id="gpu-archs",
        ),
        pytest.param(
            [('torch = ">=2.10"', 'torch = "<2.7"')],
            "'0002-new-torch.patch' applies to no torch build of matrix.toml",
            id="patch",
        ),
    ],
)
def test_what_no_torch_build_asks_for_is_a_warning(
    farm: Path, changes: list[Change], message: str
) -> None:
    change(farm, *changes)
    assert found(farm) == [(RECIPE, "warning", message)]
    assert lint_farm(farm).passed


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        pytest.param("recipes/probe/smoke.py", "import", "it is no Python", id="smoke"),
        pytest.param("recipes/probe/smoke.py", "x = 1", "it has no docstring", id="docstring"),
        pytest.param(
            "patches/probe/0001-first.patch", "--- a/x\n", "nothing above the diff", id="patch"
        ),
    ],
)
def test_mistake_in_a_file_beside_the_recipe_is_found(
    farm: Path, file: str, text: str, message: str
) -> None:
    (farm / file).write_text(text, encoding="utf-8")
    [(where, severity, said)] = found(farm)
    assert (where, severity) == (file, "error")
    assert said.startswith(message)


def test_missing_and_stale_locks_are_named_with_the_command_that_makes_them(farm: Path) -> None:
    (farm / "locks/build/probe-1.0.txt").unlink()
    (farm / "locks/runtime/probe-1.1.txt").write_text("# of something else\n", encoding="utf-8")
    messages = {file: message for file, _, message in found(farm)}
    assert set(messages) == {"locks/build/probe-1.0.txt", "locks/runtime/probe-1.1.txt"}
    assert "Run `wheelyard update build probe-1.0`" in messages["locks/build/probe-1.0.txt"]
    assert "is stale" in messages["locks/runtime/probe-1.1.txt"]


def test_what_no_recipe_asks_for_is_a_warning(farm: Path) -> None:
    names = ("locks/build/probe-0.9.txt", "patches/probe/0003-idle.patch")
    for name in names:
        (farm / name).touch()
    assert [(file, severity) for file, severity, _ in found(farm)] == [
        (name, "warning") for name in names
    ]


def test_recipe_that_cannot_be_read_hides_no_mistake_of_another(
    farm: Path, recipe_text: str
) -> None:
    (farm / "recipes/other.toml").write_text("nonsense = 1\n", encoding="utf-8")
    (farm / "recipes/third.toml").write_text(recipe_text, encoding="utf-8")
    change(farm, ('"MIT"', '"mit"'))
    messages = [message for _, _, message in found(farm)]
    assert len(messages) == 3
    assert "recipes/other.toml" in messages[0]
    assert "name the file probe.toml" in messages[1]
    assert "SPDX" in messages[2]
    assert lint_farm(farm).recipes == 3


def test_missing_patch_and_smoke_test_are_found_in_every_recipe(
    farm: Path, recipe_text: str
) -> None:
    (farm / "recipes/probe/smoke.py").unlink()
    (farm / "patches/probe/0001-first.patch").unlink()
    text = recipe_text.replace('name = "probe"', 'name = "other"')
    (farm / "recipes/other.toml").write_text(text, encoding="utf-8")
    other, probe = (message for _, _, message in found(farm))
    assert "recipes/other/smoke.py" in other
    assert "patches/probe/0001-first.patch" in probe
    assert "recipes/probe/smoke.py" in probe


def test_without_a_matrix_the_recipes_are_read_all_the_same(farm: Path) -> None:
    (farm / "matrix.toml").unlink()
    (farm / "recipes/other.toml").write_text("nonsense = 1\n", encoding="utf-8")
    assert len(found(farm)) == 2


def test_command_prints_every_problem_and_leaves_3(
    farm: Path, wheelyard: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    change(farm, ('"MIT"', '"mit"'), ('torch = ">=2.10"', 'torch = "<2.7"'))
    done = wheelyard("lint", "--farm", farm)
    assert done.returncode == 3
    assert done.stdout.splitlines() == [
        "recipes/probe.toml: `license` is 'mit'; SPDX writes 'MIT'",
        (
            "recipes/probe.toml: warning: '0002-new-torch.patch' applies to no torch build of "
            "matrix.toml"
        ),
    ]
    assert "1 recipe: 1 error, 1 warning." in done.stderr
    document = json.loads(wheelyard("lint", "--farm", farm, "--json").stdout)
    assert document["passed"] is False
    assert document["problems"][0] == {
        "file": RECIPE,
        "message": "`license` is 'mit'; SPDX writes 'MIT'",
        "severity": "error",
    }


def test_command_says_that_nothing_is_wrong(
    farm: Path, wheelyard: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    done = wheelyard("lint", "--farm", farm)
    assert (done.returncode, done.stdout) == (0, "1 recipe: 0 errors, 0 warnings.\n")
    assert json.loads(wheelyard("lint", "--farm", farm, "--json").stdout) == {
        "format": 1,
        "passed": True,
        "problems": [],
        "recipes": 1,
    }
