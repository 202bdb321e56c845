"""Certificates for servers on loopback: good ones, and those that must be refused."""

from __future__ import annotations

import datetime as dt
import ssl
from typing import TYPE_CHECKING

import trustme

if TYPE_CHECKING:
    from pathlib import Path

_LONG_AGO = dt.datetime(2020, 1, 1, tzinfo=dt.UTC)


class Certificates:
    """A certificate authority that clients are told to trust, and one that they are not."""

    def __init__(self, folder: Path) -> None:
        self._trusted = trustme.CA()
        self._unknown = trustme.CA()
        self.authority = folder / "authority.pem"
        self._trusted.cert_pem.write_to_path(str(self.authority))

    def good(self, *names: str) -> ssl.SSLContext:
        return _context(self._trusted.issue_cert(*(names or ("127.0.0.1",))))

    def expired(self) -> ssl.SSLContext:
        end = _LONG_AGO + dt.timedelta(days=30)
        return _context(self._trusted.issue_cert("127.0.0.1", not_before=_LONG_AGO, not_after=end))

    def unknown(self) -> ssl.SSLContext:
        return _context(self._unknown.issue_cert("127.0.0.1"))

    def of_another_host(self) -> ssl.SSLContext:
        return _context(self._trusted.issue_cert("other.example"))


def _context(leaf: trustme.LeafCert) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    leaf.configure_cert(context)
    return context
