"""Index pages and install lines."""

from __future__ import annotations

import datetime as dt
import json
import shlex
import tomllib
from html.parser import HTMLParser

import msgspec
import pytest
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

from wheelyard.model.index_entry import IndexEntry, read_entry
from wheelyard.model.index_page import (
    Urls,
    index_file,
    index_pages,
    install_lines,
    project_html,
    project_json,
    root_html,
    root_json,
)
from wheelyard.model.record import BuildRecord, Built, RecordedBuild, RecordedCheck, RecordedToolkit

NAME = canonicalize_name("demo-ext")


def make_entry(*, created: dt.datetime | None = None, **words: object) -> IndexEntry:
    record = make_record(**words)  # type: ignore[arg-type]
    if created is not None:
        record = msgspec.structs.replace(record, created=created)
    return read_entry(record.to_json(), origin="record")


def locate(entry: IndexEntry, depth: int) -> Urls:
    up = "../" * depth
    signed = entry.provenance_sha256 is not None
    return Urls(
        wheel=f"{up}{entry.filename}",
        record=f"{up}{entry.filename}.json",
        provenance=f"{up}{entry.filename}.provenance" if signed else "",
    )


def make_record(
    *,
    version: str = "1.0+cu130.torch2.11.0",
    revision: int = 0,
    label: str = "torch2.11.0-cu130",
    name: str = "demo-ext",
    requires_python: str | None = ">=3.9,<4",
) -> BuildRecord:
    build = f"{revision}-" if revision else ""
    stem = f"{name.replace('-', '_')}-{version}"
    return BuildRecord(
        identifier=f"{name}-1.0-cp312-{label}-x86_64",
        index_label=label,
        filename=f"{stem}-{build}cp312-cp312-manylinux_2_24_x86_64.whl",
        sha256=f"{revision % 10}" * 64,
        size=1000,
        name=canonicalize_name(name),
        version=Version(version),
        revision=revision,
        requires_python=None if requires_python is None else SpecifierSet(requires_python),
        core_metadata_sha256="2" * 64,
        python="3.12",
        torch="2.11.0+cu130",
        machine="x86_64",
        gpu_archs=("9.0",),
        plan_fingerprint="3" * 64,
        build_digest="4" * 64,
        fingerprint_inputs={},
        origin=Built(
            source="sha256:" + "5" * 64,
            tree_sha256="6" * 64,
            patches=(),
            compiler="gcc",
            toolkit=RecordedToolkit(provider="index", version="13.0"),
            build=RecordedBuild(seconds=60.0, cpu_seconds=110.0, compile_jobs=2),
        ),
        locks={},
        sandbox="unshare",
        torch_origin="locked",
        seconds={},
        check=RecordedCheck(passed=True),
        created=dt.datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=dt.timezone(dt.timedelta(hours=8))),
    )


class Anchors(HTMLParser):
    """Collects the links of a page as a client reads them."""

    def __init__(self, page: bytes) -> None:
        super().__init__()
        self.found: list[dict[str, str | None]] = []
        self.feed(page.decode())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "a":
            self.found.append(dict(attrs))


def test_link_has_digest_requires_python_and_core_metadata() -> None:
    record = make_entry()
    page = project_html(NAME, [index_file(record, urls=Urls("x%2By.whl"))])
    assert Anchors(page).found == [
        {
            "href": f"x%2By.whl#sha256={record.sha256}",
            "data-requires-python": "<4,>=3.9",
            "data-core-metadata": f"sha256={'2' * 64}",
        }
    ]
    assert b'data-requires-python="&lt;4,&gt;=3.9"' in page


def test_any_python_leaves_the_attribute_out() -> None:
    record = make_entry(requires_python=None)
    file = index_file(record, urls=Urls("x"))
    assert "data-requires-python" not in Anchors(project_html(NAME, [file])).found[0]
    assert "requires-python" not in json.loads(project_json(NAME, [file]))["files"][0]


