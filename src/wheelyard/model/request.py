"""A request for a combination, as the form of the farm's repository takes it."""

from __future__ import annotations

from typing import Final
from urllib.parse import urlencode

FORM: Final = "combination.yml"
FIELDS: Final = ("recipe", "python", "torch", "machine")
"""What a link fills in beside the title; the fields of the form have these names."""


def form_url(repository: str) -> str:
    """Return the URL of the form, to which the page adds a field for each of `FIELDS`.

    ``repository`` is the URL of its page.
    """
    return f"{repository.rstrip('/')}/issues/new?{urlencode({'template': FORM})}"
