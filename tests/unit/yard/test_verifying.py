"""Verifying offline: every kind of damage is found."""

from __future__ import annotations

import base64
import json
import zipfile
from typing import TYPE_CHECKING

import pytest

from wheelyard.yard.index import write_index
from wheelyard.yard.store import store_wheel
from wheelyard.yard.verifying import verify

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.yards import Made

    from wheelyard.yard.folder import Yard


def provenance(filename: str, sha256: str) -> bytes:
    statement = {
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{"name": filename, "digest": {"sha256": sha256}}],
        "predicateType": "https://docs.example.org/attestations/publish/v1",
        "predicate": None,
    }
    attestation = {
        "version": 1,
        "verification_material": {"certificate": "", "transparency_entries": []},
        "envelope": {
            "statement": base64.b64encode(json.dumps(statement).encode()).decode(),
            "signature": "",
        },
    }
    bundle = {"publisher": {"kind": "GitHub"}, "attestations": [attestation]}
    return json.dumps({"version": 1, "attestation_bundles": [bundle]}).encode()


@pytest.fixture
def made(yard: Yard, make: Callable[..., Made]) -> Made:
    """A yard with one wheel, attested and in the index."""
    made = make()
    store_wheel(yard, made.path, made.record)
    text = provenance(made.path.name, made.record.sha256)
    yard.provenance_path(made.path.name).write_bytes(text)
    write_index(yard)
    return made


def test_whole_yard_is_found_whole(yard: Yard, made: Made) -> None:
    found = verify(yard.path)
    assert found.problems == ()
    assert found.counts == {
        "wheels": 1,
        "RECORD of wheels": 1,
        "build records": 1,
        "core metadata": 1,
        "attestations": 1,
        "lines of SHA256SUMS": 1,
        "index pages": 4,
        "files that pages name": 6,
    }


def damaged(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def as_other(path: Path, old: str, new: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")


def without_wheel(yard: Yard, made: Made) -> None:
    yard.wheel_path(made.path.name).unlink()


def other_wheel(yard: Yard, made: Made) -> None:
    with zipfile.ZipFile(yard.wheel_path(made.path.name), "a") as archive:
        archive.writestr("demo_ext/more.py", "")


def other_metadata(yard: Yard, made: Made) -> None:
    damaged(yard.metadata_path(made.path.name))


def other_record(yard: Yard, made: Made) -> None:
    as_other(yard.record_path(made.path.name), '"sandbox": "unshare"', '"sandbox": "none"')


def other_sums(yard: Yard, made: Made) -> None:
    as_other(yard.wheels_dir / "SHA256SUMS", made.record.sha256, "0" * 64)


def missing_in_sums(yard: Yard, made: Made) -> None:
    (yard.wheels_dir / "SHA256SUMS").write_text("")


def other_html(yard: Yard, made: Made) -> None:
    page = yard.index_dir / "simple" / "demo-ext" / "index.html"
    as_other(page, made.record.sha256, "0" * 64)


def other_attestation(yard: Yard, made: Made) -> None:
    yard.provenance_path(made.path.name).write_bytes(provenance(made.path.name, "0" * 64))


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        pytest.param(without_wheel, "which is not there", id="wheel-gone"),
        pytest.param(other_wheel, "its record says", id="wheel-changed"),
        pytest.param(other_wheel, "'demo_ext/more.py' is not listed", id="wheel-and-its-RECORD"),
        pytest.param(other_wheel, "SHA256SUMS says", id="wheel-and-sums"),
        pytest.param(other_metadata, "is not the core metadata", id="metadata"),
        pytest.param(other_record, "index.v1.json says sha256", id="record"),
        pytest.param(other_sums, "SHA256SUMS says", id="sums"),
        pytest.param(missing_in_sums, "does not name", id="sums-empty"),
        pytest.param(other_html, "does not say what index.v1.json does", id="html"),
        pytest.param(other_attestation, "is of [(", id="attestation"),
    ],
)
def test_damage_is_found(
    yard: Yard, made: Made, spoil: Callable[[Yard, Made], None], said: str
) -> None:
    spoil(yard, made)
    assert said in "\n".join(verify(yard.path).problems)


def test_wheel_alone_is_held_against_what_lies_beside_it(yard: Yard, made: Made) -> None:
    assert verify(yard.wheel_path(made.path.name)).problems == ()
    other_record(yard, made)
    as_other(yard.record_path(made.path.name), made.record.sha256, "0" * 64)
    [problem] = verify(yard.wheel_path(made.path.name)).problems
    assert "its record says" in problem


def test_file_that_is_no_wheel_is_said_to_be_none(tmp_path: Path) -> None:
    path = tmp_path / "demo-1.0-py3-none-any.whl"
    path.write_bytes(b"<!DOCTYPE html>")
    [problem] = verify(path).problems
    assert "cannot be read as a wheel" in problem
