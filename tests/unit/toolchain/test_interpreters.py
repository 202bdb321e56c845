from __future__ import annotations

import json
import os
import sys
import venv
from pathlib import Path

import pytest

from wheelyard.errors import MachineError
from wheelyard.model.cell import PythonVersion
from wheelyard.toolchain.interpreters import (
    Interpreter,
    Refusal,
    find_all_interpreters,
    find_interpreter,
    judge_interpreters,
)

ANSWER = {
    "implementation": "CPython",
    "full_version": "3.12.4",
    "major": 3,
    "minor": 12,
    "free_threaded": False,
    "debug": False,
    "bits": 64,
    "prefix": "/opt/p",
    "base_prefix": "/opt/p",
    "include": "/opt/p/include",
    "ext_suffix": ".cpython-312-x86_64-linux-gnu.so",
    "soabi": "cpython-312-x86_64-linux-gnu",
    "ldshared": "gcc -shared",
    "machine": "x86_64",
}


class Farm:
    """A machine whose interpreters are scripts that count how often they are asked."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.include = folder / "include"
        self.include.mkdir()
        (self.include / "Python.h").touch()
        self.env = {"HOME": str(folder / "home"), "WHEELYARD_PYTHONS": ""}

    def add(self, name: str, **differences: object) -> Path:
        """Write an interpreter that answers ``ANSWER``, but for the differences."""
        answer = {**ANSWER, "include": str(self.include), **differences}
        return self.write(name, f"echo 'wheelyard-interpreter {json.dumps(answer)}'")

    def write(self, name: str, body: str) -> Path:
        path = self.folder / "bin" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"#!/bin/sh\necho x >> {self.folder}/asked\n{body}\n")
        path.chmod(0o755)
        self.env["WHEELYARD_PYTHONS"] += f":{path}"
        return path

    @property
    def asked(self) -> int:
        log = self.folder / "asked"
        return len(log.read_text().splitlines()) if log.exists() else 0

    @property
    def memory(self) -> Path:
        return self.folder / "home/.cache/wheelyard/interpreters.json"

    def find(self, version: str) -> Interpreter:
        return find_interpreter(
            PythonVersion.parse(version), self.env, running=self.folder / "no", root=self.folder
        )

    def find_all(self) -> tuple[Interpreter, ...]:
        return find_all_interpreters(self.env, running=self.folder / "no", root=self.folder)

    def refusal(self) -> Refusal:
        outcomes = judge_interpreters(self.env, running=self.folder / "no", root=self.folder)
        (refusal,) = outcomes
        assert isinstance(refusal, Refusal)
        return refusal


@pytest.fixture
def farm(tmp_path: Path) -> Farm:
    return Farm(tmp_path)


def test_answer_becomes_an_interpreter(farm: Farm) -> None:
    path = farm.add("python3.12")
    assert farm.find("3.12") == Interpreter(
        executable=path,
        version=PythonVersion(3, 12),
        full_version="3.12.4",
        base_prefix=Path("/opt/p"),
        include=farm.include,
        ext_suffix=".cpython-312-x86_64-linux-gnu.so",
        soabi="cpython-312-x86_64-linux-gnu",
        machine="x86_64",
        ldshared="gcc -shared",
    )


def test_free_threaded_is_another_version(farm: Farm) -> None:
    plain = farm.add("a", minor=14)
    threaded = farm.add("b", minor=14, free_threaded=True)
    assert farm.find("3.14").executable == plain
    assert farm.find("3.14t").executable == threaded


def test_first_of_several_is_taken(farm: Farm) -> None:
    first = farm.add("a", full_version="3.12.1")
    farm.add("b", full_version="3.12.9")
    assert farm.find("3.12").executable == first


def test_all_are_sorted_by_version(farm: Farm) -> None:
    for name, minor in (("a", 13), ("b", 9), ("c", 12)):
        farm.add(name, minor=minor)
    assert [str(found.version) for found in farm.find_all()] == ["3.9", "3.12", "3.13"]


@pytest.mark.parametrize(
    ("differences", "reason"),
    [
        ({"implementation": "PyPy", "full_version": "3.10.14"}, "is PyPy 3.10.14, not CPython"),
        ({"minor": 7, "full_version": "3.7.1"}, "is Python 3.7.1, older than 3.8"),
        ({"bits": 32}, "is a 32-bit Python 3.12.4"),
        ({"debug": True}, "is a debug build of Python 3.12.4"),
        ({"soabi": "cpython-312-x86_64-linux-musl"}, "is Python 3.12.4 for musl"),
        ({"include": "/no"}, "is Python 3.12.4 with no Python.h in /no"),
        ({"prefix": "/venv"}, "is a virtual environment, and its base is not in '/opt/p'"),
    ],
)
def test_interpreter_that_cannot_serve_is_refused(
    farm: Farm, differences: dict[str, object], reason: str
) -> None:
    farm.add("python3", **differences)
    assert farm.refusal().reason.startswith(reason)


@pytest.mark.parametrize(
    ("free_threaded", "remedy"),
    [
        (False, "install python3.12-dev (Debian, Ubuntu) or python3.12-devel (Fedora, RHEL)"),
        (True, "install python3.12-dev (Debian, Ubuntu) or python3.12-freethreading-devel"),
    ],
)
def test_missing_headers_have_a_remedy(farm: Farm, *, free_threaded: bool, remedy: str) -> None:
    farm.add("python3", include="/no", free_threaded=free_threaded)
    assert farm.refusal().remedy.startswith(remedy)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("echo 'libpython3.so: not found' >&2; exit 127", "status 127: libpython3.so: not found"),
        ("echo 'Unknown option: -I' >&2; exit 2", "is older than Python 3.8"),
        ("echo hello", "is not a Python interpreter"),
        ("echo 'wheelyard-interpreter {}'", "is not a Python interpreter"),
    ],
)
def test_program_that_does_not_answer_is_refused(farm: Farm, body: str, reason: str) -> None:
    farm.write("python3", body)
    assert reason in farm.refusal().reason


def test_named_file_that_is_not_there_is_told(farm: Farm) -> None:
    farm.env["WHEELYARD_PYTHONS"] = "/nowhere/python3.12"
    assert str(farm.refusal()) == "/nowhere/python3.12: cannot be read: No such file or directory"


def test_missing_version_tells_what_was_looked_at_and_what_to_do(farm: Farm) -> None:
    farm.add("good", minor=11, full_version="3.11.2")
    farm.add("bare", include="/no")
    with pytest.raises(MachineError) as caught:
        farm.find("3.12")
    message = str(caught.value)
    assert "No usable CPython 3.12 on this machine" in message
    assert "bin/good: is Python 3.11 (3.11.2)\n" in message
    assert "bin/bare: is Python 3.12.4 with no Python.h in /no; install python3.12-dev" in message
    assert "  uv python install 3.12\n" in message
    assert "WHEELYARD_PYTHONS" in message


def test_remedy_for_a_free_threaded_python(farm: Farm) -> None:
    with pytest.raises(MachineError, match=r"(?s)uv python install 3.14t.*3.14-freethreading"):
        farm.find("3.14t")


def test_second_look_asks_nobody(farm: Farm) -> None:
    farm.add("python3.12")
    farm.write("python2", "echo 'Unknown option: -I' >&2; exit 2")
    first = farm.find_all()
    assert (farm.asked, farm.find_all(), farm.asked) == (2, first, 2)


def test_changed_interpreter_is_asked_again(farm: Farm) -> None:
    path = farm.add("python3.12")
    farm.find("3.12")
    farm.env["WHEELYARD_PYTHONS"] = ""
    farm.add("python3.12", full_version="3.12.10")
    assert (farm.find("3.12").full_version, farm.asked) == ("3.12.10", 2)
    os.utime(path, ns=(1, 1))
    farm.find("3.12")
    assert farm.asked == 3


def test_headers_installed_later_are_seen(farm: Farm) -> None:
    include = farm.folder / "later"
    farm.add("python3.12", include=str(include))
    assert "no Python.h" in farm.refusal().reason
    include.mkdir()
    (include / "Python.h").touch()
    assert (farm.find("3.12").include, farm.asked) == (include, 1)


def test_broken_interpreter_is_asked_every_time(farm: Farm) -> None:
    farm.write("python3", "exit 127")
    farm.find_all()
    farm.find_all()
    assert farm.asked == 2


@pytest.mark.parametrize("content", ["", "{}", "[1]"])
def test_unreadable_memory_is_written_anew(farm: Farm, content: str) -> None:
    farm.add("python3.12")
    farm.memory.parent.mkdir(parents=True)
    farm.memory.write_text(content)
    farm.find("3.12")
    assert json.loads(farm.memory.read_text())["format"] == 1
    assert [path.name for path in farm.memory.parent.iterdir()] == ["interpreters.json"]


def test_memory_of_another_format_is_not_believed(farm: Farm) -> None:
    farm.add("python3.12")
    farm.find("3.12")
    farm.memory.write_text(farm.memory.read_text().replace('"format":1', '"format":2'))
    farm.find("3.12")
    assert farm.asked == 2


def test_memory_that_cannot_be_written_costs_time_only(farm: Farm) -> None:
    farm.add("python3.12")
    (farm.folder / "home").write_text("a file, not a folder")
    assert farm.find("3.12").full_version == "3.12.4"


def test_interpreter_that_left_is_forgotten(farm: Farm) -> None:
    gone = farm.add("gone")
    farm.find_all()
    gone.unlink()
    farm.add("stays")
    farm.find_all()
    names = [Path(name).name for name in json.loads(farm.memory.read_text())["entries"]]
    assert names == ["stays"]


def test_real_interpreter_answers(farm: Farm) -> None:
    farm.env["WHEELYARD_PYTHONS"] = sys.executable
    (found,) = farm.find_all()
    assert found.full_version == ".".join(map(str, sys.version_info[:3]))
    assert (found.include / "Python.h").is_file()
    assert found.base_prefix == Path(sys.base_prefix)


def test_virtual_environment_stands_for_its_base(farm: Farm) -> None:
    venv.create(farm.folder / "env", symlinks=False, with_pip=False)
    farm.env["WHEELYARD_PYTHONS"] = f"{farm.folder}/env/bin/python:{sys.executable}"
    (found,) = farm.find_all()
    assert found.executable.is_relative_to(Path(sys.base_prefix).resolve())
    assert found.base_prefix == Path(sys.base_prefix)
