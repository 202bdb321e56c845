"""Wheels of other people: what they are is read from them, whatever they are called."""

from __future__ import annotations

import platform
from typing import TYPE_CHECKING

import pytest

from wheelyard.errors import (
    CheckError,
    FetchError,
    ImpossibleCellError,
    IntegrityError,
    MachineError,
    UnknownNameError,
    UsageError,
)
from wheelyard.farm import load_farm
from wheelyard.model.cell import PythonVersion
from wheelyard.model.matrix import parse_machine
from wheelyard.wheels import adopt
from wheelyard.wheels.adopt import AdoptionWish, JudgedWheel, judge, take_in
from wheelyard.wheels.values import UpstreamWheel

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Judge = Callable[..., JudgedWheel]
    Publish = Callable[..., UpstreamWheel]

MACHINE = parse_machine(platform.machine())
PLATFORM = f"linux_{MACHINE}"
OLD_STRING = "Ss"


@pytest.fixture
def judged(probe_farm: Path, cache: Path) -> Judge:
    """Return a function that judges with the farm and the tables of this test."""

    def run(wheel: UpstreamWheel, **wishes: object) -> JudgedWheel:
        wish = AdoptionWish(**wishes)  # type: ignore[arg-type]
        return judge(wheel, farm=load_farm(probe_farm), wish=wish, machine=MACHINE, cache=cache)

    return run


def test_job_follows_from_the_files_and_not_from_the_name(judged: Judge, publish: Publish) -> None:
    found = judged(publish())
    assert found.job.identifier == f"probe-1.1-cp312-torch2.11.0-cu130-{MACHINE}-sm80.sm90"
    assert found.name == f"probe-1.1-cp312-cp312-{PLATFORM}.whl"


def test_other_cuda_is_another_torch(judged: Judge, publish: Publish) -> None:
    assert str(judged(publish(cuda=12)).job.cell.torch) == "2.8.0+cu128"


def test_gpu_code_decides_the_label(judged: Judge, publish: Publish) -> None:
    assert judged(publish(cubins=(80, 90, 120))).job.gpu_archs_label == ""
    assert judged(publish(cubins=(90,), ptx=(90,))).job.gpu_archs_label == "sm90ptx"


def test_torch_that_is_named_is_taken_where_it_fits(judged: Judge, publish: Publish) -> None:
    wheel = publish(cuda=12)
    for name in ("2.8.0+cu128", "2.8.0"):
        assert str(judged(wheel, torch=name).job.cell.torch) == "2.8.0+cu128"


@pytest.mark.parametrize("torch", ["2.6.0+cu124", "2.6.0"])
def test_name_that_lies_about_the_abi_is_refused_with_what_would_fit(
    judged: Judge, publish: Publish, torch: str
) -> None:
    wheel = publish(cuda=12, label="cu12torch2.6cxx11abiFALSE")
    with pytest.raises(CheckError) as caught:
        judged(wheel, torch=torch)
    message = " ".join(str(caught.value).split())
    assert wheel.filename in message
    assert "CXX11" in message
    assert "missing-symbol" in message
    assert "does not load beside torch 2.6.0+cu124, but beside 2.8.0+cu128" in message


def test_wheel_that_fits_no_torch_is_refused(judged: Judge, publish: Publish) -> None:
    with pytest.raises(CheckError, match="must not be used"):
        judged(publish(cuda=13, string=OLD_STRING))


def test_wheel_that_fits_only_what_the_matrix_does_not_want_says_so(
    judged: Judge, publish: Publish
) -> None:
    with pytest.raises(CheckError, match=r"loads beside torch 2\.6\.0\+cu124, and matrix\.toml"):
        judged(publish(cuda=12, string=OLD_STRING))


def test_torch_that_the_recipe_does_not_take_is_refused(judged: Judge, publish: Publish) -> None:
    with pytest.raises(ImpossibleCellError, match=r"probe-1\.1 needs torch >=2\.7"):
        judged(publish(cuda=12, string=OLD_STRING), torch="2.6.0+cu124")


