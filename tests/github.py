"""A GitHub of this machine: the part of its API that releases need, with its limits and faults."""

from __future__ import annotations

import dataclasses
import hashlib
import http.server
import itertools
import json
import os
import re
import signal
import threading
import time
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import parse_qs, quote, unquote, urlsplit

if TYPE_CHECKING:
    from collections.abc import Iterator

MOST_ASSETS = 1000
TOKEN = "a-token"
_ODD = re.compile(r"[^A-Za-z0-9._+@-]")


@dataclasses.dataclass(kw_only=True)
class Asset:
    identifier: int
    name: str
    content: bytes
    state: str = "uploaded"


@dataclasses.dataclass(kw_only=True)
class Release:
    identifier: int
    tag: str
    draft: bool = False
    assets: dict[int, Asset] = dataclasses.field(default_factory=dict)


class GithubDouble:
    """The server's state; a test may change it, and say what goes wrong at which request."""

    def __init__(self, repository: str = "owner/wheels") -> None:
        self.repository = repository
        self.releases: list[Release] = []
        self.tells_digests = True
        self.per_page_at_most = 100
        self.faults: dict[int, str] = {}
        """By the number of the request, counted from 1."""
        self.requests = 0
        self.log: list[str] = []
        self.left = 5000
        """Requests before the rate limit refuses."""
        self.limit_lasts = 1.0
        self.limited_until = 0.0
        self.victim = 0
        """The process that a fault named ``kill-...`` ends."""
        self.lock = threading.RLock()
        self._numbers = itertools.count(1)
        handler = type("Handler", (_Handler,), {"double": self})
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def __enter__(self) -> Self:
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_error: object) -> None:
        self.server.shutdown()
        self.server.server_close()

    @property
    def env(self) -> dict[str, str]:
        return {"GITHUB_API_URL": self.url, "GITHUB_TOKEN": TOKEN}

    def names(self) -> list[str]:
        """Return the names of all whole assets, as often as they are there."""
        return sorted(asset.name for asset in self._assets() if asset.state == "uploaded")

    def content(self, name: str) -> bytes:
        return next(asset.content for asset in self._assets() if asset.name == name)

    def _assets(self) -> Iterator[Asset]:
        with self.lock:
            for release in self.releases:
                yield from list(release.assets.values())

    def number(self) -> int:
        return next(self._numbers)

    def add_release(self, tag: str) -> Release:
        release = Release(identifier=self.number(), tag=tag)
        self.releases.append(release)
        return release

    def add_asset(self, release: Release, name: str, content: bytes, state: str) -> Asset:
        asset = Asset(identifier=self.number(), name=name, content=content, state=state)
        release.assets[asset.identifier] = asset
        return asset


