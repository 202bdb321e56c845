"""The proxy itself: it serves what upstream has, and each fault is what its name says."""

from __future__ import annotations

import http.client
import os
import ssl
import subprocess
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest
from faults import faults
from faults.upstream import (
    FORGE,
    OTHER_PROJECT_URL,
    PART_URL,
    PROJECT_URL,
    RELEASE_URL,
    SIZE,
    SUBMODULE,
    Upstream,
)
from faults.world import basic

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from faults.certificates import Certificates
    from faults.faults import Fault
    from faults.proxy import FaultProxy


def get(
    url: str,
    headers: Mapping[str, str] | None = None,
    *,
    context: ssl.SSLContext | None = None,
    timeout: float = 5,
) -> tuple[http.client.HTTPResponse, bytes]:
    """Ask once, on a connection of its own."""
    parts = urlsplit(url)
    connection: http.client.HTTPConnection
    if parts.scheme == "https":
        connection = http.client.HTTPSConnection(parts.netloc, context=context, timeout=timeout)
    else:
        connection = http.client.HTTPConnection(parts.netloc, timeout=timeout)
    try:
        target = parts._replace(scheme="", netloc="").geturl()
        connection.request("GET", target, headers={"Connection": "close", **(headers or {})})
        response = connection.getresponse()
        return response, response.read()
    finally:
        connection.close()


def git(env: Mapping[str, str], *arguments: str, base: str = FORGE) -> str:
    """Run git, which takes what is the forge's from below ``base``."""
    command = ["git", "-c", f"url.{base}.insteadOf={FORGE}", *arguments]
    return subprocess.run(
        command, env=env, capture_output=True, text=True, check=True
    ).stdout.strip()


def test_file_is_served_through_a_prefix(
    serve: Callable[..., FaultProxy], upstream: Upstream
) -> None:
    proxy = serve()
    response, body = get(f"{proxy.url}/{RELEASE_URL}")
    assert body == upstream.release
    assert response.headers["Content-Length"] == str(SIZE)
    assert proxy.urls() == [RELEASE_URL]
    assert proxy.asked[0].sent == SIZE


def test_file_is_served_below_a_base(serve: Callable[..., FaultProxy], upstream: Upstream) -> None:
    proxy = serve(base=FORGE)
    assert get(f"{proxy.url}{RELEASE_URL.removeprefix(FORGE)}")[1] == upstream.release


def test_file_is_served_to_an_ordinary_proxys_client(
    serve: Callable[..., FaultProxy], upstream: Upstream
) -> None:
    proxy = serve()
    upstream.world.files["http://plain.example/file"] = b"plain"
    connection = http.client.HTTPConnection(urlsplit(proxy.url).netloc)
    connection.request("GET", "http://plain.example/file")
    assert connection.getresponse().read() == b"plain"
    connection.close()


def test_what_upstream_lacks_is_not_found(serve: Callable[..., FaultProxy]) -> None:
    assert get(f"{serve().url}/{FORGE}/nobody/nothing")[0].status == 404


def test_range_is_served_while_the_validator_holds(
    serve: Callable[..., FaultProxy], upstream: Upstream
) -> None:
    url = f"{serve().url}/{RELEASE_URL}"
    tag = get(url)[0].headers["ETag"]
    response, body = get(url, {"Range": "bytes=1000-", "If-Range": tag})
    assert response.status == 206
    assert response.headers["Content-Range"] == f"bytes 1000-{SIZE - 1}/{SIZE}"
    assert body == upstream.release[1000:]
    assert get(url, {"Range": "bytes=5-9"})[1] == upstream.release[5:10]
    assert get(url, {"Range": "bytes=-9"})[1] == upstream.release[-9:]
    assert get(url, {"Range": "bytes=1000-", "If-Range": '"older"'})[1] == upstream.release
    assert get(url, {"Range": f"bytes={SIZE}-"})[0].status == 416


@pytest.mark.parametrize("tls", [False, True])
def test_repository_with_its_submodule_is_cloned_through_a_prefix(
    serve: Callable[..., FaultProxy],
    upstream: Upstream,
    env: dict[str, str],
    certificates: Certificates,
    tmp_path: Path,
    tls: bool,  # noqa: FBT001
) -> None:
    proxy = serve(certificate=certificates.good() if tls else None)
    env["GIT_SSL_CAINFO"] = str(certificates.authority)
    tree = tmp_path / "tree"
    clone = ("clone", "--quiet", "--recurse-submodules", PROJECT_URL, str(tree))
    git(env, *clone, base=f"{proxy.url}/{FORGE}")
    assert git(env, "-C", str(tree / SUBMODULE), "rev-parse", "HEAD") == upstream.part_commit
    assert (tree / "what.txt").read_text() == "project 3\n"
    assert f"{PART_URL}/git-upload-pack" in proxy.urls("POST")


