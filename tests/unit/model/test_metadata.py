"""The texts of a dist-info folder."""

from __future__ import annotations

import pytest
from packaging.requirements import Requirement
from packaging.tags import parse_tag
from packaging.version import Version

from wheelyard.errors import RepairError
from wheelyard.model.metadata import (
    RecordRow,
    format_record,
    parse_core_metadata,
    parse_record,
    parse_wheel_info,
    record_digest,
    set_requirement,
    set_tags,
    set_version,
)

METADATA = b"""\
Metadata-Version: 2.1
Name: Causal_Conv1d
Version: 1.7.0
Summary: a
  folded summary
Requires-Python: >=3.9
Requires-Dist: torch>=2.4
Requires-Dist: packaging
Requires-Dist: torch>=2.9 ; extra == "dev"
Description-Content-Type: text/markdown

# Title

Version: 9.9 is not a field here
Requires-Dist: torch
"""

WHEEL = b"""\
Wheel-Version: 1.0
Generator: setuptools (80.9.0)
Root-Is-Purelib: false
Tag: cp312-cp312-linux_x86_64

"""


def test_core_metadata_is_read_as_values() -> None:
    metadata = parse_core_metadata(METADATA)
    assert metadata.name == "causal-conv1d"
    assert metadata.version == Version("1.7.0")
    assert str(metadata.requires_python) == ">=3.9"
    assert [str(item) for item in metadata.requires] == [
        "torch>=2.4",
        "packaging",
        'torch>=2.9; extra == "dev"',
    ]


def test_metadata_without_requires_python_allows_every_python() -> None:
    text = METADATA.replace(b"Requires-Python: >=3.9\n", b"")
    assert parse_core_metadata(text).requires_python is None


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        pytest.param(b"Version: 1.7.0\n", b"", "version", id="no version"),
        pytest.param(b"Version: 1.7.0", b"Version: one", "one", id="not a version"),
        pytest.param(b"torch>=2.4", b"torch>>2", "torch>>2", id="not a requirement"),
        pytest.param(b"Name: Causal_Conv1d", b"Name: ??", r"\?\?", id="not a name"),
    ],
)
def test_invalid_metadata_is_named(old: bytes, new: bytes, words: str) -> None:
    with pytest.raises(RepairError, match=words):
        parse_core_metadata(METADATA.replace(old, new, 1))


def test_setting_the_version_changes_that_line_alone() -> None:
    changed = set_version(METADATA, Version("1.7.0+cu130.torch2.11.0"))
    expected = METADATA.replace(b"Version: 1.7.0", b"Version: 1.7.0+cu130.torch2.11.0", 1)
    assert changed == expected


def test_line_ends_of_other_systems_are_kept() -> None:
    text = METADATA.replace(b"\n", b"\r\n")
    changed = set_version(text, Version("2.0"))
    assert changed == text.replace(b"Version: 1.7.0", b"Version: 2.0", 1)


def test_pin_takes_the_place_of_the_requirement_and_leaves_extras() -> None:
    changed = set_requirement(METADATA, Requirement("torch==2.11.0"))
    expected = METADATA.replace(b"Requires-Dist: torch>=2.4", b"Requires-Dist: torch==2.11.0", 1)
    assert changed == expected


def test_pin_replaces_every_spelling_of_the_name_once() -> None:
    text = METADATA.replace(
        b"Requires-Dist: packaging", b"Requires-Dist: Torch<3; python_version>'3'"
    )
    changed = parse_core_metadata(set_requirement(text, Requirement("torch==2.11.0+cu126")))
    assert [str(item) for item in changed.requires] == [
        "torch==2.11.0+cu126",
        'torch>=2.9; extra == "dev"',
    ]


def test_pin_is_added_where_the_project_forgot_the_requirement() -> None:
    text = METADATA.replace(b"Requires-Dist: torch>=2.4\n", b"")
    changed = set_requirement(text, Requirement("torch==2.11.0"))
    assert changed.index(b"Requires-Dist: torch==2.11.0\n") < changed.index(b"\n\n")
    assert len(changed) == len(text) + len(b"Requires-Dist: torch==2.11.0\n")


def test_requirement_goes_last_where_there_was_none_and_no_body() -> None:
    changed = set_requirement(b"Name: a\nVersion: 1", Requirement("torch==2.11.0"))
    assert changed == b"Name: a\nVersion: 1\nRequires-Dist: torch==2.11.0\n"


def test_wheel_gets_one_line_for_each_tag_and_its_build_tag() -> None:
    tags = parse_tag("cp312-cp312-manylinux2014_x86_64.manylinux_2_17_x86_64")
    assert set_tags(WHEEL, tags=tags, build_tag="2") == (
        b"Wheel-Version: 1.0\n"
        b"Generator: setuptools (80.9.0)\n"
        b"Root-Is-Purelib: false\n"
        b"Tag: cp312-cp312-manylinux2014_x86_64\n"
        b"Tag: cp312-cp312-manylinux_2_17_x86_64\n"
        b"Build: 2\n"
        b"\n"
    )


def test_old_build_tag_goes_when_there_is_none() -> None:
    text = WHEEL.replace(b"Tag:", b"Build: 7\nTag:")
    tags = parse_tag("cp312-cp312-linux_x86_64")
    assert set_tags(text, tags=tags, build_tag=None) == WHEEL


def test_compiled_wheel_is_never_purelib() -> None:
    text = WHEEL.replace(b"Purelib: false", b"Purelib: true")
    changed = set_tags(text, tags=parse_tag("cp312-cp312-linux_x86_64"), build_tag=None)
    assert not parse_wheel_info(changed).root_is_purelib
    pure = set_tags(text, tags=parse_tag("py3-none-any"), build_tag=None)
    assert parse_wheel_info(pure).root_is_purelib


def test_wheel_info_is_read_as_values() -> None:
    info = parse_wheel_info(WHEEL.replace(b"Tag:", b"Build: 3\nTag:"))
    assert info.tags == parse_tag("cp312-cp312-linux_x86_64")
    assert info.build == "3"


def test_record_round_trips_names_that_need_quotes() -> None:
    rows = (
        RecordRow(path='a,"b".py', digest=record_digest(b"\xff" * 32), size=3),
        RecordRow(path="x-1.dist-info/RECORD"),
    )
    text = format_record(rows)
    assert text.endswith(b"x-1.dist-info/RECORD,,\n")
    assert parse_record(text) == rows


def test_record_digest_is_urlsafe_without_padding() -> None:
    digest = record_digest(bytes.fromhex("fb" * 32))
    assert digest == "sha256=-_v7-_v7-_v7-_v7-_v7-_v7-_v7-_v7-_v7-_v7-_s"


def test_odd_line_of_record_is_named() -> None:
    with pytest.raises(RepairError, match=r"a\.py"):
        parse_record(b"a.py,sha256=x\n")
