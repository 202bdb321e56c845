"""The choice of nv-grouped-gemm's product, on a setup.py of the right shape."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from patching import apply

PATCHES = Path(__file__).parents[3] / "patches" / "nv-grouped-gemm"
PATCH = PATCHES / "0001-choose-between-cublas-and-cutlass.py"

SETUP = """\
import os

flags = []
env_arch_list = os.environ.get("TARGETS")
if True:
    if env_arch_list:
        device_capability = ""  # torch chooses
    else:
        raise RuntimeError("asks the GPU")
    if device_capability:
        flags.append(f"-DCAPABILITY={device_capability}")
print(flags)
"""


def _said(setup: Path, targets: str) -> list[str]:
    command = [sys.executable, str(setup)]
    env = {"TARGETS": targets}
    done = subprocess.run(command, env=env, check=True, capture_output=True, text=True)
    return done.stdout.splitlines()


@pytest.mark.parametrize(
    ("targets", "product", "flags"),
    [
        ("8.0", "CUTLASS, for 8.0 alone", "['-DCAPABILITY=80']"),
        ("9.0", "cuBLAS", "[]"),
        ("8.0;9.0", "cuBLAS", "[]"),
        ("8.0+PTX", "cuBLAS", "[]"),
    ],
)
def test_wheel_for_a100s_alone_has_cutlass_and_every_other_says_cublas(
    tmp_path: Path, targets: str, product: str, flags: str
) -> None:
    (tmp_path / "setup.py").write_text(SETUP)
    assert apply(PATCH, tmp_path) == ""
    said = _said(tmp_path / "setup.py", targets)
    assert said == [f"grouped products with {product}", flags]


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(SETUP.replace('= ""', '= "90"'), id="chosen-already"),
        pytest.param(SETUP.replace("if env_arch_list", "if other"), id="another-condition"),
        pytest.param(SETUP + SETUP, id="twice"),
        pytest.param("(", id="not-python"),
    ],
)
def test_another_text_is_refused_and_stays(tmp_path: Path, text: str) -> None:
    (tmp_path / "setup.py").write_text(text)
    assert "looked for" in apply(PATCH, tmp_path)
    assert (tmp_path / "setup.py").read_text() == text
