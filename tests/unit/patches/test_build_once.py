"""The build of transformer-engine-torch 2.9.0, on a setup.py of the right shape."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from patching import apply

PATCH = Path(__file__).parents[3] / "patches" / "transformer-engine-torch" / "0001-build-once.py"

SETUP = """\
FORCE_BUILD = True


class Base:
    def run(self):
        print("builds")


class Command(Base):
    def run(self):
        if FORCE_BUILD:
            super().run()

        print("looks for a wheel")
        try:
            raise OSError
        except OSError:
            super().run()


Command().run()
"""


def _said(setup: Path) -> list[str]:
    done = subprocess.run([sys.executable, setup], check=True, capture_output=True, text=True)
    return done.stdout.splitlines()


def test_wheel_is_built_once_and_none_is_looked_for(tmp_path: Path) -> None:
    setup = tmp_path / "setup.py"
    setup.write_text(SETUP)
    assert _said(setup) == ["builds", "looks for a wheel", "builds"]
    assert apply(PATCH, tmp_path) == ""
    assert _said(setup) == ["builds"]


def test_without_force_a_wheel_is_looked_for_as_before(tmp_path: Path) -> None:
    setup = tmp_path / "setup.py"
    setup.write_text(SETUP.replace("FORCE_BUILD = True", "FORCE_BUILD = False"))
    assert apply(PATCH, tmp_path) == ""
    assert _said(setup) == ["looks for a wheel", "builds"]


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(SETUP.replace("super().run()", "return super().run()", 1), id="returns"),
        pytest.param(SETUP.replace("if FORCE_BUILD", "if other"), id="another-condition"),
    ],
)
def test_setup_of_another_shape_is_refused_and_left_alone(tmp_path: Path, text: str) -> None:
    (tmp_path / "setup.py").write_text(text)
    assert "looked for one `super().run()` under `if FORCE_BUILD`, found 0" in apply(
        PATCH, tmp_path
    )
    assert (tmp_path / "setup.py").read_text() == text
