"""Drafts: what is inferred, what is left, and the files that they become."""

from __future__ import annotations

import ast
import dataclasses
from typing import TYPE_CHECKING

import msgspec
import pytest
from packaging.utils import canonicalize_name
from packaging.version import Version

from wheelyard.drafting.asking import Answer, Asked, AskedExtension
from wheelyard.drafting.draft import GENCODE_PATCH, first_draft, with_answer
from wheelyard.drafting.headers import Headers
from wheelyard.drafting.house import read_house
from wheelyard.drafting.project import read_project
from wheelyard.drafting.trial import recipe_of
from wheelyard.drafting.writing import wrapped, write_recipe, write_smoke_test
from wheelyard.model.cell import CudaVersion

if TYPE_CHECKING:
    from pathlib import Path

    from wheelyard.drafting.draft import Draft
    from wheelyard.drafting.project import Project

SCRIPT = """\
import os
import torch
import numpy
from setuptools import setup

FORCE = os.getenv("PROBE_FORCE_BUILD", "FALSE") == "TRUE"
CUDA = torch.cuda.is_available() or os.getenv("FORCE_CUDA", "0") == "1"
JOBS = os.environ.get("MAX_JOBS")
DEBUG = os.getenv("PROBE_DEBUG")
setup(name="probe", version="1.0", description='Says "hello"')
"""
SDIST = {"filename": "probe-1.0.tar.gz", "sha256": "a" * 64, "size": 12}
EXTENSION = AskedExtension(
    name="probe._C",
    sources=("csrc/a.cpp", "csrc/a.cu"),
    include_dirs=(),
    arguments=("-O3",),
)
ANSWER = Answer(
    extensions=(EXTENSION,),
    makes_libraries=False,
    top_levels=("probe",),
    requires=("torch>=2", "numpy", 'pytest; extra == "test"'),
    entry_points=("console_scripts:probe",),
    scripts=(),
    name="probe",
    version="1.0",
    description="",
    url="https://example.org/probe",
    license="",
    python_requires=">=3.9",
)
NO_HEADERS = Headers(found={}, missing={})


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    (tmp_path / "setup.py").write_text(SCRIPT, encoding="utf-8")
    (tmp_path / "csrc").mkdir()
    for name in ("a.cpp", "a.cu"):
        (tmp_path / "csrc" / name).write_text("", encoding="utf-8")
    return tmp_path


@pytest.fixture
def project(tree: Path) -> Project:
    return read_project(tree)


@pytest.fixture
def draft(project: Project, tree: Path) -> Draft:
    return first_draft(
        project,
        name=canonicalize_name("probe"),
        version=Version("1.0"),
        source={"sdist": SDIST},
        house=read_house([]),
        tree=tree,
    )


def _entries(draft: Draft) -> dict[str, tuple[str, str]]:
    return {entry.key: (entry.value, entry.origin) for entry in draft.entries}


def test_switches_are_set_with_where_they_were_read(draft: Draft) -> None:
    entries = _entries(draft)
    assert entries["build.environment.PROBE_FORCE_BUILD"] == ("TRUE", "setup.py:6")
    assert entries["build.environment.FORCE_CUDA"] == ("1", "setup.py:7")


def test_variables_that_are_left_alone_are_named_but_those_that_every_build_has(
    draft: Draft,
) -> None:
    assert _entries(draft)["not set"] == ("PROBE_DEBUG (line 9)", "setup.py")


def test_build_requirements_are_what_the_script_imports_and_never_torch(draft: Draft) -> None:
    names = [text.partition(">")[0].partition("<")[0] for text in draft.build_requires]
    assert names == ["ninja", "numpy", "packaging", "setuptools"]


def test_what_nothing_says_is_left_to_a_person(draft: Draft) -> None:
    left = " ".join(draft.left)
    assert "`homepage`" in left
    assert "`license`" in left
    assert "`summary`" not in left


def test_an_answer_fills_in_extensions_requirements_and_blanks(
    draft: Draft, project: Project
) -> None:
    answered = with_answer(draft, Asked(answer=ANSWER, headers=NO_HEADERS), project)
    assert answered.extensions == ("probe._C",)
    assert answered.requires == ("numpy",)
    assert answered.homepage == "https://example.org/probe"
    assert answered.python == ">=3.9"
    assert answered.gpu_archs
    assert not [sentence for sentence in answered.left if "homepage" in sentence]


