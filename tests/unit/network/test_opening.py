from __future__ import annotations

from typing import TYPE_CHECKING

from wheelyard.network.opening import open_settings

if TYPE_CHECKING:
    from pathlib import Path


def test_users_file_is_read_from_the_configuration_folder(
    tmp_path: Path, env: dict[str, str]
) -> None:
    folder = tmp_path / "home" / ".config" / "wheelyard"
    folder.mkdir(parents=True)
    (folder / "config.toml").write_text(
        '[network]\nproxy = "socks5h://127.0.0.1:1080"\ncertificate = "/ca.pem"\noffline = true\n'
        'python-indexes = ["https://a/simple"]\n'
    )
    settings = open_settings(env | {"UV_DEFAULT_INDEX": "https://own/simple"}, cwd=tmp_path)
    assert settings.env["https_proxy"] == "socks5h://127.0.0.1:1080"
    assert settings.indexes.offline is True
    assert settings.indexes.certificate == "/ca.pem"
    assert settings.indexes.index_urls == ("https://a/simple", "https://own/simple")
    assert settings.indexes.origins["certificate"].place == f"{folder / 'config.toml'} [network]"
    cache = tmp_path / "home" / ".cache" / "wheelyard"
    assert settings.indexes.network.health_path == cache / "network" / "health.json"


def test_command_line_is_stronger(tmp_path: Path, env: dict[str, str]) -> None:
    env["WHEELYARD_DIRECT"] = "first"
    settings = open_settings(env, options=["direct=never"], cwd=tmp_path)
    assert settings.indexes.network.direct == "never"
