"""Kept verdicts: the same question has the same answer, and no other question has."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from wheelyard.abi.gpu_code import GpuCode
from wheelyard.model.cell import GpuArch
from wheelyard.wheels import verdicts
from wheelyard.wheels.findings import CheckReport, FileVerdict, Finding, FindingKind, Severity
from wheelyard.wheels.verdicts import checker_version, find_verdict, judged_with, keep_verdict

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SHA256 = "1" * 64
REPORT = CheckReport(
    filename="demo-1.0-cp312-cp312-linux_x86_64.whl",
    sha256=SHA256,
    findings=(
        Finding(
            kind=FindingKind.MISSING_SYMBOL,
            message="3 symbols are missing",
            severity=Severity.WARNING,
            member="demo.so",
            details=("a", "b"),
        ),
        Finding(kind=FindingKind.RECORD, message="RECORD is wrong"),
    ),
    gpu_code={
        "demo.so": GpuCode(
            cubins=frozenset({GpuArch(8, 0), GpuArch(9, 0, "a")}), ptx=frozenset({GpuArch(9, 0)})
        )
    },
    external_libraries=("libc10.so",),
    platform_tag="linux_x86_64",
    torch="2.11.0+cu130",
    files=(
        FileVerdict(member="demo.so", loads=False, why=("no symbol a",)),
        FileVerdict(member="other.so", loads=None),
    ),
    links_torch=True,
    fits=("2.8.0+cu128",),
)
AGAINST = judged_with(filename=REPORT.filename)


def test_verdict_comes_back_as_it_was(tmp_path: Path) -> None:
    path = keep_verdict(tmp_path, REPORT, AGAINST)
    assert path.parent == tmp_path / "verdicts"
    assert path.name.startswith(f"{SHA256}-")
    assert find_verdict(tmp_path, SHA256, AGAINST) == REPORT


def test_every_field_of_a_report_goes_through_json() -> None:
    text = json.dumps(REPORT.to_json())
    assert CheckReport.from_json(json.loads(text)) == REPORT


@pytest.mark.parametrize(
    "spoil",
    [
        pytest.param(lambda document: document.update(format=2), id="later-format"),
        pytest.param(lambda document: document.pop("findings"), id="no-findings"),
        pytest.param(lambda document: document["findings"][0].update(kind="?"), id="other-kind"),
        pytest.param(lambda document: document.update(gpu_code={"a": 1}), id="no-gpu-code"),
        pytest.param(lambda document: document["gpu_code"]["demo.so"].update(ptx=["x"]), id="arch"),
    ],
)
def test_what_is_not_a_report_is_a_value_error(spoil: Callable[[object], object]) -> None:
    document = json.loads(json.dumps(REPORT.to_json()))
    spoil(document)
    with pytest.raises(ValueError, match=r"report|FindingKind"):
        CheckReport.from_json(document)


@pytest.mark.parametrize(
    ("sha256", "against"),
    [
        pytest.param("2" * 64, AGAINST, id="other-wheel"),
        pytest.param(SHA256, judged_with(filename="other.whl"), id="other-name"),
        pytest.param(SHA256, judged_with(filename=REPORT.filename, torch="2.8.0"), id="torch"),
    ],
)
def test_other_question_has_no_answer(tmp_path: Path, sha256: str, against: str) -> None:
    keep_verdict(tmp_path, REPORT, AGAINST)
    assert find_verdict(tmp_path, sha256, against) is None


def test_verdict_of_other_tables_does_not_count(tmp_path: Path) -> None:
    table = tmp_path / "torch.symbols"
    table.write_bytes(b"one")
    before = judged_with(filename=REPORT.filename, tables=[table])
    table.write_bytes(b"two")
    assert judged_with(filename=REPORT.filename, tables=[table]) != before


def test_verdict_of_another_checker_does_not_count_and_is_replaced(tmp_path: Path) -> None:
    path = keep_verdict(tmp_path, REPORT, AGAINST)
    path.write_text(path.read_text().replace(checker_version(), "0.0.9+aaaaaaaaaaaa"))
    assert find_verdict(tmp_path, SHA256, AGAINST) is None
    assert keep_verdict(tmp_path, REPORT, AGAINST) == path
    assert find_verdict(tmp_path, SHA256, AGAINST) == REPORT


def test_checker_is_another_when_its_code_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for room in ("abi", "model", "wheels"):
        (tmp_path / room).mkdir()
    (tmp_path / "abi" / "elf.py").write_text("one")
    monkeypatch.setattr(verdicts, "_HOUSE", tmp_path)
    before = checker_version.__wrapped__()
    (tmp_path / "abi" / "elf.py").write_text("two")
    assert checker_version.__wrapped__() != before


@pytest.mark.parametrize("text", [b"", b"{}", b"[]", b"\xff", b'{"format": 1, "checker": 1}'])
def test_damaged_verdict_is_as_good_as_none(tmp_path: Path, text: bytes) -> None:
    keep_verdict(tmp_path, REPORT, AGAINST).write_bytes(text)
    assert find_verdict(tmp_path, SHA256, AGAINST) is None
