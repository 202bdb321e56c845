"""Members are read from a server while the archive streams by, and every lie is found out."""

from __future__ import annotations

import dataclasses
import hashlib
import http.server
import io
import random
import re
import threading
import zipfile
from typing import TYPE_CHECKING

import pytest
from packaging.utils import parse_wheel_filename

from wheelyard.errors import FetchError, IntegrityError
from wheelyard.network.indexes import IndexSettings
from wheelyard.network.remote_zip import RemoteZip
from wheelyard.network.session import open_session
from wheelyard.network.wheel_index import IndexWheel

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    import requests

NAME = "demo-1.0-py3-none-any.whl"


@dataclasses.dataclass
class Server:
    """Serves one body, by ranges or not, and cuts it where it is told."""

    body: bytes
    url: str = ""
    knows_ranges: bool = True
    forgets_ranges: bool = False
    """After the first answer."""
    cuts: list[int] = dataclasses.field(default_factory=list)
    """At which byte of the file the whole answers end, one after the other."""
    asked: list[str] = dataclasses.field(default_factory=list)


def _handler(server: Server) -> type[http.server.BaseHTTPRequestHandler]:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            wanted = self.headers["Range"] or ""
            server.asked.append(wanted)
            match = re.fullmatch(r"bytes=(\d*)-(\d*)", wanted)
            total = len(server.body)
            begin, end = 0, total
            if match and server.knows_ranges:
                first, last = match.groups()
                begin = int(first) if first else max(0, total - int(last))
                end = int(last) + 1 if first and last else total
                self.send_response(206)
                self.send_header("Content-Range", f"bytes {begin}-{end - 1}/{total}")
            else:
                self.send_response(200)
            self.send_header("Content-Length", str(end - begin))
            self.end_headers()
            is_stream = not match or (match[1] and not match[2])
            cut = server.cuts.pop(0) if is_stream and server.cuts else end
            self.wfile.write(server.body[begin : max(begin, min(end, cut))])
            if server.forgets_ranges:
                server.knows_ranges = False

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            pass

    return Handler


@pytest.fixture
def serve_body() -> Iterator[Callable[[bytes], Server]]:
    running: list[http.server.ThreadingHTTPServer] = []

    def start(body: bytes) -> Server:
        server = Server(body)
        running.append(http.server.ThreadingHTTPServer(("127.0.0.1", 0), _handler(server)))
        server.url = f"http://127.0.0.1:{running[-1].server_address[1]}/{NAME}"
        threading.Thread(target=running[-1].serve_forever, args=(0.01,), daemon=True).start()
        return server

    yield start
    for one in running:
        one.shutdown()
        one.server_close()


@pytest.fixture
def session(env: dict[str, str]) -> Iterator[requests.Session]:
    with open_session(IndexSettings(), env) as opened:
        yield opened


@pytest.fixture
def read(session: requests.Session, tmp_path: Path) -> Callable[..., dict[str, bytes]]:
    """Return a function that reads the wanted members of what a URL serves."""

    def run(url: str, wanted: str = r".*\.so", sha256: str | None = None) -> dict[str, bytes]:
        archive = RemoteZip(_listed(url, sha256), session=session, scratch=tmp_path)
        found = {}
        for member in archive.read(lambda name: bool(re.fullmatch(wanted, name))):
            found[member.name] = member.path.read_bytes()
            assert list(tmp_path.glob("member*")) == [member.path]
        assert not list(tmp_path.glob("member*"))
        assert not list(tmp_path.glob("archive*"))
        assert archive.sha256 is not None
        return found

    return run


def _listed(url: str, sha256: str | None = None) -> IndexWheel:
    _, version, build, tags = parse_wheel_filename(NAME)
    return IndexWheel(
        filename=NAME, url=url, sha256=sha256, version=version, build=build, tags=tags
    )


def _members() -> dict[str, bytes]:
    noise = random.Random(1).randbytes  # noqa: S311
    return {
        "demo/zeros.so": bytes(3_000_000),
        "demo/static.a": noise(400_000),
        "demo/noise.so": noise(700_000),
        "demo/empty.so": b"",
        "demo/text.py": b"pass\n",
        "demo-1.0.dist-info/METADATA": b"Name: demo\n",
    }


def _archive(kind: int = zipfile.ZIP_DEFLATED) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", kind) as archive:
        for name, content in _members().items():
            archive.writestr(name, content)
    return stream.getvalue()


WANTED = {name: content for name, content in _members().items() if name.endswith(".so")}


@pytest.mark.parametrize("kind", [zipfile.ZIP_DEFLATED, zipfile.ZIP_STORED])
def test_wanted_members_are_read_in_one_pass(
    serve_body: Callable[[bytes], Server], read: Callable[..., dict[str, bytes]], kind: int
) -> None:
    body = _archive(kind)
    server = serve_body(body)
    assert read(server.url, sha256=hashlib.sha256(body).hexdigest()) == WANTED
    # the end for the directory, and then everything once
    assert server.asked == ["bytes=-65536", ""]


