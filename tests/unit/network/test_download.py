from __future__ import annotations

import base64
import gzip
import hashlib
import json
import logging
from typing import TYPE_CHECKING

import pytest

from wheelyard.errors import DiskError, FetchError, IntegrityError
from wheelyard.model.source import SdistSource
from wheelyard.network.download import download_sdist
from wheelyard.network.indexes import IndexSettings

if TYPE_CHECKING:
    from pathlib import Path

    from tests.unit.network.conftest import Server

BODY = b"the bytes of a source distribution " * 1000
NAME = "wy_probe-1.0.tar.gz"
SHA256 = hashlib.sha256(BODY).hexdigest()
SOURCE = SdistSource(name="wy-probe", filename=NAME, sha256=SHA256, size=len(BODY))
OTHER_SHA256 = hashlib.sha256(b"other").hexdigest()
HTML = "text/html"
JSON = "application/vnd.pypi.simple.v1+json"


def list_file(server: Server, url: str | None = None, sha256: str | None = SHA256) -> str:
    """Make ``server`` an index that lists the file; return the index's URL."""
    fragment = f"#sha256={sha256}" if sha256 else ""
    link = f'<a href="{url or f"/files/{NAME}"}{fragment}">{NAME}</a>'
    other = '<a href="/files/wy_probe-0.9.tar.gz">wy_probe-0.9.tar.gz</a>'
    server.answer("/simple/wy-probe/", other + link, content_type=HTML)
    return f"{server.url}/simple"


class Downloader:
    def __init__(self, destination: Path, env: dict[str, str]) -> None:
        self.destination = destination
        self.env = env

    def __call__(self, *index_urls: str, **settings: object) -> bytes:
        if index_urls:
            settings |= {"index_url": index_urls[0], "extra_index_urls": index_urls[1:]}
        made = IndexSettings(**settings)  # type: ignore[arg-type]
        download_sdist(SOURCE, destination=self.destination, settings=made, env=self.env)
        return self.destination.read_bytes()

    @property
    def left(self) -> list[str]:
        if not self.destination.parent.exists():
            return []
        return [path.name for path in self.destination.parent.iterdir()]


@pytest.fixture
def download(tmp_path: Path, env: dict[str, str]) -> Downloader:
    return Downloader(tmp_path / "cache" / NAME, env)


def test_file_is_found_on_an_html_page(download: Downloader, server: Server) -> None:
    server.answer(f"/files/{NAME}", BODY)
    assert download(list_file(server)) == BODY
    assert download.left == [NAME]
    assert server.asked == ["/simple/wy-probe/", f"/files/{NAME}"]


def test_file_is_found_on_a_json_page_with_a_relative_url(
    download: Downloader, server: Server
) -> None:
    files = [{"filename": NAME, "url": "../../blob?id=1", "hashes": {"sha256": SHA256}}]
    page = {"meta": {"api-version": "1.1"}, "name": "wy-probe", "files": files, "versions": ["1.0"]}
    page["files"][0]["size"] = len(BODY)  # type: ignore[index]
    server.answer("/simple/wy-probe/", json.dumps(page), content_type=JSON)
    server.answer("/blob?id=1", BODY)
    assert download(f"{server.url}/simple/") == BODY


def test_file_with_the_pinned_digest_is_preferred(download: Downloader, server: Server) -> None:
    links = f'<a href="/bad/{NAME}#sha256={OTHER_SHA256}">x</a><a href="/none/{NAME}">x</a>'
    right = f'<a href="/right/{NAME}#sha256={SHA256}">x</a>'
    server.answer("/simple/wy-probe/", links + right, content_type=HTML)
    server.answer(f"/right/{NAME}", BODY)
    assert download(f"{server.url}/simple") == BODY
    assert server.asked == ["/simple/wy-probe/", f"/right/{NAME}"]


def test_find_links_folder_comes_before_the_indexes(
    download: Downloader, server: Server, tmp_path: Path
) -> None:
    (tmp_path / "links").mkdir()
    (tmp_path / "links" / NAME).write_bytes(BODY)
    assert download(list_file(server), find_links=(str(tmp_path / "links"),)) == BODY
    assert server.asked == []


def test_find_links_may_be_a_page_or_the_file_itself(download: Downloader, server: Server) -> None:
    server.answer("/links.html", f'<a href="dl/{NAME}">probe</a>', content_type=HTML)
    server.answer(f"/dl/{NAME}", BODY)
    assert download(no_index=True, find_links=(f"{server.url}/links.html",)) == BODY
    download.destination.unlink()
    assert download(no_index=True, find_links=(f"{server.url}/dl/{NAME}",)) == BODY


