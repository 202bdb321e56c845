"""What an index knows of one wheel: the few fields of its record that pages are made of."""

from __future__ import annotations

import functools
import hashlib
from typing import Literal

import msgspec
from packaging.version import Version

from wheelyard.errors import YardError
from wheelyard.model.cell import TorchBuild
from wheelyard.model.decode import UNREADABLE
from wheelyard.model.record import FORMAT, Filename, Instant, Label, Sha256, TestLevel


class Indexed(msgspec.Struct, frozen=True, kw_only=True):
    """What record and entry have in common.

    Decoding these fields alone takes a tenth of the time that a whole record takes.
    """

    identifier: Label
    index_label: Label
    filename: Filename
    sha256: Sha256
    size: int
    name: Label
    version: str
    """With its local part, where the wheel may have one."""
    revision: int
    requires_python: str | None
    core_metadata_sha256: Sha256
    python: str
    torch: str
    machine: Literal["x86_64", "aarch64"]
    gpu_archs: tuple[str, ...]
    sandbox: str
    torch_origin: Literal["locked", "foreign"]
    created: Instant


class IndexEntry(Indexed, frozen=True, kw_only=True):
    """One wheel of an index, in a yard or published."""

    record_sha256: Sha256
    adopted: str = ""
    """Where it was adopted from; empty for one that was built."""
    yanked: str | None = None
    """The reason, which may be empty; none for a wheel that is not yanked."""
    provenance_sha256: Sha256 | None = None
    """Of its attestations, where there are any."""
    level: TestLevel | None = None
    """The furthest that a test of it went, where that was looked for."""
    url: str = ""
    """Where it lies, quoted; empty for beside the index."""

    @property
    def is_default(self) -> bool:
        """Whether the flat index serves it: the default gpu_archs, against a locked torch.

        Beside others there, a wheel is told from those for other torch builds by its version.
        """
        return self.index_label == torch_label(self.torch) and self.has_local_version

    @property
    def has_local_version(self) -> bool:
        """Whether its version tells what it was built for; its build tag does otherwise."""
        return parsed_version(self.version).local is not None

    @property
    def labels(self) -> tuple[str, ...]:
        """The indexes that serve it; the empty label is the flat one."""
        return ("", self.index_label) if self.is_default else (self.index_label,)

    @property
    def order(self) -> tuple[Version, int, str]:
        """How files stand on a page."""
        return parsed_version(self.version), self.revision, self.filename


class _Recorded(Indexed, frozen=True, kw_only=True):
    format: int
    origin: _Origin | None = None


class _Origin(msgspec.Struct, frozen=True, kw_only=True):
    kind: str
    url: str = ""
    filename: str = ""


def read_entry(text: bytes, *, origin: str) -> IndexEntry:
    """Take what an index needs out of a record's text; ``origin`` names the file in errors."""
    try:
        found = msgspec.json.decode(text, type=_Recorded)
    except UNREADABLE as error:
        msg = f"{origin} cannot be read: {error}. Restore it from where this yard was copied."
        raise YardError(msg) from error
    if found.format > FORMAT:
        msg = (
            f"{origin} has format {found.format}, this wheelyard reads format {FORMAT}. "
            "Upgrade wheelyard to use this yard."
        )
        raise YardError(msg)
    made = found.origin
    adopted = made is not None and made.kind == "adopted"
    return IndexEntry(
        **{name: getattr(found, name) for name in Indexed.__struct_fields__},
        record_sha256=hashlib.sha256(text).hexdigest(),
        adopted=(made.url or made.filename) if made is not None and adopted else "",
    )


@functools.lru_cache(maxsize=4096)
def torch_label(torch: str) -> str:
    """Return the label of a torch build: ``2.11.0+cu130`` -> ``torch2.11.0-cu130``."""
    return TorchBuild.parse(torch).label


@functools.lru_cache(maxsize=65536)
def parsed_version(version: str) -> Version:
    """Parse a version once: many wheels have the same."""
    return Version(version)