def test_html_of_names_and_urls_is_escaped() -> None:
    file = index_file(make_entry(), urls=Urls("\"><script>'&"))
    page = project_html(canonicalize_name("<b>"), [file])
    assert b"<script>" not in page
    assert b"<b>" not in page
    assert (Anchors(page).found[0]["href"] or "").startswith("\"><script>'&#sha256=")
    assert b'href="%3Cb%3E/">&lt;b&gt;</a>' in root_html(["<b>"])


def test_json_says_the_same_as_html() -> None:
    record = make_entry()
    document = json.loads(project_json(NAME, [index_file(record, urls=Urls("u"))]))
    assert document == {
        "meta": {"api-version": "1.3"},
        "name": "demo-ext",
        "versions": ["1.0+cu130.torch2.11.0"],
        "files": [
            {
                "filename": record.filename,
                "url": "u",
                "hashes": {"sha256": record.sha256},
                "core-metadata": {"sha256": "2" * 64},
                "requires-python": "<4,>=3.9",
                "size": 1000,
                "upload-time": "2026-01-01T19:04:05Z",
                "provenance": None,
                "yanked": False,
                "_record": {"sha256": record.record_sha256, "url": ""},
            }
        ],
    }


def test_files_stand_by_version_then_revision_whatever_the_order() -> None:
    records = [
        make_entry(version="1.10+cu130.torch2.11.0"),
        make_entry(version="1.9+cu130.torch2.11.0", revision=10),
        make_entry(version="1.9+cu130.torch2.11.0", revision=9),
    ]
    files = [index_file(record, urls=Urls("u")) for record in records]
    page = project_json(NAME, files)
    assert page == project_json(NAME, files[::-1])
    assert [item["filename"].split("-")[1:3] for item in json.loads(page)["files"]] == [
        ["1.9+cu130.torch2.11.0", "9"],
        ["1.9+cu130.torch2.11.0", "10"],
        ["1.10+cu130.torch2.11.0", "cp312"],
    ]


def test_root_lists_projects_sorted() -> None:
    assert [item["href"] for item in Anchors(root_html(["b", "a"])).found] == ["a/", "b/"]
    assert json.loads(root_json(["b", "a"]))["projects"] == [{"name": "a"}, {"name": "b"}]


def test_default_wheel_is_in_the_flat_index_and_in_its_torch_builds() -> None:
    pages = index_pages([make_entry()], locate)
    assert set(pages) == {
        f"{root}/{page}"
        for root in ("simple", "torch2.11.0-cu130/simple")
        for page in ("index.html", "index.v1.json", "demo-ext/index.html", "demo-ext/index.v1.json")
    }
    flat = Anchors(pages["simple/demo-ext/index.html"]).found[0]["href"] or ""
    deep = Anchors(pages["torch2.11.0-cu130/simple/demo-ext/index.html"]).found[0]["href"] or ""
    filename = "demo_ext-1.0+cu130.torch2.11.0-cp312-cp312-manylinux_2_24_x86_64.whl"
    assert flat.partition("#")[0] == f"../../{filename}"
    assert deep.partition("#")[0] == f"../../../{filename}"


def test_other_gpu_archs_have_an_index_of_their_own() -> None:
    pages = index_pages([make_entry(label="torch2.11.0-cu130-sm90")], locate)
    assert {page.partition("/simple/")[0] for page in pages} == {"torch2.11.0-cu130-sm90"}


def test_wheel_without_a_local_version_is_in_the_index_of_its_torch_build_alone() -> None:
    pages = index_pages([make_entry(version="1.0")], locate)
    assert {page.partition("/simple/")[0] for page in pages} == {"torch2.11.0-cu130"}


def test_projects_of_one_index_do_not_mix() -> None:
    records = [make_entry(name=name) for name in ("zeta", "alpha", "mid-dle")]
    pages = index_pages(records, locate)
    assert json.loads(pages["simple/index.v1.json"])["projects"] == [
        {"name": "alpha"},
        {"name": "mid-dle"},
        {"name": "zeta"},
    ]
    for name in ("alpha", "mid-dle", "zeta"):
        [file] = json.loads(pages[f"simple/{name}/index.v1.json"])["files"]
        assert file["filename"].startswith(name.replace("-", "_"))


