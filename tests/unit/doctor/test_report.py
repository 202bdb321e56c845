from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

import pytest

from wheelyard.doctor.line import Line
from wheelyard.doctor.report import diagnose, to_json, to_text

if TYPE_CHECKING:
    from pathlib import Path

GCC = """case "$1" in
--version) echo "g++ (GCC) VERSION"; echo "(C) Free Software Foundation, Inc.";;
-dumpfullversion) echo VERSION;;
-dumpmachine) echo x86_64-linux-gnu;;
esac"""
H100 = "NVIDIA H100 80GB HBM3, 9.0, DRIVER, 81559 MiB"


class Machine:
    """A machine of scripts and files."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.env = {"PATH": str(root / "bin"), "HOME": str(root / "home")}
        self.env["WHEELYARD_PYTHONS"] = sys.executable
        (root / "proc").mkdir()
        (root / "proc/meminfo").write_text("MemAvailable: 16000000 kB\n")
        self.program("g++", GCC.replace("VERSION", "12.2.0"))
        self.program("unshare", "exit 0")
        for name in ("git", "ninja"):
            self.program(name, "echo version 2.3.4")

    def program(self, name: str, body: str) -> None:
        path = self.root / "bin" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"#!/bin/sh\n{body}\n")
        path.chmod(0o755)

    def without(self, name: str) -> None:
        (self.root / "bin" / name).unlink()

    def line(self, subject: str, *, settings: tuple[tuple[str, str, str], ...] = ()) -> Line:
        lines = diagnose(self.env, settings=settings, root=self.root, running=self.root / "none")
        found = [line for line in lines if line.subject == subject]
        assert len(found) == 1, [line.subject for line in lines]
        return found[0]


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_compiler_is_compared_with_the_cuda_releases(machine: Machine) -> None:
    line = machine.line("C++ compiler")
    assert line.status == "ok"
    assert line.finding.startswith("gcc 12.2.0 at ")
    assert ", fits CUDA 12.1 to " in line.finding


def test_compiler_that_is_too_new_gets_an_older_one(machine: Machine) -> None:
    machine.program("g++", GCC.replace("VERSION", "99.1.0"))
    line = machine.line("C++ compiler")
    assert (line.status, "too new for every CUDA release" in line.finding) == ("warn", True)
    assert line.remedy.endswith("&& export CXX=g++-14")


def test_compiler_that_is_too_old_is_told(machine: Machine) -> None:
    machine.program("g++", GCC.replace("VERSION", "4.8.5"))
    line = machine.line("C++ compiler")
    assert (line.status, "or later" in line.finding) == ("warn", True)


def test_clang_has_its_own_bounds(machine: Machine) -> None:
    machine.program(
        "g++", 'case "$1" in -dumpmachine) echo x;; *) echo clang version 18.1.3;; esac'
    )
    line = machine.line("C++ compiler")
    assert "clang 18.1.3" in line.finding
    assert ", fits CUDA 12.6 to " in line.finding


def test_missing_compiler_has_a_command_to_copy(machine: Machine) -> None:
    machine.without("g++")
    line = machine.line("C++ compiler")
    assert line.status == "missing"
    assert line.remedy in {"apt-get install g++", "dnf install gcc-c++"}


def test_interpreters_are_told_by_version(machine: Machine) -> None:
    version = f"{sys.version_info[0]}.{sys.version_info[1]}"
    line = machine.line(f"Python {version}")
    assert (line.status, line.finding.startswith(version)) == ("ok", True)


def test_no_interpreter_is_missing(machine: Machine) -> None:
    del machine.env["WHEELYARD_PYTHONS"]
    line = machine.line("Python")
    assert (line.status, line.remedy) == ("missing", "uv python install 3.12")


def test_no_toolkit_is_normal(machine: Machine) -> None:
    line = machine.line("CUDA toolkit")
    assert (line.status, "none installed" in line.finding) == ("ok", True)


def test_variable_that_names_no_toolkit_is_told(machine: Machine) -> None:
    machine.env["CUDA_HOME"] = "/nowhere"
    line = machine.line("CUDA_HOME")
    assert (line.status, line.remedy) == ("warn", "unset CUDA_HOME")


def test_no_gpu_is_normal(machine: Machine) -> None:
    assert machine.line("GPU").status == "ok"


def test_gpu_and_driver_are_told(machine: Machine) -> None:
    machine.program("nvidia-smi", f"echo '{H100.replace('DRIVER', '580.95.05')}'")
    assert machine.line("GPU").finding == "NVIDIA H100 80GB HBM3, 9.0, 85.5 GB"
    line = machine.line("driver")
    assert (line.status, "580.95.05, runs wheels of CUDA up to 13." in line.finding) == ("ok", True)


@pytest.mark.parametrize(
    ("driver", "status", "finding"),
    [("570.10", "ok", "up to 12."), ("390.1", "warn", "too old for every CUDA release")],
)
def test_driver_bounds_the_cuda_release(
    machine: Machine, driver: str, status: str, finding: str
) -> None:
    machine.program("nvidia-smi", f"echo '{H100.replace('DRIVER', driver)}'")
    line = machine.line("driver")
    assert (line.status, finding in line.finding) == (status, True)


def test_refused_sandbox_has_reason_and_remedy(machine: Machine) -> None:
    machine.program("unshare", "echo unshare: not permitted; exit 1")
    line = machine.line("sandbox")
    assert (line.status, line.finding) == ("warn", "none: unshare: not permitted")
    assert line.remedy


@pytest.mark.parametrize(("name", "status"), [("git", "missing"), ("ninja", "warn")])
def test_absence_of_a_tool_counts_as_much_as_it_is_needed(
    machine: Machine, name: str, status: str
) -> None:
    assert machine.line(name).finding.startswith("2.3.4 at ")
    machine.without(name)
    assert machine.line(name).status == status
    assert "install" in machine.line(name).remedy


def test_settings_are_shown_without_credentials(machine: Machine) -> None:
    settings = (("index", "https://me:secret@mirror.example/simple/", "PIP_INDEX_URL"),)
    line = machine.line("index", settings=settings)
    assert line.finding == "https://***@mirror.example/simple/ (PIP_INDEX_URL)"


def test_what_cannot_be_found_out_is_a_line_too(machine: Machine) -> None:
    (machine.root / "proc/meminfo").unlink()
    line = machine.line("machine")
    assert (line.status, "MemAvailable" in line.finding) == ("missing", True)
    assert machine.line("sandbox").status == "ok"


LINES = (
    Line(status="ok", subject="cores", finding="2 usable"),
    Line(
        status="missing",
        subject="C++ compiler",
        finding="No C++ compiler: looked for g++, c++ on PATH '/usr/local/bin:/usr/bin:/bin'.",
        remedy="apt-get install g++",
    ),
)


def test_page_is_aligned_and_ends_with_a_count() -> None:
    assert to_text(LINES) == (
        "ok       cores         2 usable\n"
        "missing  C++ compiler  No C++ compiler: looked for g++, c++ on PATH\n"
        "                       '/usr/local/bin:/usr/bin:/bin'.\n"
        "                       $ apt-get install g++\n"
        "\n"
        "1 missing, 0 to look at.\n"
    )


def test_page_of_a_good_machine_says_so() -> None:
    assert to_text(LINES[:1]).endswith("\nNothing is missing.\n")


def test_json_has_a_format_version_and_every_line() -> None:
    page = json.loads(to_json(LINES))
    assert page["format"] == 1
    assert page["lines"][1] == {
        "status": "missing",
        "subject": "C++ compiler",
        "finding": LINES[1].finding,
        "remedy": "apt-get install g++",
    }
