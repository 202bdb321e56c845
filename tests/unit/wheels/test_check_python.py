"""Modules are compared with the Pythons of the tag: by suffix, and by what they need of Python."""

from __future__ import annotations

import dataclasses
import platform
import re
from typing import TYPE_CHECKING

import pytest

from wheelyard.wheels.archive import open_wheel
from wheelyard.wheels.check_binaries import read_binaries
from wheelyard.wheels.check_python import python_findings
from wheelyard.wheels.findings import FindingKind, Severity
from wheelyard.wheels.labels import read_labels

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from wheelyard.wheels.findings import Finding

MACHINE = "aarch64" if platform.machine() == "aarch64" else "x86_64"


@dataclasses.dataclass(frozen=True)
class Bench:
    make_wheel: Callable[..., Path]
    link: Callable[..., Path]

    def find(
        self,
        tag: str,
        *members: str,
        asks: tuple[str, ...] = (),
        requires_python: str = "",
    ) -> list[Finding]:
        """Check a wheel of that tag with these members, which all ask for the same."""
        module = self.link("module.so", asks=asks)
        files = {member.format(machine=MACHINE): module for member in members}
        return self.judge(tag, files, requires_python=requires_python)

    def judge(
        self, tag: str, files: Mapping[str, Path], *, requires_python: str = ""
    ) -> list[Finding]:
        fields = f"Requires-Python: {requires_python}\n" if requires_python else ""
        wheel = self.make_wheel(
            tag=f"{tag}-manylinux_2_28_{MACHINE}",
            files={"demo/__init__.py": b""},
            texts={"METADATA": f"Metadata-Version: 2.1\nName: demo\nVersion: 1.0\n{fields}"},
        )
        binaries, damaged = read_binaries(files)
        assert not damaged
        with open_wheel(wheel) as archive:
            return list(python_findings(binaries, read_labels(archive), severity=Severity.WARNING))


@pytest.fixture
def bench(make_wheel: Callable[..., Path], link_c: Callable[..., Path]) -> Bench:
    return Bench(make_wheel=make_wheel, link=link_c)


SUFFIX = "cpython-{0}-{{machine}}-linux-gnu.so"


def module(python: str, name: str = "demo/_C") -> str:
    return f"{name}.{SUFFIX.format(python)}"


@pytest.mark.parametrize(
    ("tag", "members"),
    [
        pytest.param("cp312-cp312", [module("312")], id="one Python"),
        pytest.param("cp314-cp314t", [module("314t")], id="free-threaded"),
        pytest.param("cp311.cp312-cp311.cp312", [module("311"), module("312")], id="two tags"),
        pytest.param("cp312-cp312", ["demo/_C.so", "demo/_D.abi3.so"], id="suffixes of any Python"),
        pytest.param("py3-none", [module("310"), module("311"), module("312")], id="multi-version"),
        pytest.param("py3-none", ["demo/libdemo.so"], id="loaded by ctypes"),
        pytest.param("cp312-abi3", ["demo/_C.abi3.so"], id="limited API"),
        pytest.param(
            "cp310-abi3", [module("310"), "demo/_C.abi3.so"], id="faster one for a Python"
        ),
        pytest.param("cp310-abi3", [module("310"), "demo/_C.so"], id="plain one beside"),
        pytest.param("cp315-abi3t", ["demo/_C.abi3t.so"], id="limited API without GIL"),
        pytest.param("cp315-abi3.abi3t", ["demo/_C.abi3t.so"], id="limited API of both"),
    ],
)
def test_suffixes_that_suit_the_tag_are_no_findings(
    bench: Bench, tag: str, members: list[str]
) -> None:
    assert bench.find(tag, *members, asks=("PyLong_FromLong",)) == []


@pytest.mark.parametrize(
    ("tag", "member", "message"),
    [
        ("cp312-cp312", module("311"), "is for cp311, the tag for cp312"),
        ("cp314-cp314t", module("314"), "is for cp314, the tag for cp314t"),
        ("cp311.cp312-cp311.cp312", module("313"), "is for cp313, the tag for cp311, cp312"),
        ("cp313-cp313t", "demo/_C.abi3.so", "keeps to the limited API of Pythons with a GIL"),
        ("cp310-abi3", module("310"), "can be imported by cp310 alone, .* from 3.10 on install it"),
        ("py3-none", module("312"), "can be imported by cp312 alone"),
    ],
)
def test_suffix_of_another_python_is_found(
    bench: Bench, tag: str, member: str, message: str
) -> None:
    (finding,) = bench.find(tag, member)
    assert finding.kind is FindingKind.WRONG_PYTHON
    assert re.search(message, finding.message)


