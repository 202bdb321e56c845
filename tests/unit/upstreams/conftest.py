"""A loopback server whose answers a test may change, and an empty configuration."""

from __future__ import annotations

import http.server
import os
import threading
from typing import TYPE_CHECKING

import pytest

from wheelyard.network.opening import UserSettings, open_settings

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class Answers:
    """What the server says: by path with query, a body or a status; all else is 404."""

    def __init__(self) -> None:
        self.url = ""
        self.bodies: dict[str, bytes | int] = {}
        self.types: dict[str, str] = {}
        self.asked: list[str] = []
        self.tokens: list[str | None] = []

    def put_folder(self, folder: Path, prefix: str = "/") -> None:
        for path in folder.rglob("*"):
            if path.is_file():
                name = path.relative_to(folder).as_posix()
                self.bodies[f"{prefix}{name}"] = path.read_bytes()
                if name.endswith("index.html"):
                    self.bodies[f"{prefix}{name.removesuffix('index.html')}"] = path.read_bytes()


@pytest.fixture
def answers() -> Iterator[Answers]:
    """Serve on loopback until the test ends."""
    given = Answers()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            given.asked.append(self.path)
            given.tokens.append(self.headers["Authorization"])
            answer = given.bodies.get(self.path, 404)
            body = answer if isinstance(answer, bytes) else b""
            self.send_response(200 if isinstance(answer, bytes) else answer)
            self.send_header("Content-Type", given.types.get(self.path, "text/plain"))
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    given.url = f"http://127.0.0.1:{server.server_address[1]}"
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield given
    server.shutdown()
    server.server_close()


@pytest.fixture
def settings(tmp_path: Path, answers: Answers) -> UserSettings:
    """Return the settings of somebody who reaches GitHub's API at that server only."""
    env = {"HOME": str(tmp_path / "home"), "PATH": os.environ["PATH"], "GH_TOKEN": "secret"}
    words = (f"github-proxies=api.github.com={answers.url}", "direct=never", "attempts=1")
    return open_settings(env, options=words, cwd=tmp_path)
