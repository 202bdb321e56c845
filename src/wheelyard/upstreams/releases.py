"""The wheels of upstream's releases, by name: every page of the list, or none of it."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

from wheelyard.errors import FetchError
from wheelyard.model.asset_name import Asset
from wheelyard.network.failover import RouteError
from wheelyard.network.foreign import OTHER_FORM
from wheelyard.network.github_api import API, token_in
from wheelyard.network.reading import NotThereError, read_document
from wheelyard.planning.gaps import Release

if TYPE_CHECKING:
    from collections.abc import Mapping

    import requests

    from wheelyard.model.asset_name import UpstreamReleases
    from wheelyard.model.recipe import RecipeVersion
    from wheelyard.network.indexes import IndexSettings
    from wheelyard.network.routes import Route

PAGE: Final = 100
_MOST_PAGES: Final = 100
_LIMIT: Final = 32 * 2**20
_DIGEST = re.compile(r"sha256:([0-9a-f]{64})")


class ReleaseReader:
    """Lists the assets of releases through whatever way leads to GitHub's API."""

    def __init__(
        self, *, session: requests.Session, settings: IndexSettings, env: Mapping[str, str]
    ) -> None:
        self._session = session
        self._settings = settings
        self._token = token_in(env)

    def read(self, version: RecipeVersion) -> Release:
        """Return what upstream published of this version; a list that fails is not half a list."""
        releases = version.releases
        if releases is None:
            return Release()
        try:
            return Release(assets=tuple(self._assets(releases, version)))
        except NotThereError:
            return Release()  # every way says that there is no such release
        except (FetchError, *OTHER_FORM) as error:
            # an answer in another form than GitHub's is as good as none
            return Release(unknown=" ".join(str(error).split())[:500])

    def _assets(self, releases: UpstreamReleases, version: RecipeVersion) -> list[Asset]:
        repository = f"{API}/repos/{releases.repository}/releases"
        release = self._ask(f"{repository}/tags/{quote(releases.tag_of(version.version))}", dict)
        found: dict[str, Asset] = {}
        for number in range(1, _MOST_PAGES + 1):
            url = f"{repository}/{int(release['id'])}/assets?per_page={PAGE}&page={number}"
            page = self._listed(url)
            for one in page:
                asset = _asset(one, releases)
                if asset is not None:
                    found.setdefault(asset.filename, asset)
            if len(page) < PAGE:
                return list(found.values())
        msg = f"{repository} lists more than {PAGE * _MOST_PAGES} assets of one release"
        raise FetchError(msg)

    def _listed(self, url: str) -> list[dict[str, Any]]:
        """Read a page of the list of a release that is there: none is an error, not an end."""
        try:
            return list(self._ask(url, list))
        except NotThereError as error:
            raise FetchError(str(error)) from error

    def _ask(self, url: str, kind: type[Any]) -> Any:  # noqa: ANN401 - JSON
        def read(text: bytes) -> object:
            try:
                answer = json.loads(text)
            except ValueError as error:
                msg = f"is no JSON, or was cut off: {error}"
                raise RouteError(msg, wrong=True) from error
            if not isinstance(answer, kind) or (kind is dict and "id" not in answer):
                msg = "is no answer of GitHub's API"
                raise RouteError(msg, wrong=True)
            return answer

        return read_document(
            url,
            read=read,
            limit=_LIMIT,
            session=self._session,
            settings=self._settings,
            headers=self._headers,
        )

    def _headers(self, route: Route) -> dict[str, str]:
        headers = {"Accept": "application/vnd.github+json", "X-GitHub-Api-Version": "2022-11-28"}
        if self._token and route.detour is None:  # no proxy is given it
            headers["Authorization"] = f"Bearer {self._token}"
        return headers


def _asset(one: dict[str, Any], releases: UpstreamReleases) -> Asset | None:
    promise = releases.template.read(str(one.get("name", "")))
    if promise is None or one.get("state", "uploaded") != "uploaded":
        return None
    digest = _DIGEST.fullmatch(str(one.get("digest") or ""))
    return Asset(
        filename=str(one["name"]),
        url=str(one.get("browser_download_url", "")),
        size=int(one.get("size", 0)),
        sha256=digest[1] if digest else None,
        promise=promise,
    )
