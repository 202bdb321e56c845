"""The one HTTP session of wheelyard's own connections: certificates, proxies, netrc."""

from __future__ import annotations

import netrc
import ssl
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from urllib.request import proxy_bypass_environment  # type: ignore[attr-defined]

import requests
from requests.adapters import HTTPAdapter
from requests.auth import AuthBase, HTTPBasicAuth
from requests.utils import get_auth_from_url
from urllib3.util import Retry

from wheelyard import __version__
from wheelyard.errors import InputFileError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from wheelyard.network.indexes import IndexSettings

TIMEOUT = (10.0, 30.0)
"""Seconds to wait for a connection, and for the next bytes, where no settings say it."""


def retry_policy() -> Retry:
    """Return how often and how fast a body that was cut off is asked for again."""
    return Retry(total=3, backoff_factor=0.25, backoff_jitter=0.1)


def open_session(settings: IndexSettings, env: Mapping[str, str]) -> requests.Session:
    """Return a session that connects as pip and uv would; to be closed by the caller."""
    session = requests.Session()
    session.trust_env = False  # the surroundings are `env`, not this process's
    session.auth = _Credentials(settings, env)
    session.headers["User-Agent"] = f"wheelyard/{__version__}"
    adapter = _Adapter(settings, env)
    session.mount("https://", adapter)
    session.mount("http://", adapter)
    return session


class _Adapter(HTTPAdapter):
    """Chooses proxy and certificates anew for every request, those of a redirect too."""

    def __init__(self, settings: IndexSettings, env: Mapping[str, str]) -> None:
        super().__init__(max_retries=0)  # whoever asks decides what is asked again
        self._settings = settings
        self._proxies = _proxies(settings, env)

    def send(
        self,
        request: requests.PreparedRequest,
        *args: Any,  # noqa: ANN401 - whatever requests passes
        **kwargs: Any,  # noqa: ANN401
    ) -> requests.Response:
        url = request.url or ""
        kwargs["proxies"] = self._proxies_for(url)
        kwargs["verify"] = self._verification_of(url)
        kwargs["cert"] = self._settings.client_certificate
        return super().send(request, *args, **kwargs)

    def _proxies_for(self, url: str) -> dict[str, str]:
        if proxy_bypass_environment(_server(url)[1], self._proxies):
            return {}
        return {scheme: proxy for scheme, proxy in self._proxies.items() if scheme != "no"}

    def _verification_of(self, url: str) -> bool | str:
        if {urlsplit(url).hostname, _server(url)[1]} & set(self._settings.trusted_hosts):
            return False
        if self._settings.certificate is not None:
            return self._settings.certificate
        system = ssl.get_default_verify_paths()
        return (self._settings.system_certificates and (system.cafile or system.capath)) or True


class _Credentials(AuthBase):
    """The credentials of a URL itself, of an index on the same server, or of the netrc file."""

    def __init__(self, settings: IndexSettings, env: Mapping[str, str]) -> None:
        urls = (settings.index_url or "", *settings.extra_index_urls, *settings.find_links)
        self._by_server = {
            _server(url): get_auth_from_url(url) for url in urls if any(get_auth_from_url(url))
        }
        self._netrc = read_netrc(env)

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        url = request.url or ""
        found = get_auth_from_url(url)
        if not any(found):
            found = self._by_server.get(_server(url)) or self._netrc_credentials(url)
        return HTTPBasicAuth(*found)(request) if any(found) else request

    def _netrc_credentials(self, url: str) -> tuple[str, str]:
        # not `authenticators`: the `default` entry would be told to every proxy and mirror
        entry = self._netrc.hosts.get(urlsplit(url).hostname or "") if self._netrc else None
        return (entry[0] or entry[1] or "", entry[2] or "") if entry else ("", "")


def _server(url: str) -> tuple[str, str]:
    parts = urlsplit(url)
    return parts.scheme, parts.netloc.rpartition("@")[2]


def _proxies(settings: IndexSettings, env: Mapping[str, str]) -> dict[str, str]:
    """Return the proxy of each scheme, and under ``no`` the hosts that need none."""
    found = {}
    for scheme in ("http", "https", "all", "no"):
        value = env.get(f"{scheme}_proxy") or env.get(f"{scheme}_proxy".upper())
        # As curl: a CGI program's HTTP_PROXY is a request's header (httpoxy).
        if scheme == "http" and "REQUEST_METHOD" in env:
            value = env.get("http_proxy")
        if value:
            found[scheme] = value
    if settings.proxy is not None and not found.keys() & {"http", "https", "all"}:
        found["all"] = settings.proxy
    return found


def read_netrc(env: Mapping[str, str]) -> netrc.netrc | None:
    """Return the user's file of names and passwords, if there is one."""
    path = Path(env.get("NETRC") or Path(env.get("HOME", "/")) / ".netrc")
    if not path.is_file():
        return None
    try:
        return netrc.netrc(path)
    except (netrc.NetrcParseError, OSError, UnicodeDecodeError) as error:
        msg = f"The credentials file {path} cannot be used: {error}. Correct it."
        raise InputFileError(msg) from error
