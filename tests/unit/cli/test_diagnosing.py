"""The command that says what this machine can build."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from subprocess import CompletedProcess

    import pytest

    Run = Callable[..., CompletedProcess[str]]


def test_doctor_shows_the_settings_that_fetching_will_use_and_where_they_come_from(
    wheelyard: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", "https://user:hunter2@mirror.example/simple")
    monkeypatch.setenv("PATH", "")
    done = wheelyard("doctor")
    assert done.returncode == 0
    assert "mirror.example/simple" in done.stdout
    assert "PIP_INDEX_URL" in done.stdout
    assert "hunter2" not in done.stdout


def test_doctor_says_the_same_to_programs(wheelyard: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    assert json.loads(wheelyard("doctor", "--json").stdout)["format"] == 1


def test_doctor_shows_the_networks_settings_with_their_places(
    wheelyard: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.setenv("WHEELYARD_GITHUB_PROXIES", "https://me:s3cret@a.example/")
    monkeypatch.setenv("HF_ENDPOINT", "https://hub.example")
    monkeypatch.setenv("all_proxy", "socks5h://me:s3cret@127.0.0.1:1080")
    done = wheelyard("doctor", "--network", "direct=never")
    lines = " ".join(done.stdout.split())
    assert "github-proxies https://***@a.example/ (WHEELYARD_GITHUB_PROXIES)" in lines
    assert "hf-endpoints https://hub.example (HF_ENDPOINT)" in lines
    assert "direct never (--network)" in lines
    assert "all proxy socks5h://***@127.0.0.1:1080 (all_proxy)" in lines
    assert "s3cret" not in done.stdout
