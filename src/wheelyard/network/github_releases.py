"""Release assets of a GitHub repository, through its API: resumed, never silently replaced."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import logging
import time
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote, unquote, urlsplit

import requests

from wheelyard.errors import TargetError
from wheelyard.network.github_api import API
from wheelyard.network.masking import mask_url
from wheelyard.network.session import open_session

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from wheelyard.network.indexes import IndexSettings

logger = logging.getLogger(__name__)

MOST_ASSETS: Final = 1000
"""Of a release."""
TOO_LARGE: Final = 2 << 30
"""An asset has to be smaller."""
_PAGE: Final = 100
_TRIES: Final = 6
_LONGEST_WAIT: Final = 900.0
_CHUNK: Final = 1 << 20
_UPLOADED: Final = "uploaded"
_ADVICE: Final = {
    401: "Give a token that is valid, in GITHUB_TOKEN or GH_TOKEN",
    403: "Give a token that may write the contents of this repository",
    404: "Correct the repository's name, or give a token that may see it",
}


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Asset:
    """A file of a release, as the API tells of it."""

    identifier: int
    name: str
    size: int
    sha256: str
    """Empty where the server does not tell it."""
    url: str
    """Where everybody downloads it, quoted."""
    is_whole: bool
    """An upload that was cut off leaves one that is not."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Release:
    """A release that there is."""

    identifier: int
    tag: str
    upload_url: str


class GithubReleases:
    """The releases of one repository."""

    def __init__(
        self,
        repository: str,
        *,
        token: str,
        api: str = API,
        session: requests.Session,
        wait: Callable[[float], object] = time.sleep,
        timeout: tuple[float, float] = (10.0, 60.0),
    ) -> None:
        self.repository = repository
        self._api = api.rstrip("/")
        self._session = session
        self._wait = wait
        self._timeout = timeout
        session.auth = _Bearer(token, self._api)

    def releases(self) -> dict[str, Release]:
        """Return every release by its tag; drafts have none that counts."""
        path = f"/repos/{self.repository}/releases"
        return {
            item["tag_name"]: _release(item) for item in self._pages(path) if not item.get("draft")
        }

    def create(self, tag: str, *, title: str, text: str) -> Release:
        """Make a release, or return the one that somebody else made meanwhile."""
        body = {"body": text, "make_latest": "false", "name": title, "tag_name": tag}
        path = f"/repos/{self.repository}/releases"
        answer = self._ask("POST", f"{self._api}{path}", json=body, expected={201, 422})
        if answer.status_code == 201:
            return _release(answer.json())
        found = self.releases().get(tag)
        if found is None:
            raise self._refused(answer, f"the release {tag}")
        return found

    def assets(self, release: Release) -> tuple[Asset, ...]:
        """Return the assets of a release, whole ones and others."""
        path = f"/repos/{self.repository}/releases/{release.identifier}/assets"
        return tuple(_asset(item) for item in self._pages(path))

    def upload(self, release: Release, source: Path, *, name: str, sha256: str) -> Asset:
        """Add a file to a release; what a cut-off upload left under its name goes first."""
        for attempt in range(_TRIES):
            if attempt:
                self._wait(2.0**attempt)
                known = self._find(release, name)
                if known is not None and known.is_whole:
                    self._require_same(known, sha256=sha256)
                    return known
                if known is not None:
                    self.delete(known)
            with contextlib.suppress(_PassingError):
                return self._upload(release, source, name=name, sha256=sha256)
        msg = (
            f"{name} could not be uploaded to {self.repository} in {_TRIES} tries. "
            "Publish again to go on from there."
        )
        raise TargetError(msg)

    def _upload(self, release: Release, source: Path, *, name: str, sha256: str) -> Asset:
        url = f"{release.upload_url}?name={quote(name, safe='')}"
        headers = {"Content-Type": "application/octet-stream"}
        with source.open("rb") as stream:
            answer = self._once("POST", url, data=stream, headers=headers, expected={201, 422})
        if answer.status_code == 201:
            asset = _asset(answer.json())
            if asset.is_whole and asset.size == source.stat().st_size:
                return asset
            raise _PassingError
        if "already_exists" not in answer.text:
            raise self._refused(answer, name)
        known = self._find(release, name)
        if known is None or not known.is_whole:
            if known is not None:
                self.delete(known)
            raise _PassingError
        self._require_same(known, sha256=sha256)
        return known

    def _find(self, release: Release, name: str) -> Asset | None:
        return next((asset for asset in self.assets(release) if asset.name == name), None)

    def _require_same(self, asset: Asset, *, sha256: str) -> None:
        there = self.digest(asset)
        if there != sha256:
            msg = (
                f"{asset.name} is in {self.repository} with other bytes: sha256 {there}, here "
                f"{sha256}. A name is used once: raise `revision` of its recipe and build it "
                "again, or remove the one that is there."
            )
            raise TargetError(msg)

    def digest(self, asset: Asset) -> str:
        """Return an asset's sha256: as the server tells it, or else by reading it."""
        if asset.sha256:
            return asset.sha256
        digest = hashlib.sha256()
        for chunk in self._download(asset):
            digest.update(chunk)
        return digest.hexdigest()

    def read(self, asset: Asset) -> bytes:
        """Return the content of a small asset."""
        return b"".join(self._download(asset))

    def _download(self, asset: Asset) -> Iterator[bytes]:
        path = f"/repos/{self.repository}/releases/assets/{asset.identifier}"
        headers = {"Accept": "application/octet-stream"}
        answer = self._ask("GET", f"{self._api}{path}", headers=headers, stream=True)
        with answer:
            yield from answer.iter_content(_CHUNK)

    def delete(self, asset: Asset) -> None:
        """Remove an asset; one that is gone already is fine."""
        path = f"/repos/{self.repository}/releases/assets/{asset.identifier}"
        self._ask("DELETE", f"{self._api}{path}", expected={204, 404})

    def _pages(self, path: str) -> Iterator[dict[str, Any]]:
        """Yield the items of all pages, following the links that the server gives."""
        url: str | None = f"{self._api}{path}?per_page={_PAGE}"
        while url is not None:
            answer = self._ask("GET", url)
            yield from answer.json()
            url = answer.links.get("next", {}).get("url")

    def _ask(
        self,
        method: str,
        url: str,
        *,
        expected: frozenset[int] | set[int] = frozenset({200}),
        **words: Any,  # noqa: ANN401 - requests's own
    ) -> requests.Response:
        """Send a request that may be sent again."""
        for attempt in range(_TRIES):
            if attempt:
                self._wait(2.0**attempt)
            with contextlib.suppress(_PassingError):
                return self._once(method, url, expected=expected, **words)
        msg = f"{mask_url(url)} did not answer in {_TRIES} tries. Publish again later to go on."
        raise TargetError(msg)

    def _once(
        self,
        method: str,
        url: str,
        *,
        expected: frozenset[int] | set[int],
        **words: Any,  # noqa: ANN401
    ) -> requests.Response:
        headers = {
            "Accept": "application/vnd.github+json",
            "X-GitHub-Api-Version": "2022-11-28",
            **words.pop("headers", {}),
        }
        try:
            answer = self._session.request(
                method, url, headers=headers, timeout=self._timeout, **words
            )
        except requests.RequestException as error:
            logger.info("%s %s: %s", method, mask_url(url), type(error).__name__)
            raise _PassingError from error
        if answer.status_code in expected:
            return answer
        pause = _pause(answer)
        if pause is not None:
            self._pause(pause, answer)
            raise _PassingError
        if answer.status_code >= 500:
            logger.info("%s %s: answers %s", method, mask_url(url), answer.status_code)
            raise _PassingError
        raise self._refused(answer, urlsplit(url).path)

    def _pause(self, seconds: float, answer: requests.Response) -> None:
        """Wait until the rate limit lets us go on, unless that takes too long."""
        if seconds > _LONGEST_WAIT:
            msg = (
                f"The rate limit of {mask_url(answer.url)} is used up for {seconds / 60:.0f} "
                "minutes. Publish again after that to go on."
            )
            raise TargetError(msg)
        logger.warning("the rate limit is used up: waiting %.0f s", seconds)
        self._wait(seconds)

    def _refused(self, answer: requests.Response, what: str) -> TargetError:
        try:
            said = answer.json()
            text = "; ".join(
                str(part) for part in (said.get("message"), *(said.get("errors") or ())) if part
            )
        except (ValueError, AttributeError):
            text = answer.reason
        advice = _ADVICE.get(answer.status_code, "Look at the repository's settings")
        msg = f"{self.repository} refuses {what}: {answer.status_code} {text}. {advice}."
        return TargetError(msg)


