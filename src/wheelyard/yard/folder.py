"""The yard's folder: where everything lies, and what can be read from it."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
from typing import TYPE_CHECKING

import msgspec

from wheelyard.errors import YardError
from wheelyard.files import PART, disk_errors, file_sha256, make_folder, replace_file
from wheelyard.locking import held
from wheelyard.model.decode import UNREADABLE
from wheelyard.model.index_entry import IndexEntry, read_entry
from wheelyard.model.record import BuildRecord, TestLevel, TestReport, Yank

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping
    from pathlib import Path

FORMAT = 1
WRITERS = "store"
"""The lock of whoever adds to the yard; no identifier is that short."""

PROVENANCE = ".provenance"
"""Ends the name of the attestations (PEP 740) of the wheel beside it."""

_MARKER = "yard.json"
_FOLDERS = frozenset({"index", "locks", "logs", "probes", "records", "reports", "wheels", "yanks"})
_RECORD = ".whl.json"


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class StoredWheel:
    """A wheel of the yard: its file is there, with the size that the record says."""

    path: Path
    record: BuildRecord


@dataclasses.dataclass(frozen=True, slots=True)
class Yard:
    """A folder of finished wheels, records, reports and index."""

    path: Path

    @property
    def index_dir(self) -> Path:
        return self.path / "index"

    @property
    def wheels_dir(self) -> Path:
        return self.path / "wheels"

    @property
    def records_dir(self) -> Path:
        return self.path / "records"

    def wheel_path(self, filename: str) -> Path:
        return self.wheels_dir / filename

    def metadata_path(self, filename: str) -> Path:
        """The core metadata beside the wheel, which installers read before they download."""
        return self.wheels_dir / f"{filename}.metadata"

    def provenance_path(self, filename: str) -> Path:
        """The attestations of the wheel, which lie beside it if there are any."""
        return self.wheels_dir / f"{filename}{PROVENANCE}"

    def yank_path(self, filename: str) -> Path:
        return self.path / "yanks" / f"{filename}.json"

    def record_path(self, filename: str) -> Path:
        return self.records_dir / f"{filename}.json"

    @property
    def probes_dir(self) -> Path:
        """Records of probes: what was compiled of jobs that there may be no wheel of."""
        return self.path / "probes"

    def reports_dir(self, sha256: str) -> Path:
        return self.path / "reports" / sha256

    def log_path(self, identifier: str) -> Path:
        return self.path / "logs" / f"{identifier}.log"

    def index_url(self, label: str = "") -> str:
        """Return the URL of an index for clients on this machine; no label is the flat one."""
        return f"{(self.index_dir / label / 'simple').absolute().as_uri()}/"

    @contextlib.contextmanager
    def lock(self, identifier: str) -> Iterator[None]:
        """Let one process at a time work on ``identifier``; the others wait."""
        path = self.path / "locks" / f"{identifier}.lock"
        with contextlib.ExitStack() as stack:
            with disk_errors(path):
                stack.enter_context(held(path, what=f"{identifier} in {self.path}"))
            yield

    def records(self) -> tuple[BuildRecord, ...]:
        """Return every record, by filename."""
        return tuple(_decode(path, text) for path, text in self._record_texts())

    def record(self, filename: str) -> BuildRecord | None:
        """Return the record of the wheel with that filename."""
        path = self.record_path(filename)
        try:
            text = path.read_bytes()
        except FileNotFoundError:
            return None
        return _decode(path, text)

    def record_names(self) -> list[str]:
        """Return the filenames of all wheels that have a record."""
        try:
            found = os.scandir(self.records_dir)
        except FileNotFoundError:
            return []
        with found:
            return sorted(
                entry.name.removesuffix(".json")
                for entry in found
                if entry.name.endswith(_RECORD) and not entry.name.startswith(PART)
            )

    def entries(self, filenames: Collection[str]) -> Iterator[IndexEntry]:
        """Yield what an index knows of these wheels; their files are not looked at.

        What another process removes meanwhile is left out.
        """
        yanked, signed = self._names_in("yanks"), self._signed()
        for filename in filenames:
            path = self.record_path(filename)
            try:
                entry = read_entry(path.read_bytes(), origin=str(path))
            except FileNotFoundError:
                continue
            if entry.filename != filename:
                raise _misnamed(path, entry.filename)
            changes: dict[str, object] = {}
            yank = self.yank(filename) if f"{filename}.json" in yanked else None
            if yank is not None:
                changes["yanked"] = yank.reason
            if filename in signed:
                with contextlib.suppress(FileNotFoundError):
                    changes["provenance_sha256"] = file_sha256(self.provenance_path(filename))
            yield msgspec.structs.replace(entry, **changes) if changes else entry

    def yank(self, filename: str) -> Yank | None:
        """Return why a wheel is yanked, if it is."""
        path = self.yank_path(filename)
        try:
            return Yank.from_json(path.read_bytes(), origin=str(path))
        except FileNotFoundError:
            return None

    def _names_in(self, folder: str) -> frozenset[str]:
        try:
            return frozenset(os.listdir(self.path / folder))  # noqa: PTH208 - names are enough
        except FileNotFoundError:
            return frozenset()

    def _signed(self) -> frozenset[str]:
        names = self._names_in("wheels")
        return frozenset(
            name.removesuffix(PROVENANCE) for name in names if name.endswith(PROVENANCE)
        )

    def find(
        self, *, identifier: str | None = None, plan_fingerprint: str | None = None
    ) -> StoredWheel | None:
        """Return the wheel of the highest revision that was made for all that is given."""
        given = {"identifier": identifier, "plan_fingerprint": plan_fingerprint}
        wanted = {key: value for key, value in given.items() if value is not None}
        found = [
            record
            for path, text in self._record_texts()
            # decoding every record of a large yard would take most of the time
            if all(f'"{value}"'.encode() in text for value in wanted.values())
            and _matches(record := _decode(path, text), wanted)
        ]
        if not found:
            return None
        return self.verified(max(found, key=lambda record: (record.version, record.revision)))

    def verified(self, record: BuildRecord) -> StoredWheel:
        """Return the wheel of ``record`` if its file is there, else say what to do."""
        reason = self.damage(record)
        if reason is not None:
            raise YardError(reason)
        return StoredWheel(path=self.wheel_path(record.filename), record=record)

    def damage(self, record: BuildRecord | IndexEntry) -> str | None:
        """Say what is wrong with the file that ``record`` describes, and what to do."""
        path = self.wheel_path(record.filename)
        advice = (
            f"Put the file with sha256 {record.sha256} back, or remove "
            f"{self.record_path(record.filename)} to build it again."
        )
        try:
            size = path.stat().st_size
        except FileNotFoundError:
            return f"The yard has a record of {path}, but the wheel is gone. {advice}"
        if size != record.size:
            return f"{path} has {size} bytes, its record says {record.size}. {advice}"
        return None

    def reports(self, sha256: str) -> tuple[TestReport, ...]:
        """Return the test reports of the wheel with that digest."""
        return tuple(
            TestReport.from_json(path.read_bytes(), origin=str(path))
            for path in sorted(self.reports_dir(sha256).glob("*.json"))
            if not path.name.startswith(PART)
        )

    def best_level(self, sha256: str) -> TestLevel | None:
        """Return the furthest that any test of that wheel went."""
        names = self._names_in(f"reports/{sha256}")
        levels = (
            level
            for level in reversed(TestLevel)
            if any(name.endswith(f"-{level}.json") and not name.startswith(PART) for name in names)
        )
        return next(levels, None)

    def _record_texts(self) -> Iterator[tuple[Path, bytes]]:
        for path in sorted(self.records_dir.glob("*.whl.json")):
            if path.name.startswith(PART):
                continue
            with contextlib.suppress(FileNotFoundError):
                yield path, path.read_bytes()


def record_places(wheel: Path) -> tuple[Path, Path]:
    """Return where the record of a wheel lies: beside it, as published, or as in a yard."""
    name = f"{wheel.name}.json"
    return wheel.with_name(name), wheel.parent.parent / "records" / name


def open_yard(path: Path, *, create: bool = True) -> Yard:
    """Return the yard in the folder ``path``, made there if it is new and ``create`` is set."""
    yard = Yard(path)
    marker = path / _MARKER
    if marker.exists():
        _refuse_other_format(marker)
        return yard
    if not create:
        msg = f"There is no yard in {path}. Build a wheel first, or name its folder with --yard."
        raise YardError(msg)
    with disk_errors(path):
        make_folder(path)
        _refuse_foreign_folder(path)
        with yard.lock(WRITERS):
            if not marker.exists():
                replace_file(marker, json.dumps({"format": FORMAT}).encode() + b"\n")
    return yard


def _refuse_other_format(marker: Path) -> None:
    try:
        found = msgspec.json.decode(marker.read_bytes(), type=_Marker).format
    except UNREADABLE as error:
        msg = f'{marker} cannot be read: {error}. Restore it, or write {{"format": {FORMAT}}}.'
        raise YardError(msg) from error
    if found != FORMAT:
        msg = (
            f"The yard {marker.parent} has format {found}, this wheelyard reads format {FORMAT}. "
            "Upgrade wheelyard to use it."
        )
        raise YardError(msg)


def _refuse_foreign_folder(path: Path) -> None:
    """A yard begins in an empty folder, or in one that somebody else begins or began to fill."""
    foreign = sorted(
        entry.name
        for entry in path.iterdir()
        if entry.name not in {*_FOLDERS, _MARKER} and not entry.name.startswith(PART)
    )
    if foreign:
        msg = (
            f"{path} is not a yard and not empty: it holds {foreign[0]!r}. "
            "Name an empty folder with --yard."
        )
        raise YardError(msg)


def _decode(path: Path, text: bytes) -> BuildRecord:
    record = BuildRecord.from_json(text, origin=str(path))
    if path.name != f"{record.filename}.json":
        raise _misnamed(path, record.filename)
    return record


def _misnamed(path: Path, filename: str) -> YardError:
    msg = f"{path} is the record of {filename!r}. Give it the name of that wheel again."
    return YardError(msg)


def _matches(record: BuildRecord, wanted: Mapping[str, str]) -> bool:
    return all(getattr(record, key) == value for key, value in wanted.items())


class _Marker(msgspec.Struct):
    """What ``yard.json`` holds."""

    format: int
