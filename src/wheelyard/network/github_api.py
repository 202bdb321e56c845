"""GitHub's API for what is done there in the user's name: directly, never through a proxy."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from wheelyard.errors import FetchError, UsageError
from wheelyard.network.masking import mask_url

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import requests

API: Final = "https://api.github.com"
TOKENS: Final = ("GH_TOKEN", "GITHUB_TOKEN")
_REPOSITORY = re.compile(r"[A-Za-z0-9_.-]+/[A-Za-z0-9_.-]+")
_PAGE = 100
_MOST_PAGES = 100


def token_in(env: Mapping[str, str]) -> str:
    """Return the token that a variable holds, empty where none does."""
    return next((env[name] for name in TOKENS if env.get(name)), "")


class GithubApi:
    """One repository, asked with the user's token."""

    def __init__(
        self, repository: str, *, session: requests.Session, env: Mapping[str, str]
    ) -> None:
        if _REPOSITORY.fullmatch(repository) is None:
            msg = f"{repository!r} is no repository. Write it as OWNER/NAME."
            raise UsageError(msg)
        token = token_in(env)
        if not token:
            msg = f"Nothing can be started on GitHub without a token: set {TOKENS[0]}."
            raise UsageError(msg)
        base = env.get("GITHUB_API_URL") or API
        self._root = f"{base.rstrip('/')}/repos/{repository}"
        self._session = session
        self._headers = {
            "Accept": "application/vnd.github+json",
            "Authorization": f"Bearer {token}",
            "X-GitHub-Api-Version": "2022-11-28",
        }

    def get(self, path: str, **words: str | int) -> dict[str, Any]:
        """Return one document."""
        answer = self._ask("GET", path, params=words)
        return dict(answer)

    def pages(self, path: str, key: str) -> Iterator[dict[str, Any]]:
        """Yield every item of a list, page by page."""
        for number in range(1, _MOST_PAGES + 1):
            items = self.get(path, per_page=_PAGE, page=number).get(key, [])
            yield from items
            if len(items) < _PAGE:
                return

    def post(self, path: str, body: Mapping[str, object]) -> None:
        """Have something done."""
        self._ask("POST", path, json=body)

    def _ask(self, method: str, path: str, **words: Any) -> Any:  # noqa: ANN401 - JSON
        from requests import RequestException  # noqa: PLC0415 - takes 0.3 s

        from wheelyard.network.session import TIMEOUT  # noqa: PLC0415

        url = f"{self._root}/{path}"
        try:
            response = self._session.request(
                method,
                url,
                headers=self._headers,
                timeout=TIMEOUT,
                # what the session would add is a netrc's word, in place of the token
                auth=_keep,
                **words,
            )
        except RequestException as error:
            msg = f"{mask_url(url)} could not be asked: {mask_url(str(error))[:300]}"
            raise FetchError(msg) from error
        if not response.ok:
            said = " ".join(response.text.split())[:300]
            msg = f"{method} {mask_url(url)}: {response.status_code} {response.reason}. {said}"
            raise FetchError(msg)
        try:
            return response.json() if response.content else {}
        except ValueError as error:
            msg = f"{mask_url(url)} answers no JSON."
            raise FetchError(msg) from error


def _keep(request: requests.PreparedRequest) -> requests.PreparedRequest:
    return request