def test_symbols_outside_of_the_limited_api_are_found(bench: Bench) -> None:
    asks = ("PyLong_FromLong", "_PyLong_AsByteArray", "PyUnicode_New", "demo_helper")
    (finding,) = bench.find("cp38-abi3", "demo/_C.abi3.so", asks=asks)
    assert (finding.kind, finding.severity) == (FindingKind.LIMITED_API, Severity.WARNING)
    assert finding.details == ("PyUnicode_New", "_PyLong_AsByteArray")
    assert "for every Python from 3.8 on, but uses PyUnicode_New, _PyLong" in finding.message


def test_symbols_of_a_later_limited_api_are_found(bench: Bench) -> None:
    asks = ("PyObject_Vectorcall", "PyType_GetName", "PyLong_FromLong")
    (finding,) = bench.find("cp39-abi3", "demo/_C.abi3.so", asks=asks)
    assert finding.kind is FindingKind.LIMITED_API
    assert finding.details == ("PyObject_Vectorcall since 3.12", "PyType_GetName since 3.11")
    assert "which the limited API has since 3.12 only" in finding.message
    assert finding.message.endswith("Tag it cp312-abi3")
    assert bench.find("cp312-abi3", "demo/_C.abi3.so", asks=asks) == []


def test_requires_python_counts_where_the_tag_is_wider(bench: Bench) -> None:
    asks = ("PyObject_Vectorcall",)
    assert bench.find("py3-none", "_C.abi3.so", asks=asks, requires_python=">=3.12") == []
    assert bench.find("py3-none", "_C.abi3.so", asks=asks, requires_python=">=3.11") != []


@pytest.mark.parametrize(
    ("tag", "member"),
    [
        pytest.param("cp312-cp312", "demo/_C.abi3.so", id="tag for one Python"),
        pytest.param("py3-none", "demo/_C.so", id="not said to keep to it"),
        pytest.param("cp38-abi3", module("38"), id="module of one Python"),
    ],
)
def test_limited_api_is_asked_for_only_where_it_is_promised(
    bench: Bench, tag: str, member: str
) -> None:
    found = bench.find(tag, member, asks=("_PyLong_AsByteArray",))
    assert FindingKind.LIMITED_API not in {one.kind for one in found}


def test_python_symbols_that_the_wheel_defines_are_its_own(bench: Bench) -> None:
    asking = bench.link("_C.abi3.so", asks=["_PyDemo_Helper", "PyInit_other"])
    defining = bench.link("libother.so", defines=["_PyDemo_Helper"])
    files = {"demo/_C.abi3.so": asking, "demo/libother.so": defining}
    assert bench.judge("cp38-abi3", files) == []
    (finding,) = bench.judge("cp38-abi3", {"demo/_C.abi3.so": asking})
    assert finding.details == ("_PyDemo_Helper",)


def test_weak_python_symbol_may_be_missing(bench: Bench, compile_c: Callable[..., Path]) -> None:
    source = "extern void {0}(void) __attribute__((weak));\nvoid *table[] = {{{0}}};\n"
    weak = compile_c("_C.abi3.so", source.format("PyUnstable_Later"))
    assert bench.judge("cp38-abi3", {"demo/_C.abi3.so": weak}) == []


def test_names_beside_a_library_of_another_wheel_may_be_its_own(bench: Bench) -> None:
    other = bench.link("elsewhere/libshiboken6.abi3.so.6.11")
    asks = ["PyMethod_New", "PyObject_Vectorcall"]
    module = bench.link("_C.abi3.so", asks=asks, needs=[other])
    (finding,) = bench.judge("cp38-abi3", {"demo/_C.abi3.so": module})
    assert finding.details == ("PyObject_Vectorcall since 3.12",)
