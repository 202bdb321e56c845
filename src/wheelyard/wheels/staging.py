"""A simple index that serves one wheel, for installing it as its users will."""

from __future__ import annotations

import hashlib
import os
from typing import TYPE_CHECKING
from urllib.parse import quote

from wheelyard.model.index_page import HTML_NAME, IndexFile, Urls, project_html
from wheelyard.model.metadata import parse_core_metadata
from wheelyard.model.wheel_filename import parse_wheel_filename
from wheelyard.wheels.stamp import read_dist_info

if TYPE_CHECKING:
    from pathlib import Path

    from wheelyard.wheels.values import RepairedWheel


def stage_wheel(wheel: RepairedWheel, *, folder: Path) -> str:
    """Write the index below the new ``folder`` and return its URL."""
    name, version, build_tag, _ = parse_wheel_filename(wheel.path.name)
    page = folder / "simple" / name
    page.mkdir(parents=True)
    os.link(wheel.path, page / wheel.path.name)
    metadata = read_dist_info(wheel.path, "METADATA")
    (page / f"{wheel.path.name}.metadata").write_bytes(metadata)
    requires_python = parse_core_metadata(metadata).requires_python
    file = IndexFile(
        filename=wheel.path.name,
        urls=Urls(quote(wheel.path.name)),
        version=version,
        revision=build_tag[0] if build_tag else 0,
        sha256=wheel.sha256,
        size=wheel.path.stat().st_size,
        requires_python=None if requires_python is None else str(requires_python),
        core_metadata_sha256=hashlib.sha256(metadata).hexdigest(),
        upload_time="1980-01-01T00:00:00Z",
    )
    (page / HTML_NAME).write_bytes(project_html(name, [file]))
    return (folder / "simple").as_uri()
