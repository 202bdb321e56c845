"""Upstream's releases: every page of the list of assets, or the reason why it is not known."""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING

import pytest

from wheelyard.model.asset_name import AssetTemplate, UpstreamReleases
from wheelyard.network.opening import open_settings
from wheelyard.network.session import open_session
from wheelyard.upstreams.releases import ReleaseReader

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.unit.upstreams.conftest import Answers

    from wheelyard.model.job import Job
    from wheelyard.model.recipe import RecipeVersion
    from wheelyard.network.opening import UserSettings
    from wheelyard.planning.gaps import Release

BASE = "/repos/example/probe/releases"
RELEASES = UpstreamReleases(
    repository="example/probe",
    tag="v{version}",
    template=AssetTemplate.parse(
        "probe-{version}+cu{cuda}torch{torch}cxx11abi{abi}-{python}-{python}-linux_{machine}.whl"
    ),
)


def _name(number: int) -> str:
    return f"probe-1.1+cu{100 + number}torch2.11cxx11abiTRUE-cp312-cp312-linux_x86_64.whl"


def _assets(numbers: range) -> bytes:
    return json.dumps(
        [
            {
                "browser_download_url": f"https://example.org/{_name(number)}",
                "digest": f"sha256:{number:064x}" if number % 2 else None,
                "name": _name(number),
                "size": number,
                "state": "uploaded",
            }
            for number in numbers
        ]
    ).encode()


@pytest.fixture
def version(make_probe_job: Callable[..., Job]) -> RecipeVersion:
    return dataclasses.replace(make_probe_job().version, releases=RELEASES)


@pytest.fixture
def read(settings: UserSettings, version: RecipeVersion) -> Callable[[], Release]:
    def read() -> Release:
        with open_session(settings.indexes, settings.env) as session:
            reader = ReleaseReader(session=session, settings=settings.indexes, env=settings.env)
            return reader.read(version)

    return read


@pytest.fixture
def many(answers: Answers) -> Answers:
    """Publish 250 assets on three pages."""
    answers.bodies[f"{BASE}/tags/v1.1"] = b'{"id": 7}'
    for page, numbers in enumerate((range(100), range(100, 200), range(200, 250)), start=1):
        path = f"{BASE}/7/assets?per_page=100&page={page}"
        answers.bodies[path] = _assets(numbers)
    return answers


def test_all_pages_are_read(many: Answers, read: Callable[[], Release]) -> None:
    found = read()
    assert [one.filename for one in found.assets] == [_name(number) for number in range(250)]
    assert found.assets[1].sha256 == f"{1:064x}"
    assert found.assets[2].sha256 is None
    assert not found.unknown


@pytest.mark.parametrize("answer", [404, 403, 500, _assets(range(200, 250))[:-20], b"{}"])
def test_list_of_which_a_page_is_missing_is_no_list(
    many: Answers, read: Callable[[], Release], answer: bytes | int
) -> None:
    many.bodies[f"{BASE}/7/assets?per_page=100&page=3"] = answer
    found = read()
    assert found.assets == ()
    assert found.unknown


def test_release_that_nobody_made_has_no_assets(
    answers: Answers, read: Callable[[], Release]
) -> None:
    found = read()
    assert (found.assets, found.unknown) == ((), "")


@pytest.mark.parametrize("answer", [403, 500, b"<html>rate limit</html>", b"[]"])
def test_release_that_cannot_be_asked_for_is_unknown(
    answers: Answers, read: Callable[[], Release], answer: bytes | int
) -> None:
    answers.bodies[f"{BASE}/tags/v1.1"] = answer
    assert read().unknown


def test_files_of_other_names_and_half_uploaded_ones_are_left_out(
    many: Answers, read: Callable[[], Release]
) -> None:
    other = json.loads(_assets(range(1, 4)))
    other[0]["name"] = "probe-1.1.tar.gz"
    other[1]["state"] = "starter"
    many.bodies[f"{BASE}/7/assets?per_page=100&page=3"] = json.dumps(other).encode()
    many.bodies[f"{BASE}/7/assets?per_page=100&page=1"] = _assets(range(100))
    assert len(read().assets) == 200


def test_token_is_given_to_no_proxy(many: Answers, read: Callable[[], Release]) -> None:
    read()
    assert set(many.tokens) == {None}


def test_offline_nothing_is_asked_and_nothing_is_known(
    answers: Answers, settings: UserSettings, version: RecipeVersion, tmp_path: Path
) -> None:
    offline = open_settings(settings.env, options=("offline=true",), cwd=tmp_path)
    with open_session(offline.indexes, offline.env) as session:
        reader = ReleaseReader(session=session, settings=offline.indexes, env=offline.env)
        assert "offline" in reader.read(version).unknown
    assert not answers.asked


def test_recipe_without_releases_asks_nobody(
    answers: Answers, settings: UserSettings, make_probe_job: Callable[..., Job]
) -> None:
    with open_session(settings.indexes, settings.env) as session:
        reader = ReleaseReader(session=session, settings=settings.indexes, env=settings.env)
        assert reader.read(make_probe_job().version).assets == ()
    assert not answers.asked
