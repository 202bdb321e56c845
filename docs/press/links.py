"""Whether every link of a built site leads somewhere, and nothing is loaded from elsewhere."""

from __future__ import annotations

import html.parser
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

if TYPE_CHECKING:
    from collections.abc import Iterator

_LOADED = {"script": "src", "img": "src", "link": "href", "iframe": "src", "source": "src"}
_HOST = re.compile(r"(?i)[a-z0-9-]+(\.[a-z0-9-]+)+|localhost|\[[0-9a-f:]+\]")


class _Reader(html.parser.HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.identifiers: set[str] = set()
        self.links: list[str] = []
        self.loaded: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value for name, value in attrs if value is not None}
        if "id" in values:
            self.identifiers.add(values["id"])
        if tag == "a" and "href" in values:
            self.links.append(values["href"])
        if _LOADED.get(tag) in values and values.get("rel") != "canonical":
            self.loaded.append(values[_LOADED[tag]])


def check_links(site: Path) -> list[str]:
    """Return a sentence for each link that leads nowhere and for each thing from another place."""
    pages = {path: _read(path) for path in sorted(site.rglob("*.html"))}
    return [
        f"{path.relative_to(site)}: {problem}"
        for path, page in pages.items()
        for problem in _problems(path, page, pages)
    ]


def _read(path: Path) -> _Reader:
    reader = _Reader()
    reader.feed(path.read_text(encoding="utf-8"))
    return reader


def _problems(path: Path, page: _Reader, pages: dict[Path, _Reader]) -> Iterator[str]:
    for link in page.loaded:
        if urlsplit(link).netloc:
            yield f"loads {link} from elsewhere"
        elif not link.startswith("data:") and not _file(path, link).is_file():
            yield f"loads {link}, which is not there"
    for link in page.links:
        problem = _problem(path, link, pages)
        if problem:
            yield f"links to {link}, {problem}"


def _problem(path: Path, link: str, pages: dict[Path, _Reader]) -> str:
    """Say what is wrong with a link; addresses elsewhere are not asked, only read."""
    parts = urlsplit(link)
    target = _file(path, link)
    match parts.scheme:
        case "http" | "https":
            return "" if _HOST.fullmatch(parts.hostname or "") else "which is no URL"
        case "mailto":
            return ""
        case "" if not target.is_file():
            return "which is not there"
        case "":
            known = target not in pages or unquote(parts.fragment) in pages[target].identifiers
            return "" if known or not parts.fragment else "a place that page does not have"
        case _:
            return "which is of no known kind"


def _file(path: Path, link: str) -> Path:
    relative = unquote(urlsplit(link).path)
    return Path(os.path.normpath(path.parent / relative)) if relative else path
