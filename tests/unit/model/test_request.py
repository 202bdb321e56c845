"""The form that asks for a combination, and the links that fill it in."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import yaml

from wheelyard.model.cell import MACHINES, Cell, PythonVersion, TorchBuild
from wheelyard.model.request import FORM, request_url

FOLDER = Path(__file__).parents[3] / ".github" / "ISSUE_TEMPLATE"


def test_link_fills_in_fields_that_the_form_has() -> None:
    cell = Cell(PythonVersion.parse("3.14t"), TorchBuild.parse("2.11.0+cu130"), "x86_64")
    url = request_url("https://example.org/someone/farm/", "probe-1.1", cell)
    parts = urlsplit(url)
    assert parts.path == "/someone/farm/issues/new"
    words = {key: value[0] for key, value in parse_qs(parts.query).items()}
    assert words.pop("template") == FORM
    assert words.pop("title") == "Wheel of probe-1.1-cp314t-torch2.11.0-cu130-x86_64"
    form = yaml.safe_load((FOLDER / FORM).read_text(encoding="utf-8"))
    fields = {one["id"]: one for one in form["body"] if "id" in one}
    assert words.keys() <= fields.keys()
    assert words["torch"] == "2.11.0+cu130"
    assert tuple(fields["machine"]["attributes"]["options"]) == MACHINES
