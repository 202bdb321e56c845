"""`plan --missing` on a farm with a yard, an index that lives, lies or is dead."""

from __future__ import annotations

import functools
import http.server
import json
import platform
import threading
from typing import TYPE_CHECKING

import pytest

from wheelyard.yard.index import write_index
from wheelyard.yard.store import open_yard

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path
    from subprocess import CompletedProcess

    from wheelyard.yard.store import StoredWheel

    Run = Callable[..., CompletedProcess[str]]

JOB = "probe-1.1-cp312-torch2.11.0-cu130-x86_64"


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass


@pytest.fixture
def published(
    probe_farm: Path, store_probe: Callable[..., StoredWheel]
) -> Iterator[tuple[str, Path]]:
    """Serve the index of a yard with one wheel; return its URL and its folder."""
    store_probe(machine="x86_64")
    write_index(open_yard(probe_farm / "yard"))
    folder = (probe_farm / "yard").rename(probe_farm.parent / "published")
    handler = functools.partial(_Quiet, directory=str(folder))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}/index/simple/", folder
    server.shutdown()
    server.server_close()


def _states(done: CompletedProcess[str]) -> dict[str, str]:
    return {one["identifier"]: one["state"] for one in json.loads(done.stdout)["jobs"]}


def test_counts_missing_and_impossible_are_shown_and_stable(
    wheelyard: Run, probe_farm: Path
) -> None:
    first, again = (wheelyard("plan", "--missing", "--farm", probe_farm) for _ in range(2))
    assert first.returncode == 0
    assert first.stdout == again.stdout
    lines = first.stdout.splitlines()
    assert lines[0].split() == ["STATE", "JOB"]
    row = next(line for line in lines if line.startswith("all ")).split()
    assert row == ["all", "18", "0", "0", "0", "0", "18", "0", "0"]
    assert "6 combinations are not wanted:" in lines
    assert "      6  its torch on aarch64 has no CUDA wheels on the index" in lines
    assert lines[-1].startswith("to build: 18 jobs in 6 groups, ")


def test_wheel_that_an_index_names_is_not_missing(
    wheelyard: Run, probe_farm: Path, published: tuple[str, Path]
) -> None:
    words = ("plan", "--missing", "--json", "--farm", probe_farm)
    assert _states(wheelyard(*words))[JOB] == "missing"
    states = _states(wheelyard(*words, "--index", published[0]))
    assert states[JOB] == "existing"
    assert set(states.values()) == {"existing", "missing"}


def test_dead_index_stops_the_plan(
    wheelyard: Run, probe_farm: Path, published: tuple[str, Path]
) -> None:
    url, folder = published
    (folder / "index" / "simple").rename(folder / "gone")
    words = ("plan", "--missing", "--farm", probe_farm, "--index", url)
    done = wheelyard(*words)
    assert (done.returncode, done.stdout) == (7, "")
    assert "nothing is planned" in done.stderr
    assert wheelyard(*words, "--trust-index").returncode == 0


@pytest.mark.parametrize("harm", ["removed", "cut", "replaced"])
def test_half_an_index_starts_no_rebuild_storm(
    wheelyard: Run, probe_farm: Path, published: tuple[str, Path], harm: str
) -> None:
    url, folder = published
    page = folder / "index" / "simple" / "probe"
    for path in page.iterdir():
        match harm:
            case "removed":
                path.unlink()
            case "cut":
                path.write_bytes(path.read_bytes()[:-30])
            case _:
                path.write_text("<html><body>Sign in</body></html>")
    words = ("--farm", probe_farm, "--index", url, "--network", "attempts=1")
    states = _states(wheelyard("plan", "--missing", "--json", *words))
    assert set(states.values()) == {"unknown"}
    done = wheelyard("fill", *words)
    assert done.returncode == 0
    assert "building 0" in done.stderr
    assert "could not be read, and are not built" in done.stderr


def test_selection_takes_patterns_and_identifiers(wheelyard: Run, probe_farm: Path) -> None:
    words = ("plan", "--missing", "--json", "--farm", probe_farm)
    states = _states(wheelyard(*words, JOB, "--select", "*-cp313-torch2.8.0-*"))
    others = [f"probe-{version}-cp313-torch2.8.0-cu128-x86_64" for version in ("1.0", "1.1")]
    assert sorted(states) == sorted([JOB, *others])


def test_reasons_are_those_of_the_selection(wheelyard: Run, probe_farm: Path) -> None:
    words = ("plan", "--missing", "--json", "--farm", probe_farm)
    every = json.loads(wheelyard(*words).stdout)["unwanted"]
    some = json.loads(wheelyard(*words, "probe-1.0-*").stdout)["unwanted"]
    assert sum(one["count"] for one in every) == 6
    assert sum(one["count"] for one in some) == 3


def test_limit_takes_the_first_in_the_order_of_starting(wheelyard: Run, probe_farm: Path) -> None:
    words = ("plan", "--missing", "--json", "--farm", probe_farm)
    every = json.loads(wheelyard(*words).stdout)["groups"]
    some = json.loads(wheelyard(*words, "--limit", "4").stdout)["groups"]
    assert [len(one["jobs"]) for one in some] == [3, 1]
    assert [one["jobs"][0] for one in some] == [one["jobs"][0] for one in every[:2]]


def test_plan_for_github_names_groups_with_their_fingerprints(
    wheelyard: Run, probe_farm: Path
) -> None:
    words = ("--missing", "--engine", "github", "--farm", probe_farm)
    plan = json.loads(wheelyard("plan", *words).stdout)
    assert (plan["jobs"], plan["waves"], len(plan["digest"])) == (18, 1, 64)
    entries = plan["matrix"]["include"]
    assert len(entries) == 6
    assert sorted(name for one in entries for name in one["jobs"].split()) == sorted(
        name for one in plan["plan"]["entries"] for name in one["jobs"]
    )
    machines = {one["group"].rpartition("-")[2]: one["runner"] for one in entries}
    assert machines == {"x86_64": ["ubuntu-24.04"], "aarch64": ["ubuntu-24.04-arm"]}


@pytest.mark.parametrize(
    "words", [["--upstream"], ["--limit", "3"], ["--index", "http://x/"], ["--engine", "github"]]
)
def test_what_is_about_elsewhere_needs_missing(
    wheelyard: Run, probe_farm: Path, words: list[str]
) -> None:
    done = wheelyard("plan", *words, "--farm", probe_farm)
    assert done.returncode == 2
    assert "Add --missing." in done.stderr


def test_adopted_wheel_with_more_targets_serves_the_job(
    wheelyard: Run, probe_farm: Path, store_probe: Callable[..., StoredWheel]
) -> None:
    stored = store_probe(
        adopted="7" * 64, machine=platform.machine(), gpu_archs="8.0;9.0;12.0;12.1"
    )
    done = wheelyard("plan", "--missing", "--json", "--farm", probe_farm)
    (gap,) = [one for one in json.loads(done.stdout)["jobs"] if one["state"] == "existing"]
    assert gap["note"] == f"yard: {stored.record.identifier} serves it too"
