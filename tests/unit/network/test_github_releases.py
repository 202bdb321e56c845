"""Releases of a GitHub that limits, fails and cuts."""

from __future__ import annotations

import hashlib
import time
from typing import TYPE_CHECKING

import pytest
import requests

from wheelyard.errors import MachineError, TargetError
from wheelyard.network.github_releases import GithubReleases, open_github
from wheelyard.network.github_token import github_token
from wheelyard.network.indexes import IndexSettings

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.github import GithubDouble

NAME = "demo-1.0+cu130.torch2.11.0-py3-none-any.whl"
CONTENT = b"a wheel" * 1000
TOKEN = "a-token"
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def waits() -> list[float]:
    return []


@pytest.fixture
def client(github: GithubDouble, waits: list[float]) -> GithubReleases:
    return GithubReleases(
        github.repository,
        token=TOKEN,
        api=github.url,
        session=requests.Session(),
        wait=waits.append,
    )


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / NAME
    path.write_bytes(CONTENT)
    return path


@pytest.fixture
def upload(client: GithubReleases, source: Path) -> Callable[[], object]:
    release = client.create("demo-1.0", title="demo 1.0", text="")
    return lambda: client.upload(release, source, name=NAME, sha256=SHA256)


def test_uploaded_asset_is_listed_with_digest_and_quoted_url(
    client: GithubReleases, github: GithubDouble, upload: Callable[[], object]
) -> None:
    upload()
    [asset] = client.assets(client.releases()["demo-1.0"])
    assert (asset.name, asset.size, asset.sha256) == (NAME, len(CONTENT), SHA256)
    assert asset.url.endswith("/releases/download/demo-1.0/" + NAME.replace("+", "%2B"))
    assert client.read(asset) == CONTENT
    assert requests.get(asset.url, timeout=5).content == CONTENT


def test_every_page_of_a_long_list_is_read(client: GithubReleases, github: GithubDouble) -> None:
    releases = [github.add_release(f"tag-{number}") for number in range(7)]
    for number in range(11):
        github.add_asset(releases[-1], f"file-{number}", b"", "uploaded")
    github.per_page_at_most = 3
    assert list(client.releases()) == [f"tag-{number}" for number in range(7)]
    assert len(client.assets(client.releases()["tag-6"])) == 11


@pytest.mark.parametrize("fault", ["502", "500", "cut", "no-answer"])
def test_upload_that_fails_on_the_way_is_done_again_once(
    github: GithubDouble, upload: Callable[[], object], fault: str
) -> None:
    github.faults = {github.requests + 1: fault}
    upload()
    assert github.names() == [NAME]
    assert github.content(NAME) == CONTENT
    [release] = github.releases
    assert len(release.assets) == 1


def test_upload_gives_up_after_some_tries(
    github: GithubDouble, upload: Callable[[], object], waits: list[float]
) -> None:
    github.faults = dict.fromkeys(range(github.requests + 1, 100), "502")
    with pytest.raises(TargetError, match="Publish again"):
        upload()
    assert waits == sorted(waits)


def test_same_asset_that_is_there_is_fine_and_other_bytes_are_refused(
    client: GithubReleases, github: GithubDouble, upload: Callable[[], object], source: Path
) -> None:
    upload()
    upload()
    assert github.names() == [NAME]
    source.write_bytes(b"others")
    with pytest.raises(TargetError, match="raise `revision`"):
        client.upload(
            client.releases()["demo-1.0"],
            source,
            name=NAME,
            sha256=hashlib.sha256(b"others").hexdigest(),
        )
    assert github.content(NAME) == CONTENT


def test_server_without_digests_is_read_instead(
    github: GithubDouble, upload: Callable[[], object]
) -> None:
    github.tells_digests = False
    upload()
    upload()
    assert github.names() == [NAME]


def test_rate_limit_is_waited_for(
    client: GithubReleases, github: GithubDouble, waits: list[float]
) -> None:
    github.left = 1
    github.limit_lasts = 0.2
    client.releases()

    def wait(seconds: float) -> None:
        waits.append(seconds)
        time.sleep(0.3)

    client._wait = wait
    client.releases()
    assert waits
    assert 0 < waits[0] <= 2


def test_rate_limit_that_lasts_long_is_told(client: GithubReleases, github: GithubDouble) -> None:
    github.left = 0
    github.limit_lasts = 3600.0
    with pytest.raises(TargetError, match="used up for 60 minutes"):
        client.releases()


def test_release_that_somebody_else_makes_meanwhile_is_taken(
    client: GithubReleases, github: GithubDouble
) -> None:
    there = github.add_release("demo-1.0")
    assert client.create("demo-1.0", title="", text="").identifier == there.identifier


def test_wrong_token_and_repository_are_told_with_what_to_do(github: GithubDouble) -> None:
    for repository, token, text in (
        (github.repository, "wrong", "401 Bad credentials. Give a token that is valid"),
        ("owner/nothing", "a-token", "404 Not Found. Correct the repository's name"),
    ):
        client = GithubReleases(repository, token=token, api=github.url, session=requests.Session())
        with pytest.raises(TargetError, match=text):
            client.releases()


def test_token_goes_to_no_other_server(github: GithubDouble, tmp_path: Path) -> None:
    env = {"GITHUB_API_URL": github.url, "HOME": str(tmp_path)}
    client = open_github("owner/wheels", settings=IndexSettings(), env=env, token=TOKEN)
    assert client._session.auth is not None
    for url, told in (
        (f"{github.url}/x", True),
        ("https://example.org/x", False),
        ("http://127.0.0.1:1/x", False),
    ):
        request = client._session.prepare_request(requests.Request("GET", url))
        assert ("Authorization" in request.headers) is told


def test_token_is_taken_from_variables_or_gh(tmp_path: Path) -> None:
    assert github_token({"GITHUB_TOKEN": "one", "GH_TOKEN": "two"}) == "two"
    gh = tmp_path / "gh"
    gh.write_text("#!/bin/sh\necho from-gh\n")
    gh.chmod(0o755)
    assert github_token({"PATH": str(tmp_path)}) == "from-gh"
    gh.write_text("#!/bin/sh\nexit 1\n")
    with pytest.raises(MachineError, match="gh auth login"):
        github_token({"PATH": str(tmp_path)})
