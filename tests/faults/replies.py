"""What a server answers, as a value that a fault can change before it is sent."""

from __future__ import annotations

import dataclasses
import sys
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping


@dataclasses.dataclass(kw_only=True, slots=True)
class Asked:
    """A request as it arrived; ``status`` and ``sent`` are filled in as it is answered."""

    method: str
    path: str
    """The request's target as it was sent."""
    url: str
    """The URL upstream that it means."""
    headers: Mapping[str, str]
    """By lower-case name."""
    status: int | None = None
    sent: int = 0
    """Bytes of body that were sent."""
    outlasted: bool = False
    """Whether the client was still waiting when the server lost its patience."""

    @property
    def range(self) -> str | None:
        return self.headers.get("range")

    @property
    def authorization(self) -> str | None:
        return self.headers.get("authorization")


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Reply:
    """An answer, and how much of it is really sent."""

    status: int = 200
    headers: Mapping[str, str] = dataclasses.field(default_factory=dict)
    body: Iterable[bytes] = ()
    length: int | None = None
    """What Content-Length says; ``None``: sent in chunks."""
    is_silent: bool = False
    """Send nothing at all, and wait until the client leaves."""
    stop_at: int | None = None
    """Send so many bytes of the body, and then do what ``afterwards`` says."""
    afterwards: Literal["close", "hang"] = "close"
    pause: float = 0.0
    """Seconds between the single bytes of the body."""
    pauses: int | None = None
    """After how many bytes the rest is sent at once."""

    def content(self) -> bytes:
        return b"".join(self.body)

    def with_content(self, content: bytes) -> Reply:
        """Replace the body; the length follows it."""
        return dataclasses.replace(self, body=(content,), length=len(content))

    def with_headers(self, **headers: str) -> Reply:
        """Set headers: ``Retry_After="0"``."""
        changed = {name.replace("_", "-"): value for name, value in headers.items()}
        return dataclasses.replace(self, headers={**self.headers, **changed})


def text_reply(status: int, text: str, **headers: str) -> Reply:
    content = text.encode()
    plain = Reply(status=status, body=(content,), length=len(content))
    return plain.with_headers(Content_Type="text/plain; charset=utf-8", **headers)


def pieces(reply: Reply) -> Iterator[bytes]:
    """Yield the body as far as it is sent, byte by byte where there are pauses."""
    left = reply.stop_at
    single = (reply.pauses if reply.pauses is not None else sys.maxsize) if reply.pause else 0
    for chunk in reply.body:
        taken = chunk if left is None else chunk[:left]
        if left is not None:
            left -= len(taken)
        alone = min(single, len(taken))
        single -= alone
        yield from (taken[place : place + 1] for place in range(alone))
        if alone < len(taken):
            yield taken[alone:]
        if left == 0:
            return
