"""What the yard has, read once: for whoever asks about many jobs."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from wheelyard.model.record import BuildRecord
    from wheelyard.yard.folder import StoredWheel, Yard


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Catalogue:
    """The yard's records by what they are looked up with; of several the highest revision."""

    yard: Yard
    records: tuple[BuildRecord, ...]
    by_plan_fingerprint: Mapping[str, BuildRecord]
    by_identifier: Mapping[str, BuildRecord]
    builds: frozenset[tuple[str, str]]
    """Recipe versions and torch builds that there is any wheel of, by their labels."""

    def find(self, *, identifier: str, plan_fingerprint: str) -> StoredWheel | None:
        """Return the wheel made from these very inputs, or else the one of that identifier."""
        record = self.by_plan_fingerprint.get(plan_fingerprint)
        record = record or self.by_identifier.get(identifier)
        return None if record is None else self.yard.verified(record)


def read_catalogue(yard: Yard) -> Catalogue:
    """Read every record of the yard."""
    records = sorted(yard.records(), key=lambda record: (record.version, record.revision))
    return Catalogue(
        yard=yard,
        records=tuple(records),
        by_plan_fingerprint={record.plan_fingerprint: record for record in records},
        by_identifier={record.identifier: record for record in records},
        builds=frozenset(
            (f"{record.name}-{record.version.public}", record.cell.torch.label)
            for record in records
        ),
    )
