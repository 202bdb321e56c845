"""A real CUDA wheel as upstream publishes it: renamed, served, adopted, and installed by name."""

from __future__ import annotations

import functools
import hashlib
import http.server
import json
import os
import subprocess
import sys
import threading
import zipfile
from pathlib import Path
from urllib.parse import quote

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

from wheelyard.wheels.stamp import stamp_wheel

pytestmark = pytest.mark.build

LABEL = "cu12torch2.6cxx11abiFALSE"
REQUIREMENT = "tinyscale==1.0.0+cu130.torch2.11.0"


class _Handler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_words):
        pass


@pytest.fixture(scope="module")
def release(tmp_path_factory, built):
    """Return a wheel with upstream's metadata under upstream's name, which lies on all counts."""
    folder = tmp_path_factory.mktemp("release")
    _, wheel = built
    path = stamp_wheel(
        Path(wheel["path"]),
        destination=folder,
        version=Version("1.0.0"),
        torch_requirement=Requirement("torch"),
        build_tag=None,
        platform_tag="linux_x86_64",
    )
    # what upstream's build.sh does: sed "s/-/+$tmpname-/2"
    name, version, rest = path.name.split("-", 2)
    return path.rename(folder / f"{name}-{version}+{LABEL}-{rest}")


@pytest.fixture(scope="module")
def url(release):
    """Serve the release on loopback and return the wheel's URL."""
    (release.parent / "login.whl").write_text("<!DOCTYPE html><title>Sign in</title>")
    handler = functools.partial(_Handler, directory=str(release.parent))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}/{quote(release.name)}"
        server.shutdown()


@pytest.fixture(scope="module")
def adopt(wheelyard, farm):
    """Return a function that adopts into a yard."""

    def run(place, yard, *words, check=True):
        return wheelyard("adopt", place, "--farm", farm, "--yard", yard, *words, check=check)

    return run


@pytest.fixture(scope="module")
def adopted(tmp_path_factory, adopt, url, release):
    """Adopt the release once; return its yard and what was printed."""
    yard = tmp_path_factory.mktemp("adopted") / "yard"
    sha256 = hashlib.sha256(release.read_bytes()).hexdigest()
    done = adopt(url, yard, "--sha256", sha256, "--json")
    return yard, json.loads(done.stdout)["wheels"][0]


def _record(yard, wheel):
    return json.loads((yard / "records" / f"{wheel['filename']}.json").read_text())


def test_torch_is_told_by_the_symbols_and_not_by_the_name(adopted, built):
    _, wheel = adopted
    assert wheel["identifier"] == built[1]["identifier"]
    assert wheel["built"] is True
    assert wheel["tested"] in {"imported", "ran-on-gpu"}


def test_record_tells_the_origin_and_every_stage(adopted, url, release):
    yard, wheel = adopted
    record = _record(yard, wheel)
    sha256 = hashlib.sha256(release.read_bytes()).hexdigest()
    assert record["origin"] == {
        "filename": release.name,
        "kind": "adopted",
        "sha256": sha256,
        "url": url,
    }
    assert record["check"]["passed"] is True
    assert {"bring", "judge", "repair", "check", "smoke"} <= set(record["seconds"])


def test_wheel_is_restamped_as_ours_are(adopted, built):
    """Only the bill of materials, and RECORD for it, tell who brought the files."""
    _, wheel = adopted
    assert wheel["filename"] == built[1]["filename"]
    ours, theirs = _members(built[1]["path"]), _members(wheel["path"])
    differing = {name.rpartition("/")[2] for name in ours if ours[name] != theirs[name]}
    assert ours.keys() == theirs.keys()
    assert differing == {"RECORD", "wheelyard.cdx.json"}
    with zipfile.ZipFile(wheel["path"]) as archive:
        metadata = archive.read("tinyscale-1.0.0+cu130.torch2.11.0.dist-info/METADATA").decode()
    assert "Version: 1.0.0+cu130.torch2.11.0\n" in metadata
    assert "Requires-Dist: torch==2.11.0\n" in metadata


