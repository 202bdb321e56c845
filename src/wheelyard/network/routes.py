"""The ways to one URL: around through proxies and mirrors, and straight."""

from __future__ import annotations

import dataclasses
import re
from typing import TYPE_CHECKING, Literal
from urllib.parse import urlsplit

from wheelyard.errors import InputFileError
from wheelyard.network.masking import mask_url

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

DIRECT = "direct"
PYTORCH = "https://download.pytorch.org/whl/"
NVIDIA = "https://developer.download.nvidia.com/compute/cuda/redist/"
HUB = "https://huggingface.co/"
# Hosts that answer for one another: where the first one's downloads are redirected to.
_FAMILIES = (
    ("github.com", "githubusercontent.com"),
    ("huggingface.co", "hf.co"),
)
# How a git repository of GitHub is named for ssh; a mirror only knows its https name.
_SSH = re.compile(r"(?:ssh://)?git@(?P<host>github\.com)[:/]/?(?P<path>.+)", re.IGNORECASE)
_REWRITE = re.compile(r"(?P<of>[^=\s]+)=(?P<by>\S+)")
_HOST = re.compile(r"[A-Za-z0-9.-]+(:\d+)?")


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class PrefixProxy:
    """A proxy that is given the whole URL of GitHub behind its own."""

    url: str = dataclasses.field(repr=False)
    """For example ``https://proxy.example/``."""

    def detour(self, url: str) -> str | None:
        return self.url + url if is_of_family(url, "github.com") else None

    def __str__(self) -> str:
        return self.url


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class HostReplacement:
    """A server that stands in place of one host, with the same paths."""

    host: str
    by: str
    """A host, a host with port, or a URL without a path."""

    def detour(self, url: str) -> str | None:
        parts = urlsplit(url)
        if parts.hostname != self.host.lower():
            return None
        base = self.by if "://" in self.by else f"{parts.scheme}://{self.by}"
        return base.rstrip("/") + parts._replace(scheme="", netloc="").geturl()

    def __str__(self) -> str:
        return f"{self.host}={self.by}"


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class InsteadOf:
    """A mirror of everything below one URL, as git's ``url.<base>.insteadOf``."""

    of: str
    by: str = dataclasses.field(repr=False)

    def detour(self, url: str) -> str | None:
        """Put the rest of ``url`` behind the mirror's own, at the border of a name only."""
        of = self.of.removesuffix("/")
        if not url.lower().startswith(of.lower()):
            return None
        rest = url[len(of) :]
        if rest and not rest.startswith(("/", ".git", "?")):
            return None
        return self.by.removesuffix("/") + rest

    def __str__(self) -> str:
        return f"{self.of}={self.by}"


Detour = PrefixProxy | HostReplacement | InsteadOf


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Route:
    """One way to a URL."""

    url: str = dataclasses.field(repr=False)
    original: str = dataclasses.field(repr=False)
    """What is wanted, whichever way it comes."""
    detour: Detour | None = None

    @property
    def via(self) -> str:
        """How reports name it: the server in between, or ``direct``."""
        return DIRECT if self.detour is None else server_of(self.url)

    @property
    def server(self) -> str:
        """By what its health is remembered."""
        return server_of(self.url)


def parse_detour(text: str, *, origin: str) -> Detour:
    """Read one rule: ``https://proxy/``, ``github.com=mirror`` or ``https://a/b=https://c/d``.

    ``origin`` names the place where it was written in errors.
    """
    match = _REWRITE.fullmatch(text)
    if match is not None and _is_url(match["of"]) and _is_url(match["by"]):
        return InsteadOf(of=match["of"], by=match["by"])
    if match is not None and _HOST.fullmatch(match["of"]) and _is_place(match["by"]):
        return HostReplacement(host=match["of"].lower(), by=match["by"])
    if _is_url(text):
        # those that take the URL as a parameter end with `=` or `?`, the others with a slash
        return PrefixProxy(url=text if text.endswith(("/", "=", "?")) else f"{text}/")
    msg = (
        f"{mask_url(text)!r} is no proxy or mirror - in {origin}. Write `https://proxy.example/` "
        "(the URL is put behind it), `github.com=mirror.example` (the host is replaced) or "
        "`https://github.com/o/r=https://mirror.example/o/r`."
    )
    raise InputFileError(msg)


def make_routes(
    url: str, detours: Iterable[Detour], *, direct: Literal["first", "last", "never"] = "last"
) -> tuple[Route, ...]:
    """Return the ways to ``url`` in the order that the settings give.

    Where no detour leads to ``url`` the straight way is taken whatever ``direct`` says; credentials
    that are part of ``url`` go that way only.
    """
    public = _public_form(url)
    around = [
        Route(url=found, original=url, detour=detour)
        for detour in detours
        if public is not None and (found := detour.detour(public)) is not None
    ]
    straight = Route(url=url, original=url)
    if not around:
        return (straight,)
    if direct == "first":
        return (straight, *around)
    return tuple(around) if direct == "never" else (*around, straight)


def redirect_within(route: Route, target: str) -> str | None:
    """Return where a redirect to ``target`` is followed to, or nothing if it is refused.

    A proxy or mirror may send us elsewhere on itself, or to where the original server itself
    keeps its downloads, which is then reached through the same proxy if it can.
    """
    before, after = urlsplit(route.url), urlsplit(target)
    if before.scheme == "https" and after.scheme != "https":
        return None
    if route.detour is None or server_of(route.url) == server_of(target):
        return target
    again = route.detour.detour(target)
    if again is not None:
        return again
    home = urlsplit(route.original).hostname or ""
    return target if any(is_of_family(target, host) for host in _family(home)) else None


def is_of_family(url: str, host: str) -> bool:
    """Whether ``url`` belongs to ``host`` or to a host that answers for it."""
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"}:
        return False
    name = parts.hostname or ""
    return any(name == one or name.endswith(f".{one}") for one in _family(host))


def server_of(url: str) -> str:
    """Return host and port, without credentials."""
    return urlsplit(url).netloc.rpartition("@")[2].lower()


def _family(host: str) -> tuple[str, ...]:
    for family in _FAMILIES:
        if any(host == one or host.endswith(f".{one}") for one in family):
            return family
    return ()


def _public_form(url: str) -> str | None:
    """Return the https URL without credentials that proxies are given; nothing for other kinds."""
    ssh = _SSH.fullmatch(url)
    if ssh is not None:
        return f"https://github.com/{ssh['path']}"
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"}:
        return None
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], fragment="").geturl()


def _is_url(text: str) -> bool:
    parts = urlsplit(text)
    return parts.scheme in {"http", "https"} and bool(parts.hostname)


def _is_place(text: str) -> bool:
    if _is_url(text):
        return urlsplit(text).path in {"", "/"}
    return _HOST.fullmatch(text) is not None


def describe_routes(detours: Iterable[Detour]) -> Iterator[str]:
    """Yield each rule as it may be written again, without its credentials."""
    return (mask_url(str(detour)) for detour in detours)
