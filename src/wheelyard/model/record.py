"""What the yard remembers of a wheel: how it was made, and how it was tested, as JSON."""

from __future__ import annotations

import contextlib
import datetime as dt
import hashlib
import json
import re
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Final, Literal

import msgspec
from packaging.specifiers import SpecifierSet
from packaging.utils import NormalizedName  # noqa: TC002 - msgspec reads it
from packaging.version import Version

from wheelyard.errors import YardError
from wheelyard.model.cell import Cell, Machine, PythonVersion, TorchBuild
from wheelyard.model.decode import UNREADABLE

if TYPE_CHECKING:
    from collections.abc import Iterator

FORMAT: Literal[2] = 2
"""Of records. In format 1, which is still read, every wheel was built."""
REPORT_FORMAT: Literal[1] = 1
YANK_FORMAT: Literal[1] = 1

Sha256 = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]
Instant = Annotated[dt.datetime, msgspec.Meta(tz=True)]
Filename = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.+!-]*\.whl$")]
Label = Annotated[str, msgspec.Meta(pattern="^[A-Za-z0-9][A-Za-z0-9._-]*$")]
_OF_A_BUILD: Final = ("build", "compiler", "patches", "source", "toolkit", "tree_sha256")
"""What format 1 had beside the rest, and a built wheel's origin has now."""


class TestLevel(StrEnum):
    """How far a smoke test went."""

    __test__ = False

    imported = "imported"
    ran_on_gpu = "ran-on-gpu"


