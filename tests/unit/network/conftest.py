"""A loopback server that answers as it is told, and git repositories made on the spot."""

from __future__ import annotations

import dataclasses
import http.server
import os
import subprocess
import threading
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Answer:
    body: bytes
    status: int
    content_type: str
    headers: dict[str, str]
    cut_at: int | None


class Server:
    """Gives each path its answers in turn, the last one for ever; notes what was asked."""

    def __init__(self) -> None:
        self.url = ""
        self.asked: list[str] = []
        self.authorizations: list[str | None] = []
        self._answers: dict[str, list[_Answer]] = {}

    def answer(
        self,
        path: str,
        body: bytes | str = b"",
        *,
        status: int = 200,
        content_type: str = "application/octet-stream",
        headers: dict[str, str] | None = None,
        cut_at: int | None = None,
    ) -> None:
        """Add the next answer to ``path``; ``cut_at`` ends the connection within the body."""
        answer = _Answer(
            body=body.encode() if isinstance(body, str) else body,
            status=status,
            content_type=content_type,
            headers=headers or {},
            cut_at=cut_at,
        )
        self._answers.setdefault(path, []).append(answer)

    def next_answer(self, path: str) -> _Answer:
        missing = _Answer(body=b"", status=404, content_type="", headers={}, cut_at=None)
        waiting = self._answers.get(path, [missing])
        return waiting.pop(0) if len(waiting) > 1 else waiting[0]


def _handler(server: Server) -> type[http.server.BaseHTTPRequestHandler]:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            server.asked.append(self.path)
            server.authorizations.append(self.headers["Authorization"])
            answer = server.next_answer(self.path)
            self.send_response(answer.status)
            self.send_header("Content-Type", answer.content_type)
            self.send_header("Content-Length", str(len(answer.body)))
            for name, value in answer.headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(answer.body[: answer.cut_at])

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            pass

    return Handler


@pytest.fixture
def serve() -> Iterator[type[Server]]:
    """Make servers on loopback: ``serve()`` returns one that runs until the test ends."""
    running: list[http.server.ThreadingHTTPServer] = []

    class Running(Server):
        def __init__(self) -> None:
            super().__init__()
            running.append(http.server.ThreadingHTTPServer(("127.0.0.1", 0), _handler(self)))
            self.url = f"http://127.0.0.1:{running[-1].server_address[1]}"
            threading.Thread(target=running[-1].serve_forever, args=(0.01,), daemon=True).start()

    yield Running
    for one in running:
        one.shutdown()
        one.server_close()


@pytest.fixture
def server(serve: type[Server]) -> Server:
    return serve()


@pytest.fixture
def env(tmp_path: Path) -> dict[str, str]:
    """The environment of somebody who has configured nothing."""
    home = tmp_path / "home"
    home.mkdir()
    return {"PATH": os.environ["PATH"], "HOME": str(home)}


class Repository:
    """A git repository to fetch from."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.mkdir(parents=True)
        self.git("init", "--quiet", "--initial-branch=main")

    def git(self, *arguments: str) -> str:
        who = ["-c", "user.name=A", "-c", "user.email=a@b", "-c", "protocol.file.allow=always"]
        kept = {"PATH": os.environ["PATH"], "GIT_CONFIG_GLOBAL": "/dev/null", "LC_ALL": "C"}
        command = ["git", *who, *arguments]
        return subprocess.run(
            command, cwd=self.path, env=kept, check=True, capture_output=True, text=True
        ).stdout.strip()

    def write(self, name: str, text: str) -> None:
        (self.path / name).parent.mkdir(parents=True, exist_ok=True)
        (self.path / name).write_text(text)

    def commit(self, **files: str) -> str:
        """Commit the files (``a__b`` is ``a.b``) and all else that was written."""
        for name, text in files.items():
            self.write(name.replace("__", "."), text)
        self.git("add", "--all")
        self.git("commit", "--quiet", "--message", "change")
        return self.git("rev-parse", "HEAD")


@pytest.fixture
def make_repository(tmp_path: Path) -> Callable[[str], Repository]:
    return lambda name: Repository(tmp_path / "upstream" / name)
