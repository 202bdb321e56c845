"""What is read of a setup.py that is never run."""

from __future__ import annotations

import pytest

from wheelyard.drafting.setup_script import read_setup_script

SCRIPT = '''\
"""It may speak of -gencode here."""
import glob
import os
from os import environ, getenv

import numpy
import torch
from packaging.version import parse
from setuptools import setup

try:
    import wheel.bdist_wheel
except ImportError as error:
    raise RuntimeError from error

try:
    import pretty
except ImportError:
    pretty = None

URL = "https://example.org/probe"
WITH_CUDA = torch.cuda.is_available()
if os.getenv("FORCE_CUDA", "0") == "1":
    WITH_CUDA = True
FORCE = os.environ.get("PROBE_FORCE_BUILD", "FALSE") == "TRUE"
DEBUG = "PROBE_DEBUG" in os.environ
LEVEL = int(getenv("PROBE_LEVEL", "2"))
HOME = environ["PROBE_HOME"]
MODE = os.getenv("PROBE_MODE") in ("off", "on")


def flags():
    import late

    return ["-std=c++17", "-gencode", "arch=compute_80,code=sm_80"]


setup(
    name="probe",
    version="1.0" + os.getenv("PROBE_SUFFIX", ""),
    url=URL,
    description=" ".join(["not", "plain"]),
    classifiers=["License :: OSI Approved :: MIT License", URL],
)
'''


def test_every_way_to_read_a_variable_is_seen_with_its_first_line() -> None:
    found = {item.name: item.line for item in read_setup_script(SCRIPT).variables}
    lines = SCRIPT.splitlines()
    assert list(found) == [
        *("FORCE_CUDA", "PROBE_FORCE_BUILD", "PROBE_DEBUG", "PROBE_LEVEL", "PROBE_HOME"),
        *("PROBE_MODE", "PROBE_SUFFIX"),
    ]
    assert all(name in lines[line - 1] for name, line in found.items())


@pytest.mark.parametrize(
    ("name", "truth"),
    [("FORCE_CUDA", "1"), ("PROBE_FORCE_BUILD", "TRUE"), ("PROBE_MODE", "on"), ("PROBE_HOME", "1")],
)
def test_what_switches_a_variable_on_is_what_it_is_held_against(name: str, truth: str) -> None:
    found = {item.name: item.truth for item in read_setup_script(SCRIPT).variables}
    assert found[name] == truth


def test_imports_are_those_that_it_cannot_do_without() -> None:
    assert read_setup_script(SCRIPT).imports == (
        *("numpy", "torch", "packaging", "setuptools", "wheel"),
    )


def test_flags_are_found_in_code_and_not_in_docstrings() -> None:
    found = read_setup_script(SCRIPT)
    line = SCRIPT.splitlines().index(
        '    return ["-std=c++17", "-gencode", "arch=compute_80,code=sm_80"]'
    )
    assert found.gencode_lines == (line + 1,)
    assert found.standard_lines == (line + 1,)


def test_question_for_a_gpu_is_found() -> None:
    found = read_setup_script(SCRIPT)
    assert [SCRIPT.splitlines()[line - 1] for line in found.gpu_lines] == [
        "WITH_CUDA = torch.cuda.is_available()"
    ]


def test_only_plain_arguments_of_setup_are_taken() -> None:
    found = read_setup_script(SCRIPT)
    assert found.keywords == {"name": "probe", "version": "1.0", "url": "https://example.org/probe"}
    assert found.classifiers == ("License :: OSI Approved :: MIT License",)


def test_nothing_of_the_script_is_run() -> None:
    read_setup_script("raise SystemExit('it ran')\n")
