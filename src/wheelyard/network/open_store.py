"""Open an object store by the place that people write."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Final

from wheelyard.errors import UsageError
from wheelyard.network.folder_store import FolderStore

if TYPE_CHECKING:
    from collections.abc import Mapping

    from wheelyard.network.indexes import IndexSettings
    from wheelyard.network.object_store import ObjectStore

_S3: Final = re.compile(r"s3://(?P<bucket>[a-z0-9][a-z0-9.-]{1,61}[a-z0-9])(?:/(?P<prefix>.*))?")


def open_object_store(
    place: str, *, settings: IndexSettings, env: Mapping[str, str]
) -> ObjectStore:
    """Return the store at ``place``: ``s3://bucket/prefix``, or a folder's path."""
    if not place.startswith("s3:"):
        return FolderStore(Path(place))
    match = _S3.fullmatch(place)
    if match is None:
        msg = f"{place!r} names no bucket. Write s3://BUCKET, or s3://BUCKET/PREFIX."
        raise UsageError(msg)
    from wheelyard.network.s3_store import open_s3_store  # noqa: PLC0415 - boto3 takes long

    prefix = (match["prefix"] or "").strip("/")
    return open_s3_store(match["bucket"], prefix, settings=settings, env=env)
