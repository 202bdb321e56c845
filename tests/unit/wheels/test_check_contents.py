"""What a wheel installs beside others', and whether it is small enough to be published."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from wheelyard.wheels.archive import open_wheel
from wheelyard.wheels.check_contents import content_findings, size_findings
from wheelyard.wheels.findings import FindingKind, Severity
from wheelyard.wheels.labels import read_labels

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from wheelyard.wheels.findings import Finding

GIB = 1 << 30


@pytest.mark.parametrize(("size", "count"), [(2 * GIB - 1, 0), (2 * GIB, 1), (3 * GIB, 1)])
@pytest.mark.parametrize("severity", Severity)
def test_wheel_that_no_release_can_hold_is_found(size: int, count: int, severity: Severity) -> None:
    found = list(size_findings(size, severity=severity))
    assert len(found) == count
    assert all((one.kind, one.severity) == (FindingKind.SIZE, severity) for one in found)
    assert all("must be smaller than 2 GiB" in one.message for one in found)


def find(
    make_wheel: Callable[..., Path], files: Mapping[str, bytes], name: str = "demo"
) -> list[Finding]:
    with open_wheel(make_wheel(name=name, files=files)) as archive:
        labels = read_labels(archive)
        return list(content_findings(archive.members, labels, None, severity=Severity.WARNING))


@pytest.mark.parametrize(
    ("path", "is_common"),
    [
        ("tests/__init__.py", True),
        ("demo-1.0.data/purelib/src/demo.py", True),
        ("benchmarks/run.py", True),
        ("demo/tests/__init__.py", False),
        ("tests.py", False),
        ("testsuite/__init__.py", False),
    ],
)
def test_top_level_that_others_have_too_is_a_warning(
    make_wheel: Callable[..., Path],
    path: str,
    is_common: bool,  # noqa: FBT001
) -> None:
    found = find(make_wheel, {"demo/__init__.py": b"", path: b""})
    assert [(one.kind, one.severity, one.member) for one in found] == (
        [(FindingKind.TOP_LEVEL, Severity.WARNING, path)] if is_common else []
    )


def test_only_torch_writes_into_the_folder_of_torch(make_wheel: Callable[..., Path]) -> None:
    files = {"torch/lib/libextra.so": b"", "torch/extra.py": b""}
    (finding,) = find(make_wheel, files)
    assert (finding.kind, finding.severity) == (FindingKind.TOP_LEVEL, Severity.ERROR)
    assert finding.details == ("torch/extra.py", "torch/lib/libextra.so")
    assert find(make_wheel, files, name="torch") == []
