"""Includes, followed through a tree."""

from __future__ import annotations

from typing import TYPE_CHECKING

from wheelyard.drafting.headers import find_headers, system_folders

if TYPE_CHECKING:
    from pathlib import Path


def _write(folder: Path, **files: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(text, encoding="utf-8")


def test_headers_are_followed_through_the_tree_and_named_by_who_brings_them(tmp_path: Path) -> None:
    tree, toolkit, wheels = tmp_path / "tree", tmp_path / "toolkit", tmp_path / "wheels"
    _write(tree / "csrc", unit__cu='#include "own.h"\n  # include <cuda_runtime.h>\n')
    _write(tree / "csrc", own__h="#include <deep.h>\n", unused__h="#include <never.h>\n")
    _write(tree / "include", deep__h="#include <nccl.h>\n#include <glm/glm.hpp>\n")
    _write(toolkit, cuda_runtime__h="")
    _write(wheels, nccl__h="")
    found = find_headers(
        ["csrc/unit.cu"],
        tree=tree,
        folders=[tree / "include"],
        places={"toolkit": (toolkit,), "wheels": (wheels,)},
    )
    assert found.found == {"toolkit": ("cuda_runtime.h",), "wheels": ("nccl.h",)}
    assert found.missing == {"glm/glm.hpp": "include/deep.h"}


def test_headers_that_include_one_another_come_to_an_end(tmp_path: Path) -> None:
    _write(tmp_path, a__h='#include "b.h"\n', b__h='#include "a.h"\n')
    found = find_headers(["a.h"], tree=tmp_path, folders=(), places={})
    assert not found.found
    assert not found.missing


def test_a_unit_that_is_made_by_the_build_is_no_error(tmp_path: Path) -> None:
    assert not find_headers(["made.cpp"], tree=tmp_path, folders=(), places={}).missing


def test_the_standard_library_of_the_compiler_is_among_the_system_folders(tmp_path: Path) -> None:
    folder = tmp_path / "usr/include/c++/12"
    folder.mkdir(parents=True)
    assert folder in system_folders(tmp_path)


def test_an_include_under_a_condition_is_told_apart_and_a_guard_is_none(tmp_path: Path) -> None:
    text = (
        "#ifndef PROBE_H\n#define PROBE_H\n#include <always.h>\n"
        "#ifdef _WIN32\n#  include <intrin.h>\n#endif\n#include <after.h>\n#endif\n"
    )
    _write(tmp_path, a__h=text)
    found = find_headers(["a.h"], tree=tmp_path, folders=(), places={})
    assert found.missing == {"always.h": "a.h", "after.h": "a.h"}
    assert found.conditional == {"intrin.h": "a.h"}
