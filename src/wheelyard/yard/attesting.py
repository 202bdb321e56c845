"""Attestations beside a wheel (PEP 740): what they are of, and whether their signatures hold."""

from __future__ import annotations

import base64
import binascii
import dataclasses
import json
import re
from typing import TYPE_CHECKING, Final

import msgspec

from wheelyard.errors import InputFileError, IntegrityError, MachineError
from wheelyard.model.decode import UNREADABLE

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PREDICATES: Final = re.compile(
    r"https://docs\.[a-z.]+/attestations/publish/v1|https://slsa\.dev/provenance/v1"
)
"""Kinds of attestation that PEP 740 knows: published through an index, and how it was built."""


class Envelope(msgspec.Struct, frozen=True):
    """What was signed, and the signature; base64 both."""

    statement: str
    signature: str


class Attestation(msgspec.Struct, frozen=True):
    """One attestation as PEP 740 has it."""

    version: int
    verification_material: dict[str, object]
    envelope: Envelope


class Bundle(msgspec.Struct, frozen=True):
    """Attestations of one publisher."""

    publisher: dict[str, object]
    attestations: tuple[Attestation, ...]


class Provenance(msgspec.Struct, frozen=True):
    """All attestations of one file: the object that an index's ``provenance`` leads to."""

    version: int
    attestation_bundles: tuple[Bundle, ...]


class _Subject(msgspec.Struct, frozen=True):
    name: str
    digest: dict[str, str]


class _Statement(msgspec.Struct, frozen=True, rename={"predicate_type": "predicateType"}):
    subject: tuple[_Subject, ...]
    predicate_type: str


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Trust:
    """Whose signatures count, and the keys of the logs and authorities that vouch for them."""

    root: Path
    """Sigstore's trusted root, as a file: nothing is fetched."""
    repository: str
    """The URL of the repository whose workflow has to have signed."""


def read_provenance(text: bytes, *, origin: str) -> Provenance:
    """Decode the object; ``origin`` names the file in errors."""
    try:
        found = msgspec.json.decode(text, type=Provenance)
    except UNREADABLE as error:
        msg = f"{origin} is no provenance object of PEP 740: {error}. Sign the wheel again."
        raise IntegrityError(msg) from error
    if found.version != 1:
        msg = f"{origin} has version {found.version}, this wheelyard reads 1. Upgrade wheelyard."
        raise IntegrityError(msg)
    return found


def attestation_problems(text: bytes, *, origin: str, filename: str, sha256: str) -> Iterator[str]:
    """Yield why attestations are not of this very wheel; their signatures are not looked at."""
    try:
        provenance = read_provenance(text, origin=origin)
    except IntegrityError as error:
        yield str(error)
        return
    attestations = [item for one in provenance.attestation_bundles for item in one.attestations]
    if not attestations:
        yield f"{origin} holds no attestation"
    for attestation in attestations:
        try:
            content = base64.b64decode(attestation.envelope.statement, validate=True)
            statement = msgspec.json.decode(content, type=_Statement)
        except (binascii.Error, ValueError) as error:
            yield f"{origin} holds a statement that cannot be read: {error}"
            continue
        if PREDICATES.fullmatch(statement.predicate_type) is None:
            yield f"{origin} attests {statement.predicate_type!r}, which PEP 740 does not know"
        subjects = [(one.name, one.digest.get("sha256")) for one in statement.subject]
        if subjects != [(filename, sha256)]:
            yield f"{origin} is of {subjects}, not of {filename} with sha256 {sha256}"


def signature_problems(text: bytes, *, trust: Trust, wheel: Path) -> Iterator[str]:
    """Yield why signatures do not hold, offline, with the keys of the trusted root."""
    try:
        import pypi_attestations  # noqa: PLC0415 - an extra, and slow
        from sigstore.errors import Error as SigstoreError  # noqa: PLC0415
        from sigstore.models import TrustedRoot  # noqa: PLC0415
        from sigstore.verify import Verifier, policy  # noqa: PLC0415
    except ModuleNotFoundError as error:
        msg = (
            "Signatures need pypi-attestations, which is not installed here. Install it: "
            "pip install 'wheelyard[attestations]'. Without --trust-root they are not looked at."
        )
        raise MachineError(msg) from error
    try:
        root = TrustedRoot.from_file(str(trust.root))
    except (OSError, ValueError, SigstoreError) as error:
        msg = f"{trust.root} is no trusted root of Sigstore: {error}. Name another file."
        raise InputFileError(msg) from error
    verifier = Verifier(trusted_root=root)
    wanted = policy.OIDCSourceRepositoryURI(trust.repository)
    document = json.loads(text)
    for bundle in document["attestation_bundles"]:
        for item in bundle["attestations"]:
            try:
                attestation = pypi_attestations.Attestation.model_validate(item)
                verifier.verify_dsse(attestation.to_bundle(), wanted)
            except (SigstoreError, pypi_attestations.AttestationError, ValueError) as error:
                yield f"the signature of {wheel.name} does not hold: {error}"
