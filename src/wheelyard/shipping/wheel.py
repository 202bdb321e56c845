"""What a bundle tells of a wheel that goes into it, read once."""

from __future__ import annotations

import dataclasses
import re
import zipfile
from typing import TYPE_CHECKING

from packaging.utils import NormalizedName, parse_wheel_filename

if TYPE_CHECKING:
    from pathlib import Path

    from packaging.version import Version

_GLIBC = re.compile(r"manylinux_(\d+)_(\d+)_|manylinux(2014|2010|1)_")
_LEGACY = {"2014": (2, 17), "2010": (2, 12), "1": (2, 5)}
_LICENCE = re.compile(
    r"[^/]+\.dist-info/(?:licen[cs]es/.*|(?:LICEN[CS]E|NOTICE|COPYING)[^/]*)", re.IGNORECASE
)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class BundledWheel:
    """One wheel that goes in, read once."""

    path: Path
    sha256: str
    size: int
    unpacked: int
    name: NormalizedName
    version: Version
    metadata: bytes
    licences: tuple[tuple[str, bytes], ...]
    sbom: bytes | None

    @property
    def filename(self) -> str:
        return self.path.name

    @property
    def glibc(self) -> tuple[int, int]:
        """The least C library that one of its platform tags asks for."""
        platforms = self.filename.removesuffix(".whl").rpartition("-")[2].split(".")
        found = []
        for platform in platforms:
            match = _GLIBC.match(platform)
            if match is None:
                found.append((0, 0))
            else:
                found.append(_LEGACY[match[3]] if match[3] else (int(match[1]), int(match[2])))
        return min(found)


def read_wheel(path: Path, *, sha256: str) -> BundledWheel:
    """Read what is told of a wheel."""
    name, version, _, _ = parse_wheel_filename(path.name)
    with zipfile.ZipFile(path) as archive:
        infos = archive.infolist()
        named = {info.filename: info for info in infos}
        (metadata,) = [key for key in named if re.fullmatch(r"[^/]+\.dist-info/METADATA", key)]
        licences = [key for key in sorted(named) if _LICENCE.fullmatch(key) and key[-1] != "/"]
        sboms = [key for key in named if re.fullmatch(r"[^/]+\.dist-info/sboms/.*\.json", key)]
        return BundledWheel(
            path=path,
            sha256=sha256,
            size=path.stat().st_size,
            unpacked=sum(info.file_size for info in infos),
            name=name,
            version=version,
            metadata=archive.read(metadata),
            licences=tuple((key.partition("/")[2], archive.read(key)) for key in licences),
            sbom=archive.read(min(sboms)) if sboms else None,
        )
