"""Build records and test reports as JSON."""

from __future__ import annotations

import datetime as dt
import json
from typing import Any

import msgspec
import pytest
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

from wheelyard.errors import YardError
from wheelyard.model.record import (
    Adopted,
    BuildRecord,
    Built,
    RecordedBuild,
    RecordedCheck,
    RecordedPatch,
    RecordedToolkit,
    TestLevel,
    TestReport,
    build_digest,
    machine_label,
)

RECORD = BuildRecord(
    identifier="causal-conv1d-1.7.0-cp312-torch2.11.0-cu130-x86_64",
    index_label="torch2.11.0-cu130",
    filename="causal_conv1d-1.7.0+cu130.torch2.11.0-cp312-cp312-manylinux_2_24_x86_64.whl",
    sha256="1" * 64,
    size=1000,
    name=canonicalize_name("causal-conv1d"),
    version=Version("1.7.0+cu130.torch2.11.0"),
    revision=0,
    requires_python=SpecifierSet(">=3.9"),
    core_metadata_sha256="2" * 64,
    python="3.12",
    torch="2.11.0+cu130",
    machine="x86_64",
    gpu_archs=("9.0",),
    plan_fingerprint="3" * 64,
    build_digest="4" * 64,
    fingerprint_inputs={"locks": {"torch": "5"}},
    origin=Built(
        source="sha256:" + "5" * 64,
        tree_sha256="6" * 64,
        patches=(RecordedPatch(name="0001-archs.patch", sha256="7" * 64),),
        compiler="gcc 12.2.0",
        toolkit=RecordedToolkit(provider="index", version="13.0"),
        build=RecordedBuild(seconds=60.0, cpu_seconds=110.0, compile_jobs=2),
    ),
    locks={"locks/torch/2.11.0+cu130.txt": "8" * 64},
    sandbox="unshare",
    torch_origin="locked",
    seconds={"build": 12.5},
    check=RecordedCheck(passed=True, summary={"symbols": 3}),
    created=dt.datetime(2026, 11, 23, 12, 0, tzinfo=dt.UTC),
)
REPORT = TestReport(
    sha256="1" * 64,
    filename=RECORD.filename,
    level=TestLevel.ran_on_gpu,
    machine="nvidia-h100",
    machine_description="NVIDIA H100, driver 580",
    measurements=({"error": 2.1e-4, "dtype": "float16"},),
    seconds=3.25,
    created=dt.datetime(2026, 11, 23, 12, 0, tzinfo=dt.UTC),
)


ADOPTED = msgspec.structs.replace(
    RECORD,
    origin=Adopted(
        url="https://example.org/v1/causal_conv1d-1.7.0%2Bcu13torch2.11-cp312-cp312-linux.whl",
        filename="causal_conv1d-1.7.0+cu13torch2.11-cp312-cp312-linux_x86_64.whl",
        sha256="9" * 64,
    ),
)
OF_A_BUILD = ("build", "compiler", "patches", "source", "toolkit", "tree_sha256")


def changed(record: BuildRecord | TestReport, **fields: object) -> bytes:
    document: dict[str, Any] = json.loads(record.to_json())
    return json.dumps(document | fields).encode()


def test_record_comes_back_as_it_was() -> None:
    assert BuildRecord.from_json(RECORD.to_json(), origin="r.json") == RECORD


def test_record_of_an_adopted_wheel_comes_back_as_it_was() -> None:
    text = ADOPTED.to_json()
    assert BuildRecord.from_json(text, origin="r.json") == ADOPTED
    assert json.loads(text)["origin"]["kind"] == "adopted"


@pytest.mark.parametrize(
    ("url", "expected"), [("https://x/y.whl", "https://x/y.whl"), ("", "y.whl")]
)
def test_adopted_wheel_came_from_a_url_or_is_known_by_its_name(url: str, expected: str) -> None:
    assert Adopted(url=url, filename="y.whl", sha256="9" * 64).place == expected


def _format_1(**fields: object) -> dict[str, Any]:
    """Return the record as it was written before wheels could be adopted."""
    document: dict[str, Any] = json.loads(RECORD.to_json())
    origin = document.pop("origin")
    return document | {name: origin[name] for name in OF_A_BUILD} | {"format": 1} | fields


