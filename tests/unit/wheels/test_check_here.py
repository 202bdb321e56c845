"""What one machine lacks for a wheel is said in one sentence."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from wheelyard.machine.gpu import DriverFacts
from wheelyard.machine.libc import Libc
from wheelyard.model.cell import PythonVersion
from wheelyard.wheels.archive import open_wheel
from wheelyard.wheels.check_here import Here, here_findings
from wheelyard.wheels.findings import Severity
from wheelyard.wheels.labels import read_labels

if TYPE_CHECKING:
    from collections.abc import Callable

    from wheelyard.wheels.findings import Finding

HERE = Here(
    python=PythonVersion(3, 12),
    interpreter=Path("/opt/python"),
    machine="x86_64",
    libc=Libc(name="glibc", version=(2, 31)),
    platforms=("manylinux_2_31_x86_64", "manylinux_2_28_x86_64", "linux_x86_64"),
    driver=DriverFacts(version="580.65.06", gpus=()),
    gpus=(),
)
GOOD = "cp312-cp312-manylinux_2_28_x86_64"


@pytest.fixture
def ask(make_wheel: Callable[..., Path]) -> Callable[..., list[Finding]]:
    """Return a function that holds a wheel with this tag against a machine."""

    def found(tag: str = GOOD, *, needs: tuple[str, ...] = (), **changes: object) -> list[Finding]:
        here = dataclasses.replace(HERE, **changes)  # type: ignore[arg-type]
        with open_wheel(make_wheel(tag=tag)) as archive:
            return list(here_findings(read_labels(archive), needs, here))

    return found


@pytest.mark.parametrize("tag", [GOOD, "py3-none-any", "cp310-abi3-manylinux_2_28_x86_64"])
def test_wheel_that_can_be_installed_is_passed_over(
    ask: Callable[..., list[Finding]], tag: str
) -> None:
    assert ask(tag, needs=("libcudart.so.13", "libc.so.6")) == []


@pytest.mark.parametrize(
    ("tag", "words"),
    [
        pytest.param("cp311-cp311-manylinux_2_28_x86_64", "Python 3.12", id="other Python"),
        pytest.param("cp312-cp312t-manylinux_2_28_x86_64", "Python 3.12", id="free-threaded"),
        pytest.param("cp312-cp312-manylinux_2_34_x86_64", "glibc 2.34", id="newer glibc"),
        pytest.param("cp312-cp312-manylinux_2_28_aarch64", "this machine is x86_64", id="machine"),
    ],
)
def test_wheel_that_cannot_be_installed_says_why(
    ask: Callable[..., list[Finding]], tag: str, words: str
) -> None:
    (finding,) = ask(tag)
    assert finding.severity is Severity.ERROR
    assert words in finding.message


def test_musl_takes_no_wheel_for_glibc(ask: Callable[..., list[Finding]]) -> None:
    musl = Libc(name="musl", version=(0, 0))
    (finding,) = ask(GOOD, libc=musl, platforms=("musllinux_1_2_x86_64",))
    assert "this one has musl" in finding.message


def test_driver_has_to_know_the_cuda_major_only(ask: Callable[..., list[Finding]]) -> None:
    old = DriverFacts(version="535.104.05", gpus=())
    assert ask(needs=("libcudart.so.12",), driver=old) == []
    (finding,) = ask(needs=("libcudart.so.13",), driver=old)
    assert finding.severity is Severity.ERROR
    assert "535.104.05 is too old for CUDA 13.0" in finding.message


def test_machine_without_a_driver_can_install_but_not_run(
    ask: Callable[..., list[Finding]],
) -> None:
    (finding,) = ask(needs=("libcudart.so.13",), driver=None)
    assert finding.severity is Severity.WARNING
    assert "no NVIDIA driver" in finding.message
    assert ask(driver=None) == []
