"""The bill of materials of a cell of a bundle (CycloneDX): all that is installed, with digests."""

from __future__ import annotations

import json
import uuid
from email.parser import BytesHeaderParser
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

from packaging.utils import canonicalize_name

from wheelyard.model.metadata import parse_core_metadata
from wheelyard.model.sbom import SPEC_VERSION

if TYPE_CHECKING:
    from collections.abc import Iterable

    from packaging.utils import NormalizedName

    from wheelyard.shipping.wheel import BundledWheel

_NAMESPACE: Final = uuid.uuid5(uuid.NAMESPACE_URL, "https://cyclonedx.org/wheelyard/bundle")
_LONGEST_NAME: Final = 200
"""A licence field may hold the whole text."""


def bill_of_materials(identifier: str, wheels: Iterable[BundledWheel]) -> bytes:
    """Write down every wheel of a cell, its licence, its digest, and which it depends on."""
    wheels = tuple(wheels)
    references = {wheel.name: _purl(wheel) for wheel in wheels}
    document = {
        "$schema": f"http://cyclonedx.org/schema/bom-{SPEC_VERSION}.schema.json",
        "bomFormat": "CycloneDX",
        "components": [_component(wheel) for wheel in wheels],
        "dependencies": [
            {"dependsOn": _depends_on(wheel, references), "ref": references[wheel.name]}
            for wheel in wheels
        ],
        "metadata": {"component": {"name": identifier, "type": "application"}},
        "specVersion": SPEC_VERSION,
        "version": 1,
    }
    identity = uuid.uuid5(_NAMESPACE, json.dumps(document, sort_keys=True))
    document["serialNumber"] = f"urn:uuid:{identity}"
    return json.dumps(document, indent=1, sort_keys=True).encode() + b"\n"


def _component(wheel: BundledWheel) -> dict[str, object]:
    return {
        "bom-ref": _purl(wheel),
        "hashes": [{"alg": "SHA-256", "content": wheel.sha256}],
        "licenses": _licenses(wheel.metadata),
        "name": wheel.name,
        "properties": [{"name": "wheelyard:file", "value": wheel.filename}],
        "purl": _purl(wheel),
        "type": "library",
        "version": str(wheel.version),
    }


def _purl(wheel: BundledWheel) -> str:
    return f"pkg:pypi/{wheel.name}@{quote(str(wheel.version))}"


def _licenses(metadata: bytes) -> list[dict[str, object]]:
    fields = BytesHeaderParser().parsebytes(metadata)
    expression = fields.get("License-Expression")
    if expression:
        return [{"expression": str(expression)}]
    classified = [
        str(text).rpartition(" :: ")[2]
        for text in fields.get_all("Classifier", [])
        if str(text).startswith("License ::")
    ]
    said = " ".join(str(fields.get("License") or "").split())
    names = classified or ([said] if said and len(said) <= _LONGEST_NAME else [])
    return [{"license": {"name": name}} for name in names]


def _depends_on(wheel: BundledWheel, references: dict[NormalizedName, str]) -> list[str]:
    requires = parse_core_metadata(wheel.metadata).requires
    names = {canonicalize_name(one.name) for one in requires}
    return sorted(references[name] for name in names if name in references)
