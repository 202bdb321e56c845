"""What the generator is told; ``make_site.py`` says which language it is for."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sphinx.application import Sphinx

_HERE = Path(__file__).parent
sys.path.insert(0, os.fspath(_HERE))

from chinese import Chinese  # noqa: E402

_TREE: dict[str, Any] = json.loads(os.environ["WHEELYARD_SITE"])

project = "wheelyard"
html_title = "wheelyard"
language = {"en": "en", "zh": "zh_CN"}[_TREE["language"]]
extensions = ["myst_parser"]
html_theme = "furo"
html_static_path = [str(_HERE / "static")]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sphinx = False
html_show_copyright = False
html_show_search_summary = False  # a browser reads no other file of a folder
html_sidebars = {
    "**": [
        "sidebar/brand.html",
        "sidebar/languages.html",
        "sidebar/search.html",
        "sidebar/scroll-start.html",
        "sidebar/navigation.html",
        "sidebar/scroll-end.html",
    ]
}
templates_path = [str(_HERE / "templates")]
myst_heading_anchors = 4
myst_url_schemes = {
    "http": None,
    "https": None,
    "mailto": None,
    "page": "{{path}}",
    "part": "{{path}}#{{fragment}}",
}
smartquotes = False


def setup(app: Sphinx) -> None:
    """Tell each page where it is in the other language."""
    app.add_search_language(Chinese)
    app.connect("html-page-context", _add_languages)


def _add_languages(
    _app: Sphinx, name: str, _template: str, context: dict[str, Any], _doctree: object
) -> None:
    other = name if name in _TREE["others"] else "index"
    up = "../" * name.count("/")
    to_other = "../" if _TREE["language"] == "zh" else "zh/"
    here = {"url": None, "hreflang": _TREE["language"]}
    there = {"url": f"{up}{to_other}{other}.html"}
    there["hreflang"] = "en" if _TREE["language"] == "zh" else "zh"
    titles = {"en": "English", "zh": "简体中文"}
    by_language = {one["hreflang"]: one for one in (here, there)}
    context["languages"] = [{**by_language[code], "title": title} for code, title in titles.items()]
