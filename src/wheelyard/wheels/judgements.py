"""What became of upstream wheels that were looked at, so that none is looked at twice."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from typing import TYPE_CHECKING, Final

from wheelyard.abi.symbol_table import SUFFIX
from wheelyard.abi.tables import SHIPPED_DIR, own_tables_folder
from wheelyard.files import disk_errors, replace_file
from wheelyard.model.asset_name import Verdict
from wheelyard.wheels.verdicts import checker_version, judged_with

if TYPE_CHECKING:
    from pathlib import Path

FORMAT: Final = 1


class Judgements:
    """The verdicts of this very checker with these very tables, by digest and torch."""

    def __init__(self, cache: Path) -> None:
        self._folder = cache / "verdicts" / "upstream"
        folders = (SHIPPED_DIR, own_tables_folder(cache))
        tables = [path for folder in folders for path in folder.glob(f"*{SUFFIX}")]
        self._tables = hashlib.sha256(judged_with(filename="", tables=tables).encode()).hexdigest()

    def find(self, sha256: str, *, torch: str) -> Verdict | None:
        """Return what was found out about the wheel beside that torch."""
        try:
            kept = json.loads(self._path(sha256, torch).read_bytes())
            if kept.pop("against") != self._against(torch):
                return None
            return Verdict(**{**kept, "gpu_archs": tuple(kept["gpu_archs"])})
        except (OSError, ValueError, KeyError, TypeError):
            return None  # a verdict that cannot be read costs a check, no more

    def keep(self, verdict: Verdict, *, torch: str) -> None:
        path = self._path(verdict.sha256, torch)
        document = {"against": self._against(torch), **dataclasses.asdict(verdict)}
        with disk_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            replace_file(path, json.dumps(document, indent=2, sort_keys=True).encode() + b"\n")

    def _against(self, torch: str) -> list[object]:
        return [FORMAT, checker_version(), self._tables, torch]

    def _path(self, sha256: str, torch: str) -> Path:
        return self._folder / f"{sha256}-torch{torch}.json"
