from __future__ import annotations

import io
import json
import os
import sys
import tarfile
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from wheelyard.yard.store import store_wheel

if TYPE_CHECKING:
    import contextlib
    import subprocess
    from collections.abc import Callable
    from pathlib import Path

    from tests.yards import Made

    from wheelyard.yard.folder import Yard

    Wheelyard = Callable[..., subprocess.CompletedProcess[str]]
    Write = Callable[..., None]

PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
"""The tests' yards hold wheels for the Python that runs them."""
X86 = ("--machine", "x86_64", "--glibc", "2.36")


@pytest.fixture
def find(
    wheelyard: Wheelyard, publish: Write, finish_farm: Callable[[], Path], tmp_path: Path
) -> Callable[..., dict[str, Any]]:
    """Return a function that asks and returns the JSON."""

    def ask(*words: str, code: int = 0) -> dict[str, Any]:
        places = ("--farm", finish_farm(), "--yard", tmp_path / "yard")
        done = wheelyard("find", *words, *places, *X86, "--json")
        assert done.returncode == code, done.stderr
        answer: dict[str, Any] = json.loads(done.stdout)
        return answer

    return ask


def test_newest_combination_is_first_and_says_what_has_to_be_built(
    find: Callable[..., dict[str, Any]], write_recipe: Write
) -> None:
    write_recipe("probe-a", {"1.0": [], "2.0": []})
    answer = find("probe-a")
    assert [fit["cell"] for fit in answer["fits"]] == [
        "cp312-torch2.11.0-cu130-x86_64",
        "cp311-torch2.11.0-cu130-x86_64",
        "cp312-torch2.8.0-cu128-x86_64",
        "cp311-torch2.8.0-cu128-x86_64",
    ]
    best = answer["fits"][0]
    assert best["works_now"] is False
    assert best["cpu_seconds"] == 90.0
    identifier = "probe-a-2.0-cp312-torch2.11.0-cu130-x86_64"
    assert best["commands"][0] == f"wheelyard build --job {identifier}"
    assert "probe-a==2.0+cu130.torch2.11.0" in best["commands"][-1]
    assert best["cuda"] == {
        "driver": None,
        "minimum_driver": "580",
        "runtime": "13.0.96",
        "toolkit": "13.0",
        "torch": "13.0",
    }


def test_requirements_of_wheels_that_are_not_built_yet_decide_what_goes_together(
    find: Callable[..., dict[str, Any]], write_recipe: Write, publish: Write
) -> None:
    write_recipe("probe-a", {"1.0": ["shared>=1"], "2.0": ["shared>=2"]})
    publish("shared", "1.5")
    publish("shared", "2.5")
    publish("above", "1.0", "shared<2", "probe-a")
    answer = find("above", "--python", "3.12", "--torch", "2.11.0")
    (fit,) = answer["fits"]
    assert [(one["name"], one["version"]) for one in fit["ours"]] == [
        ("probe-a", "1.0+cu130.torch2.11.0")
    ]
    (held,) = answer["held_back"]
    assert held["wheel"] == "probe-a 2.0"
    assert "probe-a>=2.0 depends on shared>=2" in held["reason"]
    assert "above" in held["reason"]
    assert "shared<2" in held["reason"]


def test_conflict_is_named_for_every_combination_that_is_left_out(
    find: Callable[..., dict[str, Any]], write_recipe: Write, publish: Write
) -> None:
    write_recipe("probe-a", {"1.0": ["shared>=2"]})
    publish("shared", "1.5")
    publish("shared", "2.5")
    publish("above", "1.0", "shared<2")
    answer = find("above", "probe-a", "--torch", "2.11.0", code=5)
    assert answer["fits"] == []
    assert [item["cell"] for item in answer["left_out"]] == [
        "cp312-torch2.11.0-cu130-x86_64",
        "cp311-torch2.11.0-cu130-x86_64",
    ]
    for item in answer["left_out"]:
        assert "depend on shared>=2" in item["reason"]
        assert "depend on shared<2" in item["reason"]


