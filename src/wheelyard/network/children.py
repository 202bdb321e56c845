"""The environment of a child that opens connections: uv and git, with the user's settings."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from wheelyard.errors import FetchError
from wheelyard.network.health import Health
from wheelyard.network.masking import mask_url
from wheelyard.network.routes import PYTORCH, server_of
from wheelyard.network.uv_indexes import index_variables

if TYPE_CHECKING:
    from collections.abc import Mapping

    from wheelyard.network.indexes import IndexSettings

# An index of an empty world: uv has no variable for pip's `no-index`.
_NOTHING_URL = "file:///nonexistent"
_UV_INDEX_VARIABLES = (
    "UV_CONFIG_FILE",
    "UV_EXTRA_INDEX_URL",
    "UV_FIND_LINKS",
    "UV_INDEX",
    "UV_INDEX_STRATEGY",
    "UV_INDEX_URL",
)
# What else of a user's own taste would change the answer of a resolution.
_UV_RESOLUTION_VARIABLES = (
    "UV_BUILD_CONSTRAINT",
    "UV_CONSTRAINT",
    "UV_EXCLUDE",
    "UV_FORK_STRATEGY",
    "UV_NO_BINARY",
    "UV_NO_BUILD",
    "UV_OVERRIDE",
    "UV_PRERELEASE",
    "UV_RESOLUTION",
    "UV_TORCH_BACKEND",
)
# What a user may need to reach a server; everything else of git's variables could change where
# or what git reads (GIT_DIR, GIT_INDEX_FILE, ...: set while a git hook runs) or prints (GIT_TRACE).
_KEPT_GIT_VARIABLE = re.compile(
    r"GIT_(ASKPASS|CONFIG_(GLOBAL|SYSTEM|NOSYSTEM|COUNT|KEY_\d+|VALUE_\d+)|EXEC_PATH|HTTP_.*"
    r"|PROXY_.*|SSH.*|SSL_.*)"
)
_GIT_CONFIG = {
    "core.attributesFile": "/dev/null",
    "core.autocrlf": "false",
    "core.fsmonitor": "false",
    "core.hooksPath": "/dev/null",
    "core.symlinks": "true",
    "fetch.recurseSubmodules": "false",
    "filter.lfs.process": "",
    "filter.lfs.required": "false",
    "filter.lfs.smudge": "",
    "gc.auto": "0",
    "init.templateDir": "",
    "maintenance.auto": "false",
    "submodule.recurse": "false",
    "tar.umask": "0022",
    "transfer.fsckObjects": "true",
    # Old and harmless mistakes, met when a server makes us fetch a project's whole history.
    "fetch.fsck.badTimezone": "ignore",
    "fetch.fsck.missingSpaceBeforeDate": "ignore",
    "fetch.fsck.zeroPaddedFilemode": "ignore",
}
_GIT_PROTOCOLS = frozenset({"file", "git", "http", "https", "ssh"})


def uv_environment(
    settings: IndexSettings, env: Mapping[str, str], *, resolving: bool = False
) -> dict[str, str]:
    """Return the environment of a uv child: uv's own settings, and pip's in uv's words.

    ``resolving`` is for making locks that are committed: only the primary index is asked, and
    nothing of the user's own taste decides what is chosen.
    """
    child = {**env, **_connection_variables(settings, env)}
    child.setdefault("UV_PYTHON_DOWNLOADS", "never")
    child["UV_NO_PROGRESS"] = "1"
    if resolving:
        for name in (*_UV_INDEX_VARIABLES, *_UV_RESOLUTION_VARIABLES):
            child.pop(name, None)
        child["UV_NO_CONFIG"] = "1"
    if settings.no_index:
        child["UV_DEFAULT_INDEX"] = _NOTHING_URL
    elif settings.index_url is not None and (resolving or settings.is_from_pip("index_url")):
        child["UV_DEFAULT_INDEX"] = settings.index_url
    child |= index_variables(settings)
    return child if resolving else {**child, **_extra_index_variables(settings, env)}


def with_pytorch_index(
    child: Mapping[str, str], settings: IndexSettings, *, label: str
) -> dict[str, str]:
    """Return a uv child's environment with ``pytorch_index``."""
    known = child.get("UV_INDEX", "")
    return {**child, "UV_INDEX": f"{pytorch_index(settings, label=label)} {known}".strip()}


def pytorch_index(settings: IndexSettings, *, label: str) -> str:
    """Return PyTorch's own index, or the first mirror of it.

    ``label`` is the CUDA release as the index spells it, for example ``cu128``. For torch builds
    that the Python index does not have.
    """
    health = Health(settings.network.health_path)
    bases = [mirror.by for mirror in settings.network.pytorch_indexes] or [PYTORCH]
    return f"{health.sort(bases, server_of)[0].rstrip('/')}/{label}"


