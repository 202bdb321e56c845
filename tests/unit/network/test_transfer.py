from __future__ import annotations

import dataclasses
import hashlib
import http.server
import re
import threading
import time
from typing import TYPE_CHECKING

import pytest

from wheelyard.errors import FetchError, IntegrityError
from wheelyard.model.source import UrlSource
from wheelyard.network.download import download_url
from wheelyard.network.indexes import IndexSettings
from wheelyard.network.routes import InsteadOf
from wheelyard.network.settings import NetworkSettings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

BODY = hashlib.shake_128(b"a release").digest(12 << 20)
URL = "https://upstream.example/project-1.0.tar.gz"
SOURCE = UrlSource(
    url=URL,
    filename="project-1.0.tar.gz",
    sha256=hashlib.sha256(BODY).hexdigest(),
    size=len(BODY),
)


class RangeServer:
    """Serves one body with ranges and validators, cut, slow or changed as it is told."""

    def __init__(self, body: bytes = BODY) -> None:
        self.url = ""
        self.body = body
        self.tag = '"one"'
        self.cuts: list[int] = []
        """After how many bytes the next answers end."""
        self.hesitation = 0.0
        self.ignores_ranges = False
        self.sent = 0
        self.ranges: list[str | None] = []
        self.conditions: list[str | None] = []
        self.gate: threading.Event | None = None

    def slice_of(self, header: str | None, condition: str | None) -> int:
        match = re.fullmatch(r"bytes=(\d+)-", header or "")
        if match is None or self.ignores_ranges or condition not in {None, self.tag}:
            return 0
        return int(match[1])


def _handler(server: RangeServer) -> type[http.server.BaseHTTPRequestHandler]:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if server.gate is not None:
                server.gate.wait(10)
            time.sleep(server.hesitation)
            server.ranges.append(self.headers["Range"])
            server.conditions.append(self.headers["If-Range"])
            first = server.slice_of(self.headers["Range"], self.headers["If-Range"])
            rest = server.body[first:]
            self.send_response(206 if first else 200)
            if first:
                whole = len(server.body)
                self.send_header("Content-Range", f"bytes {first}-{whole - 1}/{whole}")
            if server.tag:
                self.send_header("ETag", server.tag)
            self.send_header("Content-Length", str(len(rest)))
            self.end_headers()
            cut = server.cuts.pop(0) if server.cuts else len(rest)
            server.sent += len(rest[:cut])
            self.wfile.write(rest[:cut])
            self.close_connection = True

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            pass

    return Handler


@pytest.fixture
def serve_ranges() -> Iterator[Callable[..., RangeServer]]:
    running: list[http.server.ThreadingHTTPServer] = []

    def start(body: bytes = BODY) -> RangeServer:
        server = RangeServer(body)
        running.append(http.server.ThreadingHTTPServer(("127.0.0.1", 0), _handler(server)))
        server.url = f"http://127.0.0.1:{running[-1].server_address[1]}"
        threading.Thread(target=running[-1].serve_forever, args=(0.01,), daemon=True).start()
        return server

    yield start
    for one in running:
        one.shutdown()
        one.server_close()


class Downloader:
    def __init__(self, folder: Path, env: dict[str, str]) -> None:
        self.destination = folder / SOURCE.filename
        self.env = env
        self.reports: list[int] = []
        self.patience: dict[str, float] = {"attempts": 2, "stall_timeout": 0.4}

    def __call__(self, *servers: RangeServer, **patience: float) -> bytes:
        network = NetworkSettings(
            hf_endpoints=tuple(
                InsteadOf(of="https://upstream.example/", by=one.url) for one in servers
            ),
            direct="never",
            **{**self.patience, **patience},  # type: ignore[arg-type]
        )
        settings = IndexSettings(network=network)
        download_url(SOURCE, destination=self.destination, settings=settings, env=self.env)
        return self.destination.read_bytes()

    @property
    def left(self) -> set[str]:
        return {path.name for path in self.destination.parent.iterdir()}


@pytest.fixture
def download(tmp_path: Path, env: dict[str, str]) -> Downloader:
    return Downloader(tmp_path / "cache", env)


def test_cut_file_goes_on_where_it_was_cut(
    download: Downloader, serve_ranges: Callable[..., RangeServer]
) -> None:
    server = serve_ranges()
    server.cuts = [1 << 20] * 9
    assert download(server) == BODY
    assert server.sent == len(BODY)
    assert server.ranges == [None, *(f"bytes={number << 20}-" for number in range(1, 10))]
    assert server.conditions == [None, *['"one"'] * 9]
    assert download.left == {SOURCE.filename}


def test_next_run_goes_on_too(
    download: Downloader, serve_ranges: Callable[..., RangeServer]
) -> None:
    server = serve_ranges()
    server.cuts = [4 << 20, 0, 0, 0, 0]
    with pytest.raises(FetchError, match="was cut off at 4194304 of 12582912 bytes"):
        download(server)
    assert not download.destination.exists()
    server.cuts = []
    assert download(server) == BODY
    assert server.ranges[-1] == f"bytes={4 << 20}-"
    assert server.sent == len(BODY)