def test_both_blockers_are_named_when_one_hides_the_other(
    find: Callable[..., dict[str, Any]], write_recipe: Write, publish: Write
) -> None:
    # as megatron-core[dev,te] 0.19.2 is with Transformer Engine
    write_recipe("engine-torch", {"2.11.0": [], "2.20.2": ["frontend>=1.29.0"]})
    publish("resiliency", "0.6.0", tag="cp312-cp312-manylinux_2_39_x86_64")
    for version in ("1.26.0", "1.30.0"):
        publish("frontend", version)
    requires = ("resiliency==0.6.0", "frontend==1.26.0", "engine-torch")
    publish("core", "0.19.2", *(f'{item}; extra == "dev"' for item in requires), extras=("dev",))
    answer = find("core[dev]==0.19.2", "--python", "3.12", "--torch", "2.11.0", code=5)
    (left_out,) = answer["left_out"]
    assert "resiliency==0.6.0 has no wheels with a matching platform tag" in left_out["reason"]
    assert "manylinux_2_39_x86_64" in left_out["reason"]
    elsewhere = answer["elsewhere"]
    assert elsewhere["glibc"] == "2.39"
    assert elsewhere["ours"][0]["version"] == "2.11.0+cu130.torch2.11.0"
    (held,) = elsewhere["held_back"]
    assert held["wheel"] == "engine-torch 2.20.2"
    assert "engine-torch>=2.20.2 depends on frontend>=1.29.0" in held["reason"]
    assert "depend on frontend==1.26.0" in held["reason"]


def test_recipe_that_is_not_for_a_torch_is_the_reason(
    find: Callable[..., dict[str, Any]], write_recipe: Write
) -> None:
    write_recipe("probe-a", {"1.0": []}, conditions='torch = ">=2.10"')
    answer = find("probe-a", "--python", "3.12")
    assert [fit["cell"] for fit in answer["fits"]] == ["cp312-torch2.11.0-cu130-x86_64"]
    (left_out,) = answer["left_out"]
    assert left_out["reason"] == "probe-a-1.0 needs torch >=2.10, the cell has 2.8.0."


def test_driver_that_is_too_old_leaves_out_what_it_cannot_run(
    find: Callable[..., dict[str, Any]], write_recipe: Write
) -> None:
    write_recipe("probe-a", {"1.0": []})
    answer = find("probe-a", "--python", "3.12", "--driver", "550.54.14")
    assert [fit["cell"] for fit in answer["fits"]] == ["cp312-torch2.8.0-cu128-x86_64"]
    (left_out,) = answer["left_out"]
    assert "550.54.14 is too old for CUDA 13.0: it needs 580" in left_out["reason"]