def _members(path):
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def _pip(target, *words):
    command = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--isolated",
        "--no-deps",
        "--target",
        target,
    ]
    return subprocess.run(
        [*command, *words],
        check=False,
        capture_output=True,
        text=True,
        env={"PATH": os.environ["PATH"]},
    )


def test_pip_refuses_upstreams_file_by_name_and_takes_ours(adopted, built, release, tmp_path):
    yard, wheel = adopted
    python = _record(yard, wheel)["python"]
    common = ["--python-version", python, "--only-binary", ":all:"]
    theirs = ["--platform", "linux_x86_64", "--no-index", "--find-links", release.parent]
    refused = _pip(tmp_path / "theirs", *common, *theirs, "tinyscale")
    assert refused.returncode != 0
    assert "inconsistent version" in refused.stdout + refused.stderr
    taken = _pip(tmp_path / "ours", *common, "--index-url", wheel["index_url"], REQUIREMENT)
    assert taken.returncode == 0, taken.stderr
    assert list((tmp_path / "ours").glob("tinyscale_cuda*.so"))


def test_its_job_is_done_for_plan_build_and_explain(adopted, wheelyard, farm, url):
    yard, wheel = adopted
    place = ("--farm", farm, "--yard", yard)
    planned = json.loads(wheelyard("plan", wheel["identifier"], *place, "--json").stdout)["jobs"]
    assert [(job["state"], job["adopted"]) for job in planned] == [("done", url)]
    again = wheelyard("build", "tinyscale", *place, "--json")
    assert f"nothing to do: the yard has it, adopted from {url}" in again.stderr
    assert json.loads(again.stdout)["wheels"][0]["sha256"] == wheel["sha256"]
    assert url in wheelyard("explain", wheel["identifier"], *place).stdout


def test_second_adoption_asks_nobody_and_changes_nothing(adopted, adopt, url):
    yard, wheel = adopted
    before = {path: path.stat().st_mtime_ns for path in yard.rglob("*.whl*")}
    sha256 = _record(yard, wheel)["origin"]["sha256"]
    again = adopt(url, yard, "--sha256", sha256, "--json")
    assert json.loads(again.stdout)["wheels"][0]["built"] is False
    assert "Fetching" not in again.stderr
    assert {path: path.stat().st_mtime_ns for path in yard.rglob("*.whl*")} == before


def test_built_wheel_is_not_overwritten_by_an_adopted_one(built, adopt, release):
    yard, wheel = built
    refused = adopt(release, yard, check=False)
    assert refused.returncode == 14
    assert "built here" in refused.stderr
    assert "origin" in _record(yard, wheel)


@pytest.mark.parametrize(
    ("words", "code", "expected"),
    [
        pytest.param(["--sha256", "0" * 64], 8, "not the file that was asked for", id="sha256"),
        pytest.param(["--torch", "2.6.0+cu124"], (12, 16), "2.6.0+cu124", id="torch"),
        pytest.param(["--python", "3.9"], 2, "is not for Python 3.9", id="python"),
    ],
)
def test_refused_adoption_leaves_an_empty_yard(adopt, url, tmp_path, words, code, expected):
    yard = tmp_path / "yard"
    refused = adopt(url, yard, *words, check=False)
    assert refused.returncode in (code if isinstance(code, tuple) else (code,))
    assert expected in refused.stderr
    assert not [path for path in yard.rglob("*.whl*") if path.is_file()]


def test_page_instead_of_a_wheel_is_refused(adopt, url, tmp_path):
    refused = adopt(f"{url.rpartition('/')[0]}/login.whl", tmp_path / "yard", check=False)
    assert refused.returncode == 7
    assert "and not with a wheel" in refused.stderr


def test_smoke_test_that_fails_leaves_an_empty_yard(wheelyard, own_farm, release, tmp_path):
    smoke = own_farm / "recipes" / "tinyscale" / "smoke.py"
    smoke.write_text("raise SystemExit('it does not scale')\n")
    place = ("--farm", own_farm, "--yard", tmp_path / "yard")
    refused = wheelyard("adopt", release, *place, check=False)
    assert refused.returncode == 13
    assert "it does not scale" in refused.stderr
    assert not [path for path in (tmp_path / "yard").rglob("*.whl*") if path.is_file()]
