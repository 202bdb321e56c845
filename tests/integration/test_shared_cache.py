"""Compiled code that one machine makes and another finds, with real compilers."""

from __future__ import annotations

import json
import shutil
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from wheelyard.abi.elf import ElfFile
from wheelyard.yard.store import open_yard

if TYPE_CHECKING:
    from collections.abc import Callable

    from wheelyard.model.record import BuildRecord

pytestmark = pytest.mark.build


def _records(yard: Path) -> BuildRecord:
    (record,) = open_yard(yard).records()
    return record


def test_machine_with_an_empty_cache_compiles_no_device_code_again(
    built, wheelyard, farm: Path, tmp_path: Path, empty_compile_cache: Callable[[], None]
) -> None:
    store, options = tmp_path / "store", ("tinyscale", "--farm", farm, "--json")
    first, second = tmp_path / "first", tmp_path / "second"
    shared = ("--shared-cache", store)
    empty_compile_cache()
    said = wheelyard("build", *options, "--yard", first, *shared).stderr
    assert "brought 0 compiled objects" in said
    assert f"to {store}" in said
    empty_compile_cache()
    said = wheelyard("build", *options, "--yard", second, *shared).stderr
    assert "took 0 compiled objects" in said
    cold, warm = _records(first), _records(second)
    assert sum(cold.origin.build.cache_misses.values()) > 0
    assert sum(warm.origin.build.cache_misses.values()) == 0
    assert warm.sha256 == cold.sha256


def test_store_that_lies_holds_up_no_build(
    built, wheelyard, farm: Path, tmp_path: Path, empty_compile_cache: Callable[[], None]
) -> None:
    store, options = tmp_path / "store", ("tinyscale", "--farm", farm, "--json")
    shared = ("--shared-cache", store)
    empty_compile_cache()
    wheelyard("build", *options, "--yard", tmp_path / "first", *shared)
    for path in (store / "objects").rglob("*"):
        if path.is_file():
            path.write_bytes(b"poison")
    empty_compile_cache()
    done = wheelyard("build", *options, "--yard", tmp_path / "second", *shared)
    assert "warning: the shared cache: objects/" in done.stderr
    assert "Somebody changed it" in done.stderr
    assert _records(tmp_path / "second").sha256 == json.loads(done.stdout)["wheels"][0]["sha256"]
    assert _records(tmp_path / "second").sha256 == _records(tmp_path / "first").sha256


@pytest.mark.skipif(shutil.which("ccache") is None, reason="there is no ccache on PATH")
def test_ccache_makes_the_same_code_and_finds_it_again(
    built, wheelyard, farm: Path, tmp_path: Path
) -> None:
    options = ("tinyscale", "--farm", farm, "--compile-cache", "ccache")
    yards = [tmp_path / "first", tmp_path / "second"]
    for yard in yards:
        wheelyard("build", *options, "--yard", yard)
    first, again = map(_records, yards)
    assert again.sha256 == first.sha256
    assert _code(yards[1], tmp_path) == _code(built[0], tmp_path)
    assert set(again.origin.build.cache_hits) == {"CUDA", "C/C++"}
    assert again.origin.build.cache_misses == {}


def _code(yard: Path, folder: Path) -> dict[str, bytes]:
    """Return what the module runs and reads; its symbol table names a temporary file of nvcc's."""
    (wheel,) = (yard / "wheels").glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        (member,) = (name for name in archive.namelist() if name.endswith(".so"))
        module = ElfFile.open(Path(archive.extract(member, folder)))
    sections = {name: module.section(name) for name in (".text", ".rodata", ".data", ".nv_fatbin")}
    assert all(sections.values())
    return {name: bytes(content) for name, content in sections.items()}
