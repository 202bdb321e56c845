"""What the yard remembers of a probe: which units of a job compiled, with what, as JSON."""

from __future__ import annotations

from typing import Literal

import msgspec

from wheelyard.model.record import (
    Document,
    Instant,
    Label,
    RecordedPatch,
    RecordedToolkit,
    Sha256,
    encode,
    newer,
    read_format,
    readable,
)

FORMAT: Literal[1] = 1


class RecordedUnit(Document, frozen=True, kw_only=True):
    """A source that compiled."""

    source: str
    """Below the source tree."""
    seconds: float


class ProbeRecord(Document, frozen=True, kw_only=True):
    """That some units of a job compiled. There is no wheel of it; a later probe replaces it."""

    format: Literal[1] = FORMAT
    identifier: Label
    recipe: str
    """With the version, for example ``flash-attn-2.8.3``."""
    cell: str
    """For example ``cp312-torch2.11.0-cu130-x86_64``."""
    gpu_archs: tuple[str, ...]
    plan_fingerprint: Sha256
    fingerprint_inputs: dict[str, object]

    source: str
    tree_sha256: Sha256
    patches: tuple[RecordedPatch, ...]
    compiler: str
    toolkit: RecordedToolkit
    sandbox: str

    units: tuple[RecordedUnit, ...]
    left_out: int
    """How many others a build compiles."""
    seconds: float
    cpu_seconds: float
    created: Instant

    def to_json(self) -> bytes:
        return encode(self)

    @classmethod
    def from_json(cls, text: bytes, *, origin: str) -> ProbeRecord:
        """Decode a record; ``origin`` names the file in errors."""
        with readable(origin):
            found = read_format(text)
            if found == FORMAT:
                return msgspec.json.decode(text, type=cls)
        raise newer(origin, found, known=FORMAT)
