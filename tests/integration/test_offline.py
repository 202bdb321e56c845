"""Everything is fetched first; the build itself then runs where there is no network at all."""

from __future__ import annotations

import json
import shutil
import subprocess

import pytest

pytestmark = pytest.mark.build

LOOPBACK_ONLY = ("sh", "-c", 'ip link set lo up && exec "$@"', "sh")


@pytest.fixture
def own_cache(tmp_path):
    """Return an empty cache, removed afterwards: a torch environment has 5 GB."""
    cache = tmp_path / "cache"
    yield cache
    shutil.rmtree(cache, ignore_errors=True)


def test_build_after_fetch_needs_no_network(wheelyard, farm, own_cache, tmp_path):
    namespace = ("unshare", "--user", "--map-root-user", "--net", *LOOPBACK_ONLY)
    if subprocess.run([*namespace, "true"], check=False).returncode != 0:
        pytest.skip("this user may not make network namespaces")
    words = ("tinyscale", "--farm", farm, "--yard", tmp_path / "yard")
    env = {"WHEELYARD_CACHE": str(own_cache)}
    empty = tmp_path / "empty"
    nothing = {"UV_CACHE_DIR": str(empty / "uv"), "WHEELYARD_CACHE": str(empty / "wheelyard")}
    refused = wheelyard("build", *words, env=nothing, prefix=namespace, check=False)
    assert refused.returncode == 7, refused.stderr

    fetched = json.loads(wheelyard("fetch", *words, "--json", env=env).stdout)
    assert [job["ready"] for job in fetched["jobs"]] == [True]
    # not even uv's own cache is needed any more
    env["UV_CACHE_DIR"] = str(tmp_path / "no-uv-cache")
    options = ("--json", "--compile-cache", "none")
    built = wheelyard("build", *words, *options, env=env, prefix=namespace)
    (wheel,) = json.loads(built.stdout)["wheels"]
    assert wheel["built"] is True
    assert wheel["identifier"] == fetched["jobs"][0]["identifier"]
    assert wheel["tested"] in {"imported", "ran-on-gpu"}