def test_record_of_format_1_is_one_of_a_built_wheel() -> None:
    text = json.dumps(_format_1()).encode()
    assert BuildRecord.from_json(text, origin="r.json") == RECORD


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        pytest.param({"extra": 1}, "extra", id="unknown"),
        pytest.param({"tree_sha256": "x"}, r"origin\.tree_sha256", id="not a digest"),
        pytest.param({"version": "one"}, "version", id="not a version"),
    ],
)
def test_damage_in_a_record_of_format_1_is_named(fields: dict[str, object], words: str) -> None:
    text = json.dumps(_format_1(**fields)).encode()
    with pytest.raises(YardError, match=rf"r\.json cannot be read: .*{words}"):
        BuildRecord.from_json(text, origin="r.json")


def test_report_comes_back_as_it_was() -> None:
    assert TestReport.from_json(REPORT.to_json(), origin="t.json") == REPORT


def test_json_has_its_format_and_sorted_keys_everywhere() -> None:
    text = RECORD.to_json()
    document = json.loads(text)
    assert document["format"] == 2
    assert text.endswith(b"}\n")
    assert json.dumps(document, sort_keys=True) == json.dumps(document)


def test_every_python_is_allowed_where_the_project_says_nothing() -> None:
    record = msgspec.structs.replace(RECORD, requires_python=None)
    assert BuildRecord.from_json(record.to_json(), origin="r.json").requires_python is None


def test_cell_follows_from_its_parts() -> None:
    assert RECORD.cell.identifier == "cp312-torch2.11.0-cu130-x86_64"


@pytest.mark.parametrize(
    ("label", "is_default"),
    [
        ("torch2.11.0-cu130", True),
        ("torch2.11.0-cu130-sm90", False),
        ("torch2.11.0-cu130-env", False),
    ],
)
def test_only_default_gpu_archs_on_a_locked_torch_are_default(
    label: str, *, is_default: bool
) -> None:
    assert msgspec.structs.replace(RECORD, index_label=label).is_default is is_default


def test_wheel_without_a_local_version_is_in_the_index_of_its_torch_alone() -> None:
    assert RECORD.is_default
    assert not msgspec.structs.replace(RECORD, version=Version(RECORD.version.public)).is_default


@pytest.mark.parametrize("kind", [BuildRecord, TestReport])
def test_later_format_asks_for_an_upgrade(kind: type[BuildRecord | TestReport]) -> None:
    text = b'{"format": 3, "anything": true}'
    with pytest.raises(YardError, match=r"x\.json has format 3.*Upgrade wheelyard"):
        kind.from_json(text, origin="x.json")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        pytest.param(b"", "truncated", id="empty"),
        pytest.param(b"\xff\xfe", "malformed", id="not text"),
        pytest.param(b"{}", "format", id="no format"),
        pytest.param(changed(RECORD, sha256="xyz"), "sha256", id="not a digest"),
        pytest.param(changed(RECORD, version="one"), "version", id="not a version"),
        pytest.param(changed(RECORD, requires_python="new"), "requires_python", id="no specifier"),
        pytest.param(changed(RECORD, filename="../x.whl"), "filename", id="leaves the folder"),
        pytest.param(changed(RECORD, index_label="../x"), "index_label", id="label leaves too"),
        pytest.param(changed(RECORD, created="2026-11-23T12:00:00"), "created", id="no zone"),
        pytest.param(changed(RECORD, extra=1), "extra", id="unknown field"),
    ],
)
def test_damaged_record_is_named_with_the_field(text: bytes, words: str) -> None:
    with pytest.raises(YardError, match=rf"records/x\.json cannot be read: .*{words}.*Restore"):
        BuildRecord.from_json(text, origin="records/x.json")


def test_report_is_one_file_for_each_machine_and_level() -> None:
    assert REPORT.report_filename == "nvidia-h100-ran-on-gpu.json"


@pytest.mark.parametrize(
    ("description", "label"),
    [
        ("NVIDIA H100 80GB HBM3, driver 580.1", "nvidia-h100-80gb-hbm3-driver-580-1"),
        ("../../etc", "etc"),
        ("机器", "unnamed"),
        ("x" * 300, "x" * 80),
    ],
)
def test_machine_label_is_fit_for_a_filename(description: str, label: str) -> None:
    assert machine_label(description) == label


def test_build_digest_depends_on_plan_and_machine_not_on_order() -> None:
    digest = build_digest("3" * 64, {"compiler": "gcc 12", "kernel": "6.1"})
    assert digest == build_digest("3" * 64, {"kernel": "6.1", "compiler": "gcc 12"})
    assert digest != build_digest("3" * 64, {"compiler": "gcc 13", "kernel": "6.1"})
    assert digest != build_digest("4" * 64, {"compiler": "gcc 12", "kernel": "6.1"})
