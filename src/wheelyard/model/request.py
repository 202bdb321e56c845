"""A request for a combination, as the form of the repository's issues takes it."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlencode

if TYPE_CHECKING:
    from wheelyard.model.cell import Cell

FORM = "combination.yml"


def request_url(repository: str, label: str, cell: Cell) -> str:
    """Return the URL of the form, filled in for one cell; ``repository`` is its page's URL.

    ``label`` is the recipe version's, for example ``causal-conv1d-1.7.0``.
    """
    words = {
        "template": FORM,
        "title": f"Wheel of {label}-{cell.identifier}",
        "recipe": label,
        "python": str(cell.python),
        "torch": str(cell.torch),
        "machine": cell.machine,
    }
    return f"{repository.rstrip('/')}/issues/new?{urlencode(words)}"