def test_index_may_be_a_folder(download: Downloader, tmp_path: Path) -> None:
    page = tmp_path / "simple" / "wy-probe" / "index.html"
    page.parent.mkdir(parents=True)
    page.write_text(f'<a href="../../files/{NAME}#sha256={SHA256}">{NAME}</a>')
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / NAME).write_bytes(BODY)
    assert download((tmp_path / "simple").as_uri(), offline=True) == BODY


def test_wrong_bytes_are_refused_with_both_digests(download: Downloader, server: Server) -> None:
    wrong = BODY[:-1] + b"!"
    server.answer(f"/files/{NAME}", wrong)
    with pytest.raises(IntegrityError) as caught:
        download(list_file(server))
    message = str(caught.value)
    assert f"sha256 {SHA256} ({len(BODY)} bytes)" in message
    assert f"sha256 {hashlib.sha256(wrong).hexdigest()} ({len(BODY)} bytes)" in message
    assert f"{server.url}/files/{NAME}" in message
    assert "pin the new digest" in message
    assert download.left == []


def test_page_instead_of_the_file_is_refused(download: Downloader, server: Server) -> None:
    server.answer(f"/files/{NAME}", "<html>Log in first</html>", content_type=HTML)
    with pytest.raises(IntegrityError, match=r"sent an HTML page instead \(25 bytes\)"):
        download(list_file(server))


def test_endless_body_is_left_at_the_pinned_size(download: Downloader, server: Server) -> None:
    server.answer(f"/files/{NAME}", BODY * 100)
    with pytest.raises(IntegrityError, match=f"more than {len(BODY)} bytes"):
        download(list_file(server))
    assert download.left == []


def test_listed_other_digest_is_not_even_fetched(download: Downloader, server: Server) -> None:
    index_url = list_file(server, sha256=OTHER_SHA256)
    with pytest.raises(IntegrityError, match=f"{OTHER_SHA256} \\(as listed\\)"):
        download(index_url)
    assert server.asked == ["/simple/wy-probe/"]


def test_next_index_is_asked_after_wrong_bytes(download: Downloader, serve: type[Server]) -> None:
    liar, honest = serve(), serve()
    liar.answer(f"/files/{NAME}", b"lie")
    honest.answer(f"/files/{NAME}", BODY)
    assert download(list_file(liar), list_file(honest)) == BODY


def test_old_file_stays_when_the_new_one_is_wrong(download: Downloader, server: Server) -> None:
    download.destination.parent.mkdir()
    download.destination.write_bytes(b"old")
    server.answer(f"/files/{NAME}", b"wrong")
    with pytest.raises(IntegrityError):
        download(list_file(server))
    assert download.destination.read_bytes() == b"old"


def test_cut_body_is_asked_for_again(download: Downloader, server: Server) -> None:
    server.answer(f"/files/{NAME}", BODY, cut_at=100)
    server.answer(f"/files/{NAME}", BODY)
    assert download(list_file(server)) == BODY
    assert server.asked.count(f"/files/{NAME}") == 2


def test_body_that_is_always_cut_is_an_error_that_says_so(
    download: Downloader, server: Server
) -> None:
    server.answer(f"/files/{NAME}", BODY, cut_at=100)
    with pytest.raises(FetchError, match="was cut off"):
        download(list_file(server))
    assert server.asked.count(f"/files/{NAME}") == 4
    assert download.left == []


def test_overloaded_server_is_asked_again(download: Downloader, server: Server) -> None:
    server.answer("/simple/wy-probe/", status=503)
    list_file(server)
    server.answer(f"/files/{NAME}", status=500)
    server.answer(f"/files/{NAME}", BODY)
    assert download(f"{server.url}/simple") == BODY


def test_missing_file_names_every_index_and_what_it_said(
    download: Downloader, serve: type[Server]
) -> None:
    unknown, empty, broken, gone = serve(), serve(), serve(), serve()
    empty.answer("/simple/wy-probe/", "<html></html>", content_type=HTML)
    broken.answer("/simple/wy-probe/", "{", content_type=JSON)
    urls = (f"{unknown.url}/simple", f"{empty.url}/simple", f"{broken.url}/simple", list_file(gone))
    with pytest.raises(FetchError) as caught:
        download(*urls, find_links=("/nowhere",))
    message = str(caught.value)
    assert f"{NAME} was not found" in message
    assert "/nowhere: has no such file" in message
    assert f"{urls[0]}: has no such file" in message
    assert f"{urls[1]}: has no such file" in message
    assert f"{urls[2]}: no project page" in message
    assert f"{urls[3]}: {gone.url}/files/{NAME} answers 404" in message
    assert f"put the file (sha256 {SHA256}, {len(BODY)} bytes) to {download.destination}" in message


