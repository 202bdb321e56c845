"""Commands over finished wheels."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from subprocess import CompletedProcess

    from wheelyard.yard.store import StoredWheel

    Run = Callable[..., CompletedProcess[str]]
    Store = Callable[..., StoredWheel]

IDENTIFIER = "probe-1.1-cp312-torch2.11.0-cu130-x86_64"


def test_index_is_written_and_its_url_shown(
    wheelyard: Run, probe_farm: Path, store_probe: Store
) -> None:
    store_probe()
    done = wheelyard("index", "--farm", probe_farm)
    assert done.returncode == 0
    url = done.stdout.splitlines()[-1]
    assert url == (probe_farm / "yard" / "index" / "simple").as_uri()
    assert (probe_farm / "yard" / "index" / "simple" / "probe" / "index.html").is_file()


def test_index_that_is_up_to_date_is_not_written(
    wheelyard: Run, probe_farm: Path, store_probe: Store
) -> None:
    store_probe()
    first = json.loads(wheelyard("index", "--json", "--farm", probe_farm).stdout)
    second = json.loads(wheelyard("index", "--json", "--farm", probe_farm).stdout)
    assert first["written"] == first["pages"] == second["pages"] > 0
    assert second["written"] == 0


def test_missing_yard_is_told_with_what_to_do(wheelyard: Run, probe_farm: Path) -> None:
    done = wheelyard("index", "--farm", probe_farm)
    assert done.returncode == 14
    assert "Build a wheel first, or name its folder with --yard" in done.stderr
    assert not (probe_farm / "yard").exists()


def test_explain_of_a_finished_job_shows_how_it_was_made(
    wheelyard: Run, probe_farm: Path, store_probe: Store
) -> None:
    stored = store_probe()
    done = wheelyard("explain", IDENTIFIER, "--farm", probe_farm)
    assert done.returncode == 0
    assert done.stdout.startswith(f"{IDENTIFIER}: done\n")
    rows = dict(line.split(None, 1) for line in done.stdout.splitlines()[2:])
    assert rows["wheel"] == str(stored.path)
    assert rows["gpu_archs"] == "8.0 9.0 12.0"
    assert rows["torch"] == "2.11.0+cu130 (locked)"
    assert rows["tested"] == "not"


def test_explain_of_a_stale_job_says_what_changed(
    wheelyard: Run, probe_farm: Path, recipe_text: str, store_probe: Store
) -> None:
    store_probe()
    changed = recipe_text.replace('PROBE = "version"', 'PROBE = "other"')
    (probe_farm / "recipes/probe.toml").write_text(changed, encoding="utf-8")
    done = wheelyard("explain", IDENTIFIER, "--farm", probe_farm)
    assert done.stdout.startswith(f"{IDENTIFIER}: stale\n  changed build: ")
    assert '"other"' in done.stdout


def test_plan_shows_done_and_stale_jobs(
    wheelyard: Run, probe_farm: Path, recipe_text: str, store_probe: Store
) -> None:
    store_probe()
    select = "probe-1.1-*-torch2.11.0-cu130-x86_64"
    states = wheelyard("plan", select, "--farm", probe_farm).stdout.splitlines()
    assert [line.split()[0] for line in states[1:4]] == ["missing", "done", "missing"]
    changed = recipe_text.replace('DEPTH = "1"', 'DEPTH = "2"')
    (probe_farm / "recipes/probe.toml").write_text(changed, encoding="utf-8")
    states = wheelyard("plan", select, "--farm", probe_farm).stdout.splitlines()
    assert [line.split()[0] for line in states[1:4]] == ["missing", "stale", "missing"]
    assert "build: " in states[2]


def test_explain_of_a_missing_job_says_so(wheelyard: Run, probe_farm: Path) -> None:
    done = wheelyard("explain", IDENTIFIER, "--farm", probe_farm)
    assert (done.returncode, done.stdout) == (0, f"{IDENTIFIER}: missing\n")


def test_explain_of_an_impossible_job_says_why(wheelyard: Run, probe_farm: Path) -> None:
    identifier = "probe-1.1-cp312-torch2.8.0-cu128-aarch64"
    done = wheelyard("explain", identifier, "--farm", probe_farm)
    expected = "not built: torch 2.8.0 on aarch64 has no CUDA wheels on the index.\n"
    assert (done.returncode, done.stdout) == (0, expected)


def test_explain_of_an_unknown_job_is_an_error(wheelyard: Run, probe_farm: Path) -> None:
    done = wheelyard("explain", "probe-9-cp312", "--farm", probe_farm)
    assert done.returncode == 4
    assert "No job is named 'probe-9-cp312': " in done.stderr
    assert "`wheelyard matrix` shows" in done.stderr


def test_log_is_printed_as_it_is(wheelyard: Run, probe_farm: Path, store_probe: Store) -> None:
    store_probe()
    log = probe_farm / "yard" / "logs" / f"{IDENTIFIER}.log"
    log.parent.mkdir(exist_ok=True)
    log.write_bytes(b"+ build\n[1/1] nvcc \xff\n")
    done = wheelyard("log", IDENTIFIER, "--farm", probe_farm)
    assert done.stdout == "+ build\n[1/1] nvcc \N{REPLACEMENT CHARACTER}\n"
    done = wheelyard("log", "other", "--farm", probe_farm)
    assert done.returncode == 4
    assert f"There is no log of 'other'. Logs: {IDENTIFIER}." in done.stderr


def test_report_from_another_machine_is_taken_in(
    wheelyard: Run, probe_farm: Path, store_probe: Store, tmp_path: Path
) -> None:
    store_probe()
    report = tmp_path / "report.json"
    machine = {"gpu": "NVIDIA H100 80GB HBM3", "driver": "580.159.04"}
    answer = {"level": "ran-on-gpu", "machine": machine, "measurements": [{"error": 1e-7}]}
    report.write_text(json.dumps(answer), encoding="utf-8")
    done = wheelyard("smoke", IDENTIFIER, "--report", report, "--farm", probe_farm)
    assert done.returncode == 0
    assert f"{IDENTIFIER}: ran-on-gpu on NVIDIA H100 80GB HBM3, driver 580" in done.stdout
    explained = wheelyard("explain", IDENTIFIER, "--farm", probe_farm).stdout
    assert "tested        ran-on-gpu" in explained


@pytest.mark.parametrize(
    "text", [None, "{", "[]", "{}", '{"machine": {}, "level": "perfect", "measurements": []}']
)
def test_file_that_is_no_report_is_refused(
    wheelyard: Run, probe_farm: Path, store_probe: Store, tmp_path: Path, text: str | None
) -> None:
    store_probe()
    report = tmp_path / "report.json"
    if text is not None:
        report.write_text(text, encoding="utf-8")
    done = wheelyard("smoke", IDENTIFIER, "--report", report, "--farm", probe_farm)
    assert done.returncode == 3
    assert f"{report} is not a report of a smoke test" in done.stderr
    assert not list((probe_farm / "yard").glob("reports/*/*"))


def test_report_of_a_wheel_that_the_yard_does_not_have_is_refused(
    wheelyard: Run, probe_farm: Path, store_probe: Store, tmp_path: Path
) -> None:
    store_probe()
    done = wheelyard("smoke", "other", "--report", tmp_path / "x", "--farm", probe_farm)
    assert done.returncode == 4
    assert f"has no 'other'. It has:\n  {IDENTIFIER}" in done.stderr


def test_clean_shows_the_parts_of_the_cache_and_deletes_those_named(
    wheelyard: Run, tmp_path: Path
) -> None:
    for part in ("compile", "torch"):
        (tmp_path / "cache" / part / "x").mkdir(parents=True)
        (tmp_path / "cache" / part / "x" / "file").write_bytes(b"1234")
    shown = wheelyard("clean")
    assert [line.split() for line in shown.stdout.splitlines()[:3]] == [
        ["PART", "SIZE"],
        ["compile", "4", "bytes"],
        ["torch", "4", "bytes"],
    ]
    assert (tmp_path / "cache" / "compile").exists()

    wheelyard("clean", "compile")
    assert not (tmp_path / "cache" / "compile").exists()
    assert (tmp_path / "cache" / "torch").exists()

    wheelyard("clean", "--all")
    assert not (tmp_path / "cache" / "torch").exists()


def test_sizes_of_what_goes_are_shown_first_and_a_dry_run_shows_no_more(
    wheelyard: Run, tmp_path: Path
) -> None:
    for name, size in (("compile", 3000), ("work", 5000)):
        (tmp_path / "cache" / name).mkdir(parents=True)
        (tmp_path / "cache" / name / "file").write_bytes(b"x" * size)
    dry = wheelyard("clean", "work", "compile", "--dry-run")
    assert [line.split() for line in dry.stdout.splitlines()[:4]] == [
        ["PART", "SIZE"],
        *(["work", "5.0", "kB"], ["compile", "3.0", "kB"], ["all", "8.0", "kB"]),
    ]
    assert f"would delete {tmp_path / 'cache' / 'work'}" in dry.stdout
    assert (tmp_path / "cache" / "work" / "file").exists()
    done = wheelyard("clean", "work", "--json")
    assert json.loads(done.stdout)["deleted"] == [str(tmp_path / "cache" / "work")]
    assert json.loads(done.stdout)["sizes"] == {"compile": 3000, "work": 5000}
    assert not (tmp_path / "cache" / "work").exists()


def test_clean_of_an_unknown_part_names_the_known_ones_and_deletes_nothing(
    wheelyard: Run, tmp_path: Path
) -> None:
    (tmp_path / "cache" / "torch").mkdir(parents=True)
    done = wheelyard("clean", "torch", "torhc")
    assert done.returncode == 4
    assert "has no part 'torhc'. Did you mean 'torch'? It has: torch." in done.stderr
    assert (tmp_path / "cache" / "torch").exists()


def test_clean_of_an_empty_machine_is_no_error(wheelyard: Run) -> None:
    assert wheelyard("clean").returncode == 0
    assert wheelyard("clean", "--all").returncode == 0


def test_a_job_that_the_matrix_does_not_want_is_explained_too(
    wheelyard: Run, probe_farm: Path
) -> None:
    wanted = "probe-1.1-cp311-torch2.11.0-cu130-x86_64"
    for identifier in (wanted, f"{wanted}-sm90"):
        done = wheelyard("explain", identifier, "--farm", probe_farm)
        assert (done.returncode, done.stdout) == (0, f"{identifier}: missing\n"), done.stderr
    done = wheelyard("explain", wanted[:-3], "--farm", probe_farm)
    assert done.returncode == 4
    assert f"Did you mean {wanted!r}?" in done.stderr


def test_a_log_that_is_not_there_is_told_with_the_nearest(
    wheelyard: Run, probe_farm: Path, tmp_path: Path
) -> None:
    wheelyard("plan", "--farm", probe_farm, "--yard", tmp_path / "yard")
    (tmp_path / "yard" / "logs").mkdir(exist_ok=True)
    (tmp_path / "yard" / "logs" / "probe-1.1.log").write_text("said\n", encoding="utf-8")
    done = wheelyard("log", "probe-1.2", "--farm", probe_farm, "--yard", tmp_path / "yard")
    assert done.returncode == 4
    assert "Did you mean 'probe-1.1'?" in done.stderr
