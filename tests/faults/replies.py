"""What a server answers, as a value that a fault can change before it is sent."""

from __future__ import annotations

import dataclasses
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


def pieces(content: Iterable[bytes], *, stop_at: int | None, size: int | None) -> Iterator[bytes]:
    """Yield the body up to ``stop_at``, in pieces of at most ``size``."""
    left = stop_at
    for chunk in content:
        taken = chunk if left is None else chunk[:left]
        if left is not None:
            left -= len(taken)
        step = size or max(len(taken), 1)
        yield from (taken[start : start + step] for start in range(0, len(taken), step))
        if left == 0:
            return
