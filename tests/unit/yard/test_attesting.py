"""Attestations: their subject is compared, and a signature that nobody vouches for is refused."""

from __future__ import annotations

import base64
import datetime as dt
import importlib.resources
import json
from pathlib import Path
from typing import Any

import pytest

from wheelyard.errors import InputFileError, IntegrityError
from wheelyard.yard.attesting import (
    Trust,
    attestation_problems,
    read_provenance,
    signature_problems,
)

NAME = "demo-1.0-py3-none-any.whl"
SHA256 = "0" * 64
PUBLISHED = "https://docs.example.org/attestations/publish/v1"


def encoded(content: bytes) -> str:
    return base64.b64encode(content).decode()


def provenance(
    *,
    name: str = NAME,
    sha256: str = SHA256,
    kind: str = PUBLISHED,
    material: Any = None,  # noqa: ANN401
) -> bytes:
    statement = {
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{"name": name, "digest": {"sha256": sha256}}],
        "predicateType": kind,
        "predicate": None,
    }
    envelope = {
        "statement": encoded(json.dumps(statement).encode()),
        "signature": encoded(b"no signature"),
    }
    attestation = {"version": 1, "verification_material": material or {}, "envelope": envelope}
    bundle = {"publisher": {"kind": "GitHub"}, "attestations": [attestation]}
    return json.dumps({"version": 1, "attestation_bundles": [bundle]}).encode()


def problems(text: bytes) -> list[str]:
    return list(attestation_problems(text, origin="p", filename=NAME, sha256=SHA256))


def test_attestation_of_this_very_wheel_is_fine() -> None:
    assert problems(provenance()) == []


@pytest.mark.parametrize(
    ("text", "said"),
    [
        pytest.param(provenance(sha256="1" * 64), "not of demo", id="other-bytes"),
        pytest.param(provenance(name="other-1.0-py3-none-any.whl"), "not of demo", id="other-name"),
        pytest.param(provenance(kind="https://example.org/v1"), "does not know", id="other-kind"),
        pytest.param(b"<!DOCTYPE html>", "no provenance object", id="no-json"),
        pytest.param(b'{"version": 1, "attestation_bundles": []}', "no attestation", id="empty"),
    ],
)
def test_every_other_one_is_told(text: bytes, said: str) -> None:
    assert said in "\n".join(problems(text))


def test_later_version_asks_for_an_upgrade() -> None:
    with pytest.raises(IntegrityError, match="Upgrade wheelyard"):
        read_provenance(b'{"version": 2, "attestation_bundles": []}', origin="p")


@pytest.fixture
def trust() -> Trust:
    """Sigstore's own root, as its library brings it."""
    pytest.importorskip("pypi_attestations", reason="pypi-attestations is not installed")
    store = Path(str(importlib.resources.files("sigstore"))) / "_store"
    [root] = [path for path in store.glob("*/trusted_root.json") if "sigstage" not in str(path)]
    return Trust(root=root, repository="https://github.com/owner/repository")


def test_signature_of_somebody_nobody_vouches_for_does_not_hold(trust: Trust) -> None:
    entry = {
        "logIndex": "1",
        "logId": {"keyId": encoded(b"k" * 32)},
        "kindVersion": {"kind": "dsse", "version": "0.0.1"},
        "integratedTime": "1700000000",
        "inclusionPromise": {"signedEntryTimestamp": encoded(b"x")},
        "inclusionProof": {
            "logIndex": "1",
            "rootHash": encoded(b"r" * 32),
            "treeSize": "2",
            "hashes": [encoded(b"h" * 32)],
            "checkpoint": {"envelope": "rekor\n2\nAA==\n\n\u2014 rekor AAAA\n"},
        },
        "canonicalizedBody": encoded(b"{}"),
    }
    material = {"certificate": encoded(_certificate()), "transparency_entries": [entry]}
    text = provenance(material=material)
    assert problems(text) == []
    [problem] = signature_problems(text, trust=trust, wheel=Path(NAME))
    assert f"the signature of {NAME} does not hold" in problem


def test_file_that_is_no_trusted_root_is_told(trust: Trust, tmp_path: Path) -> None:
    path = tmp_path / "root.json"
    path.write_text("no")
    other = Trust(root=path, repository=trust.repository)
    with pytest.raises(InputFileError, match="no trusted root"):
        list(signature_problems(provenance(), trust=other, wheel=Path(NAME)))


def _certificate() -> bytes:
    """Make a certificate that no authority signed."""
    from cryptography import x509  # noqa: PLC0415
    from cryptography.hazmat.primitives import hashes, serialization  # noqa: PLC0415
    from cryptography.hazmat.primitives.asymmetric import ec  # noqa: PLC0415

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.oid.NameOID.COMMON_NAME, "nobody")])
    now = dt.datetime.now(dt.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now)
        .not_valid_after(now + dt.timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    return made.public_bytes(serialization.Encoding.DER)
