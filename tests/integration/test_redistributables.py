"""A real compile with a toolkit out of archives, from a site on loopback as NVIDIA's is."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
import subprocess

import pytest
from redist import Site, serve, split_toolkit

from wheelyard.machine.folders import cache_folder
from wheelyard.model.redistributables import PLATFORMS

pytestmark = pytest.mark.build

RELEASE = "13.0.2"


@pytest.fixture(scope="module")
def site(built, farm, tmp_path_factory):
    """Pack the index's toolkit, which the wheel of the other tests was built with."""
    lock = hashlib.sha256((farm / "locks/toolkit/13.0.txt").read_bytes()).hexdigest()
    name = f"13.0-{platform.machine()}-{lock[:12]}"
    tree = cache_folder(os.environ) / "toolkits" / name / "nvidia" / "cu13"
    told = subprocess.run([tree / "bin/nvcc", "--version"], check=True, capture_output=True)
    version = re.search(r"release 13\.0, V([\d.]+)", told.stdout.decode())[1]
    site = Site(tmp_path_factory.mktemp("redist"), RELEASE)
    split_toolkit(tree, site, nvcc_version=version, platform=PLATFORMS[platform.machine()])
    with serve(site.folder) as url:
        yield {"WHEELYARD_REDIST_URLS": url, "WHEELYARD_DIRECT": "never"}


def test_wheel_built_with_the_archives_is_the_one_built_with_the_index(
    built, site, wheelyard, own_farm, tmp_path, empty_compile_cache
):
    done = wheelyard("update", "redist", RELEASE, "--farm", own_farm, env=site)
    assert done.stdout == f"locked locks/redist/{RELEASE}.toml\n"
    empty_compile_cache()
    yard = tmp_path / "yard"
    words = ("build", "tinyscale", "--farm", own_farm, "--yard", yard, "--json")
    done = wheelyard(*words, "--toolkit", "redistributable", env=site)
    wheel = json.loads(done.stdout)["wheels"][0]
    record = json.loads((yard / "records" / f"{wheel['filename']}.json").read_text())
    assert wheel["built"] is True
    assert record["origin"]["toolkit"] == {"provider": "redistributable", "version": "13.0"}
    assert sum(record["origin"]["build"]["cache_misses"].values()) >= 2
    assert wheel["sha256"] == built[1]["sha256"]


def test_archive_that_was_changed_on_the_way_builds_nothing(site, wheelyard, own_farm, tmp_path):
    wheelyard("update", "redist", RELEASE, "--farm", own_farm, env=site)
    lock = own_farm / "locks" / "redist" / f"{RELEASE}.toml"
    text = lock.read_text()
    digest = re.search(r'component = "cuda_crt"(?:\n.*){2}\nsha256 = "(\w+)"', text)[1]
    lock.write_text(text.replace(digest, digest[::-1]))
    yard = tmp_path / "yard"
    words = ("build", "tinyscale", "--farm", own_farm, "--yard", yard)
    refused = wheelyard(*words, "--toolkit", "redistributable", env=site, check=False)
    assert refused.returncode == 8
    assert "cuda_crt-linux-" in refused.stderr
    assert digest in refused.stderr
    assert not list(yard.glob("wheels/*"))
