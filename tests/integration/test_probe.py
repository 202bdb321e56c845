"""A probe of one real CUDA extension: some units compile, nothing becomes a wheel."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

pytestmark = pytest.mark.build
ROOT = Path(__file__).parents[2]
CODE = """\
import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1]))

from editing import patch_file

if __name__ == "__main__":
    line = b'\\n#error "changed by a patch"\\n'
    patch_file("csrc/tinyscale_kernel.cu", lambda source: source + line)
"""


def test_probe_compiles_what_the_recipe_names_and_leaves_no_wheel(
    wheelyard, farm, tmp_path, empty_compile_cache
):
    yard = tmp_path / "yard"
    empty_compile_cache()
    words = ("--farm", farm, "--yard", yard)
    done = wheelyard("probe", "tinyscale", *words, "--json")
    (probe,) = json.loads(done.stdout)["probes"]
    assert [unit["source"] for unit in probe["units"]] == ["csrc/tinyscale_kernel.cu"]
    assert probe["left_out"] == 1
    assert not [path for path in yard.rglob("*") if path.name.endswith(".whl")]
    assert "probed for 9.0" in wheelyard("explain", probe["identifier"], *words).stdout
    planned = json.loads(wheelyard("plan", probe["identifier"], *words, "--json").stdout)
    assert [(job["state"], job["probed"]) for job in planned["jobs"]] == [("probed", ["9.0"])]


def test_build_after_a_probe_makes_the_wheel_with_what_the_probe_compiled(
    wheelyard, farm, tmp_path, empty_compile_cache
):
    yard = tmp_path / "yard"
    empty_compile_cache()
    words = ("tinyscale", "--farm", farm, "--yard", yard, "--json")
    identifier = json.loads(wheelyard("probe", *words).stdout)["probes"][0]["identifier"]
    wheel = json.loads(wheelyard("build", *words).stdout)["wheels"][0]
    assert wheel["identifier"] == identifier
    record = json.loads((yard / "records" / f"{wheel['filename']}.json").read_text())
    assert record["origin"]["build"]["cache_hits"]
    planned = wheelyard("plan", identifier, "--farm", farm, "--yard", yard, "--json").stdout
    assert [job["state"] for job in json.loads(planned)["jobs"]] == ["done"]


def test_unit_that_does_not_compile_fails_the_probe(wheelyard, own_farm, tmp_path):
    source = own_farm / "tinyscale" / "csrc" / "tinyscale_kernel.cu"
    source.write_text(source.read_text() + "\nthis is not CUDA\n")
    yard = tmp_path / "yard"
    failed = wheelyard("probe", "tinyscale", "--farm", own_farm, "--yard", yard, check=False)
    assert failed.returncode == 10
    assert "error" in failed.stderr
    assert not list(yard.glob("probes/*"))


def test_unit_that_does_not_compile_and_is_not_named_is_left_out(wheelyard, own_farm, tmp_path):
    source = own_farm / "tinyscale" / "csrc" / "tinyscale.cpp"
    source.write_text(source.read_text() + "\nthis is not C++\n")
    words = ("tinyscale", "--farm", own_farm, "--yard", tmp_path / "yard", "--json")
    (probe,) = json.loads(wheelyard("probe", *words).stdout)["probes"]
    assert probe["left_out"] == 1


def test_patch_that_is_code_runs_with_what_such_patches_share(wheelyard, own_farm, tmp_path):
    (own_farm / "patches" / "tinyscale").mkdir(parents=True)
    shutil.copy(ROOT / "patches" / "editing.py", own_farm / "patches")
    (own_farm / "patches" / "tinyscale" / "0001-break.py").write_text(CODE, encoding="utf-8")
    with (own_farm / "recipes" / "tinyscale.toml").open("a", encoding="utf-8") as recipe:
        recipe.write('\n[[patches]]\nfile = "0001-break.py"\nversions = ">=0"\n')
    yard = tmp_path / "yard"
    failed = wheelyard("probe", "tinyscale", "--farm", own_farm, "--yard", yard, check=False)
    assert failed.returncode == 10
    assert "changed by a patch" in failed.stderr
