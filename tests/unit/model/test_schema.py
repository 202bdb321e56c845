"""The committed JSON schemas, which editors read."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from wheelyard.model.schema import file_schemas

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.mark.parametrize("kind", ["matrix", "recipe"])
def test_committed_schema_is_current(
    kind: str, repository: Path, assert_stored: Callable[[Path, str], None]
) -> None:
    text = json.dumps(file_schemas()[kind], indent=2, sort_keys=True) + "\n"
    assert_stored(repository / "docs" / "schemas" / f"{kind}.schema.json", text)


def test_schema_forbids_unknown_keys_in_every_table() -> None:
    for schema in file_schemas().values():
        definitions: dict[str, Any] = json.loads(json.dumps(schema))["$defs"]
        assert definitions
        for name, table in definitions.items():
            assert table["additionalProperties"] is False, name
