"""A check report reads well: the verdict first, what is alike together, nothing too long."""

from __future__ import annotations

from wheelyard.abi.gpu_code import GpuCode
from wheelyard.model.cell import GpuArch
from wheelyard.wheels.describing import describe, verdict
from wheelyard.wheels.findings import CheckReport, FileVerdict, Finding, FindingKind, Severity


def report(*findings: Finding, **traits: object) -> CheckReport:
    usual: dict[str, object] = {
        "filename": "demo-1.0-cp312-cp312-linux_x86_64.whl",
        "sha256": "0" * 64,
        "gpu_code": {},
        "external_libraries": (),
        "platform_tag": "linux_x86_64",
    }
    return CheckReport(findings=findings, **(usual | traits))  # type: ignore[arg-type]


def rpath(member: str) -> Finding:
    return Finding(
        kind=FindingKind.RPATH,
        message=f"{member!r} looks elsewhere",
        member=member,
        severity=Severity.WARNING,
    )


def test_verdict_counts_warnings_and_is_short_when_there_are_none() -> None:
    error = Finding(kind=FindingKind.RECORD, message="RECORD is wrong")
    assert verdict(report()) == "passed"
    assert verdict(report(rpath("a.so"))) == "passed, with 1 warning"
    assert verdict(report(rpath("a.so"), rpath("b.so"))) == "passed, with 2 warnings"
    assert verdict(report(error, rpath("a.so"))) == "must not be used"


def test_errors_come_before_warnings() -> None:
    error = Finding(kind=FindingKind.RECORD, message="RECORD is wrong")
    lines = describe(report(rpath("a.so"), error)).splitlines()
    assert lines[1:3] == [
        "  error     record: RECORD is wrong",
        "  warning   rpath: 'a.so' looks elsewhere",
    ]


def test_what_is_wrong_with_several_files_alike_is_said_once() -> None:
    text = describe(report(rpath("a.so"), rpath("b.so"), rpath("c.so")))
    assert text.count("looks elsewhere") == 1
    assert "'a.so' looks elsewhere (2 more files too)" in text


def test_long_lists_end_with_where_the_rest_is() -> None:
    names = tuple(f"symbol_{number}" for number in range(9))
    finding = Finding(kind=FindingKind.MISSING_SYMBOL, message="some", details=names)
    lines = describe(report(finding)).splitlines()
    assert [line.strip() for line in lines[2:]] == [
        *names[:5],
        "and 4 more, all of them with --json",
    ]


def test_no_line_is_wider_than_a_terminal_that_people_have() -> None:
    libraries = tuple(f"libneeded{number}.so.1" for number in range(40))
    for line in describe(report(external_libraries=libraries)).splitlines():
        assert len(line) <= 100


def test_torch_that_it_fits_and_gpus_that_it_runs_on_are_named() -> None:
    code = GpuCode(cubins=frozenset({GpuArch(9, 0)}), ptx=frozenset({GpuArch(9, 0)}))
    text = describe(
        report(
            torch="2.11.0+cu130",
            files=(FileVerdict(member="a.so", loads=True), FileVerdict(member="b.so", loads=None)),
            fits=("2.11.0+cu130",),
            links_torch=True,
            gpu_code={"a.so": code},
        )
    )
    assert "2 compiled files beside 2.11.0+cu130" in text
    assert "1 depends on what is loaded before" in text
    assert "  fits      torch 2.11.0+cu130" in text
    assert "  runs on   H100" in text
    assert "  by PTX on B200" in text
    assert "  not on    V100" in text
