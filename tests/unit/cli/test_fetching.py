"""The command that brings everything here that builds need."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from wheelyard.errors import MachineError
from wheelyard.network.settings import CONFIG_NAME

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from subprocess import CompletedProcess

    import pytest

    Run = Callable[..., CompletedProcess[str]]

CELL = ("--python", "3.12", "--torch", "2.11.0", "--cuda", "13.0")


def test_sources_alone_are_shown_with_where_they_lie(wheelyard: Run, probe_farm: Path) -> None:
    words = ("fetch", "probe", *CELL, "--farm", probe_farm, "--sources")
    done = wheelyard(*words)
    assert done.returncode == 0
    label, digest, path = done.stdout.split()
    assert (label, path) == ("probe-1.1:", str(probe_farm / "source"))
    result = json.loads(wheelyard(*words, "--json").stdout)
    assert result["jobs"] == []
    assert result["sources"] == [
        {"digest": digest, "error": None, "path": path, "version": "probe-1.1"}
    ]


def test_without_a_recipe_every_source_is_fetched_and_each_failure_told(
    wheelyard: Run, probe_farm: Path
) -> None:
    words = ("fetch", "--farm", probe_farm, "--sources", "--network", "offline=true")
    done = wheelyard(*words, "--json")
    found = {one["version"]: one for one in json.loads(done.stdout)["sources"]}
    assert set(found) == {"probe-1.0", "probe-1.1"}
    assert found["probe-1.1"]["error"] is None
    assert "not asked (offline)" in found["probe-1.0"]["error"]
    assert done.returncode == 7


def test_selection_names_the_jobs(wheelyard: Run, probe_farm: Path) -> None:
    words = ("fetch", "--select", "probe-1.1-*", "--farm", probe_farm, "--sources", "--json")
    sources = json.loads(wheelyard(*words).stdout)["sources"]
    assert [one["version"] for one in sources] == ["probe-1.1"]


def test_job_that_this_machine_cannot_build_is_told_and_fails_alone_only(
    wheelyard: Run, probe_farm: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lacks(*_arguments: object) -> None:
        msg = "There is no Python 3.12 here."
        raise MachineError(msg)

    monkeypatch.setattr("wheelyard.stages.toolchain_for", lacks)
    words = ("--farm", probe_farm)
    alone = wheelyard("fetch", "probe", *CELL, *words)
    assert alone.returncode == 6
    many = wheelyard("fetch", "--select", "probe-1.1-*cp312*", *words)
    assert many.returncode == 0
    assert "no: There is no Python 3.12 here." in many.stdout


def test_bad_setting_of_the_network_is_refused_before_anything_is_done(
    wheelyard: Run, probe_farm: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = wheelyard("fetch", "probe", "--farm", probe_farm, "--network", "github-proxy=x")
    assert done.returncode == 2
    assert "Did you mean 'github-proxies'" in done.stderr
    monkeypatch.setenv("WHEELYARD_CONFIG", str(tmp_path / "config"))
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / CONFIG_NAME).write_text("[network]\nattempts = 0\n", encoding="utf-8")
    done = wheelyard("fetch", "probe", "--farm", probe_farm)
    assert done.returncode == 3
    assert "$.network.attempts" in done.stderr