class Document(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A JSON document of the yard, or a part of one."""


class RecordedPatch(Document, frozen=True, kw_only=True):
    """A patch that was applied."""

    name: str
    sha256: Sha256


class RecordedToolkit(Document, frozen=True, kw_only=True):
    """The CUDA toolkit that compiled the wheel."""

    provider: str
    """For example ``index`` or ``installed``."""
    version: str


class RecordedBuild(Document, frozen=True, kw_only=True):
    """What the build child took, and what its compile cache did."""

    seconds: float
    cpu_seconds: float
    """Of the child and all its compilers."""
    compile_jobs: int
    cache_hits: dict[str, int] = {}
    """By kind of compilation, as sccache names them."""
    cache_misses: dict[str, int] = {}
    cache_reasons: tuple[str, ...] = ()
    """Why device code was compiled that another Python of the group had compiled before."""


class RecordedCheck(Document, frozen=True, kw_only=True):
    """What the static check found."""

    passed: bool
    summary: dict[str, object] = {}


class Built(Document, frozen=True, kw_only=True, tag_field="kind", tag="built"):
    """The origin of a wheel that was compiled here."""

    source: str
    """What was pinned: ``sha256:...`` of the archive or folder, or ``git:<commit>``."""
    tree_sha256: Sha256
    """Of the patched tree: its sorted paths, modes and bytes."""
    patches: tuple[RecordedPatch, ...]
    compiler: str
    container: str = ""
    """The image that it was compiled in, by its digest; empty for the machine itself."""
    toolkit: RecordedToolkit
    build: RecordedBuild


class Adopted(Document, frozen=True, kw_only=True, tag_field="kind", tag="adopted"):
    """The origin of a wheel that somebody else built: the file as it was published."""

    url: str
    """Where it was downloaded, without credentials; empty for a file that was here."""
    filename: str
    """As upstream named it, whatever that promised."""
    sha256: Sha256

    @property
    def place(self) -> str:
        """The URL, or the filename where there is none."""
        return self.url or self.filename


class BuildRecord(Document, frozen=True, kw_only=True):
    """How one wheel was made. It is written once and never changes."""

    format: Literal[2] = FORMAT
    identifier: Label
    index_label: Label
    """The folder of the index that serves the wheel, for example ``torch2.11.0-cu130``."""

    filename: Filename
    sha256: Sha256
    size: int
    name: NormalizedName
    version: Version
    """With its local part, where the wheel may have one."""
    revision: int
    """The number that the build tag begins with; 0 for no build tag."""
    requires_python: SpecifierSet | None
    core_metadata_sha256: Sha256

    python: str
    """For example ``3.12`` or ``3.14t``."""
    torch: str
    """For example ``2.11.0+cu130``."""
    machine: Machine
    gpu_archs: tuple[str, ...]

    plan_fingerprint: Sha256
    build_digest: Sha256
    fingerprint_inputs: dict[str, object]
    origin: Built | Adopted
    locks: dict[str, Sha256]
    """By name."""

    sandbox: str
    """For example ``bubblewrap``, ``unshare`` or ``none``."""
    torch_origin: Literal["locked", "foreign"]
    seconds: dict[str, float]
    """By stage."""
    check: RecordedCheck
    created: Instant

    @property
    def cell(self) -> Cell:
        return Cell(PythonVersion.parse(self.python), TorchBuild.parse(self.torch), self.machine)

    @property
    def is_default(self) -> bool:
        """Whether the flat index serves it: the default gpu_archs, against a locked torch.

        Beside others there, a wheel is told from those for other torch builds by its version.
        """
        is_ordinary = self.index_label == TorchBuild.parse(self.torch).label
        return is_ordinary and self.version.local is not None

    def to_json(self) -> bytes:
        return encode(self)

    @classmethod
    def from_json(cls, text: bytes, *, origin: str) -> BuildRecord:
        """Decode a record; ``origin`` names the file in errors."""
        with readable(origin):
            found = read_format(text)
            if found == 1:
                return msgspec.convert(_from_format_1(text), cls, dec_hook=_from_builtin)
            if found == FORMAT:
                return msgspec.json.decode(text, type=cls, dec_hook=_from_builtin)
        raise newer(origin, found, known=FORMAT)


class TestReport(Document, frozen=True, kw_only=True):
    """How one wheel did on one machine; it may come later than the wheel, from elsewhere."""

    __test__: ClassVar[bool] = False

    format: Literal[1] = REPORT_FORMAT
    sha256: Sha256
    """Of the wheel."""
    filename: Filename
    level: TestLevel
    machine: Label
    """Short, for the report's filename, for example ``nvidia-h100-80gb-hbm3``."""
    machine_description: str
    measurements: tuple[dict[str, object], ...]
    seconds: float
    created: Instant

    @property
    def report_filename(self) -> str:
        return f"{self.machine}-{self.level}.json"

    def to_json(self) -> bytes:
        return encode(self)

    @classmethod
    def from_json(cls, text: bytes, *, origin: str) -> TestReport:
        """Decode a report; ``origin`` names the file in errors."""
        with readable(origin):
            found = read_format(text)
            if found == REPORT_FORMAT:
                return msgspec.json.decode(text, type=cls, dec_hook=_from_builtin)
        raise newer(origin, found, known=REPORT_FORMAT)


class Yank(Document, frozen=True, kw_only=True):
    """Why nobody should install a wheel any more who does not pin it (PEP 592)."""

    format: Literal[1] = YANK_FORMAT
    filename: Filename
    reason: str
    created: Instant

    def to_json(self) -> bytes:
        return encode(self)

    @classmethod
    def from_json(cls, text: bytes, *, origin: str) -> Yank:
        """Decode it; ``origin`` names the file in errors."""
        with readable(origin):
            found = read_format(text)
            if found == YANK_FORMAT:
                return msgspec.json.decode(text, type=cls, dec_hook=_from_builtin)
        raise newer(origin, found, known=YANK_FORMAT)


def machine_label(description: str) -> str:
    """For example ``NVIDIA H100 80GB HBM3, driver 580`` -> ``nvidia-h100-80gb-hbm3-driver-580``."""
    return re.sub(r"[^a-z0-9]+", "-", description.lower()).strip("-")[:80].strip("-") or "unnamed"


def build_digest(plan_fingerprint: str, contributed: dict[str, str]) -> str:
    """Digest the plan and what the machine added to it: compiler, kernel, sandbox, toolkit."""
    inputs = {"contributed": contributed, "plan_fingerprint": plan_fingerprint}
    text = json.dumps(inputs, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def encode(document: Document) -> bytes:
    """Return the bytes of a document: the same for the same content."""
    text = msgspec.json.encode(document, enc_hook=_to_builtin, order="sorted")
    return msgspec.json.format(text, indent=2) + b"\n"


@contextlib.contextmanager
def readable(origin: str) -> Iterator[None]:
    """Say what to do about a document that cannot be decoded."""
    try:
        yield
    except UNREADABLE as error:
        msg = f"{origin} cannot be read: {error}. Restore it from where this yard was copied."
        raise YardError(msg) from error


def read_format(text: bytes) -> int:
    """Return the format that a document says it has."""
    return msgspec.json.decode(text, type=_Versioned).format


def newer(origin: str, found: int, *, known: int) -> YardError:
    """Return what to raise for a document of a later wheelyard."""
    msg = (
        f"{origin} has format {found}, this wheelyard reads format {known}. "
        "Upgrade wheelyard to use this yard."
    )
    return YardError(msg)


def _from_format_1(text: bytes) -> dict[str, Any]:
    """Give a record of before there were adopted wheels its origin."""
    document = msgspec.json.decode(text, type=dict[str, Any])
    origin: dict[str, Any] = {"kind": "built"}
    origin |= {key: document.pop(key) for key in _OF_A_BUILD if key in document}
    return document | {"format": FORMAT, "origin": origin}


class _Versioned(msgspec.Struct):
    """The one field that every format has."""

    format: int


def _to_builtin(value: object) -> object:
    if isinstance(value, (Version, SpecifierSet)):
        return str(value)
    msg = f"{type(value).__name__} has no place in a record"
    raise NotImplementedError(msg)


def _from_builtin(kind: type, value: object) -> object:
    """Raise ``ValueError`` (as both errors of packaging are) for what is not written that way."""
    return value if kind is object else kind(value)
