"""The same job in a container that cibuildwheel drives."""

from __future__ import annotations

import json
import os
import shutil

import pytest

IMAGE = os.environ.get("WHEELYARD_TEST_IMAGE", "")
"""An image with a C++ compiler and, below /opt/python, interpreters with pip and build."""

pytestmark = [
    pytest.mark.build,
    pytest.mark.container,
    pytest.mark.skipif(
        not (shutil.which("podman") or shutil.which("docker")), reason="no podman or docker here"
    ),
    pytest.mark.skipif(not IMAGE, reason="WHEELYARD_TEST_IMAGE names no image"),
]


def test_container_builds_what_the_machine_builds(built, wheelyard, farm, tmp_path):
    yard, wheel = built
    record = json.loads((yard / "records" / f"{wheel['filename']}.json").read_text())
    words = ("build", "tinyscale", "--farm", farm, "--yard", tmp_path, "--container", IMAGE)
    done = wheelyard(*words, "--python", record["python"], "--json")
    other = json.loads(done.stdout)["wheels"][0]
    made = json.loads((tmp_path / "records" / f"{other['filename']}.json").read_text())
    assert made["sandbox"] == "container"
    assert made["origin"]["container"].startswith(IMAGE.partition("@")[0])
    assert "@sha256:" in made["origin"]["container"]
    assert made["plan_fingerprint"] == record["plan_fingerprint"]
    assert made["build_digest"] != record["build_digest"]
    if made["origin"]["compiler"] == record["origin"]["compiler"]:
        # device code comes from the cache that both share
        assert made["origin"]["build"]["cache_hits"]["CUBIN"] >= 1
        assert other["sha256"] == wheel["sha256"]


def test_build_in_a_container_has_no_network(wheelyard, own_farm, tmp_path):
    setup = own_farm / "tinyscale" / "setup.py"
    first = "from __future__ import annotations\n"
    reach = "import socket; socket.create_connection(('192.0.2.1', 80), timeout=5)\n"
    assert first in setup.read_text()
    setup.write_text(setup.read_text().replace(first, first + reach))
    words = ("build", "tinyscale", "--farm", own_farm, "--yard", tmp_path / "yard")
    failed = wheelyard(*words, "--container", IMAGE, check=False)
    assert failed.returncode == 10
    assert "Network is unreachable" in failed.stderr


def test_image_that_does_not_exist_is_told_before_anything_is_compiled(wheelyard, farm, tmp_path):
    words = ("build", "tinyscale", "--farm", farm, "--yard", tmp_path)
    failed = wheelyard(*words, "--container", "localhost/wheelyard-no-such:image", check=False)
    assert failed.returncode == 6
    assert "There is no image localhost/wheelyard-no-such:image" in failed.stderr
