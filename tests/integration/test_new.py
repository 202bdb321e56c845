"""A package without a recipe, from its repository to a wheel that was tried."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from wheelyard.farm import load_farm

TINYSCALE = Path(__file__).parents[1] / "packages" / "tinyscale"
IN_NEED_OF_A_GPU = """\
import os

import torch
from setuptools import setup

if not torch.cuda.is_available() and os.getenv("TINY_LENIENT") != "1":
    raise RuntimeError("there is no GPU here")
setup(name="needy", version="1.0")
"""

pytestmark = [pytest.mark.build, pytest.mark.network]


def _repository(folder):
    identity = ("-c", "user.name=a", "-c", "user.email=a@example.org")
    for words in (
        ("init", "--quiet", "--initial-branch=main"),
        ("add", "--all"),
        ("commit", "--quiet", "--message", "all"),
        ("tag", "v1"),
    ):
        subprocess.run(["git", *identity, *words], cwd=folder, check=True)
    return folder.as_uri()


def test_a_repository_becomes_a_recipe_and_a_wheel(wheelyard, tmp_path, empty_compile_cache):
    source = tmp_path / "source"
    shutil.copytree(TINYSCALE, source, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    url = _repository(source)
    farm = tmp_path / "own farm 轮子"
    empty_compile_cache()  # what is found there is not measured
    done = wheelyard(
        *("new", "--git", url, "--ref", "v1", "--farm", farm, "--gpu-archs", "9.0", "--json")
    )
    said = json.loads(done.stdout)
    inferred = {item["key"]: item["value"] for item in said["inferred"]}
    assert inferred["wheel.extensions"] == "tinyscale_cuda"
    assert inferred["wheel.top-levels"] == "tinyscale, tinyscale_cuda"
    assert Path(said["wheel"]).name.startswith("tinyscale-1.0.0+cu130.torch2.11.0.sm90-")
    left = " ".join(said["left"])
    assert "`license`" in left
    assert "smoke.py" in left

    recipe = load_farm(farm).recipe("tinyscale")
    assert recipe.versions[0].gpu_archs
    assert "# measured: " in (farm / "recipes" / "tinyscale.toml").read_text()
    again = wheelyard("build", "tinyscale", "--farm", farm, "--gpu-archs", "9.0")
    assert "nothing to do" in again.stderr


def test_a_script_that_stops_leaves_what_could_be_read_and_says_why(wheelyard, tmp_path):
    source = tmp_path / "source"
    source.mkdir()
    (source / "setup.py").write_text(IN_NEED_OF_A_GPU)
    farm = tmp_path / "farm"
    done = wheelyard("new", "--git", _repository(source), "--farm", farm, "--json", check=False)
    assert done.returncode == 10
    assert "there is no GPU here" in done.stderr
    said = json.loads(done.stdout)
    assert said["wheel"] is None
    assert "setup.py stops" in " ".join(said["left"])
    assert {"key": "not set", "from": "setup.py", "value": "TINY_LENIENT (line 6)"} in said[
        "inferred"
    ]
    assert (farm / "recipes" / "needy.toml").is_file()

    patch = farm / "patches" / "needy" / "0001-do-without-a-gpu.py"
    patch.parent.mkdir()
    patch.write_text(
        '"""Ask for no GPU."""\n'
        "import pathlib, sys\n"
        'path = pathlib.Path(sys.argv[1], "setup.py")\n'
        'path.write_text(path.read_text().replace("raise RuntimeError", "print"))\n'
    )
    words = ("new", "needy", "--git", (tmp_path / "source").as_uri(), "--farm", farm)
    done = wheelyard(*words, "--again", "--no-build", "--json")
    assert "setup.py names no extension module" in " ".join(json.loads(done.stdout)["left"])
    assert "0001-do-without-a-gpu.py" in (farm / "recipes" / "needy.toml").read_text()
