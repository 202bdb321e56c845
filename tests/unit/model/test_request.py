"""The form that asks for a combination, and the links that fill it in."""

from __future__ import annotations

from pathlib import Path

import yaml

from wheelyard.model.cell import MACHINES
from wheelyard.model.request import FIELDS, FORM, form_url

FOLDER = Path(__file__).parents[3] / ".github" / "ISSUE_TEMPLATE"


def test_link_leads_to_the_form_whatever_ends_the_repository() -> None:
    for repository in ("https://example.org/someone/wheels", "https://example.org/someone/wheels/"):
        expected = f"https://example.org/someone/wheels/issues/new?template={FORM}"
        assert form_url(repository) == expected


def test_form_has_the_fields_that_a_link_fills_in() -> None:
    form = yaml.safe_load((FOLDER / FORM).read_text(encoding="utf-8"))
    fields = {one["id"]: one for one in form["body"] if "id" in one}
    assert set(FIELDS) <= fields.keys()
    assert tuple(fields["machine"]["attributes"]["options"]) == MACHINES
