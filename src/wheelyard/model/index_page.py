"""The pages of a simple index (PEP 503, 592, 691, 700, 714, 740) and lines that install from it."""

from __future__ import annotations

import dataclasses
import datetime as dt
import html
import json
import shlex
from itertools import groupby
from typing import TYPE_CHECKING, NamedTuple, Protocol
from urllib.parse import quote

from wheelyard.model.index_entry import parsed_version

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from packaging.version import Version

    from wheelyard.model.index_entry import IndexEntry

API_VERSION = "1.3"
HTML_NAME = "index.html"
JSON_NAME = "index.v1.json"
TESTED_NAME = "_wheelyard-level"
"""A private key (PEP 691) in the ``meta`` of a page: the level that its index asks for."""


class Urls(NamedTuple):
    """Where a wheel and what belongs to it lie, as a page names them: quoted."""

    wheel: str
    record: str = ""
    provenance: str = ""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class IndexFile:
    """One wheel on a project page."""

    filename: str
    urls: Urls
    version: Version
    revision: int
    sha256: str
    size: int
    requires_python: str | None
    core_metadata_sha256: str
    upload_time: str
    yanked: str | None = None
    """The reason, which may be empty; none for a wheel that is not yanked."""
    record_sha256: str = ""


class Pinned(Protocol):
    """What install lines name: a record, or the entry of an index."""

    @property
    def name(self) -> str: ...
    @property
    def version(self) -> object: ...
    @property
    def index_label(self) -> str: ...


class InstallLines(NamedTuple):
    """Ways to install exactly one wheel."""

    pip: str
    uv: str
    project: str
    """What goes into the ``pyproject.toml`` of a project that uv manages."""


def index_pages(
    entries: Iterable[IndexEntry],
    locate: Callable[[IndexEntry, int], Urls],
    *,
    level: str = "",
) -> dict[str, bytes]:
    """Return every page of every index by its path below the index folder.

    ``locate`` returns the URLs of a wheel for a page that lies so many folders deep; ``level`` is
    the test level that this index asks for.
    """
    pages = project_pages(entries, locate, level=level)
    of_root: dict[str, list[str]] = {}
    for path in pages:
        if path.endswith(HTML_NAME):
            root, _, name = path.removesuffix(f"/{HTML_NAME}").rpartition("/")
            of_root.setdefault(root, []).append(name)
    for root, names in of_root.items():
        pages |= root_pages(root, names, level=level)
    return pages


def project_pages(
    entries: Iterable[IndexEntry],
    locate: Callable[[IndexEntry, int], Urls],
    *,
    level: str = "",
) -> dict[str, bytes]:
    """Return the pages of the projects alone."""
    pages: dict[str, bytes] = {}
    placed = [(label, entry) for entry in entries for label in entry.labels]
    placed.sort(key=lambda item: (item[0], item[1].name, item[1].order))
    for (label, name), of_project in groupby(placed, key=lambda item: (item[0], item[1].name)):
        root = root_path(label)
        depth = root.count("/") + 2
        files = [index_file(entry, urls=locate(entry, depth)) for _, entry in of_project]
        pages[f"{root}/{name}/{HTML_NAME}"] = project_html(name, files)
        pages[f"{root}/{name}/{JSON_NAME}"] = project_json(name, files, level=level)
    return pages


def root_path(label: str) -> str:
    """Return the folder of an index; the empty label is the flat one."""
    return f"{label}/simple" if label else "simple"


def root_pages(root: str, names: Iterable[str], *, level: str = "") -> dict[str, bytes]:
    """Return the two pages that list the projects of an index."""
    names = list(names)
    return {
        f"{root}/{HTML_NAME}": root_html(names),
        f"{root}/{JSON_NAME}": root_json(names, level=level),
    }


def index_file(entry: IndexEntry, *, urls: Urls) -> IndexFile:
    """Return what an index says of a wheel."""
    return IndexFile(
        filename=entry.filename,
        urls=urls,
        version=parsed_version(entry.version),
        revision=entry.revision,
        sha256=entry.sha256,
        size=entry.size,
        requires_python=entry.requires_python,
        core_metadata_sha256=entry.core_metadata_sha256,
        upload_time=f"{entry.created.astimezone(dt.UTC):%Y-%m-%dT%H:%M:%SZ}",
        yanked=entry.yanked,
        record_sha256=entry.record_sha256,
    )


def project_html(name: str, files: Iterable[IndexFile]) -> bytes:
    """Write a project's page as PEP 503 has it."""
    lines = [f"<h1>Links for {html.escape(name)}</h1>"]
    lines += [_anchor(file) for file in _sorted(files)]
    return _html(f"Links for {name}", lines)