def open_github(
    repository: str, *, settings: IndexSettings, env: Mapping[str, str], token: str
) -> GithubReleases:
    """Return the releases of a repository, with the user's proxy and certificates.

    ``GITHUB_API_URL`` names another server, as in GitHub's own workflows.
    """
    api = env.get("GITHUB_API_URL") or API
    return GithubReleases(repository, token=token, api=api, session=open_session(settings, env))


class _PassingError(Exception):
    """It may work the next time."""


class _Bearer(requests.auth.AuthBase):
    """Gives the token to the API and to where it takes uploads, to nobody else."""

    def __init__(self, token: str, api: str) -> None:
        self._token = token
        parts = urlsplit(api)
        host = parts.netloc
        self._servers = {host, host.replace("api.", "uploads.", 1)}

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        if urlsplit(request.url or "").netloc in self._servers:
            request.headers["Authorization"] = f"Bearer {self._token}"
        return request


def _pause(answer: requests.Response) -> float | None:
    """Return how long a rate limit asks to wait, if it is one that refuses."""
    if answer.status_code not in {403, 429}:
        return None
    after = answer.headers.get("Retry-After", "")
    if after.isdigit():
        return float(after)
    if answer.headers.get("X-RateLimit-Remaining") == "0":
        reset = answer.headers.get("X-RateLimit-Reset", "")
        return max(1.0, float(reset) - time.time()) if reset.isdigit() else 60.0
    return 60.0 if answer.status_code == 429 or "secondary rate limit" in answer.text else None


def _release(item: Mapping[str, Any]) -> Release:
    return Release(
        identifier=int(item["id"]),
        tag=str(item["tag_name"]),
        upload_url=str(item["upload_url"]).partition("{")[0],
    )


def _asset(item: Mapping[str, Any]) -> Asset:
    kind, _, digest = (item.get("digest") or "").partition(":")
    return Asset(
        identifier=int(item["id"]),
        name=str(item["name"]),
        size=int(item["size"]),
        sha256=digest if kind == "sha256" else "",
        url=_quoted(str(item["browser_download_url"])),
        is_whole=item.get("state", _UPLOADED) == _UPLOADED,
    )


def _quoted(url: str) -> str:
    """Write ``+`` as ``%2B``, whichever way the server has it."""
    parts = urlsplit(url)
    return parts._replace(path=quote(unquote(parts.path), safe="/")).geturl()
