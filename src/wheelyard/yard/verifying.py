"""Verify wheels offline: digests, records, their own RECORD, bills of materials, index, signatures.

A wheel, a yard, or a folder as ``publish`` fills it.
"""

from __future__ import annotations

import collections
import dataclasses
import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote, urlsplit

from wheelyard.errors import UsageError, WheelyardError
from wheelyard.files import PART, file_sha256
from wheelyard.model.index_page import HTML_NAME, JSON_NAME
from wheelyard.model.record import BuildRecord
from wheelyard.model.sbom import SBOM_NAME
from wheelyard.wheels.archive import ArchiveError, open_wheel
from wheelyard.wheels.check_labels import record_findings
from wheelyard.wheels.labels import read_labels
from wheelyard.wheels.unpack import unpack
from wheelyard.yard.attesting import attestation_problems, signature_problems
from wheelyard.yard.folder import PROVENANCE, record_places
from wheelyard.yard.sums import SUMS_NAME, parse_sums

if TYPE_CHECKING:
    from collections.abc import Iterator

    from wheelyard.wheels.archive import WheelArchive
    from wheelyard.yard.attesting import Trust

SUBJECTS: Final = (
    "wheels",
    "RECORD of wheels",
    "build records",
    "bills of materials",
    "core metadata",
    "attestations",
    "signatures",
    "lines of SHA256SUMS",
    "index pages",
    "files that pages name",
    "files that lie elsewhere",
)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Verification:
    """How much was looked at, and all that is wrong with it."""

    counts: dict[str, int]
    problems: tuple[str, ...]


def verify(path: Path, *, trust: Trust | None = None) -> Verification:
    """Look at a wheel, or at all wheels and pages of a folder."""
    if not path.exists():
        msg = f"There is no {path}. Name a wheel, a yard, or a folder that was published."
        raise UsageError(msg)
    verifier = _Verifier(trust)
    if path.is_file():
        verifier.problems += verifier.wheel(path)
    else:
        verifier.problems += verifier.folder(path)
    if not any(verifier.counts.values()):
        msg = f"There is nothing in {path} that could be verified."
        raise UsageError(msg)
    return Verification(
        counts={name: verifier.counts[name] for name in SUBJECTS if verifier.counts[name]},
        problems=tuple(verifier.problems),
    )


