"""Why a later Python of a group compiled again what an earlier one had compiled."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from wheelyard.toolchain.compile_cache import CacheStep
from wheelyard.toolchain.kept_units import explain_misses, found_units, keep_units, read_units

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

FIRST = "probe-1.1-cp312-torch2.11.0-cu130-x86_64"
CIRCUMSTANCES = {"compiler": "gcc 12.2.0", "source": "sha256:1", "torch": "locked a"}
SOURCES = {
    "/wy/source/csrc/scale.cu": '#include "common/launch.h"\n#include <cuda.h>\n',
    "/wy/source/csrc/python.cu": '#include "../include/deep.h"\n',
    "/wy/source/include/deep.h": '  # include <torch/extension.h>\n#include "deep.h"\n',
    "/wy/source/csrc/common/launch.h": "// #include <Python.h> would be bad\n",
}


def _steps(
    name: str = "scale",
    *,
    python: str = "3.12",
    flags: Sequence[str] = (),
    hit: bool | None = False,
    key: str = "k",
) -> list[CacheStep]:
    """Return what the cache says of one nvcc call for one GPU target."""
    source = f"/wy/source/csrc/{name}.cu"
    words = ("-I/wy/source/include", f"-I/wy/python/include/python{python}", *flags)
    return [
        CacheStep(name=f"{name}.o", arguments=(*words, "-c", source, "-o", f"/b/{name}.o")),
        CacheStep(name=f"{name}.module_id", arguments=("-x",), key=f"{key}0", hit=True),
        CacheStep(name=f"{name}.compute_90.ptx", arguments=("-y",), key=f"{key}1", hit=hit),
        CacheStep(name=f"{name}.o", arguments=("-x", "c++"), key=f"{key}2", hit=True),
        CacheStep(name="binding.o", arguments=("-c", "binding.cpp"), key="b", hit=False),
    ]


def _reasons(
    tmp_path: Path,
    now: Sequence[CacheStep],
    *,
    before: Sequence[CacheStep] | None = None,
    circumstances: dict[str, str] = CIRCUMSTANCES,
) -> tuple[str, ...]:
    path = tmp_path / "units" / "group.json"
    keep_units(path, _steps() if before is None else before, job=FIRST, circumstances=CIRCUMSTANCES)
    kept = read_units(path)
    assert kept is not None
    return explain_misses(now, kept, circumstances=circumstances, read_source=SOURCES.get)


def test_device_code_that_hit_needs_no_reason(tmp_path: Path) -> None:
    assert _reasons(tmp_path, _steps(python="3.13", hit=True)) == ()


@pytest.mark.parametrize(
    ("hit", "found"), [(True, ("csrc/scale.cu",)), (False, ()), (None, ("csrc/scale.cu",))]
)
def test_source_is_found_when_none_of_its_steps_was_compiled(
    *, hit: bool | None, found: tuple[str, ...]
) -> None:
    assert found_units(_steps(hit=hit)) == found


def test_host_source_is_found_when_the_cache_had_it() -> None:
    words = ("-c", "/wy/source/csrc/binding.cpp")
    for hit in (True, False):
        step = CacheStep(name="binding.o", arguments=words, hit=hit)
        assert found_units([step]) == (("csrc/binding.cpp",) if hit else ())


def test_file_that_nvcc_made_on_its_way_is_no_source() -> None:
    words = ("-c", "/wy/build/tmp/nvcc1/x_0.cudafe1.cpp", "-o", "scale.o")
    assert found_units([CacheStep(name="scale.o", arguments=words, hit=True)]) == ()


def test_flag_that_differs_is_named(tmp_path: Path) -> None:
    reasons = _reasons(tmp_path, _steps(python="3.13", flags=["-DNEW=1"], key="other"))
    assert reasons == (f"csrc/scale.cu: otherwise than for {FIRST}: +-DNEW=1",)


def test_path_that_differs_is_named_and_the_python_is_not(tmp_path: Path) -> None:
    before = _steps(flags=["-I/wy/torch/include"])
    now = _steps(python="3.13t", flags=["-I/home/me/torch/include"], key="other")
    (reason,) = _reasons(tmp_path, now, before=before)
    assert reason.endswith(": +-I/home/me/torch/include --I/wy/torch/include")


def test_path_that_names_the_python_is_a_difference_except_that_of_its_headers(
    tmp_path: Path,
) -> None:
    before = _steps(flags=["-I/opt/3.12.1/include/python3.12", "-frandom-seed=/jobs/cp312/a.cu"])
    now = _steps(
        python="3.13",
        flags=["-I/opt/3.13.0/include/python3.13", "-frandom-seed=/jobs/cp313/a.cu"],
        key="other",
    )
    (reason,) = _reasons(tmp_path, now, before=before)
    assert reason.endswith(": +-frandom-seed=/jobs/cp313/a.cu --frandom-seed=/jobs/cp312/a.cu")


def test_many_differences_are_cut_short(tmp_path: Path) -> None:
    now = _steps(flags=[f"-DN{number}" for number in range(9)], key="other")
    (reason,) = _reasons(tmp_path, now)
    assert reason.endswith(": +-DN0 +-DN1 +-DN2 +-DN3 and 5 more")


def test_what_the_cache_lost_is_told_as_such(tmp_path: Path) -> None:
    (reason,) = _reasons(tmp_path, _steps(python="3.13"))
    assert reason == (
        f"csrc/scale.cu: {FIRST} had compiled the same, but the compile cache has it no longer"
    )


def test_changed_compiler_is_named(tmp_path: Path) -> None:
    circumstances = CIRCUMSTANCES | {"compiler": "gcc 13.1.0"}
    (reason,) = _reasons(tmp_path, _steps(key="other"), circumstances=circumstances)
    assert reason.endswith(": compiler gcc 12.2.0 -> gcc 13.1.0")


def test_include_of_python_s_headers_is_found_behind_the_package_s_own(tmp_path: Path) -> None:
    (reason,) = _reasons(
        tmp_path, _steps("python", python="3.13", key="other"), before=_steps("python")
    )
    assert "includes Python's headers (deep.h includes torch/extension.h)" in reason


def test_other_text_in_headers_is_what_remains(tmp_path: Path) -> None:
    (reason,) = _reasons(tmp_path, _steps(python="3.13", key="other"))
    assert reason.endswith("met other text in the headers (scale.compute_90.ptx)")


def test_sources_with_the_same_reason_are_told_together(tmp_path: Path) -> None:
    names = [f"k{number}" for number in range(5)]
    before = [step for name in names for step in _steps(name)]
    now = [step for name in names for step in _steps(name, python="3.13")]
    (reason,) = _reasons(tmp_path, now, before=before)
    assert reason.startswith("csrc/k0.cu, csrc/k1.cu, csrc/k2.cu and 2 more: ")


def test_source_that_the_first_did_not_compile_is_told(tmp_path: Path) -> None:
    (reason,) = _reasons(tmp_path, _steps("new"))
    assert reason == f"csrc/new.cu: {FIRST} did not compile it"


def test_first_build_stays_the_measure_until_circumstances_change(tmp_path: Path) -> None:
    path = tmp_path / "group.json"
    keep_units(path, _steps(), job=FIRST, circumstances=CIRCUMSTANCES)
    keep_units(path, _steps(key="second"), job="second", circumstances=CIRCUMSTANCES)
    kept = read_units(path)
    assert kept is not None
    assert (kept.job, kept.units["csrc/scale.cu"].keys["scale.o"]) == (FIRST, "k2")
    keep_units(path, _steps(key="third"), job="third", circumstances={"compiler": "gcc 13"})
    kept = read_units(path)
    assert kept is not None
    assert (kept.job, kept.units["csrc/scale.cu"].keys["scale.o"]) == ("third", "third2")


def test_build_without_device_code_keeps_nothing(tmp_path: Path) -> None:
    path = tmp_path / "group.json"
    keep_units(path, _steps()[-1:], job=FIRST, circumstances=CIRCUMSTANCES)
    assert not path.exists()


@pytest.mark.parametrize("text", [b"", b"[]", b'{"format": 1}', b"\xff"])
def test_file_that_cannot_be_read_is_as_good_as_none(tmp_path: Path, text: bytes) -> None:
    path = tmp_path / "group.json"
    path.write_bytes(text)
    assert read_units(path) is None