def test_file_that_changed_in_between_is_begun_anew(
    download: Downloader, serve_ranges: Callable[..., RangeServer]
) -> None:
    server = serve_ranges(hashlib.shake_128(b"an older one").digest(len(BODY)))
    server.cuts = [4 << 20, 0, 0, 0, 0]
    with pytest.raises(FetchError):
        download(server)
    server.body, server.tag, server.cuts = BODY, '"two"', []
    assert download(server) == BODY
    assert server.conditions[-1] == '"one"'


def test_proxy_that_ignores_the_condition_cannot_mix_two_files(
    download: Downloader, serve_ranges: Callable[..., RangeServer]
) -> None:
    server = serve_ranges(hashlib.shake_128(b"an older one").digest(len(BODY)))
    server.tag = ""
    server.cuts = [4 << 20, 0, 0, 0, 0]
    with pytest.raises(FetchError):
        download(server)
    server.body, server.cuts = BODY, []
    assert download(server) == BODY
    assert server.ranges[-2:] == [f"bytes={4 << 20}-", None]


def test_server_without_ranges_sends_it_all_again(
    download: Downloader, serve_ranges: Callable[..., RangeServer]
) -> None:
    server = serve_ranges()
    server.ignores_ranges = True
    server.cuts = [4 << 20]
    assert download(server) == BODY
    assert server.sent == len(BODY) + (4 << 20)


def test_rest_comes_from_the_next_server(
    download: Downloader, serve_ranges: Callable[..., RangeServer]
) -> None:
    broken, whole = serve_ranges(), serve_ranges()
    broken.cuts = [4 << 20, 0, 0, 0]
    assert download(broken, whole) == BODY
    assert whole.ranges == [f"bytes={4 << 20}-"]
    assert whole.conditions == [None]


def test_part_of_a_liar_does_not_spoil_the_file(
    download: Downloader, serve_ranges: Callable[..., RangeServer]
) -> None:
    liar, honest = serve_ranges(b"lie" * (len(BODY) // 3)), serve_ranges()
    liar.cuts = [4 << 20, 0, 0, 0, 0]
    assert download(liar, honest) == BODY


def test_wrong_bytes_are_refused_by_the_name_of_who_sent_them(
    download: Downloader, serve_ranges: Callable[..., RangeServer]
) -> None:
    liar = serve_ranges(b"lie" * (len(BODY) // 3))
    with pytest.raises(IntegrityError) as caught:
        download(liar)
    assert f"  {liar.url}/project-1.0.tar.gz: sent other bytes: sha256" in str(caught.value)
    assert download.left == set()


def test_second_server_is_asked_when_the_first_one_hesitates(
    download: Downloader, serve_ranges: Callable[..., RangeServer]
) -> None:
    silent, quick = serve_ranges(), serve_ranges()
    silent.gate = threading.Event()
    try:
        assert download(silent, quick, hedge_after=0.05, stall_timeout=8.0) == BODY
    finally:
        silent.gate.set()
    assert quick.sent == len(BODY)


def test_quick_first_server_is_the_only_one_asked(
    download: Downloader, serve_ranges: Callable[..., RangeServer]
) -> None:
    quick, spare = serve_ranges(), serve_ranges()
    assert download(quick, spare, hedge_after=5.0) == BODY
    assert spare.ranges == []


def test_silent_server_is_left(
    download: Downloader, serve_ranges: Callable[..., RangeServer]
) -> None:
    silent = serve_ranges()
    silent.gate = threading.Event()
    try:
        with pytest.raises(FetchError, match=r"sent nothing for 0.4 s"):
            download(silent)
    finally:
        silent.gate.set()


def test_health_puts_the_failed_server_last_in_the_next_run(
    download: Downloader, serve_ranges: Callable[..., RangeServer], tmp_path: Path
) -> None:
    liar, honest = serve_ranges(b"lie"), serve_ranges()
    download.patience["health_path"] = tmp_path / "health.json"  # type: ignore[assignment]
    download(liar, honest)
    assert len(liar.ranges) == 1
    download.destination.unlink()
    download(liar, honest)
    assert len(liar.ranges) == 1


def test_file_that_the_user_has_in_a_folder_needs_no_network(
    download: Downloader, serve_ranges: Callable[..., RangeServer], tmp_path: Path
) -> None:
    folder = tmp_path / "wheels"
    folder.mkdir()
    (folder / SOURCE.filename).write_bytes(BODY)
    settings = IndexSettings(find_links=(str(folder),), offline=True)
    download_url(SOURCE, destination=download.destination, settings=settings, env=download.env)
    assert download.destination.read_bytes() == BODY
    wrong = dataclasses.replace(SOURCE, sha256="0" * 64)
    with pytest.raises(IntegrityError, match="sent other bytes"):
        download_url(wrong, destination=download.destination, settings=settings, env={})