def test_unreachable_index_is_an_answer_too(download: Downloader, server: Server) -> None:
    with pytest.raises(FetchError, match=r"no project page \(.*refused"):
        download("http://127.0.0.1:9/simple")


def test_offline_asks_nobody_and_says_where_to_put_the_file(
    download: Downloader, server: Server
) -> None:
    with pytest.raises(FetchError) as caught:
        download(list_file(server), offline=True)
    assert server.asked == []
    message = str(caught.value)
    assert "not asked (offline)" in message
    assert "UV_OFFLINE" in message
    assert str(download.destination) in message
    assert "PIP_FIND_LINKS" in message


def test_content_that_a_server_calls_encoded_is_kept_as_it_is(
    tmp_path: Path, env: dict[str, str], server: Server
) -> None:
    body = gzip.compress(BODY, mtime=0)
    digest = hashlib.sha256(body).hexdigest()
    source = SdistSource(name="wy-probe", filename=NAME, sha256=digest, size=len(body))
    server.answer(f"/files/{NAME}", body, headers={"Content-Encoding": "gzip"})
    settings = IndexSettings(index_url=list_file(server, sha256=None))
    download_sdist(source, destination=tmp_path / NAME, settings=settings, env=env)
    assert (tmp_path / NAME).read_bytes() == body


def basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def with_credentials(url: str) -> str:
    return url.replace("://", "://me:s3cret@")


def test_credentials_go_to_their_own_server_only_and_are_never_shown(
    download: Downloader, serve: type[Server], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, logger="wheelyard")
    index, files = serve(), serve()
    url = with_credentials(list_file(index, url=f"{files.url}/{NAME}"))
    with pytest.raises(FetchError) as caught:
        download(url)
    assert index.authorizations == [basic("me", "s3cret")]
    assert files.authorizations == [None]
    assert "s3cret" not in str(caught.value) + caplog.text
    assert "://***@" in str(caught.value)


def test_credentials_of_the_index_are_used_for_files_on_the_same_server(
    download: Downloader, server: Server
) -> None:
    server.answer(f"/files/{NAME}", BODY)
    download(with_credentials(list_file(server, url=f"{server.url}/files/{NAME}")))
    assert server.authorizations == [basic("me", "s3cret")] * 2


def test_netrc_of_the_environment_is_used(
    download: Downloader, server: Server, tmp_path: Path
) -> None:
    (tmp_path / "home" / ".netrc").write_text("machine 127.0.0.1 login you password pw\n")
    server.answer(f"/files/{NAME}", BODY)
    download(list_file(server))
    assert server.authorizations == [basic("you", "pw")] * 2


def test_environment_of_the_process_itself_is_not_read(
    download: Downloader, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login you password pw\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    server.answer(f"/files/{NAME}", status=302, headers={"Location": "/moved"})
    server.answer("/moved", BODY)
    assert download(list_file(server)) == BODY
    assert server.authorizations == [None] * 3


def test_proxy_of_the_environment_is_used_except_where_it_is_not_wanted(
    download: Downloader, serve: type[Server]
) -> None:
    proxy, index = serve(), serve()
    index_url = list_file(index)
    index.answer(f"/files/{NAME}", BODY)
    download.env["http_proxy"] = proxy.url
    with pytest.raises(FetchError):
        download(index_url)
    assert proxy.asked == [f"{index.url}/simple/wy-probe/"]
    download.env["no_proxy"] = "127.0.0.1"
    assert download(index_url) == BODY


def test_proxy_of_pip_is_used_when_the_environment_has_none(
    download: Downloader, serve: type[Server]
) -> None:
    proxy, index = serve(), serve()
    with pytest.raises(FetchError):
        download(f"{index.url}/simple", proxy=proxy.url)
    assert proxy.asked == [f"{index.url}/simple/wy-probe/"]
    assert index.asked == []


def test_folder_that_cannot_be_written_is_the_disks_error(
    tmp_path: Path, env: dict[str, str], server: Server
) -> None:
    (tmp_path / "file").write_bytes(b"")
    settings = IndexSettings(index_url=list_file(server))
    with pytest.raises(DiskError, match=str(tmp_path / "file")):
        download_sdist(SOURCE, destination=tmp_path / "file" / NAME, settings=settings, env=env)
