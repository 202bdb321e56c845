from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from wheelyard.errors import ProcessError
from wheelyard.network.children import uv_environment, with_pytorch_index
from wheelyard.network.health import Health, health_file
from wheelyard.network.indexes import IndexSettings
from wheelyard.network.settings import read_network_settings
from wheelyard.network.uv_indexes import INDEX_VARIABLE, run_uv

if TYPE_CHECKING:
    from collections.abc import Callable

FAKE = """\
#!/bin/sh
echo "$UV_DEFAULT_INDEX" >>{asked}
case "$UV_DEFAULT_INDEX" in *good*) exit 0 ;; esac
echo "error: Failed to fetch: $UV_DEFAULT_INDEX/torch/"
echo "  Caused by: it is down"
exit 2
"""


@pytest.fixture
def run_fake(tmp_path: Path, env: dict[str, str]) -> Callable[..., list[str]]:
    """Run a uv that only works with a good index; return which were asked."""
    uv = tmp_path / "uv"
    uv.write_text(FAKE.format(asked=tmp_path / "asked"), encoding="utf-8")
    uv.chmod(0o755)

    def run(*urls: str, **more: str) -> list[str]:
        child = {**env, INDEX_VARIABLE: " ".join(urls), "UV_DEFAULT_INDEX": urls[0], **more}
        try:
            run_uv([str(uv)], env=child)
        finally:
            asked = (tmp_path / "asked").read_text(encoding="utf-8").split()
            (tmp_path / "asked").unlink()
        return asked

    return run


def test_indexes_are_asked_in_turn_until_one_works(run_fake: Callable[..., list[str]]) -> None:
    urls = ("https://bad.example/simple", "https://good.example/simple", "https://good2/simple")
    assert run_fake(*urls) == list(urls[:2])


def test_error_has_a_line_for_each_index_and_no_credentials(
    run_fake: Callable[..., list[str]],
) -> None:
    with pytest.raises(ProcessError) as caught:
        run_fake("https://me:s3cret@a.example/simple", "https://b.example/simple")
    message = str(caught.value)
    assert "  https://***@a.example/simple: error: Failed to fetch" in message
    assert "  https://b.example/simple: error: Failed to fetch" in message
    assert "it is down" in message
    assert "s3cret" not in message + caught.value.tail


def test_index_that_failed_is_remembered(
    run_fake: Callable[..., list[str]], env: dict[str, str], tmp_path: Path
) -> None:
    run_fake("https://bad.example/simple", "https://good.example/simple")
    assert Health(health_file(env)).penalty("bad.example") > 0.5
    text = "python-indexes=https://bad.example/simple https://good.example/simple"
    network = read_network_settings(
        env, config=tmp_path / "none", options=[text], health_path=health_file(env)
    )
    child = uv_environment(IndexSettings(index_url="https://own/simple", network=network), env)
    assert child["UV_DEFAULT_INDEX"] == "https://good.example/simple"
    assert child[INDEX_VARIABLE].split() == [
        "https://good.example/simple",
        "https://own/simple",
        "https://bad.example/simple",
    ]


def test_offline_asks_once(run_fake: Callable[..., list[str]]) -> None:
    with pytest.raises(ProcessError):
        run_fake("https://a/simple", "https://b/simple", UV_OFFLINE="1")


def test_torch_builds_of_pytorchs_own_index_come_from_its_first_mirror(
    env: dict[str, str],
) -> None:
    network = read_network_settings(
        env, config=Path("none"), options=["pytorch-indexes=https://m.example/whl/"]
    )
    child = with_pytorch_index({"UV_INDEX": "x"}, IndexSettings(network=network), label="cu128")
    assert child["UV_INDEX"] == "https://m.example/whl/cu128 x"
    straight = with_pytorch_index({}, IndexSettings(), label="cu128")
    assert straight["UV_INDEX"] == "https://download.pytorch.org/whl/cu128"
