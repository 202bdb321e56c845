"""Run uv with one Python index after another: uv itself gives up at the first that is down."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from wheelyard.errors import ProcessError
from wheelyard.network.health import Health, health_file
from wheelyard.network.masking import mask_url
from wheelyard.network.routes import server_of
from wheelyard.run import run

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from wheelyard.network.indexes import IndexSettings

logger = logging.getLogger(__name__)

INDEX_VARIABLE = "WHEELYARD_INDEX_URLS"
"""In the environment of a uv child: the default index and those to ask after it."""


def index_variables(settings: IndexSettings) -> dict[str, str]:
    """Return what tells uv, and ``run_uv``, of the mirrors of the default index, if any."""
    network = settings.network
    if settings.no_index or not network.python_indexes:
        return {}
    health = Health(network.health_path)
    urls = health.sort(settings.mirrored_index_urls, server_of)
    return {
        "UV_DEFAULT_INDEX": urls[0],
        "UV_HTTP_RETRIES": "1",
        "UV_HTTP_TIMEOUT": str(max(1, round(2 * network.stall_timeout))),
        INDEX_VARIABLE: " ".join(urls),
    }


def run_uv(
    arguments: Sequence[str],
    *,
    env: Mapping[str, str],
    cwd: Path | None = None,
    log_path: Path | None = None,
) -> None:
    """Run a uv that installs or resolves pinned things, with each index of ``env`` in turn.

    Whatever an index sends is held against the hashes by uv, so the next one may be asked after
    wrong bytes too.
    """
    urls = env.get(INDEX_VARIABLE, "").split()
    if len(urls) < 2 or env.get("UV_OFFLINE"):
        run(arguments, env=env, cwd=cwd, log_path=log_path)
        return
    health = Health(health_file(env))
    failures: list[tuple[str, ProcessError]] = []
    for url in urls:
        try:
            run(arguments, env={**env, "UV_DEFAULT_INDEX": url}, cwd=cwd, log_path=log_path)
        except ProcessError as error:
            failures.append((mask_url(url), error))
            health.failed(server_of(url))
            logger.info("%s: %s", mask_url(url), _last_line(error))
        else:
            health.succeeded(server_of(url))
            return
    raise _combined(failures)


def _last_line(error: ProcessError) -> str:
    lines = [
        line.strip(" \t├─▶╰│\N{MULTIPLICATION SIGN}")
        for line in error.tail.splitlines()
        if line.strip()
    ]
    return mask_url("; ".join(lines[-3:])) or "uv failed without a word"


def _combined(failures: Sequence[tuple[str, ProcessError]]) -> ProcessError:
    """Return one error with a line for each index."""
    last = failures[-1][1]
    said = "\n".join(f"  {url}: {_last_line(error)}" for url, error in failures)
    return ProcessError(
        f"uv failed with every index:\n{said}",
        returncode=last.returncode,
        tail=f"Asked:\n{said}\n",
        log_path=last.log_path,
    )
