"""Filenames of wheels as strangers write them: an index, an archive, a release."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

from packaging.utils import InvalidWheelFilename
from packaging.utils import parse_wheel_filename as parse

if TYPE_CHECKING:
    from packaging.tags import Tag
    from packaging.utils import BuildTag, NormalizedName
    from packaging.version import Version

MOST_TAGS: Final = 1000
_LONGEST: Final = 255
"""What file systems take."""


def parse_wheel_filename(
    filename: object,
) -> tuple[NormalizedName, Version, BuildTag, frozenset[Tag]]:
    """Parse a filename as packaging does; whatever is none raises ``InvalidWheelFilename``.

    A tag set stands for the product of its parts, which a short name may make very large.
    """
    if not isinstance(filename, str) or len(filename.encode("utf-8", "replace")) > _LONGEST:
        msg = f"Invalid wheel filename (no text, or longer than {_LONGEST} bytes): {filename!r:.80}"
        raise InvalidWheelFilename(msg)
    if count_tags("-".join(filename.removesuffix(".whl").split("-")[-3:])) > MOST_TAGS:
        msg = f"Invalid wheel filename (more than {MOST_TAGS} tags): {filename!r}"
        raise InvalidWheelFilename(msg)
    return parse(filename)


def count_tags(text: str) -> int:
    """Return how many tags a tag set such as ``py2.py3-none-any`` stands for."""
    return math.prod(part.count(".") + 1 for part in text.split("-"))
