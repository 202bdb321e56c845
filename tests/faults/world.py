"""Upstream on loopback: files and git repositories by the URLs that recipes name."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import os
import re
import subprocess
import threading
from email.utils import formatdate
from typing import IO, TYPE_CHECKING
from urllib.parse import urlsplit

from faults.replies import Asked, Reply, text_reply

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_CHUNK = 1 << 20
_GIT_CONFIG = {
    "http.receivepack": "false",
    "safe.directory": "*",
    "uploadpack.allowFilter": "true",
}


class World:
    """What exists upstream; one world stands behind many proxies."""

    def __init__(self) -> None:
        self.files: dict[str, bytes | Path] = {}
        self.repositories: dict[str, Path] = {}
        self.passwords: dict[str, tuple[str, str]] = {}
        """Name and password by host, for hosts that ask for them."""

    def repository(self, url: str) -> tuple[Path, str] | None:
        """Return the bare repository that a URL's path lies in, and the rest of the path."""
        for base, folder in self.repositories.items():
            found = re.fullmatch(rf"{re.escape(base)}(?:\.git)?(/.*)", url.partition("?")[0])
            if found:
                return folder, found[1]
        return None

    def answer(self, asked: Asked, request_body: Iterator[bytes]) -> Reply:
        host = urlsplit(asked.url).hostname or ""
        if host in self.passwords and asked.authorization != basic(*self.passwords[host]):
            return text_reply(401, "who are you?", WWW_Authenticate='Basic realm="upstream"')
        content = self.files.get(asked.url)
        if content is not None:
            return _file_reply(asked, content)
        found = self.repository(asked.url)
        if found is not None:
            return _git_reply(asked, *found, request_body=request_body)
        return text_reply(404, f"there is no {asked.url}")


def basic(name: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{name}:{password}".encode()).decode()


def _file_reply(asked: Asked, content: bytes | Path) -> Reply:
    size = len(content) if isinstance(content, bytes) else content.stat().st_size
    tag, modified = _validators(content)
    whole = Reply(body=_read(content, 0, size), length=size).with_headers(
        Accept_Ranges="bytes",
        Content_Type=_content_type(asked.url),
        ETag=tag,
        Last_Modified=modified,
    )
    condition = asked.headers.get("if-range")
    wanted = re.fullmatch(r"bytes=(\d*)-(\d*)", asked.range or "")
    if wanted is None or condition not in {None, tag, modified}:
        return whole
    if wanted[1]:
        first, last = int(wanted[1]), min(int(wanted[2] or size), size - 1)
    else:
        first, last = max(size - int(wanted[2]), 0), size - 1
    if first > last:
        return text_reply(416, "no such range", Content_Range=f"bytes */{size}")
    part = Reply(
        status=206,
        headers=whole.headers,
        body=_read(content, first, last + 1),
        length=last + 1 - first,
    )
    return part.with_headers(Content_Range=f"bytes {first}-{last}/{size}")


def _content_type(url: str) -> str:
    types = {"/": "text/html", "json": "application/json"}
    return next(
        (kind for end, kind in types.items() if url.endswith(end)), "application/octet-stream"
    )


def _validators(content: bytes | Path) -> tuple[str, str]:
    if isinstance(content, bytes):
        return f'"{hashlib.sha256(content).hexdigest()[:16]}"', formatdate(1e9, usegmt=True)
    status = content.stat()
    tag = f'"{status.st_size:x}-{status.st_mtime_ns:x}"'
    return tag, formatdate(status.st_mtime, usegmt=True)


def _read(content: bytes | Path, start: int, end: int) -> Iterator[bytes]:
    if isinstance(content, bytes):
        yield content[start:end]
        return
    with content.open("rb") as stream:
        stream.seek(start)
        while start < end and (chunk := stream.read(min(_CHUNK, end - start))):
            start += len(chunk)
            yield chunk


def _git_reply(asked: Asked, folder: Path, rest: str, *, request_body: Iterator[bytes]) -> Reply:
    """Let ``git http-backend`` answer, as a web server does."""
    child = subprocess.Popen(
        ["git", "http-backend"],
        env=_cgi_environment(asked, folder, rest),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    assert child.stdin is not None
    assert child.stdout is not None
    feeder = threading.Thread(target=_feed, args=(child.stdin, request_body), daemon=True)
    feeder.start()
    headers = {}
    while line := child.stdout.readline().decode("latin-1").strip():
        name, _, value = line.partition(":")
        headers[name] = value.strip()
    status = int(headers.pop("Status", "200").split()[0])
    return Reply(status=status, headers=headers, body=_output(child, feeder))


def _cgi_environment(asked: Asked, folder: Path, rest: str) -> dict[str, str]:
    # a client that asks in the old way is answered as a server of old would
    is_new = "git-protocol" in asked.headers
    settings = _GIT_CONFIG | {"uploadpack.allowAnySHA1InWant": str(is_new).lower()}
    config = {"GIT_CONFIG_COUNT": str(len(settings))}
    for number, (key, value) in enumerate(settings.items()):
        config |= {f"GIT_CONFIG_KEY_{number}": key, f"GIT_CONFIG_VALUE_{number}": value}
    return config | {
        "CONTENT_TYPE": asked.headers.get("content-type", ""),
        "GIT_CONFIG_GLOBAL": "/dev/null",
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_HTTP_EXPORT_ALL": "1",
        "GIT_PROJECT_ROOT": os.fspath(folder),
        "GIT_PROTOCOL": asked.headers.get("git-protocol", ""),
        "HTTP_CONTENT_ENCODING": asked.headers.get("content-encoding", ""),
        "PATH": os.environ["PATH"],
        "PATH_INFO": rest,
        "QUERY_STRING": urlsplit(asked.url).query,
        "REMOTE_ADDR": "127.0.0.1",
        "REQUEST_METHOD": asked.method,
    }


def _feed(stream: IO[bytes], request_body: Iterator[bytes]) -> None:
    with contextlib.suppress(OSError), stream:
        for chunk in request_body:
            stream.write(chunk)


def _output(child: subprocess.Popen[bytes], feeder: threading.Thread) -> Iterator[bytes]:
    assert child.stdout is not None
    try:
        with child.stdout:
            while chunk := child.stdout.read1(_CHUNK):  # type: ignore[attr-defined]
                yield chunk
    finally:
        child.kill()
        child.wait()
        feeder.join()
