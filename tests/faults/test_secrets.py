"""Credentials reach the host they are for and nobody else, and are written down nowhere."""

from __future__ import annotations

import dataclasses
import logging
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from faults import faults
from faults.upstream import INDEX, PROJECT_URL, RELEASE_URL, SDIST_NAME, sha256
from faults.world import basic

from wheelyard.errors import FetchError, IntegrityError
from wheelyard.model.source import GitSource, UrlSource
from wheelyard.sources.fetch import fetch_source

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from faults.certificates import Certificates
    from faults.fetching import Fetcher, Kind
    from faults.proxy import FaultProxy
    from faults.upstream import Upstream

    from wheelyard.model.source import Source
    from wheelyard.network.indexes import IndexSettings

SECRET = "s3cret-of-the-test"
NETRC = f"machine github.com login me password {SECRET}\n"
KINDS: tuple[Kind, ...] = ("clone", "submodule", "release", "component", "sdist")


@pytest.fixture(autouse=True)
def _written_down_nowhere(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> Iterator[None]:
    """Scan logs, output and every file that a test leaves, but the home it began with."""
    caplog.set_level(logging.DEBUG)
    yield
    out, err = capfd.readouterr()
    assert SECRET not in caplog.text + out + err
    kept = [
        path
        for path in tmp_path.rglob("*")
        if path.is_file() and (tmp_path / "home") not in path.parents
    ]
    assert [path for path in kept if SECRET.encode() in path.read_bytes()] == []


def fetch(fetcher: Fetcher, source: Source, settings: IndexSettings) -> None:
    fetch_source(
        source, cache=fetcher.cache, farm=fetcher.cache, settings=settings, env=fetcher.env
    )


def secret_sources(upstream: Upstream) -> list[Source]:
    """Return sources whose URLs hold a credential."""
    name, size = RELEASE_URL.rpartition("/")[2], len(upstream.release)
    digest = sha256(upstream.release)
    with_secret = RELEASE_URL.replace("://", f"://me:{SECRET}@")
    return [
        GitSource(url=PROJECT_URL.replace("://", f"://me:{SECRET}@"), commit=upstream.commit),
        UrlSource(url=with_secret, filename=name, sha256=digest, size=size),
    ]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("answer", ["healthy", "asks"])
def test_netrc_of_one_host_is_not_for_its_proxy(
    fetcher: Fetcher, serve: Callable[..., FaultProxy], tmp_path: Path, kind: Kind, answer: str
) -> None:
    (tmp_path / "home" / ".netrc").write_text(NETRC + NETRC.replace("github.com", "index.example"))
    (tmp_path / "home" / ".netrc").chmod(0o600)
    proxy, healthy = serve(), serve()
    if answer == "asks":
        proxy.inject(faults.asks_who_it_is())
    assert fetcher.fetch(kind, [proxy.url, healthy.url]) == fetcher.expected(kind)
    assert proxy.asked
    assert not proxy.saw(SECRET)
    assert not healthy.saw(SECRET)


@pytest.mark.parametrize("number", [0, 1], ids=["clone", "release"])
def test_credential_in_a_url_is_not_for_the_proxy(
    fetcher: Fetcher, serve: Callable[..., FaultProxy], upstream: Upstream, number: int
) -> None:
    proxy = serve()
    fetch(fetcher, secret_sources(upstream)[number], fetcher.settings([proxy.url]))
    assert proxy.asked
    assert not proxy.saw(SECRET)


@pytest.mark.parametrize("number", [0, 1], ids=["clone", "release"])
def test_credential_in_a_url_is_for_the_host_itself(
    fetcher: Fetcher,
    serve: Callable[..., FaultProxy],
    upstream: Upstream,
    certificates: Certificates,
    number: int,
) -> None:
    faulty, direct = serve(), serve(tunnel=certificates.good("github.com"))
    faulty.inject(faults.status(403))
    upstream.world.passwords["github.com"] = ("me", SECRET)
    settings = fetcher.settings([faulty.url])
    network = dataclasses.replace(settings.network, direct="last")
    fetcher.env["https_proxy"] = direct.url
    try:
        source = secret_sources(upstream)[number]
        fetch(fetcher, source, dataclasses.replace(settings, network=network))
    finally:
        upstream.world.passwords.clear()
    assert not faulty.saw(SECRET)
    assert direct.asked[0].method == "CONNECT"
    assert basic("me", SECRET) in [asked.authorization for asked in direct.asked]


@pytest.mark.parametrize("kind", KINDS)
def test_proxys_own_credential_does_not_follow_a_redirect(
    fetcher: Fetcher, serve: Callable[..., FaultProxy], kind: Kind
) -> None:
    proxy, elsewhere, healthy = serve(), serve(), serve()
    proxy.inject(faults.redirect(elsewhere.url))
    own = proxy.url.replace("://", f"://me:{SECRET}@")
    assert fetcher.fetch(kind, [own, healthy.url]) == fetcher.expected(kind)
    assert proxy.saw(SECRET) or kind in {"clone", "submodule"}  # git waits to be asked
    assert not elsewhere.saw(SECRET)
    assert not healthy.saw(SECRET)


@pytest.mark.parametrize("kind", KINDS)
def test_proxys_own_credential_reaches_it(
    fetcher: Fetcher, serve: Callable[..., FaultProxy], kind: Kind
) -> None:
    proxy = serve()
    proxy.password = ("me", SECRET)
    own = proxy.url.replace("://", f"://me:{SECRET}@")
    assert fetcher.fetch(kind, [own]) == fetcher.expected(kind)
    with pytest.raises(FetchError, match=r"401|Authentication failed"):
        fetcher.elsewhere("again").fetch(kind, [proxy.url.replace("://", "://me:guess@")])


def test_credential_of_an_index_is_not_for_its_files_elsewhere(
    fetcher: Fetcher, serve: Callable[..., FaultProxy], upstream: Upstream
) -> None:
    index, files = serve(base=INDEX), serve(base=INDEX)
    link = f'<a href="{files.url}/files/{SDIST_NAME}">{SDIST_NAME}</a>'
    page = f"<!DOCTYPE html><html><body>{link}</body></html>".encode()
    index.inject(faults.other_content(page), f"{INDEX}/simple/*")
    own = index.url.replace("://", f"://me:{SECRET}@")
    settings = fetcher.settings([])
    network = dataclasses.replace(settings.network, python_indexes=(f"{own}/simple",))
    source = fetcher.sdist_source()
    fetch(fetcher, source, dataclasses.replace(settings, network=network))
    assert index.saw(SECRET)
    assert files.urls() == [f"{INDEX}/files/{SDIST_NAME}"]
    assert not files.saw(SECRET)


def test_header_that_git_is_told_to_send_to_a_host_is_not_for_its_proxy(
    fetcher: Fetcher, serve: Callable[..., FaultProxy], tmp_path: Path
) -> None:
    config = f'[http "https://github.com/"]\n\textraHeader = "Authorization: Bearer {SECRET}"\n'
    (tmp_path / "home" / ".gitconfig").write_text(config)
    proxy = serve()
    assert fetcher.fetch("submodule", [proxy.url]) == fetcher.expected("submodule")
    assert not proxy.saw(SECRET)


def test_program_that_answers_every_question_is_not_asked_for_a_proxy(
    fetcher: Fetcher, serve: Callable[..., FaultProxy], tmp_path: Path
) -> None:
    script = tmp_path / "home" / "askpass"
    script.write_text(f"#!/bin/sh\necho {SECRET}\n")
    script.chmod(0o755)
    fetcher.env["GIT_ASKPASS"] = str(script)
    proxy, healthy = serve(), serve()
    proxy.inject(faults.asks_who_it_is())
    assert fetcher.fetch("clone", [proxy.url, healthy.url]) == fetcher.expected("clone")
    assert not proxy.saw(SECRET)


def test_ordinary_proxys_credential_is_only_for_it(
    fetcher: Fetcher,
    serve: Callable[..., FaultProxy],
    certificates: Certificates,
) -> None:
    way_out = serve(tunnel=certificates.good("github.com"))
    fetcher.env["https_proxy"] = way_out.url.replace("://", f"://me:{SECRET}@")
    for kind in ("clone", "release"):
        assert fetcher.fetch(kind, []) == fetcher.expected(kind)
    tunnels = [asked for asked in way_out.asked if asked.method == "CONNECT"]
    assert basic("me", SECRET) in [asked.headers.get("proxy-authorization") for asked in tunnels]
    inside = [asked for asked in way_out.asked if asked.method != "CONNECT"]
    assert inside
    assert not any(SECRET in str(asked) or asked.authorization for asked in inside)


@pytest.mark.parametrize("kind", KINDS)
def test_netrc_entry_for_every_host_is_not_for_a_proxy(
    fetcher: Fetcher, serve: Callable[..., FaultProxy], tmp_path: Path, kind: Kind
) -> None:
    """Whoever wrote it did not think of a server that he is told not to trust."""
    (tmp_path / "home" / ".netrc").write_text(f"default login me password {SECRET}\n")
    proxy, healthy = serve(), serve()
    proxy.inject(faults.asks_who_it_is())
    assert fetcher.fetch(kind, [proxy.url, healthy.url]) == fetcher.expected(kind)
    assert proxy.asked
    assert not proxy.saw(SECRET)
    assert not healthy.saw(SECRET)


@pytest.mark.parametrize("name", ["token", "X-Amz-Signature", "sig", "jwt", "auth"])
def test_signature_in_a_redirect_is_not_written_down(
    fetcher: Fetcher, serve: Callable[..., FaultProxy], name: str
) -> None:
    proxy = serve()
    proxy.inject(faults.redirect_to(f"http://elsewhere.example/file?a=b&{name}={SECRET}"))
    with pytest.raises((FetchError, IntegrityError), match=r"elsewhere\.example") as caught:
        fetcher.fetch("release", [proxy.url])
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize("words", ["doctor", "doctor --json", "doctor network"])
def test_report_on_the_network_shows_no_credential(
    fetcher: Fetcher, serve: Callable[..., FaultProxy], tmp_path: Path, words: str
) -> None:
    env = {**fetcher.env, "WHEELYARD_DIRECT": "never", "WHEELYARD_CACHE": str(tmp_path / "cache")}
    env["PYTHONPATH"] = os.environ.get("PYTHONPATH", "")
    for name in ("GITHUB_PROXIES", "PYTHON_INDEXES", "REDIST_URLS", "HF_ENDPOINTS", "PROXY"):
        env[f"WHEELYARD_{name}"] = serve().url.replace("://", f"://me:{SECRET}@")
    command = [sys.executable, "-m", "wheelyard", *words.split()]
    done = subprocess.run(
        command, env=env, cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert "127.0.0.1" in done.stdout + done.stderr
    assert SECRET not in done.stdout + done.stderr