def _extra_index_variables(settings: IndexSettings, env: Mapping[str, str]) -> dict[str, str]:
    variables = {}
    if settings.no_index:
        variables["UV_INDEX"] = variables["UV_EXTRA_INDEX_URL"] = ""
    elif settings.is_from_pip("extra_index_urls"):
        variables["UV_INDEX"] = " ".join(settings.extra_index_urls)
    if settings.is_from_pip("find_links"):
        variables["UV_FIND_LINKS"] = ",".join(settings.find_links)
    if variables:
        # As pip does: an extra index that has a project need not have the locked version. It is
        # safe because everything that wheelyard installs is pinned by hash.
        variables["UV_INDEX_STRATEGY"] = env.get("UV_INDEX_STRATEGY") or "unsafe-best-match"
    return variables


def _connection_variables(settings: IndexSettings, env: Mapping[str, str]) -> dict[str, str]:
    """Return certificates, proxy and the like; values that ``env`` already has say the same."""
    variables = {}
    if settings.certificate is not None:
        variables["SSL_CERT_FILE"] = settings.certificate
    if settings.client_certificate is not None:
        variables["SSL_CLIENT_CERT"] = settings.client_certificate
    if settings.system_certificates:
        variables["UV_SYSTEM_CERTS"] = variables["UV_NATIVE_TLS"] = "true"
    if settings.trusted_hosts:
        variables["UV_INSECURE_HOST"] = " ".join(settings.trusted_hosts)
    if settings.offline:
        variables["UV_OFFLINE"] = "1"
    if settings.proxy is not None:
        for name in ("http_proxy", "https_proxy"):
            if not any(env.get(known) for known in (name, name.upper(), "all_proxy", "ALL_PROXY")):
                variables[name.upper()] = settings.proxy
    return variables


def git_environment(
    env: Mapping[str, str],
    *,
    url: str | None = None,
    config: Mapping[str, str] | None = None,
    is_detour: bool = False,
) -> dict[str, str]:
    """Return the environment of a git child that only moves bytes.

    The user's and the system's configuration stay in force for proxies, certificates, credentials
    and ``insteadOf``; hooks, filters, LFS, templates and prompts do not. ``url`` names the
    repository whose protocol is allowed beside https and ssh, which ``insteadOf`` may lead to; of
    a detour (a proxy or mirror of ours) no other than its own is.
    ``config`` is set on top (in the environment, so that credentials are in no log).
    """
    kept = {
        name: value
        for name, value in env.items()
        if not name.startswith("GIT_") or _KEPT_GIT_VARIABLE.fullmatch(name)
    }
    protocols = set() if is_detour else {"https", "ssh"}
    protocols |= {git_protocol(url)} if url is not None else set()
    child = {
        "GIT_HTTP_LOW_SPEED_LIMIT": "1",
        "GIT_HTTP_LOW_SPEED_TIME": "60",
        **kept,
        "GIT_ALLOW_PROTOCOL": ":".join(sorted(protocols)),
        "GIT_ATTR_NOSYSTEM": "1",
        "GIT_LFS_SKIP_SMUDGE": "1",
        "GIT_NO_REPLACE_OBJECTS": "1",
        "GIT_TERMINAL_PROMPT": "0",
        "LC_ALL": "C",
    }
    return child | _git_config_variables({**_GIT_CONFIG, **(config or {})}, env)


def git_protocol(url: str) -> str:
    """Return the protocol that git speaks for ``url``: https, http, ssh, git or file."""
    scheme = re.match(r"([a-zA-Z][a-zA-Z0-9+.-]*)(://|::)", url)
    if scheme is None:
        return "ssh" if re.match(r"[^/]+:", url) else "file"
    protocol = scheme[1].lower()
    if scheme[2] == "::" or protocol not in _GIT_PROTOCOLS:
        known = ", ".join(sorted(_GIT_PROTOCOLS))
        msg = f"The git URL {mask_url(url)!r} needs a protocol that is refused. Allowed: {known}."
        raise FetchError(msg)
    return protocol


def _git_config_variables(config: Mapping[str, str], env: Mapping[str, str]) -> dict[str, str]:
    """Return ``config`` in git's numbered variables, after those that the user set so."""
    given = env.get("GIT_CONFIG_COUNT", "")
    first = int(given) if given.isdigit() else 0
    variables = {"GIT_CONFIG_COUNT": str(first + len(config))}
    for number, (key, value) in enumerate(config.items(), start=first):
        variables[f"GIT_CONFIG_KEY_{number}"] = key
        variables[f"GIT_CONFIG_VALUE_{number}"] = value
    return variables
