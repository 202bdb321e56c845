"""A real bundle, with torch and all its CUDA wheels, installed where there is loopback alone."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tarfile

import pytest

from wheelyard.model.cell import PythonVersion
from wheelyard.toolchain.interpreters import find_interpreter

pytestmark = [pytest.mark.build, pytest.mark.network]

LOOPBACK_ONLY = ("sh", "-c", 'ip link set lo up && exec "$@"', "sh")


@pytest.fixture
def room(tmp_path):
    """Return a folder that is emptied afterwards: a bundle with torch and an environment."""
    yield tmp_path
    shutil.rmtree(tmp_path, ignore_errors=True)


def test_bundle_installs_and_runs_its_smoke_test_without_network(wheelyard, farm, room):
    namespace = ("unshare", "--user", "--map-root-user", "--net", *LOOPBACK_ONLY)
    if subprocess.run([*namespace, "true"], check=False).returncode != 0:
        pytest.skip("this user may not make network namespaces")
    cell = ("--python", "3.12", "--torch", "2.11.0")
    words = ("--farm", farm, "--yard", room / "yard")
    wheelyard("build", "tinyscale", *cell, *words)
    output = room / "tinyscale.tar"
    env = {"WHEELYARD_CACHE": str(room / "cache")}
    done = wheelyard("bundle", "tinyscale", *cell, *words, "-o", output, "--json", env=env)
    told = json.loads(done.stdout)
    assert told["cells"] == [f"cp312-torch2.11.0-cu130-{os.uname().machine}"]
    shutil.rmtree(room / "cache")

    with tarfile.open(output) as archive:
        archive.extract("install.py", room, filter="data")
    python = find_interpreter(PythonVersion(3, 12), os.environ).executable
    target = room / "environment"
    command = [python, "-I", room / "install.py", output, "--into", target]
    child = subprocess.run(
        [*namespace, *command],
        check=False,
        capture_output=True,
        text=True,
        env={"PATH": "/usr/bin:/bin", "HOME": str(room)},
    )
    assert child.returncode == 0, child.stderr
    assert f"digest sha256:{told['digest']}" in child.stderr
    assert "tinyscale 1.0.0+cu130.torch2.11.0: " in child.stderr
    code = "import tinyscale, torch; print(torch.version.cuda)"
    ran = subprocess.run(
        [*namespace, target / "bin" / "python", "-I", "-c", code],
        check=True,
        capture_output=True,
        text=True,
    )
    assert ran.stdout.strip() == "13.0"
