"""Builds side by side under one budget, and compilers that are killed for their memory."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from wheelyard.scheduling.budget_server import serve_budget

pytestmark = pytest.mark.build


def _record(yard: Path, identifier: str) -> dict[str, object]:
    records = [json.loads(path.read_text()) for path in yard.glob("records/*.json")]
    return next(record for record in records if record["identifier"] == identifier)


def test_two_pythons_at_once_compile_device_code_once(built, farm, tmp_path, empty_compile_cache):
    first = built[1]["identifier"]
    python = first.partition("-cp3")[2].partition("-")[0]
    pythons = [f"3.{python}", "3.13" if python != "13" else "3.12"]
    empty_compile_cache()
    yard = tmp_path / "yard"
    words = ["build", "tinyscale", "--farm", str(farm), "--yard", str(yard), "--python"]
    with serve_budget(cores=2, memory=8 * 2**30) as server:
        env = {**os.environ, "WHEELYARD_BUDGET": str(server.path)}
        children = [
            subprocess.Popen([sys.executable, "-m", "wheelyard", *words, version], env=env)
            for version in pythons
        ]
        if [child.wait() for child in children] == [0, 6]:
            pytest.skip(f"there is no Python {pythons[1]} here")
        assert [child.returncode for child in children] == [0, 0]
        runs = server.runs
    builds = [_record(yard, run.job)["origin"]["build"] for run in runs if run.kind == "device"]
    assert len(builds) == 2
    kinds = ("CUBIN", "CUDA", "CUDA (Device code)", "PTX")
    for kind in kinds:
        assert sum(build["cache_misses"].get(kind, 0) for build in builds) == 1, kind
        assert sum(build["cache_hits"].get(kind, 0) for build in builds) == 1, kind
    device = sorted((run for run in runs if run.kind == "device"), key=lambda run: run.started)
    assert device[0].ended <= device[1].started
    # the same bytes as alone, although half of it came from the other
    assert _record(yard, first)["sha256"] == built[1]["sha256"]


def _compiler_of(pid: int, name: str) -> int | None:
    """Find a compiler by that name that works on the tiny extension for the process ``pid``."""
    parents = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError, IndexError):
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
                parents[int(entry.name)] = int(fields[1])
    found = {pid}
    while more := {child for child, parent in parents.items() if parent in found} - found:
        found |= more
    for number in found:
        with contextlib.suppress(OSError):
            words = Path(f"/proc/{number}/cmdline").read_text().split("\0")
            if Path(words[0]).name == name and any("tinyscale" in word for word in words):
                return number
    return None


@pytest.mark.parametrize("compiler", ["cc1plus", "cicc"])
def test_killed_compiler_is_tried_again_and_the_wheel_is_the_same(
    built, farm, tmp_path, empty_compile_cache, compiler
):
    empty_compile_cache()
    yard = tmp_path / "yard"
    command = [sys.executable, "-m", "wheelyard", "build", "tinyscale", "--jobs", "2"]
    with subprocess.Popen(
        [*command, "--farm", str(farm), "--yard", str(yard)], stderr=subprocess.PIPE, text=True
    ) as child:
        number = None
        while number is None and child.poll() is None:
            number = _compiler_of(child.pid, compiler)
            time.sleep(0.001)
        assert number is not None, "the compiler was not seen"
        with contextlib.suppress(ProcessLookupError):
            os.kill(number, signal.SIGKILL)
        said = child.communicate()[1]
    assert child.returncode == 0, said
    if "building again with one compile at a time" not in said:
        pytest.skip("the compiler had ended before it could be killed")
    record = _record(yard, built[1]["identifier"])
    assert record["origin"]["build"]["compile_jobs"] == 1
    assert record["sha256"] == built[1]["sha256"]