def test_directory_that_is_longer_than_the_end_is_asked_for(
    serve_body: Callable[[bytes], Server], read: Callable[..., dict[str, bytes]]
) -> None:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for number in range(3000):
            archive.writestr(f"demo/{number:04}.so", b"%d" % number)
    server = serve_body(stream.getvalue())
    found = read(server.url)
    assert found == {f"demo/{number:04}.so": b"%d" % number for number in range(3000)}


def test_member_of_unknown_size_is_read_by_the_directory(
    serve_body: Callable[[bytes], Server], read: Callable[..., dict[str, bytes]]
) -> None:
    class Pipe(io.BytesIO):
        def seekable(self) -> bool:
            return False

        def seek(self, *_: object) -> int:
            raise io.UnsupportedOperation

    stream = Pipe()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in _members().items():
            archive.writestr(name, content)
    assert read(serve_body(stream.getvalue()).url) == WANTED


def test_member_with_a_longer_header_is_found(
    serve_body: Callable[[bytes], Server], read: Callable[..., dict[str, bytes]]
) -> None:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, content in _members().items():
            with archive.open(name, "w", force_zip64=True) as member:
                member.write(content)
    assert read(serve_body(stream.getvalue()).url) == WANTED


def test_damaged_member_is_told_where_the_index_states_no_digest(
    serve_body: Callable[[bytes], Server], read: Callable[..., dict[str, bytes]]
) -> None:
    body = bytearray(_archive(zipfile.ZIP_STORED))
    body[1_000_000] ^= 1
    with pytest.raises(IntegrityError, match=r"demo/zeros\.so in demo-1.*its size or checksum"):
        read(serve_body(bytes(body)).url)


def test_server_without_ranges_is_read_by_way_of_a_file(
    serve_body: Callable[[bytes], Server], read: Callable[..., dict[str, bytes]]
) -> None:
    body = _archive()
    server = serve_body(body)
    server.knows_ranges = False
    assert read(server.url, sha256=hashlib.sha256(body).hexdigest()) == WANTED


def test_file_on_this_machine_is_read_where_it_lies(
    read: Callable[..., dict[str, bytes]], tmp_path: Path
) -> None:
    path = tmp_path / NAME
    path.write_bytes(_archive())
    assert read(path.as_uri()) == WANTED
    assert path.exists()


def test_what_is_cut_off_goes_on_from_there(
    serve_body: Callable[[bytes], Server], read: Callable[..., dict[str, bytes]]
) -> None:
    body = _archive()
    server = serve_body(body)
    server.cuts = [300_000, 300_001, 900_000]
    assert read(server.url, sha256=hashlib.sha256(body).hexdigest()) == WANTED
    assert server.asked[1:] == ["", "bytes=300000-", "bytes=300001-", "bytes=900000-"]


def test_server_that_cuts_off_for_ever_is_given_up(
    serve_body: Callable[[bytes], Server], read: Callable[..., dict[str, bytes]]
) -> None:
    server = serve_body(_archive())
    server.cuts = [300_000] * 9
    with pytest.raises(FetchError, match=r"was cut off .* Run the command again"):
        read(server.url)


def test_server_that_begins_anew_where_it_was_cut_off_is_refused(
    serve_body: Callable[[bytes], Server], read: Callable[..., dict[str, bytes]]
) -> None:
    server = serve_body(_archive())
    server.forgets_ranges = True
    server.cuts = [300_000]
    with pytest.raises(FetchError, match="did not go on"):
        read(server.url)


def test_other_bytes_than_the_index_lists_are_told_at_the_end(
    serve_body: Callable[[bytes], Server], read: Callable[..., dict[str, bytes]]
) -> None:
    server = serve_body(_archive())
    with pytest.raises(IntegrityError, match=r"demo-1\.0.*\n *expected: sha256 abab.*\n *found"):
        read(server.url, sha256="ab" * 32)


def test_damage_anywhere_is_told(
    serve_body: Callable[[bytes], Server], read: Callable[..., dict[str, bytes]], tmp_path: Path
) -> None:
    whole = _archive()
    digest = hashlib.sha256(whole).hexdigest()
    chance = random.Random(2)  # noqa: S311
    path = tmp_path / NAME
    for _ in range(60):
        body = bytearray(whole)
        place = chance.choice([chance.randrange(len(body)), chance.randrange(3000)])
        body[place] ^= 1 << chance.randrange(8)
        path.write_bytes(body)
        with pytest.raises(IntegrityError):
            read(path.as_uri(), sha256=digest)
        for left in tmp_path.glob("member*"):
            left.unlink()


def test_archive_that_is_none_is_told(
    serve_body: Callable[[bytes], Server], read: Callable[..., dict[str, bytes]]
) -> None:
    with pytest.raises(IntegrityError, match=r"demo-1\.0.* is not a zip archive"):
        read(serve_body(b"<html>sign in</html>" * 30).url)


def test_missing_file_is_told_without_its_credentials(
    session: requests.Session, tmp_path: Path, server: object
) -> None:
    url = f"{server.url.replace('://', '://me:secret@')}/{NAME}"  # type: ignore[attr-defined]
    archive = RemoteZip(_listed(url), session=session, scratch=tmp_path)
    with pytest.raises(FetchError, match=r"\*\*\*@127.* cannot be had .*404") as caught:
        list(archive.read(lambda _: True))
    assert "secret" not in str(caught.value)
