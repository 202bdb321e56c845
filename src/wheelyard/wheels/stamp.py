"""Give a wheel its identity: version, requirement, tags and filename together, reproducibly."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime as dt
import hashlib
import os
import re
import stat
import tempfile
import zipfile
from pathlib import Path
from typing import IO, TYPE_CHECKING

from packaging.tags import parse_tag
from packaging.utils import InvalidWheelFilename

from wheelyard.errors import RepairError
from wheelyard.model.metadata import (
    RecordRow,
    format_record,
    parse_core_metadata,
    record_digest,
    set_requirement,
    set_tags,
    set_version,
)
from wheelyard.model.wheel_filename import parse_wheel_filename
from wheelyard.wheels.archive import ArchiveError, open_wheel

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from packaging.requirements import Requirement
    from packaging.utils import NormalizedName
    from packaging.version import Version

    from wheelyard.wheels.archive import WheelArchive

_ZIP_BEGINS = 315532800
"""1980-01-01, the first instant that a zip can hold."""
_SHARED_OBJECT = re.compile(r"\.so(\.[0-9.]+)?$")
_NOT_COPIED = frozenset({"RECORD", "RECORD.jws", "RECORD.p7s"})
"""RECORD is written anew, which makes its signatures void."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class _Identity:
    """What is stamped; every name inside and outside of the wheel follows from it."""

    name: NormalizedName
    version: Version
    torch_requirement: Requirement | None
    build_tag: str | None
    python_abi: str
    """For example ``cp312-cp312``."""
    platform_tag: str

    @property
    def stem(self) -> str:
        """As the wheel specification escapes it, for example ``causal_conv1d-1.7.0+cu130``."""
        return f"{self.name.replace('-', '_')}-{self.version}"

    @property
    def dist_info(self) -> str:
        return f"{self.stem}.dist-info"

    @property
    def tag(self) -> str:
        return f"{self.python_abi}-{self.platform_tag}"

    @property
    def filename(self) -> str:
        build = "" if self.build_tag is None else f"{self.build_tag}-"
        return f"{self.stem}-{build}{self.tag}.whl"

    def metadata(self, text: bytes) -> bytes:
        text = set_version(text, self.version)
        if self.torch_requirement is None:
            return text
        return set_requirement(text, self.torch_requirement)

    def wheel(self, text: bytes) -> bytes:
        return set_tags(text, tags=parse_tag(self.tag), build_tag=self.build_tag)


def stamp_wheel(
    wheel: Path,
    *,
    destination: Path,
    version: Version,
    torch_requirement: Requirement | None,
    build_tag: str | None,
    platform_tag: str,
    extra_files: Mapping[str, bytes] | None = None,
    source_date_epoch: int = _ZIP_BEGINS,
) -> Path:
    """Write ``wheel`` under its new name into the folder ``destination`` and return its path.

    The same input gives the same bytes. ``extra_files`` are named inside the dist-info folder,
    for example ``sboms/wheelyard.cdx.json``.
    """
    with _opened(wheel) as source:
        identity = _Identity(
            name=parse_core_metadata(source.read("METADATA")).name,
            version=version,
            torch_requirement=torch_requirement,
            build_tag=build_tag,
            python_abi=_python_abi(wheel.name),
            platform_tag=platform_tag,
        )
        path = destination / identity.filename
        with _replacing(path) as stream, zipfile.ZipFile(stream, "w") as archive:
            writer = _Writer(archive, source_date_epoch=source_date_epoch)
            _write_members(source, writer, identity, extra_files=extra_files or {})
            writer.add_record(f"{identity.dist_info}/RECORD")
    return path


def read_dist_info(wheel: Path, name: str) -> bytes:
    """Return a file of the wheel's dist-info folder, for example ``METADATA``."""
    with _opened(wheel) as source:
        return source.read(name)


def member_names(wheel: Path) -> tuple[str, ...]:
    """Return the names of the wheel's files."""
    with _opened(wheel) as source:
        return tuple(sorted(source.members))


class _Source:
    """The wheel that is read."""

    def __init__(self, archive: WheelArchive) -> None:
        archive.refuse_unsafe()
        self.archive = archive
        self.filename = archive.path.name
        self.members = archive.members
        self.dist_info = self._only_dist_info()
        self.data = f"{self.dist_info.removesuffix('.dist-info')}.data"

    def _only_dist_info(self) -> str:
        tops = {name.partition("/")[0] for name in self.members if "/" in name}
        match sorted(top for top in tops if top.endswith(".dist-info")):
            case [dist_info]:
                return dist_info
            case found:
                msg = f"{self.filename} holds {len(found)} dist-info folders, not one: {found!r}"
                raise RepairError(msg)

    def read(self, name: str) -> bytes:
        member = f"{self.dist_info}/{name}"
        if member not in self.members:
            msg = f"{self.filename} has no {name} in {self.dist_info!r}, so it is not a wheel."
            raise RepairError(msg)
        return self.archive.read(member)