def test_single_commit_is_fetched_without_its_files(
    serve: Callable[..., FaultProxy], upstream: Upstream, env: dict[str, str], tmp_path: Path
) -> None:
    proxy = serve(base=FORGE)
    folder = f"--git-dir={tmp_path / 'bare'}"
    git(env, folder, "init", "--quiet", "--bare")
    fetch = ("fetch", "--quiet", "--depth=1", "--filter=blob:none", PROJECT_URL, upstream.commit)
    git(env, folder, *fetch, base=proxy.url)
    objects = git(env, folder, "cat-file", "--batch-all-objects", "--batch-check=%(objecttype)")
    assert sorted(objects.split()) == ["commit", "tree", "tree"]


def test_other_repository_has_other_commits_under_the_same_names(
    serve: Callable[..., FaultProxy], upstream: Upstream, env: dict[str, str]
) -> None:
    proxy = serve(base=FORGE)
    proxy.inject(faults.other_url("/maker/", "/other/"), f"{PROJECT_URL}/*")
    answer = git(env, "ls-remote", PROJECT_URL, "v1.0", base=proxy.url)
    assert answer.split() == [upstream.other_commit, "refs/tags/v1.0"]
    assert upstream.other_commit != upstream.commit
    assert OTHER_PROJECT_URL in upstream.world.repositories


def ask_for_the_release(proxy: FaultProxy) -> tuple[int, bytes]:
    response, body = get(f"{proxy.url}/{RELEASE_URL}")
    return response.status, body


def test_cut_ends_within_the_body(serve: Callable[..., FaultProxy], upstream: Upstream) -> None:
    proxy = serve()
    proxy.inject(faults.cut(1000))
    with pytest.raises(http.client.IncompleteRead) as caught:
        ask_for_the_release(proxy)
    assert caught.value.partial == upstream.release[:1000]
    assert caught.value.expected == SIZE - 1000


def test_header_only_has_no_body(serve: Callable[..., FaultProxy]) -> None:
    proxy = serve()
    proxy.inject(faults.header_only())
    with pytest.raises(http.client.IncompleteRead) as caught:
        ask_for_the_release(proxy)
    assert caught.value.partial == b""


@pytest.mark.parametrize("fault", [faults.stall(), faults.stall_within(10)], ids=str)
def test_stall_lets_the_client_wait(serve: Callable[..., FaultProxy], fault: Fault) -> None:
    proxy = serve()
    proxy.inject(fault)
    with pytest.raises(TimeoutError):
        get(f"{proxy.url}/{RELEASE_URL}", timeout=0.2)


def test_drip_sends_byte_by_byte(serve: Callable[..., FaultProxy], upstream: Upstream) -> None:
    proxy = serve()
    upstream.world.files[f"{FORGE}/small"] = b"small"
    proxy.inject(faults.drip(0.001))
    assert get(f"{proxy.url}/{FORGE}/small")[1] == b"small"


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        pytest.param(faults.html(), (200, faults.HTML.encode()), id="html"),
        pytest.param(faults.status(502), (502, b"status 502"), id="502"),
        pytest.param(faults.other_content(b"other"), (200, b"other"), id="other"),
    ],
)
def test_fault_answers_instead(
    serve: Callable[..., FaultProxy], fault: Fault, expected: tuple[int, bytes]
) -> None:
    proxy = serve()
    proxy.inject(fault)
    assert ask_for_the_release(proxy) == expected


def test_wrong_bytes_have_the_right_length(
    serve: Callable[..., FaultProxy], upstream: Upstream
) -> None:
    proxy = serve()
    proxy.inject(faults.wrong_bytes())
    body = ask_for_the_release(proxy)[1]
    assert len(body) == SIZE
    assert sum(a != b for a, b in zip(body, upstream.release, strict=True)) == 1