class _Verifier:
    """Looks at one thing after the other, each file's digest made once."""

    def __init__(self, trust: Trust | None) -> None:
        self._trust = trust
        self._digests: dict[Path, str] = {}
        self.counts: collections.Counter[str] = collections.Counter()
        self.problems: list[str] = []

    def folder(self, folder: Path) -> Iterator[str]:
        """Look at everything below a folder."""
        for path in sorted(folder.rglob("*.whl")):
            if not path.name.startswith(PART):
                yield from self.wheel(path)
        for path in sorted(folder.rglob(SUMS_NAME)):
            yield from self._sums(path)
        for path in sorted(folder.rglob(JSON_NAME)):
            yield from self._page(path)

    def wheel(self, path: Path) -> Iterator[str]:
        """Look at one wheel and what belongs to it."""
        self.counts["wheels"] += 1
        try:
            record = self._record(path)
            with open_wheel(path) as archive:
                yield from self._contents(archive, record)
        except ArchiveError as error:
            yield str(error)
            return
        except WheelyardError as error:
            yield f"{path}: {error}"
            return
        if record is not None:
            yield from self._against_record(path, record)
        yield from self._attestations(path)
        if not (path.parent / SUMS_NAME).exists():
            return
        sums = parse_sums((path.parent / SUMS_NAME).read_bytes(), origin=str(path.parent))
        if path.name not in sums:
            yield f"{path.parent / SUMS_NAME} does not name {path.name}"
        elif sums[path.name] != self._sha256(path):
            yield f"{path} has sha256 {self._sha256(path)}, {SUMS_NAME} says {sums[path.name]}"

    def _contents(self, archive: WheelArchive, record: BuildRecord | None) -> Iterator[str]:
        """Hold the members against the wheel's own RECORD, and look for the bill of materials."""
        name = archive.path.name
        yield from (f"{name} holds {member}" for member in archive.unsafe)
        labels = read_labels(archive)
        self.counts["RECORD of wheels"] += 1
        with tempfile.TemporaryDirectory(prefix="wheelyard-verify-") as folder:
            unpacked = unpack(archive, Path(folder), algorithms=labels.record_algorithms)
            for finding in record_findings(labels, unpacked):
                yield f"{name}: {finding.message}"
        bill = f"{labels.dist_info}/{SBOM_NAME}"
        if bill in archive.members:
            self.counts["bills of materials"] += 1
            yield from _bill_problems(archive.read(bill), name, record)

    def _record(self, path: Path) -> BuildRecord | None:
        for place in record_places(path):
            if place.is_file():
                self.counts["build records"] += 1
                return BuildRecord.from_json(place.read_bytes(), origin=str(place))
        return None

    def _against_record(self, path: Path, record: BuildRecord) -> Iterator[str]:
        if record.filename != path.name:
            yield f"the record of {path} is of {record.filename}"
        if record.sha256 != self._sha256(path):
            yield f"{path} has sha256 {self._sha256(path)}, its record says {record.sha256}"
        metadata = path.with_name(f"{path.name}.metadata")
        if metadata.is_file():
            self.counts["core metadata"] += 1
            if self._sha256(metadata) != record.core_metadata_sha256:
                yield f"{metadata} is not the core metadata that the record digests"

    def _attestations(self, path: Path) -> Iterator[str]:
        provenance = path.with_name(f"{path.name}{PROVENANCE}")
        if not provenance.is_file():
            if self._trust is not None:
                yield f"{path.name} has no attestation, though a trusted root was named"
            return
        self.counts["attestations"] += 1
        text = provenance.read_bytes()
        found = list(
            attestation_problems(
                text, origin=str(provenance), filename=path.name, sha256=self._sha256(path)
            )
        )
        yield from found
        if self._trust is not None and not found:
            self.counts["signatures"] += 1
            yield from signature_problems(text, trust=self._trust, wheel=path)

    def _sums(self, path: Path) -> Iterator[str]:
        """Every line has its file; those of wheels are compared with them."""
        try:
            sums = parse_sums(path.read_bytes(), origin=str(path))
        except WheelyardError as error:
            yield str(error)
            return
        for name, digest in sums.items():
            self.counts["lines of SHA256SUMS"] += 1
            file = path.parent / name
            if not file.is_file():
                yield f"{path} names {name}, which is not there"
            elif not name.endswith(".whl") and self._sha256(file) != digest:
                yield f"{file} has sha256 {self._sha256(file)}, {path} says {digest}"

    def _page(self, path: Path) -> Iterator[str]:
        """What a page names has to be there, as it says; the two forms have to agree."""
        document = json.loads(path.read_bytes())
        self.counts["index pages"] += 1
        html = path.with_name(HTML_NAME).read_text(encoding="utf-8", errors="replace")
        for project in document.get("projects", ()):
            if not (path.parent / project["name"] / JSON_NAME).is_file():
                yield f"{path} lists {project['name']}, which has no page"
        for file in document.get("files", ()):
            if f"#sha256={file['hashes']['sha256']}" not in html:
                yield f"{path.with_name(HTML_NAME)} does not say what {path.name} does"
            yield from self._named(path, file["url"], file["hashes"]["sha256"])
            metadata = file["core-metadata"]["sha256"]
            yield from self._named(path, f"{file['url']}.metadata", metadata)
            record = file.get("_record")
            if record is not None:
                yield from self._named(path, record["url"], record["sha256"])

    def _named(self, page: Path, url: str, sha256: str) -> Iterator[str]:
        if urlsplit(url).scheme:
            self.counts["files that lie elsewhere"] += 1
            return
        self.counts["files that pages name"] += 1
        file = (page.parent / unquote(url)).resolve()
        if not file.is_file():
            yield f"{page} names {unquote(url)}, which is not there"
        elif self._sha256(file) != sha256:
            yield f"{page} says sha256 {sha256} of {file.name}, which has {self._sha256(file)}"

    def _sha256(self, path: Path) -> str:
        path = path.resolve()
        if path not in self._digests:
            self._digests[path] = file_sha256(path)
        return self._digests[path]


def _bill_problems(text: bytes, name: str, record: BuildRecord | None) -> Iterator[str]:
    """The bill has to be of this wheel, and to say what the record says."""
    try:
        wheel = json.loads(text)["metadata"]["component"]
        said = {item["name"]: item["value"] for item in wheel["properties"]}
        named = wheel["name"], wheel["version"], said["wheelyard:identifier"]
    except (ValueError, KeyError, TypeError) as error:
        yield f"{name}: its bill of materials cannot be read: {error!r}"
        return
    if record is None:
        return
    recorded = record.name, str(record.version), record.identifier
    if named != recorded:
        yield f"{name}: its bill of materials is of {named}, its record of {recorded}"
    for path, digest in record.locks.items():
        if said.get(f"wheelyard:lock:{path}", digest) != digest:
            yield f"{name}: bill of materials and record name other bytes of {path}"
