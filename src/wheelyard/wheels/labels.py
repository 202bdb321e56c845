"""Everything by which a wheel calls itself: filename, dist-info folder and the texts in it."""

from __future__ import annotations

import csv
import dataclasses
from typing import TYPE_CHECKING, TypeVar

from packaging.utils import InvalidWheelFilename, canonicalize_name
from packaging.version import InvalidVersion, Version

from wheelyard.errors import RepairError
from wheelyard.model.cell import MACHINES
from wheelyard.model.metadata import parse_core_metadata, parse_record, parse_wheel_info
from wheelyard.model.wheel_filename import parse_wheel_filename
from wheelyard.wheels.archive import ArchiveError
from wheelyard.wheels.findings import Finding, FindingKind

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from packaging.tags import Tag
    from packaging.utils import NormalizedName

    from wheelyard.model.cell import Machine
    from wheelyard.model.metadata import CoreMetadata, RecordRow, WheelInfo
    from wheelyard.wheels.archive import WheelArchive

T = TypeVar("T")


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class WheelName:
    """What the filename, or a folder named after it, says."""

    name: NormalizedName
    version: Version
    build: str = ""
    tags: frozenset[Tag] = frozenset()

    @property
    def identity(self) -> tuple[NormalizedName, Version]:
        return self.name, self.version


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Labels:
    """What a wheel says of itself; None where it does not, or not so that it can be read."""

    filename: WheelName | None
    dist_info: str
    """For example ``apex-0.1.dist-info``; empty where there is none."""
    metadata: CoreMetadata | None
    info: WheelInfo | None
    record: tuple[RecordRow, ...] | None
    entry_points: str
    findings: tuple[Finding, ...]
    """What was found wrong while reading."""

    @property
    def tags(self) -> frozenset[Tag]:
        if self.filename is not None:
            return self.filename.tags
        return self.info.tags if self.info is not None else frozenset()

    @property
    def name(self) -> NormalizedName | None:
        if self.metadata is not None:
            return self.metadata.name
        return self.filename.name if self.filename is not None else None

    @property
    def machine(self) -> Machine | None:
        """The machine of the platform tag; none for ``any``."""
        platforms = {tag.platform for tag in self.tags}
        return next(
            (one for one in MACHINES if any(name.endswith(f"_{one}") for name in platforms)), None
        )

    @property
    def record_algorithms(self) -> dict[str, str]:
        """What RECORD digests each member with."""
        return {row.path: row.digest.partition("=")[0] for row in self.record or ()}

    @property
    def data_folder(self) -> str:
        return f"{self.dist_info.removesuffix('.dist-info')}.data"


def read_labels(archive: WheelArchive) -> Labels:
    """Read what the wheel says of itself; what cannot be read becomes a finding."""
    reader = _Reader(archive)
    filename = reader.filename()
    reader.dist_info = reader.find_dist_info(filename)
    entry_points = f"{reader.dist_info}/entry_points.txt"
    return Labels(
        filename=filename,
        dist_info=reader.dist_info,
        metadata=reader.parse("METADATA", parse_core_metadata, FindingKind.METADATA),
        info=reader.parse("WHEEL", parse_wheel_info, FindingKind.TAG),
        record=reader.parse("RECORD", parse_record, FindingKind.RECORD),
        entry_points=reader.text(entry_points) if entry_points in archive.members else "",
        findings=tuple(reader.findings),
    )


def split_dist_info(folder: str) -> WheelName | None:
    """Return name and version of a dist-info folder, for example ``apex-0.1.dist-info``."""
    name, _, version = folder.removesuffix(".dist-info").rpartition("-")
    try:
        return WheelName(name=canonicalize_name(name), version=Version(version))
    except InvalidVersion:
        return None


class _Reader:
    """Reads one wheel's labels and keeps what is wrong with them."""

    def __init__(self, archive: WheelArchive) -> None:
        self.archive = archive
        self.dist_info = ""
        self.findings: list[Finding] = []

    def filename(self) -> WheelName | None:
        try:
            name, version, build, tags = parse_wheel_filename(self.archive.path.name)
        except InvalidWheelFilename as error:
            self._report(FindingKind.NAME, f"The filename is not that of a wheel: {error}")
            return None
        return WheelName(
            name=name, version=version, build="".join(str(part) for part in build), tags=tags
        )

    def find_dist_info(self, filename: WheelName | None) -> str:
        """Return the one dist-info folder; of several, the one that the filename speaks of."""
        match sorted(_dist_info_folders(self.archive.members)):
            case [folder]:
                return folder
            case []:
                self._report(FindingKind.NAME, "There is no dist-info folder")
                return ""
            case many:
                listed = ", ".join(many)
                self._report(FindingKind.NAME, f"There is more than one dist-info folder: {listed}")
                named = {folder: split_dist_info(folder) for folder in many}
                return next(
                    (
                        folder
                        for folder, found in named.items()
                        if found and filename and found.identity == filename.identity
                    ),
                    many[0],
                )

    def parse(self, name: str, parser: Callable[[bytes], T], kind: FindingKind) -> T | None:
        """Parse a file of the dist-info folder."""
        member = f"{self.dist_info}/{name}"
        if member not in self.archive.members:
            self._report(kind, f"There is no {name} in the dist-info folder")
            return None
        try:
            return parser(self.archive.read(member))
        except ArchiveError:
            return None
        except (RepairError, ValueError, csv.Error) as error:
            self._report(kind, f"{name} cannot be read: {error}", member)
            return None

    def text(self, member: str) -> str:
        try:
            return self.archive.read(member).decode("utf-8", "replace")
        except ArchiveError:
            return ""

    def _report(self, kind: FindingKind, message: str, member: str = "") -> None:
        self.findings.append(Finding(kind=kind, message=message, member=member))


def _dist_info_folders(members: Iterable[str]) -> set[str]:
    tops = {name.partition("/")[0] for name in members if "/" in name}
    return {top for top in tops if top.endswith(".dist-info")}
