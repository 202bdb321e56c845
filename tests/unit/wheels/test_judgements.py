"""Upstream's wheels that may be missing jobs' ones: downloaded, looked at, once for each digest."""

from __future__ import annotations

import contextlib
import functools
import http.server
import json
import os
import platform
import threading
from typing import TYPE_CHECKING

import pytest

from wheelyard.farm import load_farm
from wheelyard.missing import Places, find_missing
from wheelyard.model.matrix import parse_machine
from wheelyard.planning.gaps import Gap, GapState
from wheelyard.planning.plan import wanted_jobs
from wheelyard.wheels.judgements import Judgements
from wheelyard.workshop import Options, open_workshop
from wheelyard.yard.store import open_yard

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from wheelyard.wheels.values import UpstreamWheel

    Publish = Callable[..., UpstreamWheel]
    Find = Callable[..., Gap]

MACHINE = parse_machine(platform.machine())
JOB = f"probe-1.1-cp312-torch2.11.0-cu130-{MACHINE}"
NAME = f"probe-1.1+cu13torch2.11cxx11abiTRUE-cp312-cp312-linux_{MACHINE}.whl"
OLD_STRING = "Ss"
RELEASES = """
[releases]
repository = "example/probe"
asset = "probe-{version}+cu{cuda}torch{torch}cxx11abi{abi}-{python}-{python}-linux_{machine}.whl"

[[versions]]
version = "1.0"
"""


class Upstream:
    """GitHub as far as anybody asks: one release with one wheel."""

    def __init__(self) -> None:
        self.url = ""
        self.wheel = b""
        self.digest = ""
        self.downloads = 0

    def answer(self, path: str) -> bytes | None:
        if path.endswith("/releases/tags/v1.1"):
            return b'{"id": 1}'
        if path.endswith("/assets?per_page=100&page=1"):
            asset = {"name": NAME, "size": len(self.wheel), "digest": f"sha256:{self.digest}"}
            url = f"{self.url}/download/{NAME.replace('+', '%2B')}"
            return json.dumps([asset | {"browser_download_url": url}]).encode()
        if "/download/" in path:
            self.downloads += 1
            return self.wheel
        return None


@contextlib.contextmanager
def _serving(upstream: Upstream) -> Iterator[None]:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = upstream.answer(self.path)
            self.send_response(404 if body is None else 200)
            self.send_header("Content-Length", str(len(body or b"")))
            self.end_headers()
            self.wfile.write(body or b"")

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    upstream.url = f"http://127.0.0.1:{server.server_address[1]}"
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    one = Upstream()
    with _serving(one):
        yield one


@pytest.fixture
def find(probe_farm: Path, cache: Path, tmp_path: Path, upstream: Upstream) -> Find:
    """Return a function that looks for the job, with upstream's wheel ``path`` published."""
    recipe = probe_farm / "recipes" / "probe.toml"
    text = recipe.read_text()
    recipe.write_text(text.replace('\n[[versions]]\nversion = "1.0"\n', RELEASES, 1))
    farm = load_farm(probe_farm)
    env = {
        "HOME": str(tmp_path / "home"),
        "PATH": os.environ["PATH"],
        "WHEELYARD_CACHE": str(cache),
        "WHEELYARD_GITHUB_PROXIES": f"api.github.com={upstream.url}",
        "WHEELYARD_DIRECT": "never",
    }
    workshop = open_workshop(farm, open_yard(tmp_path / "yard"), env=env, options=Options())
    jobs = [job for job in wanted_jobs(farm.recipes, farm.matrix) if job.identifier == JOB]

    def find(*, judge: bool) -> Gap:
        (gap,) = find_missing(jobs, workshop, Places(upstream=True, judge=judge)).gaps
        return gap

    return find


def _publish(upstream: Upstream, wheel: UpstreamWheel) -> None:
    upstream.wheel, upstream.digest = wheel.path.read_bytes(), wheel.sha256


def test_wheel_that_holds_is_adoptable_once_somebody_looked(
    find: Find, publish: Publish, upstream: Upstream
) -> None:
    _publish(upstream, publish(cubins=(80, 90, 120), filename=NAME))
    assert find(judge=False).state is GapState.candidate
    assert upstream.downloads == 0
    gap = find(judge=True)
    assert gap.state is GapState.adoptable
    assert gap.adopt is not None
    assert gap.adopt.sha256 == upstream.digest
    assert find(judge=False).state is GapState.adoptable


def test_name_that_lies_is_told_and_the_wheel_is_looked_at_once_only(
    find: Find, publish: Publish, upstream: Upstream
) -> None:
    _publish(upstream, publish(cubins=(80, 90, 120), string=OLD_STRING, filename=NAME))
    for _ in range(3):
        gap = find(judge=True)
        assert gap.state is GapState.missing
        assert "torchCheckFail" in gap.note
    assert upstream.downloads == 1


def test_wheel_without_code_for_a_wanted_gpu_leaves_the_job_missing(
    find: Find, publish: Publish, upstream: Upstream
) -> None:
    _publish(upstream, publish(cubins=(80, 90), filename=NAME))
    gap = find(judge=True)
    assert (gap.state, gap.note) == (GapState.missing, f"{NAME}: it has no GPU code for 12.0")


def test_wheel_with_other_bytes_than_the_release_states_proves_nothing(
    find: Find, publish: Publish, upstream: Upstream
) -> None:
    _publish(upstream, publish(cubins=(80, 90, 120), filename=NAME))
    upstream.digest = "0" * 64
    gap = find(judge=True)
    assert gap.state is GapState.unknown
    assert "0" * 64 in gap.note


def test_verdict_of_another_checker_or_torch_is_none(
    find: Find, publish: Publish, upstream: Upstream, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _publish(upstream, publish(cubins=(80, 90, 120), filename=NAME))
    find(judge=True)
    kept = Judgements(cache)
    assert kept.find(upstream.digest, torch="2.11.0+cu130") is not None
    assert kept.find(upstream.digest, torch="2.8.0+cu128") is None
    older = functools.partial(str, "0.0.1+older")
    monkeypatch.setattr("wheelyard.wheels.judgements.checker_version", older)
    assert kept.find(upstream.digest, torch="2.11.0+cu130") is None
