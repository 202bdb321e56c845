"""Which pages the site has, where each stands, and their text as the generator takes it."""

from __future__ import annotations

import dataclasses
import os
import re
import shutil
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING

from usage import usage_page

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

LANGUAGES = ("en", "zh")
TOP_PAGES = ("ARCHITECTURE.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md")
"""Pages of the repository's top folder that are in the site; the READMEs are its front pages."""
FRONT_PAGES = {"README.md": "en", "README.zh-CN.md": "zh"}
USAGE = "usage.md"
"""A page that no file holds."""
PICTURES = frozenset({".png", ".svg"})
_LINK = re.compile(r"(?P<image>!?)\[(?P<text>(?:[^\[\]]|\[[^\]]*\])*)\]\((?P<target>[^)\s]+)\)")
_FENCE = r"^(?P<fence>`{3,}).*?^(?P=fence)`*$"
_SPAN = r"(?<![`\\])(?P<ticks>`+)(?!`)(?:(?!\n\n).)+?(?<!`)(?P=ticks)(?!`)"
_LINE_END = re.compile(
    r"(?<=[\u3001-\u9fff\uff01-\uff5e])\n(?=[\u3010-\u9fff])|(?<=[\u3001\u3002\uff01-\uff1f])\n(?=[\w`])"
)
_VERBATIM = re.compile(f"{_FENCE}|{_SPAN}", re.DOTALL | re.MULTILINE)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Page:
    """One page of the site in one language."""

    source: Path
    language: str
    name: str

    @property
    def url(self) -> str:
        """Where it is from the top of the site on."""
        return f"{'' if self.language == 'en' else self.language + '/'}{self.name}.html"


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Kind:
    """A group of pages in the navigation."""

    title: Mapping[str, str]
    pages: tuple[str, ...]
    folder: str | None
    takes_others: bool


def find_pages(repository: Path) -> tuple[Page, ...]:
    """Return every page of ``docs/``, those of the top folder, and the one made from the code."""
    docs = repository / "docs"
    pages = []
    for path in sorted(docs.rglob("*.md")):
        parts = path.relative_to(docs).with_suffix("").parts
        language = parts[0] if parts[0] in LANGUAGES else "en"
        name = "/".join(parts[1:] if parts[0] in LANGUAGES else parts)
        pages.append(Page(source=path, language=language, name=name))
    for top in TOP_PAGES:
        if (repository / top).exists():
            name = Path(top).stem.lower()
            pages.append(Page(source=repository / top, language="en", name=name))
    pages.append(Page(source=docs / USAGE, language="en", name=Path(USAGE).stem))
    return tuple(pages)


def _text(page: Page) -> str:
    return usage_page() if page.source.name == USAGE else page.source.read_text(encoding="utf-8")


def _joined(text: str) -> str:
    """Return the text without line ends inside Chinese sentences, which would become blanks.

    >>> _joined("甲、\\n乙丙\\nA\\n\\n丁")
    '甲、乙丙\\nA\\n\\n丁'
    """
    return _LINE_END.sub("", text)


def read_kinds(path: Path) -> tuple[Kind, ...]:
    """Read the order of the navigation."""
    tables = tomllib.loads(path.read_text(encoding="utf-8"))["kinds"]
    return tuple(
        Kind(
            title=table["title"],
            pages=tuple(table["pages"]),
            folder=table.get("folder"),
            takes_others=table.get("takes-others", False),
        )
        for table in tables
    )


def arrange(names: Iterable[str], kinds: Iterable[Kind]) -> list[tuple[Kind, list[str]]]:
    """Return the pages of each kind in the order of the navigation; every page is in one.

    >>> kind = Kind(title={}, pages=("b",), folder=None, takes_others=True)
    >>> [pages for _, pages in arrange(["a", "b"], [kind])]
    [['b', 'a']]
    """
    kinds = tuple(kinds)
    named = {name for kind in kinds for name in kind.pages}
    left = sorted(set(names) - named - {"index"})
    arranged = []
    for kind in kinds:
        found = [name for name in kind.pages if name in set(names)]
        found += [name for name in left if kind.folder and name.startswith(f"{kind.folder}/")]
        arranged.append((kind, found))
    taken = {name for _, found in arranged for name in found}
    for kind, found in arranged:
        if kind.takes_others:
            found += [name for name in left if name not in taken]
    return arranged


def stage(repository: Path, destination: Path, kinds: tuple[Kind, ...]) -> tuple[Page, ...]:
    """Write a tree of pages for each language and return the pages."""
    pages = find_pages(repository)
    for language in LANGUAGES:
        tree = destination / language
        shutil.rmtree(tree, ignore_errors=True)
        ours = [page for page in pages if page.language == language]
        for page in ours:
            text = "".join(_with_links(_text(page), page, pages, repository=repository, tree=tree))
            if page.name == "index":
                text += "".join(_navigation([one.name for one in ours], kinds, language))
            path = tree / f"{page.name}.md"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
    return pages


def _navigation(names: list[str], kinds: tuple[Kind, ...], language: str) -> Iterator[str]:
    for kind, found in arrange(names, kinds):
        if found:
            lines = [f":caption: {kind.title[language]}", ":hidden:", "", *found]
            yield "\n\n```{toctree}\n" + "\n".join(lines) + "\n```\n"


def _with_links(
    text: str, page: Page, pages: tuple[Page, ...], *, repository: Path, tree: Path
) -> Iterator[str]:
    """Yield the text with links as they have to be in the tree; code stays as it is."""
    at = 0

    def replace(match: re.Match[str]) -> str:
        return _link(match, page, pages, repository=repository, tree=tree)

    for verbatim in _VERBATIM.finditer(text):
        yield _LINK.sub(replace, _joined(text[at : verbatim.start()]))
        yield verbatim[0]
        at = verbatim.end()
    yield _LINK.sub(replace, _joined(text[at:]))


def _link(
    match: re.Match[str], page: Page, pages: tuple[Page, ...], *, repository: Path, tree: Path
) -> str:
    path, _, anchor = match["target"].partition("#")
    if re.match(r"[a-z]+:", path) or not path:
        return match[0]
    target = Path(os.path.normpath(page.source.parent / path))
    front = FRONT_PAGES.get(str(target.relative_to(repository)))
    for other in pages:
        if other.source == target or (front == other.language and other.name == "index"):
            return f"[{match['text']}]({_target(page, other, anchor)})"
    if target.suffix in PICTURES:
        beside = tree / Path(page.name).parent / target.name
        beside.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(target, beside)
        return f"{match['image']}[{match['text']}]({target.name})"
    # a file of the repository that is no page: the site does not have it
    return match["text"]


def _target(page: Page, other: Page, anchor: str) -> str:
    """Return how one page names another: by its file, or by its URL in the other language."""
    if page.language == other.language:
        to = os.path.relpath(f"{other.name}.md", Path(page.name).parent)
        return f"{to}#{anchor}" if anchor else to
    to = os.path.relpath(other.url, Path(page.url).parent)
    return f"part:{to}#{anchor}" if anchor else f"page:{to}"