def test_answer_for_people_fits_eighty_columns_but_for_commands(
    wheelyard: Wheelyard,
    write_recipe: Write,
    publish: Write,
    finish_farm: Callable[[], Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    write_recipe("probe-a", {"1.0": ["shared>=1"], "2.0": ["shared>=2"]})
    publish("shared", "1.5")
    publish("shared", "2.5")
    publish("above", "1.0", "shared<2", "probe-a", "torch>=2.10")
    done = wheelyard("find", "above", "--farm", finish_farm(), "--yard", tmp_path / "none", *X86)
    assert done.returncode == 0, done.stderr
    commands = ("  wheelyard build --job ", "  uv pip install ")
    rows = [row for row in done.stdout.splitlines() if not row.startswith(commands)]
    assert max(map(len, rows)) <= 80
    assert rows[1].startswith("cp312-torch2.11.0-cu130-x86_64  build 1 (")
    assert "not cp312, cp311 x torch 2.8.0+cu128:" in rows
    assert "  probe-a 1.0  to be built" in rows
    assert "  not probe-a 2.0, because" in rows
    assert "    probe-a>=2.0 depends on shared>=2" in rows
    assert f"there is no yard in {tmp_path / 'none'} yet" in done.stderr
    assert not (tmp_path / "none").exists()


def test_torch_that_is_asked_for_as_a_requirement_decides_the_combinations(
    find: Callable[..., dict[str, Any]], write_recipe: Write
) -> None:
    write_recipe("probe-a", {"1.0": []})
    for words in (["torch==2.8.0"], ["torch<2.10", "torch>=2.1"]):
        answer = find("probe-a", *words, "--python", "3.12")
        assert [fit["cell"] for fit in answer["fits"]] == ["cp312-torch2.8.0-cu128-x86_64"]
        assert answer["left_out"] == []


def test_project_that_has_a_source_only_is_told(
    find: Callable[..., dict[str, Any]], write_recipe: Write, tmp_path: Path
) -> None:
    write_recipe("probe-a", {"1.0": []})
    lines = ["Metadata-Version: 2.2", "Name: source-only", "Version: 1.0", "", ""]
    add_sdist(tmp_path / "wheels", "source_only-1.0", {"PKG-INFO": "\n".join(lines)})
    words = ("probe-a", "source-only", "--python", "3.12", "--torch", "2.11.0")
    (fit,) = find(*words)["fits"]
    assert fit["from_source"] == ["source-only"]


def test_source_that_has_to_be_built_to_tell_its_requirements_is_the_reason(
    find: Callable[..., dict[str, Any]], write_recipe: Write, tmp_path: Path
) -> None:
    write_recipe("probe-a", {"1.0": []})
    build = """[build-system]\nrequires = []\nbuild-backend = "none"\nbackend-path = ["."]\n"""
    files = {"pyproject.toml": build, "none.py": "raise SystemExit(1)\n"}
    add_sdist(tmp_path / "wheels", "mute-1.0", {"PKG-INFO": "", **files})
    words = ("probe-a", "mute", "--python", "3.12", "--torch", "2.11.0")
    (left_out,) = find(*words, code=5)["left_out"]
    assert left_out["reason"].startswith("mute==1.0 has no wheel on the index, no recipe here")


def add_sdist(folder: Path, name: str, files: dict[str, str]) -> None:
    """Put a source distribution where pip and uv look."""
    with tarfile.open(folder / f"{name}.tar.gz", "w:gz") as archive:
        for path, text in files.items():
            member = tarfile.TarInfo(f"{name}/{path}")
            member.size = len(text)
            archive.addfile(member, io.BytesIO(text.encode()))


def test_folder_that_is_no_yard_is_refused(
    wheelyard: Wheelyard, write_recipe: Write, publish: Write, finish_farm: Callable[[], Path]
) -> None:
    del publish
    write_recipe("probe-a", {"1.0": []})
    farm = finish_farm()
    done = wheelyard("find", "probe-a", "--farm", farm, "--yard", farm)
    assert done.returncode == 14
    assert f"There is no yard in {farm}" in done.stderr


def test_index_that_is_not_there_is_an_error_and_not_an_empty_one(
    wheelyard: Wheelyard,
    write_recipe: Write,
    publish: Write,
    finish_farm: Callable[[], Path],
    tmp_path: Path,
    serve_folder: Callable[[Path], contextlib.AbstractContextManager[str]],
) -> None:
    del publish
    write_recipe("probe-a", {"1.0": []})
    with serve_folder(tmp_path / "wheels") as url:
        words = ("find", "probe-a", "--farm", finish_farm(), "--index", f"{url}typo/simple/")
        done = wheelyard(*words, "--yard", tmp_path / "none", *X86)
    assert done.returncode == 7
    assert f"There is no index at {url}typo/simple/. The URL of one ends" in done.stderr


def test_place_that_could_not_be_read_leaves_a_doubt(
    find: Callable[..., dict[str, Any]],
    write_recipe: Write,
    tmp_path: Path,
    serve_folder: Callable[[Path], contextlib.AbstractContextManager[str]],
) -> None:
    write_recipe("probe-a", {"1.0": []})
    (tmp_path / "site").mkdir()
    page = '<meta name="pypi:repository-version" content="1.0"><a href="probe-a/">probe-a</a>'
    (tmp_path / "site" / "index.html").write_text(f"<!DOCTYPE html><html>{page}</html>")
    with serve_folder(tmp_path / "site") as url:
        words = ("probe-a", "--python", "3.12", "--torch", "2.11.0", "--index", url)
        (offer,) = find(*words)["fits"][0]["ours"]
    assert offer["origin"] == "build"
    assert "lists probe-a, but has no page of it" in offer["doubt"]


NVIDIA_SMI = """\
#!/bin/sh
case "$1" in
--query-gpu=*) echo "NVIDIA H100 80GB HBM3, 9.0, 550.54.14, 81559 MiB";;
"") echo "| NVIDIA-SMI 550.54.14    Driver Version: 550.54.14    CUDA Version: 12.4 |";;
esac
"""


def test_machine_is_shown_with_what_its_driver_still_runs(
    wheelyard: Wheelyard,
    write_recipe: Write,
    publish: Write,
    finish_farm: Callable[[], Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    del publish
    write_recipe("probe-a", {"1.0": []})
    program = tmp_path / "bin" / "nvidia-smi"
    program.parent.mkdir()
    program.write_text(NVIDIA_SMI)
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    monkeypatch.setenv("WHEELYARD_PYTHONS", sys.executable)
    words = ("find", "probe-a", "--here", "--farm", finish_farm(), "--yard", tmp_path / "none")
    done = wheelyard(*words)
    assert done.returncode == 0, done.stderr
    driver = "550.54.14 (made for CUDA 12.4), runs all of CUDA 12.x and older"
    assert driver in " ".join(done.stdout.split())
    assert "The driver is too old for torch 2.11.0+cu130." in done.stdout
    assert "It still runs torch 2.8.0+cu128." in done.stdout
    told = json.loads(wheelyard(*words, "--json").stdout)
    assert told["here"]["driver_cuda"] == "12.4"
    assert told["here"]["gpus"] == [{"arch": "9.0", "name": "NVIDIA H100 80GB HBM3"}]
    assert {fit["cell"].partition("-")[2] for fit in told["fits"]} == {"torch2.8.0-cu128-x86_64"}


def test_unknown_version_of_ours_is_told_with_those_there_are(
    find: Callable[..., dict[str, Any]], write_recipe: Write
) -> None:
    write_recipe("probe-a", {"1.0": [], "2.0": []})
    answer = find("probe-a==3.0", "--python", "3.12", "--torch", "2.11.0", code=5)
    (left_out,) = answer["left_out"]
    assert left_out["reason"] == "There is no recipe for probe-a==3.0 (there is 2.0, 1.0)."


def test_source_on_the_index_is_never_taken_for_a_wheel_of_ours(
    find: Callable[..., dict[str, Any]], write_recipe: Write, publish: Write
) -> None:
    write_recipe("probe-a", {"1.0": []})
    publish("probe-a", "9.0", tag="cp39-cp39-manylinux_2_28_x86_64")
    answer = find("probe-a", "--python", "3.12", "--torch", "2.11.0")
    assert answer["fits"][0]["ours"][0]["version"] == "1.0+cu130.torch2.11.0"


@pytest.mark.parametrize("word", ["not a requirement", "demo @ https://example.org/demo.whl"])
def test_what_is_no_requirement_is_refused(
    word: str, wheelyard: Wheelyard, probe_farm: Path
) -> None:
    done = wheelyard("find", word, "--farm", probe_farm)
    assert done.returncode == 2
    assert word in done.stderr


def test_older_wheel_that_exists_comes_before_a_newer_one_that_does_not(
    find: Callable[..., dict[str, Any]], write_recipe: Write, yard: Yard, make: Callable[..., Made]
) -> None:
    write_recipe("probe-a", {"1.0": [], "2.0": []})
    made = make(name="probe-a", public="1.0", archs_label="-sm90")
    store_wheel(yard, made.path, msgspec.structs.replace(made.record, python=PYTHON), made.report)
    answer = find("probe-a", "--python", PYTHON)
    works, builds = answer["fits"]
    assert works["works_now"] is True
    assert works["ours"] == [
        {
            "doubt": None,
            "name": "probe-a",
            "origin": "yard",
            "place": str(yard.wheel_path(made.path.name)),
            "version": "1.0+cu130.torch2.11.0.sm90",
        }
    ]
    assert yard.index_url("torch2.11.0-cu130-sm90") in works["commands"][-1]
    assert builds["works_now"] is False
    assert builds["ours"][0]["version"] == "2.0+cu128.torch2.8.0"


def test_wheel_without_code_for_the_gpu_does_not_count(
    find: Callable[..., dict[str, Any]], write_recipe: Write, yard: Yard, make: Callable[..., Made]
) -> None:
    write_recipe("probe-a", {"1.0": []})
    made = make(name="probe-a", public="1.0")
    store_wheel(yard, made.path, msgspec.structs.replace(made.record, python=PYTHON), made.report)
    words = ("probe-a", "--python", PYTHON, "--torch", "2.11.0", "--gpu-archs")
    assert find(*words, "9.0")["fits"][0]["works_now"] is True
    (left_out,) = find(*words, "10.0", code=5)["left_out"]
    assert left_out["reason"] == "No wheel of probe-a has code for GPU 10.0 (it has 9.0)."
