"""Sources that are pinned: sdists of an index on this machine, commits of a repository."""

from __future__ import annotations

import dataclasses
import json
import subprocess
from typing import TYPE_CHECKING

import pytest
from packaging.utils import canonicalize_name
from packaging.version import Version

from wheelyard.errors import FetchError, UnknownNameError
from wheelyard.network.session import open_session
from wheelyard.upstreams.pinning import pin_commit, pin_sdist

if TYPE_CHECKING:
    from pathlib import Path

    from tests.unit.upstreams.conftest import Answers

    from wheelyard.model.source import SdistSource
    from wheelyard.network.opening import UserSettings

NAME = canonicalize_name("probe")


def _file(filename: str, **words: object) -> dict[str, object]:
    return {"filename": filename, "hashes": {"sha256": "a" * 64}, "size": 12, "url": "x", **words}


FILES = (
    _file("probe-1.0.tar.gz"),
    _file("probe-1.1.tar.gz"),
    _file("probe-1.2-py3-none-any.whl"),
    _file("probe-1.3.tar.gz", yanked="broken"),
    _file("probe-2.0rc1.tar.gz"),
)


@pytest.fixture
def indexed(settings: UserSettings, answers: Answers) -> UserSettings:
    page = {"meta": {"api-version": "1.0"}, "name": "probe", "files": FILES}
    answers.bodies["/simple/probe/"] = json.dumps(page).encode()
    answers.types["/simple/probe/"] = "application/vnd.pypi.simple.v1+json"
    indexes = dataclasses.replace(settings.indexes, index_url=f"{answers.url}/simple/")
    return dataclasses.replace(settings, indexes=indexes)


def _pin(settings: UserSettings, version: str | None = None) -> tuple[SdistSource, Version]:
    wanted = None if version is None else Version(version)
    with open_session(settings.indexes, settings.env) as session:
        return pin_sdist(NAME, wanted, session=session, settings=settings.indexes)


def test_the_newest_sdist_that_is_final_and_not_withdrawn_is_pinned(indexed: UserSettings) -> None:
    source, version = _pin(indexed)
    assert version == Version("1.1")
    assert (source.filename, source.sha256, source.size) == ("probe-1.1.tar.gz", "a" * 64, 12)


@pytest.mark.parametrize("offline", [False, True])
def test_an_index_in_a_folder_is_read_without_network(
    settings: UserSettings, tmp_path: Path, *, offline: bool
) -> None:
    (tmp_path / "probe").mkdir()
    (tmp_path / "probe" / "probe-1.0.tar.gz").write_bytes(b"archive")
    page = f'<a href="probe-1.0.tar.gz#sha256={"a" * 64}">probe-1.0.tar.gz</a>'
    (tmp_path / "probe" / "index.html").write_text(page)
    indexes = dataclasses.replace(
        settings.indexes, index_url=tmp_path.as_uri(), offline=offline, origins={}
    )
    source, version = _pin(dataclasses.replace(settings, indexes=indexes))
    assert version == Version("1.0")
    assert (source.filename, source.size) == ("probe-1.0.tar.gz", len(b"archive"))


def test_offline_an_index_elsewhere_is_not_asked(indexed: UserSettings, answers: Answers) -> None:
    offline = dataclasses.replace(indexed.indexes, offline=True)
    with pytest.raises(FetchError, match=r"was not asked \(offline\)"):
        _pin(dataclasses.replace(indexed, indexes=offline))
    assert answers.asked == []


@pytest.mark.parametrize("wanted", ["1.0", "2.0rc1"])
def test_a_version_that_is_named_is_pinned_whatever_it_is(
    indexed: UserSettings, wanted: str
) -> None:
    source, version = _pin(indexed, wanted)
    assert str(version) == wanted
    assert source.filename == f"probe-{wanted}.tar.gz"


def test_a_version_that_has_only_wheels_is_refused_with_another_way(indexed: UserSettings) -> None:
    with pytest.raises(UnknownNameError, match=r"no source distribution of 1\.2 .*--git URL"):
        _pin(indexed, "1.2")


@pytest.fixture
def repository(tmp_path: Path) -> tuple[str, dict[str, str]]:
    """Return the URL of a repository with two commits, and what each is named by."""
    folder = tmp_path / "repository"
    commits = {}

    def git(*words: str) -> str:
        identity = ("-c", "user.name=a", "-c", "user.email=a@example.org")
        done = subprocess.run(
            ["git", *identity, *words], cwd=folder, check=True, capture_output=True, text=True
        )
        return done.stdout.strip()

    folder.mkdir()
    git("init", "--quiet", "--initial-branch=main")
    for name in ("v1.0", "v2.0"):
        git("commit", "--quiet", "--allow-empty", "--message", name)
        git("tag", "--annotate", "--message", name, name)
        commits[name] = git("rev-parse", "HEAD")
    return folder.as_uri(), commits


def test_a_tag_stands_for_its_commit_and_not_for_the_tag_s_own_object(
    settings: UserSettings, repository: tuple[str, dict[str, str]]
) -> None:
    url, commits = repository
    source, name = pin_commit(url, "v1.0", settings=settings.indexes, env=settings.env)
    assert (source.commit, name) == (commits["v1.0"], "tags/v1.0")


def test_a_branch_and_no_name_at_all_stand_for_the_newest_commit(
    settings: UserSettings, repository: tuple[str, dict[str, str]]
) -> None:
    url, commits = repository
    for reference in ("main", None):
        source, _ = pin_commit(url, reference, settings=settings.indexes, env=settings.env)
        assert source.commit == commits["v2.0"]


def test_a_commit_is_taken_as_it_is_without_asking(settings: UserSettings) -> None:
    source, _ = pin_commit("file:///no", "c" * 40, settings=settings.indexes, env=settings.env)
    assert source.commit == "c" * 40


def test_a_name_that_the_repository_has_not_is_refused(
    settings: UserSettings, repository: tuple[str, dict[str, str]]
) -> None:
    with pytest.raises(UnknownNameError, match="no tag and no branch 'v3'"):
        pin_commit(repository[0], "v3", settings=settings.indexes, env=settings.env)


def test_a_repository_that_is_not_there_is_told(settings: UserSettings, tmp_path: Path) -> None:
    with pytest.raises(FetchError, match="cannot be read"):
        pin_commit((tmp_path / "no").as_uri(), None, settings=settings.indexes, env=settings.env)