class _Writer:
    """The wheel that is written: fixed dates and modes, RECORD kept on the way."""

    def __init__(self, archive: zipfile.ZipFile, *, source_date_epoch: int) -> None:
        self.archive = archive
        instant = max(source_date_epoch, _ZIP_BEGINS)
        date = dt.datetime.fromtimestamp(instant, tz=dt.UTC)
        self.date_time = (date.year, date.month, date.day, date.hour, date.minute, date.second)
        self.rows: list[RecordRow] = []

    def add(
        self, name: str, content: Iterable[bytes], *, size: int, executable: bool = False
    ) -> None:
        info = self._info(name, size=size, executable=executable)
        digest = hashlib.sha256()
        with self.archive.open(info, "w") as target:
            for chunk in content:
                digest.update(chunk)
                target.write(chunk)
        self.rows.append(RecordRow(path=name, digest=record_digest(digest.digest()), size=size))

    def add_record(self, name: str) -> None:
        """Write RECORD; it is the last member, so that it names all the others."""
        text = format_record([*self.rows, RecordRow(path=name)])
        self.archive.writestr(self._info(name, size=len(text), executable=False), text)

    def _info(self, name: str, *, size: int, executable: bool) -> zipfile.ZipInfo:
        # zlib's default level is 6; giving it by number needs a private attribute before 3.13
        info = zipfile.ZipInfo(name, self.date_time)
        info.compress_type = zipfile.ZIP_DEFLATED
        info.create_system = 3
        info.external_attr = (stat.S_IFREG | (0o755 if executable else 0o644)) << 16
        info.file_size = size
        return info


def _write_members(
    source: _Source, writer: _Writer, identity: _Identity, *, extra_files: Mapping[str, bytes]
) -> None:
    """Write all members but RECORD, sorted, the dist-info folder last."""
    folder = f"{identity.dist_info}/"
    texts = {f"{folder}{name}": text for name, text in extra_files.items()}
    texts[f"{folder}METADATA"] = identity.metadata(source.read("METADATA"))
    texts[f"{folder}WHEEL"] = identity.wheel(source.read("WHEEL"))
    copied = {_renamed(name, source, identity): info for name, info in source.members.items()}
    for name in _NOT_COPIED:
        copied.pop(f"{folder}{name}", None)
    for name in sorted({*copied, *texts}, key=lambda name: (name.startswith(folder), name)):
        if name in texts:
            writer.add(name, [texts[name]], size=len(texts[name]))
            continue
        info = copied[name]
        content = source.archive.chunks(info.filename)
        writer.add(name, content, size=info.file_size, executable=_is_executable(info))


def _renamed(name: str, source: _Source, identity: _Identity) -> str:
    top, slash, rest = name.partition("/")
    new_tops = {source.dist_info: identity.dist_info, source.data: f"{identity.stem}.data"}
    return f"{new_tops.get(top, top)}{slash}{rest}"


def _is_executable(info: zipfile.ZipInfo) -> bool:
    """Only this bit of a mode counts: the others come from the umask of whoever built."""
    return bool(info.external_attr >> 16 & 0o111) or bool(_SHARED_OBJECT.search(info.filename))


def _python_abi(filename: str) -> str:
    """Return python and abi tag as the filename has them, for example ``cp312-cp312``."""
    try:
        parse_wheel_filename(filename)
    except InvalidWheelFilename as error:
        msg = f"{filename!r} is not the filename of a wheel: {error}"
        raise RepairError(msg) from error
    return "-".join(filename.removesuffix(".whl").split("-")[-3:-1])


@contextlib.contextmanager
def _opened(wheel: Path) -> Iterator[_Source]:
    try:
        with open_wheel(wheel) as archive:
            yield _Source(archive)
    except ArchiveError as error:
        raise RepairError(str(error)) from error


@contextlib.contextmanager
def _replacing(path: Path) -> Iterator[IO[bytes]]:
    """Write a temporary file beside ``path`` that takes its place when the block succeeds."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=".stamp-", suffix=".tmp", dir=path.parent)
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        temporary.chmod(0o644)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
