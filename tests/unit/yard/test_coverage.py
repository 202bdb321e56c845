"""What the coverage page is told."""

from __future__ import annotations

import dataclasses
import json
import re
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from wheelyard.farm import load_farm
from wheelyard.model.index_entry import read_entry
from wheelyard.model.request import FIELDS, form_url
from wheelyard.yard.coverage import Failure, coverage, find_failures
from wheelyard.yard.index import write_index
from wheelyard.yard.page import page_html, write_page
from wheelyard.yard.store import store_wheel

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.yards import Made

    from wheelyard.farm import Farm
    from wheelyard.model.index_entry import IndexEntry
    from wheelyard.yard.folder import Yard

FAILED = "probe-1.1-cp312-torch2.8.0-cu128-x86_64"


@pytest.fixture
def farm(probe_farm: Path) -> Farm:
    return load_farm(probe_farm)


@pytest.fixture
def entry(make: Callable[..., Made]) -> Callable[..., IndexEntry]:
    def make_entry(*, adopted: str = "", yanked: str | None = None, **words: object) -> IndexEntry:
        found = read_entry(make(**words).record.to_json(), origin="record")
        return msgspec.structs.replace(found, adopted=adopted, yanked=yanked)

    return make_entry


def state_of(document: dict[str, Any], *, python: str, torch: str, version: str = "1.1") -> str:
    names, versions = document["names"], document["versions"]
    [states] = [
        cell[3]
        for cell in document["cells"]
        if (names[cell[0]], versions[cell[1]]) == ("probe", version)
        and document["machines"][cell[2]] == "x86_64"
    ]
    row = document["torches"].index(torch) * len(document["pythons"])
    number = states[row + document["pythons"].index(python)]
    return str(document["states"][number])


def test_every_wheel_is_told_in_words_by_number(entry: Callable[..., IndexEntry]) -> None:
    entries = [
        entry(torch="2.12.1+cu130", archs_label="-sm90a", adopted="https://example.org/x.whl"),
        entry(yanked="wrong"),
    ]
    document: dict[str, Any] = coverage(entries, None)
    wheels = document["wheels"]
    labels = [document["labels"][number] for number in wheels["label"]]
    assert labels == ["torch2.11.0-cu130", "torch2.12.1-cu130-sm90a"]
    assert [document["torches"][number] for number in wheels["torch"]] == [
        "2.11.0+cu130",
        "2.12.1+cu130",
    ]
    assert document["torches"] == ["2.12.1+cu130", "2.11.0+cu130"]
    assert wheels["adopted"] == [0, 1]
    assert document["yanked"] == {0: "wrong"}
    assert document["bare"] == []


def test_projects_whose_versions_do_not_tell_the_torch_build_are_named(
    entry: Callable[..., IndexEntry],
) -> None:
    entries = [msgspec.structs.replace(entry(), version="1.0"), entry(name="other-ext")]
    assert coverage(entries, None)["bare"] == ["demo-ext"]


def test_every_other_combination_is_told_with_its_reason(farm: Farm) -> None:
    document: dict[str, Any] = coverage((), farm, (Failure(identifier=FAILED, log_url="x.log"),))
    told = {
        (python, torch): state_of(document, python=python, torch=torch)
        for python in ("3.11", "3.12")
        for torch in ("2.11.0+cu130", "2.8.0+cu128")
    }
    assert told[("3.12", "2.11.0+cu130")] == "buildable"
    assert told[("3.12", "2.8.0+cu128")] == "failed\tx.log"
    kinds = {state.partition("\t")[0] for state in document["states"]}
    assert kinds <= {"buildable", "failed", "impossible", "excluded"}
    assert all(
        state.partition("\t")[2] for state in document["states"] if state.startswith("impossible")
    )


def test_job_that_left_a_log_and_no_wheel_has_failed(yard: Yard, make: Callable[..., Made]) -> None:
    made = make()
    store_wheel(yard, made.path, made.record)
    for identifier in (made.record.identifier, FAILED):
        yard.log_path(identifier).parent.mkdir(exist_ok=True)
        yard.log_path(identifier).write_text("")
    assert find_failures(yard, log_urls="../logs/") == (
        Failure(identifier=FAILED, log_url=f"../logs/{FAILED}.log"),
    )


def test_data_cannot_end_the_element_that_holds_it(entry: Callable[..., IndexEntry]) -> None:
    hostile = "</script><script>alert(1)</script><!--\u2028"
    page = page_html(coverage([entry(yanked=hostile)], None)).decode()
    assert "alert(1)</script>" not in page
    match = re.search(r'<script id="data" type="application/json">(.*?)</script>', page, re.DOTALL)
    assert match is not None
    assert json.loads(match[1])["yanked"] == {"0": hostile}


def test_page_asks_for_nothing_from_outside(farm: Farm) -> None:
    page = page_html(coverage((), farm)).decode()
    loads = re.findall(r'(?:src|href)="([^"#]+)"', page)
    assert all(url.startswith("data:") for url in loads)
    assert "default-src 'none'" in page


def test_cells_without_a_wheel_lead_to_the_form_where_the_farm_has_a_repository(farm: Farm) -> None:
    assert coverage((), farm)["form"] == ""
    matrix = dataclasses.replace(farm.matrix, repository="https://example.org/someone/wheels")
    document = coverage((), dataclasses.replace(farm, matrix=matrix))
    assert document["form"] == form_url(matrix.repository)
    page = page_html(document).decode()
    assert all(re.search(rf"\b{field}: [SD]\.|\b{field}: `", page) for field in FIELDS)


def test_page_is_the_same_for_the_same_wheels(entry: Callable[..., IndexEntry], farm: Farm) -> None:
    entries = [entry(), entry(torch="2.12.1+cu130")]
    page = page_html(coverage(entries, farm))
    assert page == page_html(coverage(entries[::-1], farm))


def test_index_keeps_the_page(yard: Yard, make: Callable[..., Made], farm: Farm) -> None:
    made = make()
    store_wheel(yard, made.path, made.record)
    write_index(yard)
    path = write_page(yard, farm)
    write_index(yard)
    assert path.is_file()