class _Handler(http.server.BaseHTTPRequestHandler):
    double: GithubDouble
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass

    def do_GET(self) -> None:
        self._handle()

    def do_POST(self) -> None:
        self._handle()

    def do_DELETE(self) -> None:
        self._handle()

    def _handle(self) -> None:
        double = self.double
        with double.lock:
            double.requests += 1
            fault = double.faults.get(double.requests, "")
            double.log.append(f"{self.command} {urlsplit(self.path).path}")
        if fault == "kill-before":
            self._kill()
            return
        if fault.isdigit():
            self._drop_body()
            self._answer(int(fault), {"message": "Server Error"})
            return
        path = urlsplit(self.path).path
        if "/releases/download/" in path:
            self._public(path)
            return
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            self._drop_body()
            self._answer(401, {"message": "Bad credentials"})
            return
        if self._is_limited():
            return
        self._route(path, fault)

    def _route(self, path: str, fault: str) -> None:
        base = f"/repos/{self.double.repository}/releases"
        match self.command, path.removeprefix(base).strip("/").split("/"):
            case "GET", [""] if path == base:
                self._page([self._release(item) for item in self.double.releases])
            case "POST", [""] if path == base:
                self._create(json.loads(self._body()), fault)
            case "GET", [number, "assets"]:
                release = self._find(int(number))
                with self.double.lock:
                    self._page([self._asset(release, item) for item in release.assets.values()])
            case "GET", ["assets", number]:
                self._download(int(number))
            case "DELETE", ["assets", number]:
                self._delete(int(number), fault)
            case "POST", _ if path.startswith("/upload/"):
                self._upload(int(path.split("/")[-2]), fault)
            case _:
                self._drop_body()
                self._answer(404, {"message": "Not Found"})

    def _is_limited(self) -> bool:
        double = self.double
        with double.lock:
            now = time.time()
            if double.left <= 0 and not double.limited_until:
                double.limited_until = now + double.limit_lasts
            if double.limited_until:
                if now < double.limited_until:
                    self._drop_body()
                    headers = {
                        "X-RateLimit-Remaining": "0",
                        "X-RateLimit-Reset": str(int(double.limited_until) + 1),
                    }
                    self._answer(403, {"message": "API rate limit exceeded"}, headers)
                    return True
                double.limited_until, double.left = 0.0, 5000
            double.left -= 1
        return False

    def _create(self, body: dict[str, Any], fault: str) -> None:
        with self.double.lock:
            if any(item.tag == body["tag_name"] for item in self.double.releases):
                self._invalid("Release", "already_exists", "tag_name")
                return
            release = self.double.add_release(body["tag_name"])
        if fault == "kill-after":
            self._kill()
            return
        self._answer(201, self._release(release))

    def _upload(self, number: int, fault: str) -> None:
        double, release = self.double, self._find(number)
        name = _ODD.sub(".", parse_qs(urlsplit(self.path).query)["name"][0])
        size = int(self.headers["Content-Length"])
        with double.lock:
            if any(item.name == name for item in release.assets.values()):
                self._drop_body()
                self._invalid("ReleaseAsset", "already_exists", "name")
                return
            if len(release.assets) >= MOST_ASSETS or size >= 2 << 30:
                self._drop_body()
                self._invalid("ReleaseAsset", "custom", "size or file_count")
                return
            asset = double.add_asset(release, name, b"", "starter")
        if fault in {"cut", "kill-half"}:
            self.rfile.read(size // 2)
            if fault == "kill-half":
                os.kill(double.victim, signal.SIGKILL)
            self._hang_up()
            return
        content = self.rfile.read(size)
        if len(content) < size:
            self._hang_up()
            return
        with double.lock:
            asset.content, asset.state = content, "uploaded"
        if fault == "kill-after":
            self._kill()
        elif fault == "no-answer":
            self._hang_up()
        else:
            self._answer(201, self._asset(release, asset))

    def _delete(self, number: int, fault: str) -> None:
        with self.double.lock:
            for release in self.double.releases:
                release.assets.pop(number, None)
        if fault == "kill-after":
            self._kill()
            return
        self.send_response(204)
        self.end_headers()

    def _download(self, number: int) -> None:
        for release in self.double.releases:
            if number in release.assets:
                location = self._asset(release, release.assets[number])["browser_download_url"]
                self.send_response(302)
                self.send_header("Location", location)
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
        self._answer(404, {"message": "Not Found"})

    def _public(self, path: str) -> None:
        tag, name = path.split("/releases/download/")[1].split("/")
        for release in self.double.releases:
            for asset in release.assets.values():
                if release.tag == unquote(tag) and asset.name == unquote(name):
                    self.send_response(200)
                    self.send_header("Content-Length", str(len(asset.content)))
                    self.end_headers()
                    self.wfile.write(asset.content)
                    return
        self._answer(404, {"message": "Not Found"})

    def _find(self, number: int) -> Release:
        return next(item for item in self.double.releases if item.identifier == number)

    def _release(self, release: Release) -> dict[str, object]:
        upload = f"{self.double.url}/upload/repos/{self.double.repository}/releases"
        return {
            "assets": [],
            "draft": release.draft,
            "id": release.identifier,
            "tag_name": release.tag,
            "upload_url": f"{upload}/{release.identifier}/assets{{?name,label}}",
        }

    def _asset(self, release: Release, asset: Asset) -> dict[str, Any]:
        place = f"{self.double.url}/{self.double.repository}/releases/download"
        digest = f"sha256:{hashlib.sha256(asset.content).hexdigest()}"
        return {
            "browser_download_url": f"{place}/{quote(release.tag)}/{quote(asset.name)}",
            "digest": digest if self.double.tells_digests else None,
            "id": asset.identifier,
            "name": asset.name,
            "size": len(asset.content),
            "state": asset.state,
        }

    def _page(self, items: list[dict[str, object]]) -> None:
        query = parse_qs(urlsplit(self.path).query)
        size = min(int(query.get("per_page", ["30"])[0]), self.double.per_page_at_most)
        page = int(query.get("page", ["1"])[0])
        headers = {}
        if page * size < len(items):
            path = urlsplit(self.path).path
            url = f"{self.double.url}{path}?per_page={size}&page={page + 1}"
            headers["Link"] = f'<{url}>; rel="next"'
        self._answer(200, items[(page - 1) * size : page * size], headers)

    def _invalid(self, resource: str, code: str, field: str) -> None:
        error = {"code": code, "field": field, "resource": resource}
        self._answer(422, {"errors": [error], "message": "Validation Failed"})

    def _answer(self, status: int, body: object, headers: dict[str, str] | None = None) -> None:
        text = json.dumps(body).encode()
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def _body(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length", "0")))

    def _drop_body(self) -> None:
        self._body()

    def _kill(self) -> None:
        os.kill(self.double.victim, signal.SIGKILL)
        self._hang_up()

    def _hang_up(self) -> None:
        self.close_connection = True
        self.connection.close()
