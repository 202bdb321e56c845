"""A server on loopback that stands for upstream or for a proxy, and fails as it is told.

It understands ``/https://host/path`` (a prefix proxy), ``/path`` below a base URL (a mirror, or a
host that takes another's place), and as an ordinary proxy ``GET http://host/path`` and ``CONNECT``.
"""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import http.server
import re
import select
import socket
import ssl
import threading
import time
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, Literal

from faults.faults import Fault, asks_who_it_is
from faults.replies import Asked, Reply, pieces, text_reply
from faults.world import basic

if TYPE_CHECKING:
    from collections.abc import Iterator

    from faults.world import World

_LOOK = 0.05
"""Seconds between two looks whether a client that is kept waiting has left."""
PATIENCE = 30.0
"""Seconds until a client that does not leave a stalled or dripping answer is sent away."""


@dataclasses.dataclass(kw_only=True, slots=True)
class _Rule:
    pattern: str
    fault: Fault
    method: str
    left: int | None
    skip: int

    def takes(self, asked: Asked) -> bool:
        """Whether this request is one of those that the rule is for; counts it."""
        if not fnmatchcase(asked.url, self.pattern) or self.method not in {"*", asked.method}:
            return False
        if self.skip:
            self.skip -= 1
            return False
        if self.left is None:
            return True
        self.left -= 1
        return self.left >= 0


class FaultProxy:
    """Serves a world from the moment it is made until it is closed; notes what was asked."""

    def __init__(
        self,
        world: World,
        *,
        base: str = "",
        certificate: ssl.SSLContext | None = None,
        tunnel: ssl.SSLContext | Literal["open"] | None = None,
    ) -> None:
        """``base`` is the URL that plain paths lie below; ``certificate`` makes it speak TLS.

        ``tunnel`` ends the TLS of what is asked through CONNECT here, in the world; without one
        CONNECT is refused.
        """
        self.world = world
        self.base = base
        self.tunnel = tunnel
        self.asked: list[Asked] = []
        self.password: tuple[str, str] | None = None
        """Name and password, where the proxy itself wants them."""
        self.stopped = threading.Event()
        self._rules: list[_Rule] = []
        self._lock = threading.Lock()
        self._server = _Server(self, certificate)
        scheme = "https" if certificate else "http"
        self.url = f"{scheme}://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def inject(
        self,
        fault: Fault,
        pattern: str = "*",
        *,
        method: str = "*",
        times: int | None = None,
        skip: int = 0,
    ) -> None:
        """Answer with ``fault`` what is asked of URLs like ``pattern``, after ``skip`` requests."""
        rule = _Rule(pattern=pattern, fault=fault, method=method, left=times, skip=skip)
        self._rules.append(rule)

    def heal(self) -> None:
        self._rules.clear()

    def close(self) -> None:
        self.stopped.set()
        self._server.shutdown()
        self._server.server_close()

    def urls(self, method: str | None = None) -> list[str]:
        """Return the URLs upstream that were asked for, in order."""
        return [asked.url for asked in self.asked if method in {None, asked.method}]

    def saw(self, secret: str) -> bool:
        """Whether any request brought ``secret``, as it is or in Basic credentials."""
        texts = [text for asked in self.asked for text in (asked.path, *asked.headers.values())]
        coded = [text.removeprefix("Basic ") for text in texts if text.startswith("Basic ")]
        return any(secret in text for text in (*texts, *map(_decoded, coded)))

    def answer(self, asked: Asked, request_body: Iterator[bytes]) -> Reply:
        self.asked.append(asked)
        with self._lock:
            fault = next((rule.fault for rule in self._rules if rule.takes(asked)), None)
        if self.password is not None and asked.authorization != basic(*self.password):
            fault = asks_who_it_is()
        if fault is None:
            return self.world.answer(asked, request_body)
        if fault.instead is not None:
            for _ in request_body:
                pass
            return fault.instead(asked)
        headers = {
            name: value for name, value in asked.headers.items() if name not in fault.forgets
        }
        if fault.request is not None:
            request_body = iter([fault.request(b"".join(request_body))])
        url = fault.url(asked.url) if fault.url is not None else asked.url
        reply = self.world.answer(
            dataclasses.replace(asked, url=url, headers=headers), request_body
        )
        return fault.change(asked, reply) if fault.change is not None else reply


