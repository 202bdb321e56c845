"""One request on one route: redirects, statuses and errors, each with its reason in one line."""

from __future__ import annotations

import dataclasses
import datetime as dt
import email.utils
import re
import threading
import time
from typing import TYPE_CHECKING, Generic, TypeVar
from urllib.parse import urljoin

import requests
from urllib3 import HTTPResponse
from urllib3.exceptions import HTTPError

from wheelyard.network.failover import RouteError
from wheelyard.network.masking import mask_url
from wheelyard.network.routes import Route, redirect_within

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from wheelyard.network.settings import NetworkSettings

T = TypeVar("T")
GIT_AGENT = {"User-Agent": "git/2 (wheelyard)"}
"""Some servers only show a repository to those who say that they are git."""
_MOST_REDIRECTS = 8
# How urllib3 begins its errors: with the connection, which the report names anyway.
_CONNECTION = re.compile(r"^\w+\(host=.*?\): ")
# How much slower than `slowest` that may be for which nothing better is left.
_BORNE = 64
# 52x: what a content network says when the server behind it does not answer.
_TRANSIENT = frozenset({408, 425, 429, 500, 502, 503, 504, 520, 521, 522, 523, 524, 530})


def ask(
    session: requests.Session,
    route: Route,
    *,
    settings: NetworkSettings,
    headers: Mapping[str, str] | None = None,
) -> requests.Response:
    """Send a GET and return the answer, its body not read yet; raise ``RouteError`` if it is none.

    However slowly the head of the answer drips in, it is waited for only so long.
    """
    patience = settings.connect_timeout + 2 * settings.stall_timeout
    return within(
        patience,
        lambda: _follow(session, route, settings=settings, headers=headers or {}),
        discard=lambda response: response.close(),
    )


def within(seconds: float, work: Callable[[], T], *, discard: Callable[[T], None]) -> T:
    """Return what ``work`` returns, or give up; what comes too late is discarded."""
    pending = Pending(work, discard=discard)
    if not pending.done.wait(seconds):
        pending.abandon()
        msg = f"did not answer within {seconds:.0f} s"
        raise RouteError(msg, passes=True)
    return pending.result()


class Pending(Generic[T]):
    """Work in a thread that nobody has to wait for."""

    def __init__(self, work: Callable[[], T], *, discard: Callable[[T], None]) -> None:
        self.done = threading.Event()
        self._discard = discard
        self._abandoned = False
        self._lock = threading.Lock()
        self._results: list[T] = []
        self._errors: list[BaseException] = []
        threading.Thread(target=self._run, args=(work,), daemon=True).start()

    def _run(self, work: Callable[[], T]) -> None:
        try:
            result = work()
        except BaseException as error:  # noqa: BLE001 - raised again in `result`
            self._errors.append(error)
        else:
            with self._lock:
                self._results.append(result)
                if self._abandoned:
                    self._discard(result)
        self.done.set()

    def abandon(self) -> None:
        """Discard the result whenever it comes."""
        with self._lock:
            self._abandoned = True
            for result in self._results:
                self._discard(result)

    @property
    def worked(self) -> bool:
        return self.done.is_set() and not self._errors

    def result(self) -> T:
        """Return what the work returned, or raise what it raised; wait for it."""
        self.done.wait()
        if self._errors:
            raise self._errors[0]
        return self._results[0]


def _follow(
    session: requests.Session,
    route: Route,
    *,
    settings: NetworkSettings,
    headers: Mapping[str, str],
) -> requests.Response:
    seen: list[str] = []
    url = route.url
    while True:
        seen.append(url)
        response = _get(session, url, settings=settings, headers=headers)
        if not response.is_redirect:
            return _accept(response)
        target = urljoin(url, response.headers["Location"])
        response.close()
        url = _redirected(dataclasses.replace(route, url=url), target, seen=seen)


def _redirected(route: Route, target: str, *, seen: list[str]) -> str:
    allowed = redirect_within(route, target)
    if allowed is None:
        msg = f"redirects to {mask_url(target)}, which is refused"
        raise RouteError(msg, wrong=route.detour is not None)
    if allowed in seen or len(seen) > _MOST_REDIRECTS:
        msg = f"redirects in a circle ({len(seen)} times, lastly to {mask_url(target)})"
        raise RouteError(msg)
    return allowed


def _get(
    session: requests.Session,
    url: str,
    *,
    settings: NetworkSettings,
    headers: Mapping[str, str],
) -> requests.Response:
    timeout = (settings.connect_timeout, settings.stall_timeout)
    try:
        return session.get(
            url, stream=True, timeout=timeout, headers=dict(headers), allow_redirects=False
        )
    except (requests.RequestException, HTTPError, OSError) as error:
        raise explain(error, settings=settings) from error