def test_libraries_that_torch_loads_are_no_extensions_and_nothing_imports_them(
    draft: Draft, project: Project
) -> None:
    answer = msgspec.structs.replace(ANSWER, makes_libraries=True)
    answered = with_answer(draft, Asked(answer=answer, headers=NO_HEADERS), project)
    contents = recipe_of(answered).versions[0].contents
    assert (contents.extensions, contents.libraries) == ((), ("probe/_C.so",))
    assert "probe._C" not in write_smoke_test(answered)


def test_a_script_that_compiles_nothing_for_gpus_is_pointed_at(
    draft: Draft, project: Project
) -> None:
    extension = AskedExtension(name="probe._C", sources=("a.cpp",), include_dirs=(), arguments=())
    answer = msgspec.structs.replace(ANSWER, extensions=(extension,))
    asked = Asked(answer=answer, headers=Headers(found={}, missing={"nccl.h": "a.cpp"}))
    answered = with_answer(draft, asked, project)
    assert not answered.gpu_archs
    assert answered.effort.device == 0
    left = " ".join(answered.left)
    assert "line 7" in left
    assert "header nccl.h: a.cpp includes it" in left


def test_targets_of_its_own_are_left_unless_the_patch_takes_them_away(
    draft: Draft, project: Project
) -> None:
    extension = AskedExtension(
        name="probe._C", sources=("a.cu",), include_dirs=(), arguments=("-gencode=arch=compute_80",)
    )
    answer = msgspec.structs.replace(ANSWER, extensions=(extension,))
    asked = Asked(answer=answer, headers=NO_HEADERS)
    assert "-gencode" in " ".join(with_answer(draft, asked, project).left)
    patched = dataclasses.replace(draft, patches=(GENCODE_PATCH,))
    assert "-gencode" not in " ".join(with_answer(patched, asked, project).left)


def test_the_written_recipe_says_what_the_draft_says(draft: Draft, project: Project) -> None:
    answered = with_answer(draft, Asked(answer=ANSWER, headers=NO_HEADERS), project)
    answered = dataclasses.replace(answered, patches=(GENCODE_PATCH,))
    recipe = recipe_of(answered)
    version = recipe.versions[0]
    assert recipe.summary == 'Says "hello"'
    assert version.contents.extensions == ("probe._C",)
    assert version.contents.entry_points == {"console_scripts:probe"}
    assert dict(version.build.environment) == {"FORCE_CUDA": "1", "PROBE_FORCE_BUILD": "TRUE"}
    assert version.default_gpu_archs(CudaVersion(13, 0))
    assert [patch.filename for patch in version.patches] == [GENCODE_PATCH]
    assert str(version.conditions.python) == ">=3.9"


def test_a_patch_that_somebody_wrote_comes_first(project: Project, tree: Path) -> None:
    draft = first_draft(
        project,
        name=canonicalize_name("probe"),
        version=Version("1.0"),
        source={"sdist": SDIST},
        house=read_house([]),
        tree=tree,
        patches=("0001-own.py",),
    )
    draft = dataclasses.replace(draft, patches=(*draft.patches, GENCODE_PATCH))
    patches = recipe_of(draft).versions[0].patches
    assert [patch.filename for patch in patches] == ["0001-own.py", GENCODE_PATCH]


def test_a_repository_is_written_with_commit_and_submodules(draft: Draft) -> None:
    table = {"url": "https://example.org/probe", "commit": "b" * 40, "submodules": ("cutlass",)}
    source = recipe_of(dataclasses.replace(draft, source={"git": table})).versions[0].source
    assert (getattr(source, "commit", ""), getattr(source, "submodules", ())) == (
        "b" * 40,
        ("cutlass",),
    )


def test_long_lists_are_written_one_item_a_line(draft: Draft) -> None:
    many = tuple(f"probe._extension_number_{number}" for number in range(9))
    text = write_recipe(dataclasses.replace(draft, extensions=many))
    assert '  "probe._extension_number_0",\n' in text


def test_the_smoke_test_imports_the_package_first_and_every_extension(
    draft: Draft, project: Project
) -> None:
    answered = with_answer(draft, Asked(answer=ANSWER, headers=NO_HEADERS), project)
    text = write_smoke_test(answered)
    module = ast.parse(text)
    assert ast.get_docstring(module)
    tables = [node for node in ast.walk(module) if isinstance(node, ast.Dict)]
    assert [ast.literal_eval(table) for table in tables] == [{"probe": (), "probe._C": ()}]


def test_sentences_are_broken_for_a_narrow_terminal() -> None:
    lines = wrapped("one two three four five six", width=20).splitlines()
    assert lines[0].startswith("  - one")
    assert len(lines) > 1
    assert all(len(line) <= 20 for line in lines)
