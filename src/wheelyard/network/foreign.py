"""Documents that strangers wrote: what reading one may raise, and pages made to take for ever."""

from __future__ import annotations

import re
from typing import Final

OTHER_FORM: Final = (
    ArithmeticError,
    AttributeError,
    LookupError,
    RecursionError,
    TypeError,
    ValueError,
)
"""What comes of a document that has another form than its reader expects."""

_DEEPEST: Final = 2000
_TAG = re.compile(rb"<(/?)([a-zA-Z]+)")
_WITHOUT_END: Final = frozenset({b"base", b"br", b"hr", b"img", b"input", b"link", b"meta"})


def shallow(page: bytes) -> bytes:
    """Return an HTML page whose elements are not nested so deep that a parser takes minutes."""
    depth = 0
    for match in _TAG.finditer(page):
        if match[2].lower() not in _WITHOUT_END:
            depth += -1 if match[1] else 1
        if depth > _DEEPEST:
            msg = f"its elements are nested more than {_DEEPEST} deep"
            raise ValueError(msg)
        depth = max(depth, 0)
    return page
