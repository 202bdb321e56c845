"""A check report as people read it."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Final

from wheelyard.model.gpu_targets import How, gpu_coverage
from wheelyard.wheels.findings import Severity

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from wheelyard.wheels.findings import CheckReport, Finding, FindingKind

_WIDTH: Final = 100
_LABEL: Final = 10
_DETAILS: Final = 5
_DETAIL_WIDTH: Final = 140


def describe(report: CheckReport) -> str:
    """Return the whole report: the verdict, what is wrong, and what the wheel is for."""
    lines = [f"{report.filename}: {verdict(report)}"]
    for findings in _alike(report.findings):
        lines += _finding(findings[0], others=[one.member for one in findings[1:]])
    if report.torch:
        lines += _labelled("torch", _torch(report))
    if report.fits and report.files:
        lines += _labelled("fits", f"torch {', '.join(report.fits)}")
    lines += _gpu(report)
    if report.external_libraries:
        lines += _labelled("needs", ", ".join(report.external_libraries))
    return "\n".join(lines)


def verdict(report: CheckReport) -> str:
    """For example ``passed, with 2 warnings``."""
    warnings = sum(finding.severity is Severity.WARNING for finding in report.findings)
    if not report.passed:
        return "must not be used"
    counted = {0: "", 1: ", with 1 warning"}.get(warnings, f", with {warnings} warnings")
    return f"passed{counted}"


def _alike(findings: Sequence[Finding]) -> Sequence[Sequence[Finding]]:
    """Put together what is wrong with several files in the same way, errors first."""
    groups: dict[tuple[Severity, FindingKind, str], list[Finding]] = {}
    for finding in sorted(findings, key=lambda one: one.severity is Severity.WARNING):
        pattern = finding.message.replace(repr(finding.member), "") if finding.member else ""
        key = (finding.severity, finding.kind, pattern or finding.message)
        groups.setdefault(key, []).append(finding)
    return list(groups.values())


def _finding(finding: Finding, others: Sequence[str]) -> Iterator[str]:
    also = {0: "", 1: " (one more file too)"}.get(len(others), f" ({len(others)} more files too)")
    yield from _labelled(str(finding.severity), f"{finding.kind}: {finding.message}{also}")
    shown = finding.details[:_DETAILS]
    yield from (f"{'':{_LABEL + 4}}{_cut(detail)}" for detail in shown)
    if len(finding.details) > len(shown):
        rest = len(finding.details) - len(shown)
        yield f"{'':{_LABEL + 4}}and {rest} more, all of them with --json"


def _cut(detail: str) -> str:
    """Shorten what C++ makes of its templates; the whole name is in the JSON."""
    return detail if len(detail) <= _DETAIL_WIDTH else f"{detail[: _DETAIL_WIDTH - 4]} ..."


def _torch(report: CheckReport) -> str:
    if not report.files:
        return "nothing in it is compiled"
    unsure = sum(file.loads is None for file in report.files)
    failing = sum(file.loads is False for file in report.files)
    parts = [f"{_counted(len(report.files), 'compiled file')} beside {report.torch}"]
    if failing:
        parts.append(f"{failing} of them cannot load")
    if unsure:
        parts.append(f"{unsure} depend{'s' if unsure == 1 else ''} on what is loaded before")
    if not report.links_torch:
        parts.append("none of them links torch")
    return "; ".join(parts)


def _counted(number: int, what: str) -> str:
    return f"1 {what}" if number == 1 else f"{number} {what}s"


def _gpu(report: CheckReport) -> Iterator[str]:
    coverage = gpu_coverage(report.gpu_code)
    said = {How.NATIVE: "runs on", How.PTX: "by PTX on", How.NONE: "not on"}
    targets: dict[str, list[str]] = {}
    for member, code in report.gpu_code.items():
        targets.setdefault(str(code), []).append(member)
    for text, members in targets.items():
        where = "" if len(targets) == 1 else f" in {_some(members)}"
        yield from _labelled("GPU code", f"{text}{where}")
    for how, words in said.items():
        names = [f"{one.gpu} ({one.arch})" for one in coverage if one.how is how]
        if names:
            yield from _labelled(words, ", ".join(names))


def _some(members: Sequence[str]) -> str:
    return members[0] if len(members) == 1 else f"{members[0]} and {len(members) - 1} more"


def _labelled(label: str, text: str) -> Iterator[str]:
    first, rest = f"  {label:{_LABEL}}", " " * (_LABEL + 2)
    yield from textwrap.wrap(
        text,
        _WIDTH,
        initial_indent=first,
        subsequent_indent=rest,
        break_long_words=False,
        break_on_hyphens=False,
    )