def test_truncated_looks_whole(serve: Callable[..., FaultProxy], upstream: Upstream) -> None:
    proxy = serve()
    proxy.inject(faults.truncated())
    assert ask_for_the_release(proxy) == (200, upstream.release[: SIZE // 2])


def test_endless_is_longer_than_the_file(serve: Callable[..., FaultProxy]) -> None:
    proxy = serve()
    proxy.inject(faults.endless(b"abc", count=4))
    assert ask_for_the_release(proxy) == (200, b"abc" * 4)


def test_status_may_say_when_to_come_back(serve: Callable[..., FaultProxy]) -> None:
    proxy = serve()
    proxy.inject(faults.status(429, retry_after="7"))
    assert get(f"{proxy.url}/{RELEASE_URL}")[0].headers["Retry-After"] == "7"


def test_redirects_lead_where_they_say(serve: Callable[..., FaultProxy]) -> None:
    proxy = serve()
    proxy.inject(faults.redirect_loop(), times=1)
    proxy.inject(faults.redirect("http://elsewhere"), times=1)
    url = f"{proxy.url}/{RELEASE_URL}"
    assert get(url)[0].headers["Location"] == f"/{RELEASE_URL}"
    assert get(url)[0].headers["Location"] == f"http://elsewhere/{RELEASE_URL}"
    assert get(url)[0].status == 200


def test_ranges_can_be_ignored_or_wrong(
    serve: Callable[..., FaultProxy], upstream: Upstream
) -> None:
    proxy = serve()
    proxy.inject(faults.range_ignored(), times=1)
    proxy.inject(faults.range_of_other_bytes(), times=1)
    proxy.inject(faults.range_elsewhere(), times=1)
    proxy.inject(faults.other_content(b"another file"), times=1)
    url, part = f"{proxy.url}/{RELEASE_URL}", {"Range": "bytes=5-"}
    assert get(url, part)[1] == upstream.release
    response, body = get(url, part)
    assert response.status == 206
    assert len(body) == SIZE - 5
    assert body != upstream.release[5:]
    response, body = get(url, part)
    assert response.headers["Content-Range"] == f"bytes 0-{SIZE - 6}/{SIZE}"
    response, body = get(url, part)
    assert (response.headers["Content-Range"], body) == ("bytes 5-11/12", b"er file")
    assert response.headers["ETag"] == '"other"'


def test_faults_hit_the_requests_they_are_for(serve: Callable[..., FaultProxy]) -> None:
    proxy = serve()
    proxy.inject(faults.status(502), "*/releases/*", times=2, skip=1)
    answers = [ask_for_the_release(proxy)[0] for _ in range(4)]
    assert answers == [200, 502, 502, 200]
    proxy.inject(faults.status(502), "*/other/*")
    assert ask_for_the_release(proxy)[0] == 200
    proxy.inject(faults.status(502), method="POST")
    assert ask_for_the_release(proxy)[0] == 200


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("expired", "certificate has expired"),
        ("unknown", "unable to get local issuer|self-signed certificate"),
        ("of_another_host", "IP address mismatch|not valid for"),
    ],
)
def test_bad_certificate_is_bad(
    serve: Callable[..., FaultProxy], certificates: Certificates, kind: str, reason: str
) -> None:
    proxy = serve(certificate=getattr(certificates, kind)())
    context = ssl.create_default_context(cafile=os.fspath(certificates.authority))
    with pytest.raises(ssl.SSLCertVerificationError, match=reason):
        get(f"{proxy.url}/{RELEASE_URL}", context=context)


def test_way_out_is_closed(env: dict[str, str], outside: FaultProxy) -> None:
    with pytest.raises(subprocess.CalledProcessError):
        git(env, "ls-remote", PROJECT_URL)
    assert [(asked.method, asked.path) for asked in outside.asked] == [
        ("CONNECT", "github.com:443")
    ]


def test_tunnel_ends_in_the_world(
    serve: Callable[..., FaultProxy],
    upstream: Upstream,
    env: dict[str, str],
    certificates: Certificates,
) -> None:
    proxy = serve(tunnel=certificates.good("github.com"))
    env |= {"GIT_SSL_CAINFO": str(certificates.authority), "https_proxy": proxy.url}
    assert upstream.commit in git(env, "ls-remote", PROJECT_URL, "v1.0")
    assert f"{PROJECT_URL}/info/refs?service=git-upload-pack" in proxy.urls()


def test_password_is_asked_for_and_logged(
    serve: Callable[..., FaultProxy], upstream: Upstream
) -> None:
    proxy = serve()
    upstream.world.passwords["closed.example"] = ("me", "s3cret")
    upstream.world.files["https://closed.example/file"] = b"closed"
    url = f"{proxy.url}/https://closed.example/file"
    assert get(url)[0].status == 401
    assert get(url, {"Authorization": basic("me", "s3cret")})[1] == b"closed"
    assert [asked.authorization for asked in proxy.asked] == [None, basic("me", "s3cret")]