def test_without_tables_the_torch_has_to_be_named(
    judged: Judge, publish: Publish, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (cache / "symbols").unlink()
    monkeypatch.setattr(adopt, "torch_candidates", lambda *_, **__: [])
    with pytest.raises(UsageError, match=r"which torch .* fits: there are no symbol tables"):
        judged(publish())
    assert str(judged(publish(), torch="2.11.0").job.cell.torch) == "2.11.0+cu130"


def test_torch_without_a_table_is_left_to_the_check_beside_its_files(
    judged: Judge, publish: Publish
) -> None:
    assert str(judged(publish(), torch="2.9.0+cu126").job.cell.torch) == "2.9.0+cu126"


def test_no_recipe_names_the_nearest(judged: Judge, publish: Publish) -> None:
    wheel = publish(name="prob")
    with pytest.raises(UnknownNameError, match=r"no recipe 'prob'\. Did you mean 'probe'"):
        judged(wheel)


def test_recipe_that_is_named_must_be_the_wheels(
    judged: Judge, publish: Publish, write_farm: Callable[..., Path], recipe_text: str
) -> None:
    write_farm(probe=recipe_text, other=recipe_text.replace('"probe"', '"other"', 1))
    for name in ("0001-first", "0002-new-torch"):
        path = write_farm() / "patches" / "other" / f"{name}.patch"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    (write_farm() / "recipes" / "other").mkdir()
    (write_farm() / "recipes" / "other" / "smoke.py").touch()
    with pytest.raises(UsageError, match="is a wheel of probe, not of other"):
        judged(publish(), recipe="other")


def test_version_that_the_recipe_does_not_list_says_to_add_it(
    judged: Judge, publish: Publish
) -> None:
    expected = r"is version 0\.9, recipe probe has 1\.1, 1\.0\. Add a table `\[\[versions\]\]`"
    with pytest.raises(UnknownNameError, match=expected):
        judged(publish(version="0.9"))


def test_local_version_of_upstream_is_not_part_of_ours(judged: Judge, publish: Publish) -> None:
    wheel = publish(version="1.1+cu13torch2.11", filename=f"probe-1.1-cp312-cp312-{PLATFORM}.whl")
    assert judged(wheel).job.wheel_version.public == "1.1"


def test_other_machine_is_refused_before_anything_is_unpacked(
    judged: Judge, publish: Publish
) -> None:
    other = "aarch64" if MACHINE == "x86_64" else "x86_64"
    with pytest.raises(MachineError, match=f"is for {other}, this machine is {MACHINE}"):
        judged(publish(tag=f"cp312-cp312-linux_{other}"))


@pytest.mark.parametrize("tag", ["cp312-cp312-win_amd64", "py3-none-any"])
def test_platform_that_is_not_linux_is_refused(judged: Judge, publish: Publish, tag: str) -> None:
    with pytest.raises(CheckError, match="Only wheels that are compiled for Linux"):
        judged(publish(tag=tag))


@pytest.mark.parametrize("tag", ["py3-none", "cp39-abi3"])
def test_python_that_is_left_open_has_to_be_named(
    judged: Judge, publish: Publish, tag: str
) -> None:
    wheel = publish(tag=f"{tag}-{PLATFORM}", suffix=".abi3.so")
    with pytest.raises(UsageError, match=rf"\({tag}\) does not say for which Python it is"):
        judged(wheel)
    found = judged(wheel, python=PythonVersion(3, 12))
    assert found.name == f"probe-1.1-cp312-cp312-{PLATFORM}.whl"


def test_tag_that_contradicts_the_files_is_refused(judged: Judge, publish: Publish) -> None:
    wheel = publish(tag=f"cp311-cp311-{PLATFORM}")
    with pytest.raises(UsageError, match=r"several Pythons \(.*WHEEL: 3\.11; .*files: 3\.12\)"):
        judged(wheel)
    with pytest.raises(CheckError, match="wrong-python"):
        judged(wheel, python=PythonVersion(3, 11))


def test_python_that_is_named_must_be_the_wheels(judged: Judge, publish: Publish) -> None:
    with pytest.raises(UsageError, match=r"is not for Python 3\.13 \(its filename: 3\.12"):
        judged(publish(), python=PythonVersion(3, 13))


def test_free_threaded_python_is_told_from_the_plain_one(judged: Judge, publish: Publish) -> None:
    suffix = f".cpython-314t-{MACHINE}-linux-gnu.so"
    found = judged(publish(tag=f"cp314-cp314t-{PLATFORM}", suffix=suffix), torch="2.11.0")
    assert found.job.cell.python == PythonVersion(3, 14, free_threaded=True)


def test_wheel_without_gpu_code_is_refused(judged: Judge, publish: Publish) -> None:
    with pytest.raises(CheckError, match="has no GPU code: it was built without a CUDA compiler"):
        judged(publish(cubins=()))


def test_wheel_without_gpu_code_is_that_of_a_recipe_without_gpu_targets(
    judged: Judge, publish: Publish, probe_farm: Path, recipe_text: str
) -> None:
    targets = '[gpu-archs]\n"12.0" = ["8.0", "9.0"]\n"12.8" = ["9.0", "8.0", "12.0"]\n'
    (probe_farm / "recipes/probe.toml").write_text(recipe_text.replace(targets, ""))
    job = judged(publish(cubins=())).job
    assert job.gpu_archs == ()
    assert job.identifier == f"probe-1.1-cp312-torch2.11.0-cu130-{MACHINE}"


def test_lone_ptx_has_no_job(judged: Judge, publish: Publish) -> None:
    with pytest.raises(CheckError, match=r"has PTX for 12\.0 without GPU code for it"):
        judged(publish(cubins=(90,), ptx=(120,)))


def test_damaged_wheel_is_refused(judged: Judge, publish: Publish) -> None:
    def spoil(members: dict[str, bytes]) -> None:
        members["probe/__init__.py"] = b"import os\n"

    with pytest.raises(CheckError, match="record"):
        judged(publish(spoil=spoil))


def test_file_that_is_no_wheel_is_refused(judged: Judge, tmp_path: Path) -> None:
    path = tmp_path / "probe-1.1-cp312-cp312-linux_x86_64.whl"
    path.write_bytes(b"<!DOCTYPE html>")
    wheel = UpstreamWheel(path=path, sha256="0" * 64, url="", filename=path.name)
    with pytest.raises(FetchError, match="is not a wheel: it does not begin as an archive"):
        judged(wheel)


def test_wheel_without_metadata_is_refused(judged: Judge, publish: Publish) -> None:
    with pytest.raises(CheckError, match=r"says not what it is: .*no METADATA"):
        judged(publish(texts={"METADATA": None}))


def test_name_with_two_local_parts_does_no_harm(judged: Judge, publish: Publish) -> None:
    name = f"probe-1.1+cu12torch2.6.0+cu124cxx11abiFALSE-cp312-cp312-{PLATFORM}.whl"
    assert judged(publish(filename=name)).name == f"probe-1.1-cp312-cp312-{PLATFORM}.whl"


def test_second_time_the_verdict_is_read(judged: Judge, publish: Publish, cache: Path) -> None:
    wheel = publish()
    assert judged(wheel) == judged(wheel)
    (verdict,) = (cache / "verdicts").iterdir()
    # what no check would find, so that it can only have been read
    verdict.write_text(verdict.read_text().replace('"8.0"', '"8.6"'))
    assert judged(wheel).job.gpu_archs_label == "sm86.sm90"
    assert judged(wheel, torch="2.11.0").job.gpu_archs_label == "sm80.sm90"


def test_refusal_is_kept_too(judged: Judge, publish: Publish, cache: Path) -> None:
    wheel = publish(cuda=13, string=OLD_STRING)
    with pytest.raises(CheckError, match="must not be used"):
        judged(wheel)
    (verdict,) = (cache / "verdicts").iterdir()
    verdict.write_text(verdict.read_text().replace('"message": "', '"message": "as before: '))
    with pytest.raises(CheckError, match="as before: "):
        judged(wheel)


def test_bytes_that_were_judged_are_taken_in_under_their_own_name(
    judged: Judge, publish: Publish, tmp_path: Path
) -> None:
    wheel = publish()
    adopted = take_in(judged(wheel), folder=tmp_path / "work", log_path=tmp_path / "log")
    assert adopted.path == tmp_path / "work" / f"probe-1.1-cp312-cp312-{PLATFORM}.whl"
    assert adopted.path.read_bytes() == wheel.path.read_bytes()
    assert (adopted.filename, adopted.sha256) == (wheel.filename, wheel.sha256)


def test_file_that_changed_meanwhile_is_not_taken_in(
    judged: Judge, publish: Publish, tmp_path: Path
) -> None:
    wheel = publish()
    found = judged(wheel)
    wheel.path.write_bytes(wheel.path.read_bytes() + b"\0")
    with pytest.raises(IntegrityError, match="changed while it was looked at"):
        take_in(found, folder=tmp_path / "work", log_path=tmp_path / "log")
    assert not list((tmp_path / "work").glob("*"))
