"""The pages of a simple index (PEP 503, 691, 700, 714) and the lines that install from it."""

from __future__ import annotations

import dataclasses
import datetime as dt
import html
import json
import shlex
from itertools import groupby
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import quote

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from packaging.utils import NormalizedName
    from packaging.version import Version

    from wheelyard.model.record import BuildRecord

API_VERSION = "1.1"
HTML_NAME = "index.html"
JSON_NAME = "index.v1.json"


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class IndexFile:
    """One wheel on a project page."""

    filename: str
    url: str
    """As it stands on the page: relative to it, or absolute; quoted."""
    version: Version
    revision: int
    sha256: str
    size: int
    requires_python: str | None
    core_metadata_sha256: str
    upload_time: str


class InstallLines(NamedTuple):
    """Commands that install exactly one wheel."""

    pip: str
    uv: str


def index_labels(record: BuildRecord) -> tuple[str, ...]:
    """Return the indexes that serve the wheel; the empty label is the flat one."""
    return ("", record.index_label) if record.is_default else (record.index_label,)


def index_pages(
    records: Iterable[BuildRecord], wheel_url: Callable[[BuildRecord, int], str]
) -> dict[str, bytes]:
    """Return every page of every index by its path below the index folder.

    ``wheel_url`` returns the URL of a wheel for a page that lies so many folders deep.
    """
    pages: dict[str, bytes] = {}
    placed = [(label, record) for record in records for label in index_labels(record)]
    placed.sort(key=lambda item: (item[0], item[1].name))
    for label, of_label in groupby(placed, key=lambda item: item[0]):
        root = f"{label}/simple" if label else "simple"
        depth = root.count("/") + 2
        projects = []
        for name, of_project in groupby(of_label, key=lambda item: item[1].name):
            projects.append(name)
            files = [index_file(record, url=wheel_url(record, depth)) for _, record in of_project]
            pages[f"{root}/{name}/{HTML_NAME}"] = project_html(name, files)
            pages[f"{root}/{name}/{JSON_NAME}"] = project_json(name, files)
        pages[f"{root}/{HTML_NAME}"] = root_html(projects)
        pages[f"{root}/{JSON_NAME}"] = root_json(projects)
    return pages


def relative_wheel_url(record: BuildRecord, depth: int) -> str:
    """Return the URL of a wheel in the yard that the index is part of, ``+`` as ``%2B``."""
    return f"{'../' * (depth + 1)}wheels/{quote(record.filename)}"


def index_file(record: BuildRecord, *, url: str) -> IndexFile:
    """Return what an index says of a wheel."""
    requires_python = record.requires_python
    return IndexFile(
        filename=record.filename,
        url=url,
        version=record.version,
        revision=record.revision,
        sha256=record.sha256,
        size=record.size,
        requires_python=None if requires_python is None else str(requires_python),
        core_metadata_sha256=record.core_metadata_sha256,
        upload_time=f"{record.created.astimezone(dt.UTC):%Y-%m-%dT%H:%M:%SZ}",
    )


def project_html(name: NormalizedName, files: Iterable[IndexFile]) -> bytes:
    """Write a project's page as PEP 503 has it."""
    lines = [f"<h1>Links for {html.escape(name)}</h1>"]
    lines += [_anchor(file) for file in _sorted(files)]
    return _html(f"Links for {name}", lines)


def project_json(name: NormalizedName, files: Iterable[IndexFile]) -> bytes:
    """Write a project's page as PEP 691 has it."""
    ordered = _sorted(files)
    versions = dict.fromkeys(str(file.version) for file in ordered)
    return _json(
        {
            "files": [_json_file(file) for file in ordered],
            "meta": {"api-version": API_VERSION},
            "name": name,
            "versions": list(versions),
        }
    )


def root_html(projects: Iterable[str]) -> bytes:
    """Write the list of projects as PEP 503 has it."""
    names = sorted(projects)
    lines = [f'<a href="{quote(name)}/">{html.escape(name)}</a><br>' for name in names]
    return _html("Simple index", lines)


def root_json(projects: Iterable[str]) -> bytes:
    """Write the list of projects as PEP 691 has it."""
    names = [{"name": name} for name in sorted(projects)]
    return _json({"meta": {"api-version": API_VERSION}, "projects": names})


def install_lines(
    record: BuildRecord, index_url: str, *, only_this_index: bool = False
) -> InstallLines:
    """Return commands that can install no other file than this wheel's name and version.

    The local version makes them safe beside a public index, where neither can exist. Where the
    wheel has none, upstream's source of the same version does not come into question.
    """
    requirement = [f"{record.name}=={record.version}"]
    if record.version.local is None:
        requirement = ["--only-binary", record.name, *requirement]
    pip = "--index-url" if only_this_index else "--extra-index-url"
    uv = "--default-index" if only_this_index else "--index"
    return InstallLines(
        pip=shlex.join(["pip", "install", pip, index_url, *requirement]),
        uv=shlex.join(["uv", "pip", "install", uv, index_url, *requirement]),
    )


def _sorted(files: Iterable[IndexFile]) -> list[IndexFile]:
    return sorted(files, key=lambda file: (file.version, file.revision, file.filename))


def _anchor(file: IndexFile) -> str:
    attributes = {"href": f"{file.url}#sha256={file.sha256}"}
    if file.requires_python is not None:
        attributes["data-requires-python"] = file.requires_python
    attributes["data-core-metadata"] = f"sha256={file.core_metadata_sha256}"
    written = " ".join(f'{key}="{html.escape(value)}"' for key, value in attributes.items())
    return f"<a {written}>{html.escape(file.filename)}</a><br>"


def _json_file(file: IndexFile) -> dict[str, object]:
    described: dict[str, object] = {
        "core-metadata": {"sha256": file.core_metadata_sha256},
        "filename": file.filename,
        "hashes": {"sha256": file.sha256},
        "size": file.size,
        "upload-time": file.upload_time,
        "url": file.url,
    }
    if file.requires_python is not None:
        described["requires-python"] = file.requires_python
    return described


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
