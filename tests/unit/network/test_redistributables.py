"""From which site a manifest is taken, and what is said when none has it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from wheelyard.errors import FetchError, IntegrityError
from wheelyard.network.indexes import IndexSettings
from wheelyard.network.redistributables import fetch_manifest, redist_url
from wheelyard.network.routes import NVIDIA, InsteadOf
from wheelyard.network.settings import NetworkSettings

if TYPE_CHECKING:
    from tests.unit.network.conftest import Server

FILENAME = "redistrib_12.4.1.json"
LIMIT = 1000


def _read(content: bytes, origin: str) -> tuple[bytes, str]:
    if not (content.startswith(b"{") and content.endswith(b"}")):
        msg = f"{origin} is no manifest"
        raise IntegrityError(msg)
    return content, origin


def _fetch(*urls: str, offline: bool = False, env: dict[str, str]) -> tuple[bytes, str]:
    mirrors = tuple(InsteadOf(of=NVIDIA, by=url) for url in urls)
    network = NetworkSettings(redist_urls=mirrors, direct="never", attempts=2)
    settings = IndexSettings(network=network, offline=offline)
    return fetch_manifest(FILENAME, read=_read, limit=LIMIT, settings=settings, env=env)


def test_files_have_the_names_that_nvidia_gives_them() -> None:
    assert redist_url(FILENAME) == (
        "https://developer.download.nvidia.com/compute/cuda/redist/redistrib_12.4.1.json"
    )


def test_first_manifest_that_is_one_is_taken(server: Server, env: dict[str, str]) -> None:
    server.answer(f"/html/{FILENAME}", "<!DOCTYPE html>", content_type="text/html")
    server.answer(f"/good/{FILENAME}", "{}")
    urls = [f"{server.url}/{name}" for name in ("none", "html", "good/")]
    assert _fetch(*urls, env=env) == (b"{}", FILENAME)
    assert server.asked == [f"/{name}/{FILENAME}" for name in ("none", "html", "good")]


def test_every_answer_is_told_where_none_was_right(server: Server, env: dict[str, str]) -> None:
    server.answer(f"/html/{FILENAME}", "<!DOCTYPE html>", content_type="text/html")
    secret = server.url.replace("//", "//user:secret@")
    with pytest.raises(IntegrityError) as caught:
        _fetch(f"{secret}/none", f"{secret}/html", env=env)
    message = str(caught.value)
    assert f"There is no {FILENAME} to make a lock of." in message
    assert "404" in message
    assert f"/html/{FILENAME}: {FILENAME} is no manifest" in message
    assert "secret" not in message
    assert "WHEELYARD_REDIST_URLS" in message


def test_site_that_has_none_is_not_called_dishonest(server: Server, env: dict[str, str]) -> None:
    with pytest.raises(FetchError, match="404"):
        _fetch(server.url, env=env)


def test_manifest_that_was_cut_is_asked_for_again(server: Server, env: dict[str, str]) -> None:
    server.answer(f"/{FILENAME}", '{"a": 1}', cut_at=4)
    server.answer(f"/{FILENAME}", '{"a": 1}')
    assert _fetch(server.url, env=env)[0] == b'{"a": 1}'


def test_endless_answer_is_not_read_to_its_end(server: Server, env: dict[str, str]) -> None:
    server.answer(f"/{FILENAME}", "{" + " " * LIMIT + "}")
    with pytest.raises(IntegrityError, match=f"sends more than {LIMIT} bytes"):
        _fetch(server.url, env=env)


def test_nobody_is_asked_offline(server: Server, env: dict[str, str]) -> None:
    with pytest.raises(FetchError, match="offline"):
        _fetch(server.url, offline=True, env=env)
    assert server.asked == []
