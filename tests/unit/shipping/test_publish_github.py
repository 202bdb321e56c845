"""Publishing wheels as release assets, their index into a folder: killed anywhere, whole after."""

from __future__ import annotations

import collections
import json
import os
import re
import subprocess
import sys
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

import pytest

from wheelyard.network.github_releases import TOO_LARGE
from wheelyard.yard.store import store_wheel

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.github import GithubDouble
    from tests.yards import Made

    from wheelyard.yard.folder import Yard

FAULTS = ("kill-before", "kill-after", "kill-half")


@pytest.fixture
def made(yard: Yard, make: Callable[..., Made]) -> list[Made]:
    """A yard with wheels of two recipe versions."""
    found = [
        make(),
        make(torch="2.12.1+cu130"),
        make(public="2.0", archs_label="-sm90a"),
    ]
    for one in found:
        store_wheel(yard, one.path, one.record, one.report)
    return found


@pytest.fixture
def publish(
    yard: Yard, github: GithubDouble, tmp_path: Path, repository: Path
) -> Callable[..., int]:
    """Return a function that publishes in a process of its own, which the server may kill."""
    env = {
        **{name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ},
        **github.env,
        "WHEELYARD_CACHE": str(tmp_path / "cache"),
        "WHEELYARD_CONFIG": str(tmp_path / "config"),
    }

    def run(site: Path, *words: str) -> int:
        command = [sys.executable, "-m", "wheelyard", "publish", str(site), *words]
        command += ["--wheels", f"github:{github.repository}", "--yard", str(yard.path)]
        with subprocess.Popen(
            command, env=env, cwd=repository, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        ) as child:
            github.victim = child.pid
            assert child.stdout is not None
            output = child.stdout.read().decode()
        if child.returncode > 0:
            print(output)  # noqa: T201 - pytest shows it
        return child.returncode

    return run


def links(site: Path) -> Iterator[tuple[str, str]]:
    """Yield file and URL of every link of every project's page."""
    for page in site.rglob("index.v1.json"):
        for file in json.loads(page.read_text()).get("files", ()):
            yield file["filename"], file["url"]
            yield f"{file['filename']}.metadata", f"{file['url']}.metadata"
            yield f"{file['filename']}.json", file["_record"]["url"]


def is_ahead(site: Path, github: GithubDouble) -> list[str]:
    """Return what pages name that is not there."""
    there = set(github.names())
    return [name for name, _ in links(site) if name not in there]


def pages(site: Path, github: GithubDouble) -> dict[str, str]:
    """Return the site's files, without the port of this server."""
    found = {
        str(path.relative_to(site)): path.read_text()
        for path in site.rglob("*")
        # what is half-written, and who was the last to write
        if path.is_file() and ".part-" not in path.name and path.suffix != ".lock"
    }
    return {name: text.replace(github.url, "URL") for name, text in found.items()}


def test_wheels_are_assets_of_a_release_for_each_version_and_the_index_leads_there(
    made: list[Made], publish: Callable[..., int], github: GithubDouble, tmp_path: Path
) -> None:
    site = tmp_path / "site"
    assert publish(site) == 0
    assert [release.tag for release in github.releases] == ["demo-ext-1.0", "demo-ext-2.0"]
    assert len(github.names()) == 9
    assert is_ahead(site, github) == []
    for name, url in links(site):
        assert "+" not in url
        assert urlsplit(url).netloc == urlsplit(github.url).netloc
        assert unquote(url).endswith(name)
    assert not (site / "wheels").exists()
    sums = (site / "SHA256SUMS-releases").read_text()
    assert all(f"{one.record.sha256}  {one.path.name}\n" in sums for one in made)


def test_dry_run_changes_nothing(
    made: list[Made], publish: Callable[..., int], github: GithubDouble, tmp_path: Path
) -> None:
    site = tmp_path / "site"
    assert publish(site, "--dry-run") == 0
    assert github.releases == []
    assert not site.exists() or not list(site.rglob("*"))


def test_publishing_again_uploads_nothing(
    made: list[Made], publish: Callable[..., int], github: GithubDouble, tmp_path: Path
) -> None:
    site = tmp_path / "site"
    publish(site)
    github.log.clear()
    assert publish(site) == 0
    assert [line for line in github.log if not line.startswith("GET")] == []


def test_killed_at_any_request_the_index_is_never_ahead_and_the_next_run_completes(
    made: list[Made], publish: Callable[..., int], github: GithubDouble, tmp_path: Path
) -> None:
    whole = tmp_path / "whole"
    assert publish(whole) == 0
    expected, names, requests = pages(whole, github), github.names(), github.requests
    killed = collections.Counter[str]()
    for number in range(1, requests + 1):
        fault = FAULTS[number % len(FAULTS)]
        github.releases.clear()
        site = tmp_path / f"killed{number}"
        github.requests, github.faults = 0, {number: fault}
        code = publish(site)
        github.faults = {}
        killed[fault] += code == -9
        assert code in {-9, 0}
        assert is_ahead(site, github) == []
        assert publish(site) == 0
        assert github.names() == names
        assert all(
            asset.state == "uploaded"
            for release in github.releases
            for asset in release.assets.values()
        )
        assert pages(site, github) == expected
    assert killed.total() >= 10
    assert all(killed[fault] for fault in FAULTS)


def test_faults_on_the_way_are_survived_in_one_run(
    made: list[Made], publish: Callable[..., int], github: GithubDouble, tmp_path: Path
) -> None:
    github.faults = {2: "502", 5: "cut", 9: "no-answer", 12: "503"}
    github.tells_digests = False
    github.per_page_at_most = 2
    site = tmp_path / "site"
    assert publish(site) == 0
    assert len(github.names()) == len(set(github.names())) == 9
    assert is_ahead(site, github) == []


def test_full_release_goes_on_in_a_second_part(
    made: list[Made],
    publish: Callable[..., int],
    github: GithubDouble,
    tmp_path: Path,
) -> None:
    release = github.add_release("demo-ext-1.0")
    for number in range(996):
        github.add_asset(release, f"other-{number}", b"", "uploaded")
    site = tmp_path / "site"
    assert publish(site) == 0
    tags = {item.tag: len(item.assets) for item in github.releases}
    assert tags == {"demo-ext-1.0": 999, "demo-ext-1.0-part2": 3, "demo-ext-2.0": 3}
    assert is_ahead(site, github) == []
    github.log.clear()
    assert publish(site) == 0
    assert [line for line in github.log if not line.startswith("GET")] == []


def test_asset_that_is_too_large_is_refused_beforehand_with_the_alternative(
    made: list[Made],
    yard: Yard,
    publish: Callable[..., int],
    github: GithubDouble,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    one = made[0]
    wheel, record = yard.wheel_path(one.path.name), yard.record_path(one.path.name)
    os.truncate(wheel, TOO_LARGE)  # sparse
    text = record.read_text()
    record.write_text(re.sub(r'"size": \d+', f'"size": {TOO_LARGE}', text))
    assert publish(tmp_path / "site") == 19
    said = capsys.readouterr().out
    assert "smaller than 2 GiB" in said
    assert "s3://BUCKET/PREFIX" in said
    assert github.releases == []
