from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import pytest

from wheelyard.errors import InputFileError, UsageError
from wheelyard.network.settings import NetworkSettings, read_network_settings, variable_of
from wheelyard.network.settings_file import NetworkTable

if TYPE_CHECKING:
    from collections.abc import Callable

    Read = Callable[..., NetworkSettings]

PAGE = Path(__file__).parents[3] / "docs" / "network.md"
FIELDS = {field.name: field.encode_name for field in msgspec.structs.fields(NetworkTable)}


@pytest.fixture
def read(tmp_path: Path) -> Read:
    """Return a function that reads settings from a file's text, variables and options."""

    def read_all(text: str = "", *options: str, **env: str) -> NetworkSettings:
        config = tmp_path / "config.toml"
        if text:
            config.write_text(text, encoding="utf-8")
        return read_network_settings(env, config=config, options=options)

    return read_all


def test_nothing_configured_goes_straight(read: Read) -> None:
    settings = read()
    assert settings == NetworkSettings()
    assert [route.url for route in settings.routes("https://github.com/o/r")] == [
        "https://github.com/o/r"
    ]


def test_file_says_proxies_and_mirrors(read: Read) -> None:
    settings = read(
        "[network]\n"
        'github-proxies = ["https://a.example/", "github.com=b.example"]\n'
        'hf-endpoints = ["https://hub.example"]\n'
        'redist-urls = ["https://cuda.example/redist"]\n'
        'pytorch-indexes = ["https://torch.example/whl"]\n'
        'direct = "never"\nstall-timeout = 3\n'
    )

    def only(url: str) -> list[str]:
        return [route.url for route in settings.routes(url)]

    assert only("https://github.com/o/r") == [
        "https://a.example/https://github.com/o/r",
        "https://b.example/o/r",
    ]
    hub = "https://huggingface.co/o/m/resolve/main/x.whl"
    assert only(hub) == ["https://hub.example/o/m/resolve/main/x.whl"]
    nvidia = "https://developer.download.nvidia.com/compute/cuda/redist/x.json"
    assert only(nvidia) == ["https://cuda.example/redist/x.json"]
    assert only("https://download.pytorch.org/whl/cu126/") == ["https://torch.example/whl/cu126/"]
    assert settings.stall_timeout == 3.0


def test_nearer_place_wins_and_each_value_says_where_it_is_from(read: Read, tmp_path: Path) -> None:
    settings = read(
        '[network]\ngithub-proxies = ["https://file.example/"]\nattempts = 2\nparallel = 3\n',
        "parallel=5",
        WHEELYARD_GITHUB_PROXIES="https://one.example/ https://two.example/",
        WHEELYARD_PARALLEL="4",
    )
    assert settings.shown("github_proxies") == "https://one.example/ https://two.example/"
    assert (settings.attempts, settings.parallel) == (2, 5)
    assert settings.origins == {
        "attempts": f"{tmp_path / 'config.toml'} [network]",
        "github_proxies": "WHEELYARD_GITHUB_PROXIES",
        "parallel": "--network",
    }


def test_hubs_own_variable_is_read_but_ours_is_stronger(read: Read) -> None:
    settings = read(HF_ENDPOINT="https://a.example")
    assert settings.shown("hf_endpoints") == "https://a.example"
    assert settings.origins == {"hf_endpoints": "HF_ENDPOINT"}
    both = read(HF_ENDPOINT="https://a.example", WHEELYARD_HF_ENDPOINTS="https://b.example")
    assert both.shown("hf_endpoints") == "https://b.example"


def test_options_of_one_key_add_up(read: Read) -> None:
    settings = read("", "github-proxies=https://a.example/", "github-proxies=https://b.example/")
    assert settings.shown("github_proxies") == "https://a.example/ https://b.example/"


@pytest.mark.parametrize("text", ["true", "True", "1"])
def test_words_become_values(read: Read, text: str) -> None:
    assert read("", f"offline={text}").offline is True


def test_unknown_key_of_the_file_is_refused_with_the_nearest(read: Read) -> None:
    with pytest.raises(InputFileError, match=r"'github-proxy'.*Did you mean 'github-proxies'"):
        read('[network]\ngithub-proxy = "https://a.example/"\n')


def test_unknown_key_of_an_option_is_refused_with_the_nearest(read: Read) -> None:
    with pytest.raises(UsageError, match=r"Did you mean 'stall-timeout'"):
        read("", "stall-time=3")
    with pytest.raises(UsageError) as caught:
        read("", "proxi=http://me:s3cret@host")
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize(
    ("env", "match"),
    [
        ({"WHEELYARD_ATTEMPTS": "many"}, r"`attempts` in WHEELYARD_ATTEMPTS"),
        ({"WHEELYARD_STALL_TIMEOUT": "-1"}, r"> 0.*WHEELYARD_STALL_TIMEOUT"),
        ({"WHEELYARD_DIRECT": "maybe"}, r"'maybe'.*WHEELYARD_DIRECT"),
        ({"WHEELYARD_GITHUB_PROXIES": "proxy"}, r"'proxy'.*WHEELYARD_GITHUB_PROXIES"),
        ({"HF_ENDPOINT": "hub.example"}, r"no URL of a mirror - in HF_ENDPOINT"),
    ],
)
def test_bad_value_names_its_place(read: Read, env: dict[str, str], match: str) -> None:
    with pytest.raises(InputFileError, match=match):
        read("", **env)


def test_credentials_are_not_shown(read: Read) -> None:
    settings = read("", "github-proxies=https://me:s3cret@a.example/")
    assert "s3cret" not in repr(settings) + settings.shown("github_proxies")


def test_ordinary_proxy_is_for_children_too_where_no_variable_names_one(read: Read) -> None:
    settings = read("", "proxy=socks5h://127.0.0.1:1080", "no-proxy=a.example b.example")
    assert settings.connection_variables({}) == {
        "http_proxy": "socks5h://127.0.0.1:1080",
        "https_proxy": "socks5h://127.0.0.1:1080",
        "no_proxy": "a.example,b.example",
    }
    assert settings.connection_variables({"ALL_PROXY": "http://x", "no_proxy": "y"}) == {}


def test_page_names_every_key_and_its_variable() -> None:
    text = PAGE.read_text(encoding="utf-8").split("## All settings")[1]
    for name, key in FIELDS.items():
        assert f"| `{key}` | `{variable_of(name)}`" in text


def test_examples_of_the_page_can_be_read(read: Read) -> None:
    blocks = PAGE.read_text(encoding="utf-8").split("```toml\n")[1:]
    assert len(blocks) == 2
    for block in blocks:
        assert read(block.split("```")[0]).github_proxies
