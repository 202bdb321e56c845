"""What can go wrong between here and upstream, each as a change of one answer."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, TypeAlias

from faults.replies import Asked, Reply, text_reply

if TYPE_CHECKING:
    from collections.abc import Callable

Instead: TypeAlias = "Callable[[Asked], Reply]"
Change: TypeAlias = "Callable[[Asked, Reply], Reply]"

HTML = "<!DOCTYPE html><html><head><title>Sign in</title></head><body>Please sign in.</body></html>"


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Fault:
    """Answers ``instead`` of upstream, or lets upstream answer (another URL) and changes that."""

    name: str
    instead: Instead | None = None
    url: Callable[[str], str] | None = None
    change: Change | None = None
    forgets: tuple[str, ...] = ()
    """The request's headers that do not reach upstream."""
    request: Callable[[bytes], bytes] | None = None
    """Changes the request's body."""

    def __str__(self) -> str:
        return self.name


def _always(name: str, reply: Reply) -> Fault:
    return Fault(name=name, instead=lambda _asked: reply)


def stall() -> Fault:
    """Accept the request and send nothing, for ever."""
    return _always("stall", Reply(is_silent=True))


def stall_within(at: int) -> Fault:
    """Send ``at`` bytes of the body and then nothing, with the connection left open."""
    return _changing(
        "stall-within", lambda reply: dataclasses.replace(reply, stop_at=at, afterwards="hang")
    )


def cut(at: int) -> Fault:
    """Close the connection after ``at`` bytes of the body."""
    return _changing("cut", lambda reply: dataclasses.replace(reply, stop_at=at))


def header_only() -> Fault:
    """Send the headers, and close."""
    return dataclasses.replace(cut(0), name="header-only")


def drip(pause: float, *, count: int | None = None) -> Fault:
    """Send one byte at a time, ``pause`` seconds apart; after ``count`` of them as always."""
    return _changing("drip", lambda reply: dataclasses.replace(reply, pause=pause, pauses=count))


def html() -> Fault:
    """Answer 200 with a page for people."""
    reply = text_reply(200, HTML).with_headers(Content_Type="text/html; charset=utf-8")
    return _always("html", reply)


def status(number: int, *, retry_after: str | None = None) -> Fault:
    """Answer with an error status."""
    reply = text_reply(number, f"status {number}")
    if retry_after is not None:
        reply = reply.with_headers(Retry_After=retry_after)
    return _always(str(number), reply)


def redirect_to(url: str) -> Fault:
    """Redirect to one place."""
    return _always("redirect-to", text_reply(302, "see there", Location=url))


def moved(old: str, new: str) -> Fault:
    """Redirect to another path on the same server."""

    def answer(asked: Asked) -> Reply:
        return text_reply(301, "moved", Location=asked.path.replace(old, new))

    return Fault(name="moved", instead=answer)


def asks_who_it_is() -> Fault:
    """Answer 401, as a server does that wants credentials."""
    reply = text_reply(401, "who are you?", WWW_Authenticate='Basic realm="proxy"')
    return _always("401", reply)


def wrong_bytes() -> Fault:
    """Flip a byte: of a git pack if there is one in the body, else in the middle."""
    return _changing("wrong-bytes", lambda reply: reply.with_content(_flipped(reply.content())))


def wrong_start(at: int) -> Fault:
    """Send ``at`` bytes of which one is wrong, and close; what is asked for later is right."""

    def change(asked: Asked, reply: Reply) -> Reply:
        if asked.range is not None:
            return reply
        content = reply.content()
        return dataclasses.replace(reply, body=(_flipped(content, at // 2),), stop_at=at)

    return Fault(name="wrong-start", change=change)


def truncated() -> Fault:
    """Send half the body, with a Content-Length that says so."""

    def change(reply: Reply) -> Reply:
        content = reply.content()
        return reply.with_content(content[: len(content) // 2])

    return _changing("truncated", change)


def endless(piece: bytes = bytes(1 << 16), *, count: int = 1 << 20) -> Fault:
    """Send far more than there is."""

    def change(reply: Reply) -> Reply:
        return dataclasses.replace(reply, body=(piece for _ in range(count)), length=None)

    return _changing("endless", change)


def other_content(content: bytes, *, name: str = "other-file") -> Fault:
    """Send another file, with headers of its own; a range is cut out of it."""

    def change(asked: Asked, reply: Reply) -> Reply:
        first = int((asked.range or "bytes=0-").partition("=")[2].split("-")[0] or 0)
        if reply.status != 206:
            return reply.with_content(content).with_headers(ETag='"other"')
        part = reply.with_content(content[first:])
        last, size = len(content) - 1, len(content)
        return part.with_headers(ETag='"other"', Content_Range=f"bytes {first}-{last}/{size}")

    return Fault(name=name, change=change)


def other_url(old: str, new: str, *, name: str = "other-upstream") -> Fault:
    """Let another file or repository answer for the one that was asked for."""
    return Fault(name=name, url=lambda url: url.replace(old, new))


def redirect_loop() -> Fault:
    """Redirect to the same place, for ever."""

    def answer(asked: Asked) -> Reply:
        return text_reply(302, "see here", Location=asked.path)

    return Fault(name="redirect-loop", instead=answer)


def redirect(base: str, *, name: str = "redirect") -> Fault:
    """Redirect to the same path on another server."""

    def answer(asked: Asked) -> Reply:
        return text_reply(302, "see there", Location=f"{base}{asked.path}")

    return Fault(name=name, instead=answer)


def range_ignored() -> Fault:
    """Answer with the whole file whatever range is asked for."""
    return Fault(name="range-ignored", forgets=("range",))


def range_of_other_bytes() -> Fault:
    """Answer a range with the right headers and wrong bytes."""

    def change(asked: Asked, reply: Reply) -> Reply:
        if reply.status != 206:
            return reply
        return reply.with_content(bytes(byte ^ 0xFF for byte in reply.content()))

    return Fault(name="range-of-other-bytes", change=change)


def range_elsewhere() -> Fault:
    """Answer a range with 206 and a Content-Range that starts somewhere else."""

    def change(asked: Asked, reply: Reply) -> Reply:
        if reply.status != 206:
            return reply
        size = reply.headers["Content-Range"].rpartition("/")[2]
        return reply.with_headers(Content_Range=f"bytes 0-{(reply.length or 1) - 1}/{size}")

    return Fault(name="range-elsewhere", change=change)


def without(what: str) -> Fault:
    """Let git's pack lack what a filter leaves out: ``blob:none``, or ``tree:0``."""
    line = f"filter {what}\n"

    def change(body: bytes) -> bytes:
        # the arguments of protocol version 2 end with a flush packet
        is_fetch = b"command=fetch" in body and body.endswith(b"0000")
        packet = f"{len(line) + 4:04x}{line}".encode()
        return body[:-4] + packet + b"0000" if is_fetch else body

    return Fault(name=f"without-{what}", request=change)


def only_advertised() -> Fault:
    """Be a git server of old, which gives branches and tags but no single commit."""
    return Fault(name="only-advertised", forgets=("git-protocol",))


def _changing(name: str, change: Callable[[Reply], Reply]) -> Fault:
    return Fault(name=name, change=lambda _asked, reply: change(reply))


def _flipped(content: bytes, place: int | None = None) -> bytes:
    pack = content.find(b"PACK")
    if place is None:
        # a pack's header is 12 bytes, and then one or two of the first object's
        place = pack + 20 if pack >= 0 else len(content) // 2
    return content[:place] + bytes([content[place] ^ 0x55]) + content[place + 1 :]