def _decoded(text: str) -> str:
    return base64.b64decode(text).decode()


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 64

    def __init__(self, proxy: FaultProxy, certificate: ssl.SSLContext | None) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.proxy = proxy
        if certificate is not None:
            # the handshake is made in the connection's own thread, when it first reads
            self.socket = certificate.wrap_socket(
                self.socket, server_side=True, do_handshake_on_connect=False
            )

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing: clients that leave, and handshakes that they refuse, are what is tested."""


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1
    base: str | None = None

    @property
    def proxy(self) -> FaultProxy:
        assert isinstance(self.server, _Server)
        return self.server.proxy

    def do_GET(self) -> None:
        asked = self._asked()
        self._send(asked, self.proxy.answer(asked, self._request_body()))

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_POST(self) -> None:
        self.do_GET()

    def do_CONNECT(self) -> None:
        proxy, asked = self.proxy, self._asked()
        proxy.asked.append(asked)
        if not isinstance(proxy.tunnel, ssl.SSLContext):
            self._send(asked, text_reply(403, "no tunnels here"))
            return
        self.send_response_only(200, "Connection established")
        self.end_headers()
        self.wfile.flush()
        self.base = f"https://{self.path.removesuffix(':443')}"
        self.connection = self.request = proxy.tunnel.wrap_socket(self.connection, server_side=True)
        self.setup()
        self.close_connection = False

    def _asked(self) -> Asked:
        base = self.proxy.base if self.base is None else self.base
        prefixed = re.fullmatch(r"/(https?):/{1,2}(.*)", self.path)
        if prefixed:
            url = f"{prefixed[1]}://{prefixed[2]}"
        else:
            url = self.path if "://" in self.path else f"{base}{self.path}"
        headers = {name.lower(): value for name, value in self.headers.items()}
        return Asked(method=self.command, path=self.path, url=url, headers=headers)

    def _request_body(self) -> Iterator[bytes]:
        if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
            while size := int(self.rfile.readline().split(b";")[0], 16):
                yield self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return
        left = int(self.headers.get("Content-Length") or 0)
        while left and (chunk := self.rfile.read(min(left, 1 << 16))):
            left -= len(chunk)
            yield chunk

    def _send(self, asked: Asked, reply: Reply) -> None:
        asked.status = reply.status
        if reply.is_silent:
            self._wait_for_the_client_to_leave(asked)
            return
        self.send_response(reply.status)
        for name, value in reply.headers.items():
            self.send_header(name, value)
        is_chunked = reply.length is None
        if is_chunked:
            self.send_header("Transfer-Encoding", "chunked")
        else:
            self.send_header("Content-Length", str(reply.length))
        self.end_headers()
        if self.command != "HEAD":
            self._send_body(asked, reply, is_chunked=is_chunked)

    def _send_body(self, asked: Asked, reply: Reply, *, is_chunked: bool) -> None:
        end = time.monotonic() + PATIENCE
        for piece in pieces(reply):
            asked.sent += len(piece)
            framed = (b"%x\r\n" % len(piece), piece, b"\r\n") if is_chunked else (piece,)
            for part in framed:
                self.wfile.write(part)
            if len(piece) == 1 and reply.pause and self._pauses(asked, reply.pause, end=end):
                return
        if reply.stop_at is None and is_chunked:
            self.wfile.write(b"0\r\n\r\n")
        self.wfile.flush()
        if reply.stop_at is not None and reply.afterwards == "hang":
            self._wait_for_the_client_to_leave(asked)
        if reply.stop_at is not None:
            self.close_connection = True

    def _pauses(self, asked: Asked, seconds: float, *, end: float) -> bool:
        """Wait between two bytes; return whether that was the last one."""
        self.wfile.flush()
        asked.outlasted = time.monotonic() > end
        self.close_connection = self.proxy.stopped.wait(seconds) or asked.outlasted
        return self.close_connection

    def _wait_for_the_client_to_leave(self, asked: Asked) -> None:
        self.close_connection = True
        end = time.monotonic() + PATIENCE
        while not self.proxy.stopped.is_set() and not asked.outlasted:
            if select.select([self.connection], [], [], _LOOK)[0]:
                return
            asked.outlasted = time.monotonic() > end

    def finish(self) -> None:
        with contextlib.suppress(OSError):
            super().finish()
        with contextlib.suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)
        self.connection.close()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002, ANN401
        pass