def _accept(response: requests.Response) -> requests.Response:
    """Return an answer with a body; translate every other status."""
    status = response.status_code
    if status in {200, 206, 416}:
        return response
    response.close()
    raise explain_status(response)


def explain_status(response: requests.Response) -> RouteError:
    """Say a status that is no success, whether it may pass, and when."""
    reason = f"answers {response.status_code} {response.reason or ''}".rstrip()
    status = response.status_code
    if status not in _TRANSIENT:
        return RouteError(reason, status=status)
    return RouteError(reason, passes=True, status=status, retry_after=_retry_after(response))


def read_small(
    session: requests.Session,
    route: Route,
    *,
    settings: NetworkSettings,
    limit: int,
    headers: Mapping[str, str] | None = None,
) -> requests.Response:
    """Return an answer with its whole body, which must not be larger than ``limit``.

    For what is pinned by nothing, such as the page of an index.
    """
    with ask(session, route, settings=settings, headers=headers) as response:
        pace = Pace(settings, bears_slowness=False)
        chunks: list[bytes] = []
        size = 0
        try:
            while chunk := response.raw.read1(1 << 16, decode_content=True):
                chunks.append(chunk)
                size += len(chunk)
                if size > limit:
                    msg = f"sent more than {limit} bytes"
                    raise RouteError(msg, wrong=True)
                pace.check(len(chunk))
        except (HTTPError, requests.RequestException) as error:
            raise explain(error, settings=settings) from error
    expected = response.headers.get("Content-Length", "")
    if expected.isdigit() and response.raw.tell() < int(expected):
        msg = f"was cut off at {response.raw.tell()} of {expected} bytes"
        raise RouteError(msg, passes=True)
    response._content = b"".join(chunks)  # noqa: SLF001 - what `content` reads
    return response


class Pace:
    """Finds a body too slow, over windows as long as a stall may be."""

    def __init__(self, settings: NetworkSettings, *, bears_slowness: bool) -> None:
        self._window = settings.stall_timeout
        self._least = settings.slowest / (_BORNE if bears_slowness else 1)
        self._since = time.monotonic()
        self._bytes = 0

    def check(self, count: int) -> None:
        """Take in that many bytes; raise ``RouteError`` where a window brought too few."""
        self._bytes += count
        seconds = time.monotonic() - self._since
        if seconds < self._window:
            return
        rate = self._bytes / seconds
        if rate < self._least:
            msg = f"was too slow ({rate:.0f} bytes a second)"
            raise RouteError(msg, passes=True, slow=True)
        self._since, self._bytes = time.monotonic(), 0


def open_local(path: Path) -> requests.Response:
    """Return a file of this machine in the shape of an answer."""
    try:
        stream = path.open("rb")
    except OSError as error:
        msg = f"{path}: {error.strerror}"
        raise RouteError(msg) from error
    response = requests.Response()
    response.status_code = 200
    response.url = path.as_uri()
    response.raw = HTTPResponse(body=stream, preload_content=False, status=200)
    return response


def _retry_after(response: requests.Response) -> float | None:
    text = response.headers.get("Retry-After", "").strip()
    if text.isdigit():
        return float(text)
    try:
        moment = email.utils.parsedate_to_datetime(text)
    except ValueError:
        return None
    if moment.tzinfo is None:
        return None
    return max(0.0, (moment - dt.datetime.now(dt.UTC)).total_seconds())


def explain(error: BaseException, *, settings: NetworkSettings) -> RouteError:
    """Say an HTTP library's error in one line, and whether it may pass."""
    if isinstance(error, requests.ConnectTimeout):
        msg = f"no connection within {settings.connect_timeout:g} s"
        return RouteError(msg, passes=True)
    root = _root(error)
    if isinstance(error, requests.exceptions.SSLError):
        return RouteError(f"its certificate is refused: {root}")
    if isinstance(error, requests.ReadTimeout) or "timed out" in str(root):
        return RouteError(f"sent nothing for {settings.stall_timeout:g} s", passes=True)
    if isinstance(error, (requests.ConnectionError, HTTPError, OSError)) and not isinstance(
        error, (requests.exceptions.InvalidSchema, requests.exceptions.InvalidURL)
    ):
        text = _CONNECTION.sub("", str(root))
        return RouteError(text or type(root).__name__, passes=True)
    return RouteError(str(error) or type(error).__name__)


def _root(error: BaseException) -> BaseException:
    """Return what lies at the bottom: libraries wrap each other's errors three deep."""
    while True:
        inner = getattr(error, "reason", None)
        if not isinstance(inner, BaseException):
            inner = next((item for item in error.args if isinstance(item, BaseException)), None)
        if inner is None or inner is error:
            return error
        error = inner