def test_pages_do_not_depend_on_the_order_of_records() -> None:
    records = [make_entry(revision=number) for number in range(3)]
    assert index_pages(records, locate) == index_pages(records[::-1], locate)


def test_no_records_make_no_pages() -> None:
    assert index_pages([], locate) == {}


@pytest.mark.parametrize(
    ("alone", "pip_option", "uv_option"),
    [(False, "--extra-index-url", "--index"), (True, "--index-url", "--default-index")],
)
def test_install_lines_pin_the_local_version(
    pip_option: str, uv_option: str, *, alone: bool
) -> None:
    url = "https://example.org/a b/simple/"
    lines = install_lines(make_entry(), url, only_this_index=alone)
    requirement = "demo-ext==1.0+cu130.torch2.11.0"
    assert shlex.split(lines.pip) == ["pip", "install", pip_option, url, requirement]
    assert shlex.split(lines.uv) == ["uv", "pip", "install", uv_option, url, requirement]


def test_without_a_local_version_upstream_s_source_does_not_come_into_question() -> None:
    lines = install_lines(make_record(version="1.0"), "https://example.org/simple/")
    words = ["--only-binary", "demo-ext", "demo-ext==1.0"]
    assert shlex.split(lines.pip)[-3:] == words
    assert shlex.split(lines.uv)[-3:] == words


def test_uv_project_pins_and_takes_nothing_else_from_the_index() -> None:
    url = "https://example.org/torch2.11.0-cu130/simple/"
    document = tomllib.loads(install_lines(make_record(), url).project)
    assert document["project"]["dependencies"] == ["demo-ext==1.0+cu130.torch2.11.0"]
    [index] = document["tool"]["uv"]["index"]
    assert index == {"name": "torch2.11.0-cu130", "url": url, "explicit": True}
    assert document["tool"]["uv"]["sources"] == {"demo-ext": {"index": "torch2.11.0-cu130"}}


def test_upload_time_is_in_utc() -> None:
    at = dt.datetime(2026, 7, 1, tzinfo=dt.timezone(dt.timedelta(hours=-1)))
    assert index_file(make_entry(created=at), urls=Urls("u")).upload_time == "2026-07-01T01:00:00Z"


@pytest.mark.parametrize(
    ("reason", "in_json"),
    [("broken <b>", "broken <b>"), ("", True)],
    ids=["with a reason", "without one"],
)
def test_yanked_wheel_says_so_on_both_pages(reason: str, in_json: object) -> None:
    entry = msgspec.structs.replace(make_entry(), yanked=reason)
    files = [index_file(entry, urls=Urls("u"))]
    assert Anchors(project_html(NAME, files)).found[0]["data-yanked"] == reason
    assert json.loads(project_json(NAME, files))["files"][0]["yanked"] == in_json
    assert b"<b>" not in project_html(NAME, files)


def test_signed_wheel_names_its_attestations_on_both_pages() -> None:
    entry = msgspec.structs.replace(make_entry(), provenance_sha256="7" * 64)
    pages = index_pages([entry], locate)
    [anchor] = Anchors(pages["simple/demo-ext/index.html"]).found
    assert anchor["data-provenance"] == f"../../{entry.filename}.provenance"
    [file] = json.loads(pages["simple/demo-ext/index.v1.json"])["files"]
    assert file["provenance"] == anchor["data-provenance"]


def test_every_page_states_the_level_that_its_index_asks_for() -> None:
    pages = index_pages([make_entry()], locate, level="ran-on-gpu")
    documents = [json.loads(page) for path, page in pages.items() if path.endswith(".json")]
    assert {item["meta"]["_wheelyard-level"] for item in documents} == {"ran-on-gpu"}
