"""Downloads of published wheels: by digest or not, and nothing is kept of what is not one."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from wheelyard.errors import FetchError, IntegrityError, UsageError
from wheelyard.network.indexes import read_index_settings
from wheelyard.network.wheel_download import DownloadedWheel, download_wheel, is_web_url

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.unit.network.conftest import Server

    Download = Callable[..., DownloadedWheel]

NAME = "demo-1.0+cu12torch2.6cxx11abiFALSE-cp312-cp312-linux_x86_64.whl"
QUOTED = f"/releases/{NAME.replace('+', '%2B')}"
BODY = b"PK\x03\x04" + bytes(range(256)) * 4096
SHA256 = hashlib.sha256(BODY).hexdigest()
OTHER = "0" * 64


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "cache" / "adopted"


@pytest.fixture
def download(folder: Path, env: dict[str, str]) -> Download:
    """Return a function that downloads into the folder of this test."""

    def run(url: str, *, sha256: str | None = None, **more: str) -> DownloadedWheel:
        around = env | more
        settings = read_index_settings(around, home=Path(env["HOME"]), cwd=folder.parents[1])
        return download_wheel(url, folder=folder, sha256=sha256, settings=settings, env=around)

    return run


def _kept(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


@pytest.mark.parametrize("written", [QUOTED, QUOTED.replace("%2B", "+")], ids=["quoted", "bare"])
def test_wheel_is_kept_by_its_digest_under_the_name_it_has(
    server: Server, download: Download, folder: Path, written: str
) -> None:
    server.answer(QUOTED, BODY)
    found = download(f"{server.url}{written}")
    assert found.path == folder / SHA256 / NAME
    assert found.path.read_bytes() == BODY
    assert found.sha256 == SHA256
    assert server.asked == [QUOTED]
    assert _kept(folder) == [found.path]


def test_without_a_digest_the_server_is_asked_again(server: Server, download: Download) -> None:
    server.answer(QUOTED, BODY)
    first, second = download(f"{server.url}{QUOTED}"), download(f"{server.url}{QUOTED}")
    assert first == second
    assert len(server.asked) == 2


@pytest.mark.parametrize("where", ["option", "fragment"])
def test_known_digest_is_downloaded_once(server: Server, download: Download, where: str) -> None:
    server.answer(QUOTED, BODY)
    url = f"{server.url}{QUOTED}"
    for _ in range(2):
        if where == "option":
            found = download(url, sha256=SHA256)
        else:
            found = download(f"{url}#sha256={SHA256}")
        assert found.path.read_bytes() == BODY
        assert found.url == url
    assert len(server.asked) == 1


def test_file_that_was_spoiled_in_the_cache_is_downloaded_again(
    server: Server, download: Download
) -> None:
    server.answer(QUOTED, BODY)
    path = download(f"{server.url}{QUOTED}").path
    path.write_bytes(BODY[:-1])
    assert download(f"{server.url}{QUOTED}", sha256=SHA256).path.read_bytes() == BODY


def test_other_bytes_than_asked_for_are_refused_and_not_kept(
    server: Server, download: Download, folder: Path
) -> None:
    server.answer(QUOTED, BODY)
    with pytest.raises(IntegrityError, match=rf"expected: sha256 {OTHER}\n.*{SHA256}"):
        download(f"{server.url}{QUOTED}", sha256=OTHER)
    assert not _kept(folder)


@pytest.mark.parametrize("body", [b"<!DOCTYPE html><title>Sign in</title>", b"PK", b""])
def test_page_instead_of_a_wheel_is_named_and_not_kept(
    server: Server, download: Download, folder: Path, body: bytes
) -> None:
    server.answer(QUOTED, body, content_type="text/html; charset=utf-8")
    with pytest.raises(FetchError, match=r"answers with text/html and not with a wheel.*the file"):
        download(f"{server.url}{QUOTED}")
    assert not _kept(folder)


def test_body_that_is_cut_off_is_asked_for_again(server: Server, download: Download) -> None:
    server.answer(QUOTED, BODY, cut_at=300_000)
    server.answer(QUOTED, BODY)
    assert download(f"{server.url}{QUOTED}").path.read_bytes() == BODY


def test_file_that_is_not_there_is_told_with_its_status(server: Server, download: Download) -> None:
    with pytest.raises(FetchError, match=r"cannot be had \(404 .*Look whether the release"):
        download(f"{server.url}{QUOTED}")


def test_redirect_keeps_the_name_of_the_link(
    server: Server, download: Download, folder: Path
) -> None:
    server.answer(QUOTED, status=302, headers={"Location": f"{server.url}/blob/7?sig=a"})
    server.answer("/blob/7?sig=a", BODY)
    found = download(f"{server.url}{QUOTED}")
    assert found.path == folder / SHA256 / NAME
    assert found.url == f"{server.url}{QUOTED}"


def test_secrets_of_the_url_are_used_and_never_written_down(
    server: Server, download: Download
) -> None:
    server.answer(f"{QUOTED}?token=secret", BODY)
    url = server.url.replace("//", "//me:word@")
    found = download(f"{url}{QUOTED}?token=secret")
    assert found.url == f"{server.url}{QUOTED}"
    assert server.authorizations[0] is not None
    with pytest.raises(FetchError) as caught:
        download(f"{url}{QUOTED}x.whl?token=secret")
    assert "word" not in str(caught.value)


def test_offline_nothing_is_asked(server: Server, download: Download) -> None:
    server.answer(QUOTED, BODY)
    with pytest.raises(FetchError, match=r"is not in the cache, and wheelyard is offline"):
        download(f"{server.url}{QUOTED}", UV_OFFLINE="1")
    assert not server.asked
    download(f"{server.url}{QUOTED}")
    assert download(f"{server.url}{QUOTED}", sha256=SHA256, UV_OFFLINE="1").sha256 == SHA256


@pytest.mark.parametrize(
    ("url", "sha256", "expected"),
    [
        ("https://example.org/releases/latest", None, "does not end in the name of a wheel"),
        ("https://example.org/..%2Fx%2F.whl", None, "does not end in the name of a wheel"),
        ("https://example.org/demo-1.0.tar.gz", None, "does not end in the name of a wheel"),
        (f"https://example.org/{NAME}#sha256=12", None, "'12' is not a sha256"),
        (f"https://example.org/{NAME}#sha256={SHA256}", OTHER, "Leave one of them out"),
    ],
)
def test_link_that_cannot_be_meant_is_refused_before_it_is_asked(
    download: Download, url: str, sha256: str | None, expected: str
) -> None:
    with pytest.raises(UsageError, match=expected):
        download(url, sha256=sha256)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("https://x/y.whl", True), ("HTTP://x/y.whl", True), ("y.whl", False), ("/a:b.whl", False)],
)
def test_url_is_told_from_a_file(text: str, *, expected: bool) -> None:
    assert is_web_url(text) is expected
