"""A SOCKS 5 proxy on loopback that leads every host to one server; notes the hosts."""

from __future__ import annotations

import contextlib
import select
import socket
import socketserver
import threading


class SocksProxy:
    """Runs from the moment it is made until it is closed."""

    def __init__(self, port: int) -> None:
        self.port = port
        """Of the server on loopback that stands for all hosts."""
        self.hosts: list[str] = []
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.proxy = self
        self.url = f"socks5h://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    block_on_close = False
    proxy: SocksProxy


class _Handler(socketserver.StreamRequestHandler):
    rbufsize = 0

    def handle(self) -> None:
        assert isinstance(self.server, _Server)
        proxy = self.server.proxy
        _version, count = self._read(2)
        self._read(count)
        self.connection.sendall(b"\x05\x00")  # no authentication
        _version, _command, _reserved, kind = self._read(4)
        if kind == 3:
            host = self._read(self._read(1)[0]).decode()
        else:
            host = socket.inet_ntoa(self._read(4))
        self._read(2)
        proxy.hosts.append(host)
        with socket.create_connection(("127.0.0.1", proxy.port)) as upstream:
            self.connection.sendall(b"\x05\x00\x00\x01\x7f\x00\x00\x01\x00\x00")
            with contextlib.suppress(OSError):
                _join(self.connection, upstream)

    def _read(self, size: int) -> bytes:
        content = b""
        while len(content) < size and (chunk := self.connection.recv(size - len(content))):
            content += chunk
        return content


def _join(one: socket.socket, other: socket.socket) -> None:
    """Carry bytes both ways until either side closes."""
    while True:
        for ready in select.select([one, other], [], [])[0]:
            chunk = ready.recv(1 << 16)
            if not chunk:
                return
            (other if ready is one else one).sendall(chunk)
