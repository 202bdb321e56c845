"""uv's configuration for resolving: the user's indexes, and ours, whose pages are kept a while.

uv asks an index again for every page that it holds, as the index wants it. A question about many
combinations reads the same few hundred pages for each, so they are believed for some minutes.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from wheelyard.network.indexes import IndexSettings

FRESH_SECONDS: Final = 900
_INDEX_VARIABLES = (
    "UV_CONFIG_FILE",
    "UV_DEFAULT_INDEX",
    "UV_EXTRA_INDEX_URL",
    "UV_FIND_LINKS",
    "UV_INDEX",
    "UV_INDEX_URL",
    "UV_NO_CONFIG",
)


def resolving_config(
    settings: IndexSettings, *, find_links: Iterable[str], indexes: Iterable[str] = ()
) -> str:
    """Return the text of a ``uv.toml``; ``find_links`` and ``indexes`` are asked beside.

    Where the default index has mirrors it is left to ``run_uv``, which asks one after another.
    """
    links = [*find_links, *settings.find_links]
    lines = [f"find-links = {json.dumps(links)}"]
    if settings.no_index:
        return "\n".join(["no-index = true", *lines, ""])
    extras = [*indexes, *settings.extra_index_urls]
    if extras:
        # as pip does; a public index can never hold a local version of ours
        lines.append('index-strategy = "unsafe-best-match"')
    tables = [_table(url) for url in extras]
    if not settings.network.python_indexes:
        tables.append(_table(settings.primary_index_url, is_default=True))
    return "\n".join([*lines, *tables, ""])


def resolving_environment(child: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of a uv child (see ``uv_environment``) that takes that file."""
    mirrored = "WHEELYARD_INDEX_URLS" in child
    return {
        name: value
        for name, value in child.items()
        if name not in _INDEX_VARIABLES or (mirrored and name == "UV_DEFAULT_INDEX")
    }


def _table(url: str, *, is_default: bool = False) -> str:
    control = f'{{ api = "max-age={FRESH_SECONDS}", files = "max-age=365000000, immutable" }}'
    lines = ["", "[[index]]", f"url = {json.dumps(url)}"]
    lines += ["default = true"] if is_default else []
    return "\n".join([*lines, f"cache-control = {control}"])
