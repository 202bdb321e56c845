"""Download of a wheel that somebody published: whole, by its digest, or not at all."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import logging
import re
import tempfile
from pathlib import Path
from typing import IO, TYPE_CHECKING, Final
from urllib.parse import SplitResult, parse_qs, unquote, urlsplit, urlunsplit

from wheelyard.errors import FetchError, UsageError
from wheelyard.files import PART, disk_errors, file_sha256
from wheelyard.network.masking import mask_url

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import requests

    from wheelyard.network.indexes import IndexSettings

logger = logging.getLogger(__name__)

_CHUNK: Final = 1 << 18
_ZIP: Final = b"PK\x03\x04"
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+!-]*\.whl")
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class DownloadedWheel:
    """A wheel as its server sent it."""

    path: Path
    sha256: str
    url: str
    """As it may be written down: without credentials and parameters."""


def is_web_url(text: str) -> bool:
    return urlsplit(text).scheme.lower() in {"http", "https"}


def download_wheel(
    url: str,
    *,
    folder: Path,
    sha256: str | None,
    settings: IndexSettings,
    env: Mapping[str, str],
) -> DownloadedWheel:
    """Bring a wheel to ``folder/<sha256>/<filename>``; with a known digest only once.

    A digest may stand behind the URL too, as indexes write it: ``...whl#sha256=...``. Proxies and
    mirrors are asked for a file of known digest only.
    """
    parts = urlsplit(url)
    filename = _filename(parts)
    wanted = _wanted_sha256(parts, sha256)
    written = urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))
    path = folder / (wanted or "") / filename
    if wanted is not None and path.is_file() and file_sha256(path) == wanted:
        return DownloadedWheel(path=path, sha256=wanted, url=written)
    if settings.offline:
        msg = (
            f"{filename} is not in the cache, and wheelyard is offline (UV_OFFLINE, or `offline` "
            "in uv.toml). Download it elsewhere and name the file."
        )
        raise FetchError(msg)
    logger.info("Fetching %s", mask_url(url))
    if wanted is not None:
        from wheelyard.network.download import download_known  # noqa: PLC0415 - as below
        from wheelyard.network.partial import Wanted  # noqa: PLC0415

        download_known(
            _request_url(parts),
            Wanted(name=filename, sha256=wanted, size=None),
            destination=path,
            settings=settings,
            env=env,
        )
        return DownloadedWheel(path=path, sha256=wanted, url=written)
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        with _part(folder) as stream:
            # From the server itself: nobody in between is trusted with an unknown file.
            found = _download(_request_url(parts), stream, settings=settings, env=env)
            path = folder / found / filename
            path.parent.mkdir(exist_ok=True)
            Path(stream.name).replace(path)
    return DownloadedWheel(path=path, sha256=found, url=written)


@contextlib.contextmanager
def _part(folder: Path) -> Iterator[IO[bytes]]:
    """Open a file to be renamed when it is whole; what is not is removed."""
    with tempfile.NamedTemporaryFile(dir=folder, prefix=PART, delete=False) as stream:
        part = Path(stream.name)
        try:
            part.chmod(0o644)
            yield stream
        finally:
            part.unlink(missing_ok=True)


def _filename(parts: SplitResult) -> str:
    name = unquote(parts.path).rpartition("/")[2]
    if _NAME.fullmatch(name) is None:
        msg = (
            f"{mask_url(urlunsplit(parts))!r} does not end in the name of a wheel. Give the link "
            "of the file itself, as in https://example.org/demo-1.0-cp312-cp312-linux_x86_64.whl."
        )
        raise UsageError(msg)
    return name


def _wanted_sha256(parts: SplitResult, given: str | None) -> str | None:
    """Return the digest that was asked for, on the command line or behind the URL."""
    behind = parse_qs(parts.fragment).get("sha256", [None])[-1]
    found = {text.lower() for text in (given, behind) if text}
    for text in found:
        if _SHA256.fullmatch(text) is None:
            msg = f"{text!r} is not a sha256. Give its 64 hexadecimal digits."
            raise UsageError(msg)
    if len(found) > 1:
        msg = f"--sha256 says {given}, the URL {behind}. Leave one of them out."
        raise UsageError(msg)
    return next(iter(found), None)


def _request_url(parts: SplitResult) -> str:
    """Write a plus as %2B: object storage behind a release takes a bare one for a space."""
    return urlunsplit(parts._replace(path=parts.path.replace("+", "%2B"), fragment=""))


def _download(
    url: str, stream: IO[bytes], *, settings: IndexSettings, env: Mapping[str, str]
) -> str:
    """Write what the server sends into ``stream`` and return its digest.

    A body that is cut off is asked for again, as connections are.
    """
    # Imported here: requests takes 0.3 s, and a hit in the cache does not need it.
    from urllib3.exceptions import HTTPError  # noqa: PLC0415

    from wheelyard.network.session import open_session, retry_policy  # noqa: PLC0415

    retry = retry_policy()
    with open_session(settings, env) as session:
        while True:
            try:
                with _answer(session, url) as response:
                    return _receive(response, stream, url=url)
            except HTTPError as error:
                if retry.total == 0:
                    raise _not_had(url, error) from error
                retry = retry.increment(method="GET", url=url)
                retry.sleep()


@contextlib.contextmanager
def _answer(session: requests.Session, url: str) -> Iterator[requests.Response]:
    from requests import RequestException  # noqa: PLC0415

    from wheelyard.network.session import TIMEOUT  # noqa: PLC0415

    try:
        # as it is: some servers take a file's own compression for one of the connection
        headers = {"Accept-Encoding": "identity"}
        response = session.get(url, stream=True, timeout=TIMEOUT, headers=headers)
    except RequestException as error:
        raise _not_had(url, error) from error
    with response:
        try:
            response.raise_for_status()
        except RequestException as error:
            raise _not_had(url, error) from error
        yield response


def _receive(response: requests.Response, stream: IO[bytes], *, url: str) -> str:
    """Write the body from the stream's beginning on, and return its digest."""
    stream.seek(0)
    stream.truncate()
    digest = hashlib.sha256()
    begun = b""
    for chunk in response.raw.stream(_CHUNK, decode_content=False):
        if len(begun) < len(_ZIP):
            begun += chunk[: len(_ZIP)]
            if not begun.startswith(_ZIP[: len(begun)]):
                break
        digest.update(chunk)
        stream.write(chunk)
    if not begun.startswith(_ZIP):
        raise _page(url, response.headers.get("Content-Type", ""))
    stream.flush()
    return digest.hexdigest()


def _page(url: str, content_type: str) -> FetchError:
    kind = content_type.partition(";")[0].strip()
    msg = (
        f"{mask_url(url)} answers with {kind or 'something'} and not with a wheel: a page about "
        "the file, or one that asks to log in. Give the link of the file itself, or download it "
        "and name the file. Nothing was kept."
    )
    return FetchError(msg)


def _not_had(url: str, error: Exception) -> FetchError:
    reason = " ".join(str(error).split())[:300] or type(error).__name__
    msg = (
        f"{mask_url(url)} cannot be had ({mask_url(reason)}). Look whether the release has this "
        "file; `wheelyard doctor` shows which proxy and certificates are used."
    )
    return FetchError(msg)
