"""Text without the credentials of the URLs in it."""

from __future__ import annotations

import re

_SECRET_PARAMETER = re.compile(
    r"([?&][\w.-]*(?:credential|key|password|secret|sig|token|jwt|auth)[\w.-]*=)[^&\s'\")]+",
    re.IGNORECASE,
)


def mask_url(text: str) -> str:
    """Hide the credentials of every URL in ``text``: ``https://***@host/simple/``."""
    without_userinfo = re.sub(r"(?<=://)[^/\s]+@", "***@", text)
    return _SECRET_PARAMETER.sub(r"\1***", without_userinfo)
