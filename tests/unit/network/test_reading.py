"""Documents that nothing pins: read whole, and gone only if every way says so."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from wheelyard.errors import FetchError
from wheelyard.network.failover import RouteError
from wheelyard.network.opening import open_settings
from wheelyard.network.reading import NotThereError, read_document
from wheelyard.network.session import open_session

if TYPE_CHECKING:
    from pathlib import Path

    from tests.unit.network.conftest import Server

URL = "https://api.github.com/repos/o/r"
PATH = "/repos/o/r"


def _read(env: dict[str, str], cwd: Path, *servers: Server, limit: int = 1000) -> bytes:
    proxies = " ".join(f"api.github.com={one.url}" for one in servers)
    words = (f"github-proxies={proxies}", "direct=never", "attempts=1")
    settings = open_settings(env, options=words, cwd=cwd)

    def whole(text: bytes) -> bytes:
        if text.startswith(b"<"):
            msg = "is a page"
            raise RouteError(msg, wrong=True)
        return text

    with open_session(settings.indexes, settings.env) as session:
        return read_document(
            URL, read=whole, limit=limit, session=session, settings=settings.indexes
        )


def test_first_way_that_brings_it_right_counts(
    serve: type[Server], env: dict[str, str], tmp_path: Path
) -> None:
    down, wrong, right = serve(), serve(), serve()
    down.answer(PATH, status=503)
    wrong.answer(PATH, "<html>")
    right.answer(PATH, "document")
    assert _read(env, tmp_path, down, wrong, right) == b"document"


def test_it_is_gone_if_every_way_says_so(
    serve: type[Server], env: dict[str, str], tmp_path: Path
) -> None:
    with pytest.raises(NotThereError):
        _read(env, tmp_path, serve(), serve())


def test_way_that_failed_may_have_had_it(
    serve: type[Server], env: dict[str, str], tmp_path: Path
) -> None:
    gone, down = serve(), serve()
    down.answer(PATH, status=500)
    with pytest.raises(FetchError) as caught:
        _read(env, tmp_path, gone, down)
    assert not isinstance(caught.value, NotThereError)


@pytest.mark.parametrize(("body", "cut_at"), [("x" * 2000, None), ("x" * 500, 100)])
def test_what_is_too_large_or_cut_off_is_none(
    serve: type[Server],
    env: dict[str, str],
    tmp_path: Path,
    body: str,
    cut_at: int | None,
) -> None:
    server = serve()
    server.answer(PATH, body, cut_at=cut_at)
    with pytest.raises(FetchError, match=r"sent more than|IncompleteRead|cut off"):
        _read(env, tmp_path, server)
