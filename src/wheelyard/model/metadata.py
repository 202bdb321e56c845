"""The texts of a wheel's dist-info folder: read them, and change single fields byte for byte."""

from __future__ import annotations

import csv
import dataclasses
import io
import re
from base64 import urlsafe_b64encode
from typing import TYPE_CHECKING, Final

from packaging.metadata import InvalidMetadata, Metadata
from packaging.requirements import InvalidRequirement, Requirement
from packaging.tags import Tag, parse_tag
from packaging.utils import NormalizedName, canonicalize_name

from wheelyard.errors import RepairError
from wheelyard.model.wheel_filename import MOST_TAGS, count_tags

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from packaging.specifiers import SpecifierSet
    from packaging.version import Version

_SIZE = re.compile(r"[0-9]{1,18}")
_LONGEST_MESSAGE: Final = 500


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class CoreMetadata:
    """What a wheel's METADATA says, as far as an index and an installer need it."""

    name: NormalizedName
    version: Version
    requires_python: SpecifierSet | None
    requires: tuple[Requirement, ...]


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class WheelInfo:
    """What a wheel's WHEEL says."""

    tags: frozenset[Tag]
    build: str
    root_is_purelib: bool


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class RecordRow:
    """One line of RECORD; RECORD's own line has neither digest nor size."""

    path: str
    digest: str = ""
    """For example ``sha256=47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU``."""
    size: int | None = None


def parse_core_metadata(text: bytes) -> CoreMetadata:
    """Parse a METADATA file; a field that the specification forbids is an error."""
    try:
        metadata = Metadata.from_email(text, validate=False)
        return CoreMetadata(
            name=canonicalize_name(metadata.name),
            version=metadata.version,
            requires_python=metadata.requires_python,
            requires=tuple(metadata.requires_dist or ()),
        )
    except (InvalidMetadata, RecursionError, ValueError) as error:
        msg = f"METADATA of the wheel is not valid: {error}. The project's build has to write it."
        raise RepairError(msg) from error


def parse_wheel_info(text: bytes) -> WheelInfo:
    """Parse a WHEEL file."""
    head, _ = _split(text)
    tags: set[Tag] = set()
    for field in head:
        if field.name == "tag":
            tags.update(_parse_tag(field.value))
    values = {field.name: field.value for field in head}
    return WheelInfo(
        tags=frozenset(tags),
        build=values.get("build", ""),
        root_is_purelib=values.get("root-is-purelib", "").lower() == "true",
    )


def _parse_tag(text: str) -> frozenset[Tag]:
    """Parse a tag set such as ``py2.py3-none-any``, which stands for the product of its parts."""
    try:
        if count_tags(text) <= MOST_TAGS:
            return parse_tag(text)
        reason = f"it stands for more than {MOST_TAGS} tags"
    except ValueError as error:
        reason = str(error)
    msg = f"WHEEL of the wheel has the tag {text[:200]!r}: {reason}. Its build has to write one."
    raise RepairError(msg)


def set_version(metadata: bytes, version: Version) -> bytes:
    """Return METADATA with another version, everything else as it was."""
    return _replace(metadata, "Version", [str(version)], lambda field: field.name == "version")


def set_requirement(metadata: bytes, requirement: Requirement) -> bytes:
    """Return METADATA in which what is required of that distribution is ``requirement`` alone.

    Requirements of an extra stay: they ask for no more than the pin, or cannot be installed.
    """
    name = canonicalize_name(requirement.name)

    def is_replaced(field: _Field) -> bool:
        if field.name != "requires-dist":
            return False
        try:
            found = Requirement(field.value)
        except InvalidRequirement:
            return False
        of_extra = found.marker is not None and "extra" in str(found.marker)
        return canonicalize_name(found.name) == name and not of_extra

    return _replace(metadata, "Requires-Dist", [str(requirement)], is_replaced)


def set_tags(wheel: bytes, *, tags: Iterable[Tag], build_tag: str | None) -> bytes:
    """Return WHEEL with other tags and build tag; a compiled wheel belongs into platlib."""
    tags = list(tags)
    if any(tag.platform != "any" for tag in tags):
        wheel = _replace(
            wheel, "Root-Is-Purelib", ["false"], lambda field: field.name == "root-is-purelib"
        )
    wheel = _replace(
        wheel, "Tag", sorted(str(tag) for tag in tags), lambda field: field.name == "tag"
    )
    build = [] if build_tag is None else [build_tag]
    return _replace(wheel, "Build", build, lambda field: field.name == "build")


def record_digest(sha256: bytes) -> str:
    """Write a raw digest the way RECORD has it."""
    return f"sha256={urlsafe_b64encode(sha256).rstrip(b'=').decode('ascii')}"


def format_record(rows: Iterable[RecordRow]) -> bytes:
    """Write RECORD, in the order given."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    for row in rows:
        writer.writerow((row.path, row.digest, "" if row.size is None else row.size))
    return stream.getvalue().encode("utf-8")


def parse_record(text: bytes) -> tuple[RecordRow, ...]:
    """Parse RECORD."""
    try:
        return tuple(_record_rows(text.decode("utf-8")))
    except (UnicodeDecodeError, csv.Error) as error:
        msg = f"RECORD of the wheel cannot be read: {error}. Its build has to write it."
        raise RepairError(msg) from error


def _record_rows(text: str) -> Iterator[RecordRow]:
    for row in csv.reader(io.StringIO(text, newline="")):
        match row:
            case []:
                continue
            case [path, digest, size] if not size or _SIZE.fullmatch(size):
                yield RecordRow(path=path, digest=digest, size=int(size) if size else None)
            case _:
                msg = f"RECORD of the wheel has a line that is not path, digest, size: {row!r}"
                raise RepairError(msg[:_LONGEST_MESSAGE])


@dataclasses.dataclass(frozen=True, slots=True)
class _Field:
    """One header field with its continuation lines, as the bytes that it is."""

    raw: bytes

    @property
    def name(self) -> str:
        return self.raw.partition(b":")[0].decode("utf-8", "replace").strip().lower()

    @property
    def value(self) -> str:
        return self.raw.partition(b":")[2].decode("utf-8", "replace").strip()


def _split(text: bytes) -> tuple[list[_Field], bytes]:
    """Return the header fields and the rest, which begins with the empty line."""
    lines = text.splitlines(keepends=True)
    end = next((at for at, line in enumerate(lines) if not line.strip(b"\r\n")), len(lines))
    fields: list[bytes] = []
    for line in lines[:end]:
        if fields and line[:1] in (b" ", b"\t"):
            fields[-1] += line
        else:
            fields.append(line)
    return [_Field(field) for field in fields], b"".join(lines[end:])


def _replace(
    text: bytes, name: str, values: Iterable[str], is_replaced: Callable[[_Field], bool]
) -> bytes:
    """Put ``values`` where the first replaced field was; else behind fields of that name, or last.

    The other replaced fields go; every other byte stays.
    """
    head, rest = _split(text)
    end = b"\r\n" if text.partition(b"\n")[0].endswith(b"\r") else b"\n"
    written = [_Field(f"{name}: {value}".encode() + end) for value in values]
    replaced = [at for at, field in enumerate(head) if is_replaced(field)]
    alike = [at + 1 for at, field in enumerate(head) if field.name == name.lower()]
    at = replaced[0] if replaced else max(alike, default=len(head))
    if head and not head[-1].raw.endswith(b"\n"):
        head[-1] = _Field(head[-1].raw + end)
    before = head[:at]
    after = [field for number, field in enumerate(head[at:], at) if number not in replaced]
    return b"".join(field.raw for field in (*before, *written, *after)) + rest