def project_json(name: str, files: Iterable[IndexFile], *, level: str = "") -> bytes:
    """Write a project's page as PEP 691 has it."""
    ordered = _sorted(files)
    versions = dict.fromkeys(str(file.version) for file in ordered)
    return _json(
        {
            "files": [_json_file(file) for file in ordered],
            "meta": _meta(level),
            "name": name,
            "versions": list(versions),
        }
    )


def root_html(projects: Iterable[str]) -> bytes:
    """Write the list of projects as PEP 503 has it."""
    names = sorted(projects)
    lines = [f'<a href="{quote(name)}/">{html.escape(name)}</a><br>' for name in names]
    return _html("Simple index", lines)


def root_json(projects: Iterable[str], *, level: str = "") -> bytes:
    """Write the list of projects as PEP 691 has it."""
    names = [{"name": name} for name in sorted(projects)]
    return _json({"meta": _meta(level), "projects": names})


def install_lines(pinned: Pinned, index_url: str, *, only_this_index: bool = False) -> InstallLines:
    """Return commands that can install no other file than this wheel's name and version.

    The local version makes them safe beside a public index, where neither can exist. Where the
    wheel has none, upstream's source of the same version does not come into question.
    """
    requirement = [f"{pinned.name}=={pinned.version}"]
    if parsed_version(str(pinned.version)).local is None:
        requirement = ["--only-binary", str(pinned.name), *requirement]
    pip = "--index-url" if only_this_index else "--extra-index-url"
    uv = "--default-index" if only_this_index else "--index"
    return InstallLines(
        pip=shlex.join(["pip", "install", pip, index_url, *requirement]),
        uv=shlex.join(["uv", "pip", "install", uv, index_url, *requirement]),
        project=_uv_project(pinned, index_url),
    )


def _uv_project(pinned: Pinned, index_url: str) -> str:
    """An explicit index serves what names it, and nothing else of the project."""
    name = pinned.index_label
    return (
        f'[project]\ndependencies = ["{pinned.name}=={pinned.version}"]\n\n'
        f'[[tool.uv.index]]\nname = "{name}"\nurl = "{index_url}"\nexplicit = true\n\n'
        f'[tool.uv.sources]\n{pinned.name} = {{ index = "{name}" }}\n'
    )


def _sorted(files: Iterable[IndexFile]) -> list[IndexFile]:
    return sorted(files, key=lambda file: (file.version, file.revision, file.filename))


def _anchor(file: IndexFile) -> str:
    attributes = {"href": f"{file.urls.wheel}#sha256={file.sha256}"}
    if file.requires_python is not None:
        attributes["data-requires-python"] = file.requires_python
    attributes["data-core-metadata"] = f"sha256={file.core_metadata_sha256}"
    if file.yanked is not None:
        attributes["data-yanked"] = file.yanked
    if file.urls.provenance:
        attributes["data-provenance"] = file.urls.provenance
    written = " ".join(f'{key}="{html.escape(value)}"' for key, value in attributes.items())
    return f"<a {written}>{html.escape(file.filename)}</a><br>"


def _json_file(file: IndexFile) -> dict[str, object]:
    described: dict[str, object] = {
        "core-metadata": {"sha256": file.core_metadata_sha256},
        "filename": file.filename,
        "hashes": {"sha256": file.sha256},
        "provenance": file.urls.provenance or None,
        "size": file.size,
        "upload-time": file.upload_time,
        "url": file.urls.wheel,
        "yanked": False if file.yanked is None else (file.yanked or True),
    }
    if file.record_sha256:
        described["_record"] = {"sha256": file.record_sha256, "url": file.urls.record}
    if file.requires_python is not None:
        described["requires-python"] = file.requires_python
    return described


def _meta(level: str) -> dict[str, str]:
    return {"api-version": API_VERSION} | ({TESTED_NAME: level} if level else {})


def _html(title: str, lines: Iterable[str]) -> bytes:
    head = (
        "<!DOCTYPE html>",
        '<html lang="en">',
        "<head>",
        '<meta charset="utf-8">',
        f'<meta name="pypi:repository-version" content="{API_VERSION}">',
        f"<title>{html.escape(title)}</title>",
        "</head>",
        "<body>",
    )
    return "\n".join([*head, *lines, "</body>", "</html>", ""]).encode()


def _json(document: Mapping[str, object]) -> bytes:
    return json.dumps(document, sort_keys=True, separators=(",", ":")).encode() + b"\n"
