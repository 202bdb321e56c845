"""The coverage page: one file that any browser shows, without asking anybody for anything."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from wheelyard.files import disk_errors, replace_file
from wheelyard.yard.coverage import coverage, find_failures
from wheelyard.yard.index import PAGE_NAME

if TYPE_CHECKING:
    from collections.abc import Mapping

    from wheelyard.farm import Farm
    from wheelyard.yard.folder import Yard

_TEMPLATE: Final = Path(__file__).with_name("page.html")
_PLACE: Final = '{"what": "the wheels of a yard"}'


def write_page(yard: Yard, farm: Farm) -> Path:
    """Write the page of a yard to the top of its index, and return where."""
    path = yard.index_dir / PAGE_NAME
    with disk_errors(yard.path), yard.lock("index"):
        replace_file(path, yard_page(yard, farm))
    return path


def yard_page(yard: Yard, farm: Farm | None) -> bytes:
    """Write the page of a yard, with links to its logs."""
    entries = [
        msgspec.structs.replace(entry, level=yard.best_level(entry.sha256))
        for entry in yard.entries(yard.record_names())
        if yard.damage(entry) is None
    ]
    return page_html(coverage(entries, farm, find_failures(yard, log_urls="../logs/")))


def page_html(document: Mapping[str, object]) -> bytes:
    """Put the data into the page; nothing of it can end the element that holds it."""
    text = json.dumps(document, separators=(",", ":"), sort_keys=True)
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return _TEMPLATE.read_text(encoding="utf-8").replace(_PLACE, text).encode()
