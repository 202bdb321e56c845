"""Verdicts on wheels, kept by digest, so that no wheel is judged twice in the same way."""

from __future__ import annotations

import functools
import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Final

import wheelyard
from wheelyard.files import disk_errors, replace_file
from wheelyard.wheels.findings import CheckReport

if TYPE_CHECKING:
    from collections.abc import Iterable

FORMAT: Final = 1

_HOUSE: Final = Path(wheelyard.__file__).parent
_CHECKER: Final = ("abi", "model", "wheels")
"""The rooms whose code decides what a check finds."""


def find_verdict(cache: Path, sha256: str, against: str) -> CheckReport | None:
    """Return what this very checker found out about a wheel, judged with the same.

    ``against`` says all that the wheel was held against: expectation, torch, tables, its name.
    """
    try:
        kept = json.loads(_path(cache, sha256, against).read_bytes())
        if kept["format"] != FORMAT or kept["checker"] != checker_version():
            return None
        if kept["against"] != against or kept["report"]["sha256"] != sha256:
            return None
        return CheckReport.from_json(kept["report"])
    except (OSError, ValueError, KeyError, TypeError):
        return None  # a verdict that cannot be read costs a check, no more


def keep_verdict(cache: Path, report: CheckReport, against: str) -> Path:
    """Keep a report, in the place of what an earlier checker said; return where."""
    path = _path(cache, report.sha256, against)
    document = {
        "against": against,
        "checker": checker_version(),
        "format": FORMAT,
        "report": report.to_json(),
    }
    with disk_errors(path):
        replace_file(path, json.dumps(document, indent=2, sort_keys=True).encode() + b"\n")
    return path


def judged_with(
    *,
    filename: str,
    torch: str = "",
    tables: Iterable[Path] = (),
    unseen: tuple[str, ...] = (),
) -> str:
    """Describe what a wheel is held against, for ``against``; it changes when a table does."""
    return json.dumps(
        {
            "filename": filename,
            "tables": {path.name: _digest([path]) for path in sorted(tables)},
            "torch": torch,
            "unseen": unseen,
        },
        sort_keys=True,
    )


@functools.cache
def checker_version() -> str:
    """The version of wheelyard, and of the code of its checker, which nobody can forget to raise.

    For example ``0.1.0+5f0c1d2e3a4b``.
    """
    files = [path for room in _CHECKER for path in sorted((_HOUSE / room).glob("*.py"))]
    return f"{wheelyard.__version__}+{_digest(files)[:12]}"


def _digest(paths: Iterable[Path]) -> str:
    digest = hashlib.sha256()
    for path in paths:
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


def _path(cache: Path, sha256: str, against: str) -> Path:
    key = hashlib.sha256(against.encode()).hexdigest()[:16]
    return cache / "verdicts" / f"{sha256}-{key}.json"
