"""One real CUDA extension through every stage: what the farm is for."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import uv

pytestmark = pytest.mark.build


def test_build_leaves_a_checked_and_tested_wheel_in_the_yard(built):
    yard, wheel = built
    path = Path(wheel["path"])
    assert wheel["built"] is True
    assert path.parent == yard / "wheels"
    assert hashlib.sha256(path.read_bytes()).hexdigest() == wheel["sha256"]
    assert wheel["tested"] in {"imported", "ran-on-gpu"}
    record = json.loads((yard / "records" / f"{path.name}.json").read_text())
    assert record["check"]["passed"] is True
    code = record["check"]["summary"]["gpu_code"]
    assert [entry["cubins"] for entry in code.values()] == [["9.0"]]


def test_compiler_really_ran_and_its_cache_was_empty(built):
    yard, wheel = built
    record = json.loads((yard / "records" / f"{wheel['filename']}.json").read_text())
    assert sum(record["origin"]["build"]["cache_misses"].values()) >= 2
    assert sum(record["origin"]["build"]["cache_hits"].values()) == 0


def test_wheel_says_its_torch_in_name_metadata_and_requirement(built):
    _, wheel = built
    assert wheel["filename"].startswith("tinyscale-1.0.0+cu130.torch2.11.0-")
    with zipfile.ZipFile(wheel["path"]) as archive:
        name = "tinyscale-1.0.0+cu130.torch2.11.0.dist-info/METADATA"
        metadata = archive.read(name).decode()
    assert "Version: 1.0.0+cu130.torch2.11.0\n" in metadata
    assert "Requires-Dist: torch==2.11.0\n" in metadata


def test_second_run_has_nothing_to_do(built, wheelyard, farm):
    yard, wheel = built
    again = wheelyard("build", "tinyscale", "--farm", farm, "--yard", yard, "--json")
    assert json.loads(again.stdout)["wheels"][0] | {"built": True, "seconds": 0} == wheel | {
        "seconds": 0
    }
    assert "nothing to do" in again.stderr


@pytest.mark.parametrize("client", ["pip", "uv"])
def test_clients_install_it_from_the_index(built, client, tmp_path):
    yard, wheel = built
    record = json.loads((yard / "records" / f"{wheel['filename']}.json").read_text())
    python = record["python"]
    requirement = "tinyscale==1.0.0+cu130.torch2.11.0"
    target = tmp_path / "target"
    common = ["--target", str(target), "--no-deps", requirement]
    if client == "uv":
        command = [uv.find_uv_bin(), "pip", "install", "--python-version", python]
        command += ["--default-index", wheel["index_url"], "--no-config"]
    else:
        command = [sys.executable, "-m", "pip", "install", "--python-version", python]
        command += ["--only-binary", ":all:", "--index-url", wheel["index_url"], "--isolated"]
    subprocess.run([*command, *common], check=True, env={"PATH": os.environ["PATH"]})
    assert list(target.glob("tinyscale_cuda*.so"))


def test_same_job_gives_the_same_bytes_in_another_yard(
    built, wheelyard, farm, tmp_path, empty_compile_cache
):
    _, wheel = built
    empty_compile_cache()
    yard = tmp_path / "a folder" / "元"
    again = wheelyard("build", "tinyscale", "--farm", farm, "--yard", yard, "--json")
    other = json.loads(again.stdout)["wheels"][0]
    assert other["built"] is True
    assert other["sha256"] == wheel["sha256"]


def test_two_builds_of_one_job_make_one_wheel(built, farm, tmp_path):
    yard = tmp_path / "yard"
    command = [sys.executable, "-m", "wheelyard", "build", "tinyscale", "--json"]
    command += ["--farm", str(farm), "--yard", str(yard)]
    pair = [
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    answers = [child.communicate(timeout=600) for child in pair]
    assert [child.returncode for child in pair] == [0, 0], answers
    wheels = [json.loads(stdout)["wheels"][0] for stdout, _ in answers]
    assert sorted(wheel["built"] for wheel in wheels) == [False, True]
    assert wheels[0]["sha256"] == wheels[1]["sha256"]
    assert any("waiting for" in stderr for _, stderr in answers)


def test_changed_recipe_asks_for_a_new_revision_before_compiling(built, wheelyard, own_farm):
    yard, _ = built
    source = own_farm / "tinyscale" / "csrc" / "tinyscale_kernel.cu"
    source.write_text(source.read_text() + "// changed\n")
    words = ("build", "tinyscale", "--farm", own_farm, "--yard", yard)
    refused = wheelyard(*words, check=False)
    assert refused.returncode == 14
    assert "raise `revision`" in refused.stderr
    assert "compiling" not in refused.stderr


def test_compile_error_shows_last_lines_and_log(wheelyard, own_farm, tmp_path):
    source = own_farm / "tinyscale" / "csrc" / "tinyscale.cpp"
    source.write_text(source.read_text() + "\nthis is not C++\n")
    words = ("build", "tinyscale", "--farm", own_farm, "--yard", tmp_path / "yard")
    failed = wheelyard(*words, check=False)
    assert failed.returncode == 10
    assert "error:" in failed.stderr
    log = next((tmp_path / "yard" / "logs").glob("*.log"))
    assert str(log) in failed.stderr
    assert not list((tmp_path / "yard").glob("wheels/*"))


def test_wheel_of_the_yard_is_tried_again_and_the_report_kept(built, wheelyard, farm):
    yard, wheel = built
    reports = list(yard.glob("reports/*/*.json"))
    for path in reports:
        path.unlink()
    words = ("smoke", wheel["identifier"], "--farm", farm, "--yard", yard)
    answer = json.loads(wheelyard(*words, "--json").stdout)
    assert answer["level"] in {"imported", "ran-on-gpu"}
    assert [str(path) for path in yard.glob("reports/*/*.json")] == [answer["report"]]
    if shutil.which("nvidia-smi") is None:
        refused = wheelyard(*words, "--on-gpu", check=False)
        assert refused.returncode == 6
        assert "There is no GPU with a driver here" in refused.stderr


def test_wheel_moves_to_another_yard_with_its_record(built, wheelyard, farm, tmp_path):
    yard, wheel = built
    new = tmp_path / "new"
    wheelyard("import", wheel["path"], "--farm", farm, "--yard", new)
    done = wheelyard("verify", new, "--farm", farm, "--json")
    [found] = json.loads(done.stdout)["verified"]
    assert found["problems"] == []
    assert found["counts"]["bills of materials"] == found["counts"]["build records"] == 1
    for folder in ("index", "records", "reports", "wheels"):
        assert contents(new / folder) == contents(yard / folder)


def contents(folder):
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {path.relative_to(folder): path.read_bytes() for path in files}
