from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from wheelyard.errors import FetchError, IntegrityError
from wheelyard.model.source import FolderSource, GitSource, SdistSource, Source, UrlSource
from wheelyard.network.indexes import IndexSettings
from wheelyard.sources.fetch import fetch_source, sdist_path

if TYPE_CHECKING:
    from pathlib import Path

    from wheelyard.sources.values import FetchedSource

BODY = b"the bytes"
SHA256 = hashlib.sha256(BODY).hexdigest()
SOURCE = SdistSource(name="probe", filename="probe-1.0.tar.gz", sha256=SHA256, size=len(BODY))


class Fetcher:
    """Fetches with a folder of links as the only place to ask."""

    def __init__(self, root: Path, env: dict[str, str]) -> None:
        self.cache = root / "cache"
        self.farm = root / "farm"
        self.links = root / "links"
        self.links.mkdir()
        self.settings = IndexSettings(no_index=True, find_links=(str(self.links),))
        self.env = env

    def __call__(self, source: Source) -> FetchedSource:
        return fetch_source(
            source, cache=self.cache, farm=self.farm, settings=self.settings, env=self.env
        )

    @property
    def upstream(self) -> Path:
        return self.links / SOURCE.filename


@pytest.fixture
def fetch(tmp_path: Path, env: dict[str, str]) -> Fetcher:
    return Fetcher(tmp_path, env)


def test_sdist_is_kept_under_its_digest(fetch: Fetcher) -> None:
    fetch.upstream.write_bytes(BODY)
    fetched = fetch(SOURCE)
    assert fetched.path == fetch.cache / "sources" / "sha256" / SHA256 / "probe-1.0.tar.gz"
    assert fetched.path.read_bytes() == BODY
    assert fetched.digest == f"sha256:{SHA256}"
    assert fetched.source == SOURCE


def test_second_fetch_asks_nobody(fetch: Fetcher) -> None:
    fetch.upstream.write_bytes(BODY)
    fetch(SOURCE)
    fetch.upstream.unlink()
    assert fetch(SOURCE).path.read_bytes() == BODY


def test_file_that_the_user_put_there_is_taken_if_it_is_right(fetch: Fetcher) -> None:
    with pytest.raises(FetchError) as caught:
        fetch(SOURCE)
    path = sdist_path(SOURCE, fetch.cache)
    assert str(path) in str(caught.value)
    path.write_bytes(BODY)
    assert fetch(SOURCE).path == path


def test_damaged_file_is_fetched_again(fetch: Fetcher) -> None:
    fetch.upstream.write_bytes(BODY)
    path = fetch(SOURCE).path
    path.write_bytes(b"damaged!!")
    assert fetch(SOURCE).path.read_bytes() == BODY


def test_wrong_bytes_never_reach_the_cache(fetch: Fetcher) -> None:
    fetch.upstream.write_bytes(b"wrong....")
    with pytest.raises(IntegrityError):
        fetch(SOURCE)
    assert not sdist_path(SOURCE, fetch.cache).exists()


def test_filename_with_a_folder_is_refused(fetch: Fetcher) -> None:
    source = SdistSource(name="probe", filename="../x.tar.gz", sha256=SHA256, size=1)
    with pytest.raises(FetchError, match="is no file name"):
        fetch(source)


def program_that_fetches(fetch: Fetcher) -> str:
    return (
        "import os, sys, pathlib\n"
        "from wheelyard.model.source import SdistSource\n"
        "from wheelyard.network.indexes import IndexSettings\n"
        "from wheelyard.sources.fetch import fetch_source\n"
        "if 'kill' in sys.argv: pathlib.Path.replace = lambda *_: os.kill(os.getpid(), 9)\n"
        f"settings = IndexSettings(no_index=True, find_links=({str(fetch.links)!r},))\n"
        f"cache = pathlib.Path({str(fetch.cache)!r})\n"
        f"fetch_source({SOURCE!r}, cache=cache, farm=cache, settings=settings, env={{}})\n"
    )


def test_killed_fetch_leaves_nothing_that_a_later_one_trips_over(fetch: Fetcher) -> None:
    fetch.upstream.write_bytes(BODY)
    folder = sdist_path(SOURCE, fetch.cache).parent
    command = [sys.executable, "-c", program_that_fetches(fetch), "kill"]
    assert subprocess.run(command, check=False).returncode == -9
    assert (folder / ".partial-probe-1.0.tar.gz").read_bytes() == BODY
    assert not sdist_path(SOURCE, fetch.cache).exists()
    assert fetch(SOURCE).path.read_bytes() == BODY
    assert sorted(path.name for path in folder.iterdir()) == [".lock", "probe-1.0.tar.gz"]


def test_processes_that_fetch_the_same_file_do_not_disturb_each_other(fetch: Fetcher) -> None:
    fetch.upstream.write_bytes(BODY)
    command = [sys.executable, "-c", program_that_fetches(fetch)]
    children = [subprocess.Popen(command) for _ in range(4)]
    assert [child.wait() for child in children] == [0] * 4
    assert sdist_path(SOURCE, fetch.cache).read_bytes() == BODY


def test_git_source_has_a_bare_cache_per_url(fetch: Fetcher, tmp_path: Path) -> None:
    upstream = tmp_path / "upstream"
    upstream.mkdir()
    (upstream / "a").write_text("a")
    who = ["git", "-C", str(upstream), "-c", "user.name=a", "-c", "user.email=a@b"]
    for arguments in (["init", "--quiet"], ["add", "a"], ["commit", "--quiet", "-mx"]):
        subprocess.run([*who, *arguments], check=True, env={"PATH": os.environ["PATH"]})
    shown = subprocess.run([*who, "rev-parse", "HEAD"], check=True, capture_output=True, text=True)
    commit = shown.stdout.strip()
    fetched = fetch(GitSource(url=str(upstream), commit=commit))
    assert fetched.digest == f"git:{commit}"
    assert fetched.path.parent == fetch.cache / "sources" / "git"
    assert (fetched.path / "HEAD").is_file()


def test_folder_source_starts_from_the_recipes(fetch: Fetcher) -> None:
    project = fetch.farm / "tests" / "probe"
    project.mkdir(parents=True)
    (project / "setup.py").write_text("x")
    source = FolderSource(path="../tests/probe")
    fetched = fetch(source)
    assert fetched.path == project
    (project / "__pycache__").mkdir()
    (project / "__pycache__" / "setup.pyc").write_text("x")
    assert fetch(source).digest == fetched.digest
    (project / "setup.py").write_text("y")
    assert fetch(source).digest != fetched.digest


@pytest.mark.parametrize(
    ("path", "expected"), [("../../x", "outside the farm"), ("none", "no source folder")]
)
def test_folder_that_cannot_be_used_is_named(fetch: Fetcher, path: str, expected: str) -> None:
    with pytest.raises(FetchError, match=f"{expected}.*{path}|{path}.*{expected}"):
        fetch(FolderSource(path=path))


def test_archive_at_a_url_is_kept_under_its_digest_too(fetch: Fetcher) -> None:
    fetch.upstream.write_bytes(BODY)
    url = "https://github.com/o/r/releases/download/v1/probe-1.0.tar.gz"
    source = UrlSource(url=url, filename="probe-1.0.tar.gz", sha256=SHA256, size=len(BODY))
    fetched = fetch(source)  # the user has it in a folder: nobody is asked
    assert fetched.path == sdist_path(SOURCE, fetch.cache)
    assert fetched.digest == f"sha256:{SHA256}"
