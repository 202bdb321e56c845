"""What a wheel's platform tag promises is compared with what its files need of a system."""

from __future__ import annotations

import dataclasses
import platform
import re
import shutil
import struct
import subprocess
from typing import TYPE_CHECKING

import pytest

from wheelyard.wheels.archive import open_wheel
from wheelyard.wheels.check_binaries import read_binaries
from wheelyard.wheels.check_policy import policy_findings
from wheelyard.wheels.findings import FindingKind, Severity
from wheelyard.wheels.labels import read_labels

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from wheelyard.wheels.findings import Finding

MACHINE = "aarch64" if platform.machine() == "aarch64" else "x86_64"
only_x86_64 = pytest.mark.skipif(MACHINE != "x86_64", reason="of x86_64 alone")


@dataclasses.dataclass(frozen=True)
class Bench:
    make_wheel: Callable[..., Path]
    link: Callable[..., Path]

    def needing(self, library: str, version: str = "", *symbols: str, name: str = "_C.so") -> Path:
        """Link a module that asks a library for these symbols of one version."""
        provider = self.link(f"{name}-/{library}", defines=symbols or ["newer"], version=version)
        return self.link(name, asks=symbols or ["newer"], needs=[provider])

    def find(
        self, *files: Path, platforms: str = "manylinux_2_28", severity: Severity = Severity.ERROR
    ) -> list[Finding]:
        tag = ".".join(f"{one}_{MACHINE}" for one in platforms.split("."))
        wheel = self.make_wheel(tag=f"py3-none-{tag}", files={"demo/__init__.py": b""})
        binaries, damaged = read_binaries({f"demo/{path.name}": path for path in files})
        assert not damaged
        with open_wheel(wheel) as archive:
            return list(policy_findings(binaries, read_labels(archive), severity=severity))


@pytest.fixture
def bench(make_wheel: Callable[..., Path], link_c: Callable[..., Path]) -> Bench:
    return Bench(make_wheel=make_wheel, link=link_c)


def test_newer_glibc_is_told_with_symbols_and_distributions(bench: Bench) -> None:
    module = bench.needing("libm.so.6", "GLIBC_2.34", "first", "second", "third")
    (finding,) = bench.find(module)
    assert (finding.kind, finding.severity) == (FindingKind.PLATFORM_TAG, Severity.ERROR)
    assert finding.member == "demo/_C.so"
    assert finding.message == (
        "'demo/_C.so' needs glibc 2.34, the platform tag promises that 2.28 is enough (first and 2 "
        "more symbols). It loads on RHEL 9, Amazon Linux 2023, Ubuntu 22.04 and newer, not on "
        "RHEL 8, Debian 10, Ubuntu 20.04, Debian 11. manylinux_2_34_"
        f"{MACHINE} would be true; else build it on an older distribution"
    )
    assert finding.details == ("GLIBC_2.34 in demo/_C.so: first and 2 more symbols",)


@pytest.mark.parametrize(
    ("library", "version", "message"),
    [
        (
            "libstdc++.so.6",
            "GLIBCXX_3.4.30",
            r"needs GLIBCXX_3\.4\.30 of libstdc\+\+\.so\.6, which",
        ),
        ("libstdc++.so.6", "CXXABI_1.3.13", r"needs CXXABI_1\.3\.13 of libstdc.*RHEL 9"),
        ("libgcc_s.so.1", "GCC_14.0.0", r"needs GCC_14\.0\.0 of libgcc_s\.so\.1.*Ubuntu 24\.04"),
        ("libz.so.1", "ZLIB_1.2.12", r"needs ZLIB_1\.2\.12 of libz\.so\.1"),
        ("libstdc++.so.6", "GLIBCXX_9.9", r"GLIBCXX_9\.9 .*, which no manylinux policy knows"),
        ("libm.so.6", "GLIBC_PRIVATE", r"needs GLIBC_PRIVATE, .* changes from one release"),
        ("libm.so.6", "GLIBC_ABI_DT_RELR", r"needs glibc 2\.36, .* promises that 2\.28 is enough"),
    ],
)
def test_version_of_any_system_library_is_judged(
    bench: Bench, library: str, version: str, message: str
) -> None:
    (finding,) = bench.find(bench.needing(library, version))
    assert finding.kind is FindingKind.PLATFORM_TAG
    assert re.search(message, finding.message)


def test_promised_versions_are_no_findings(bench: Bench) -> None:
    files = [
        bench.needing("libm.so.6", "GLIBC_2.28", name="a.so"),
        bench.needing("libstdc++.so.6", "GLIBCXX_3.4.24", name="b.so"),
        bench.needing("libcudart.so.13", "libcudart.so.13", name="c.so"),
    ]
    assert bench.find(*files) == []
    assert [one.kind for one in bench.find(*files, platforms="manylinux_2_17")] == [
        *[FindingKind.PLATFORM_TAG] * 2
    ]


@pytest.mark.parametrize(
    ("platforms", "count"),
    [
        ("manylinux_2_17.manylinux2014", 1),
        ("manylinux_2_17.manylinux_2_28", 1),
        ("manylinux_2_27.manylinux_2_28", 0),
        ("manylinux_2_29", 0),
        ("manylinux1", 1),
        ("musllinux_1_2.manylinux_2_17", 2),
    ],
)
def test_oldest_of_several_tags_is_the_promise(bench: Bench, platforms: str, count: int) -> None:
    assert len(bench.find(bench.needing("libm.so.6", "GLIBC_2.27"), platforms=platforms)) == count


def test_worst_file_of_a_set_speaks_for_the_others(bench: Bench) -> None:
    older = bench.needing("libm.so.6", "GLIBC_2.29", name="a.so")
    newer = bench.needing("libm.so.6", "GLIBC_2.100", name="b.so")
    (finding,) = bench.find(older, newer)
    assert finding.member == "demo/b.so"
    assert [detail.partition(":")[0] for detail in finding.details] == [
        "GLIBC_2.100 in demo/b.so",
        "GLIBC_2.29 in demo/a.so",
    ]


def test_library_that_the_wheel_brings_may_be_as_new_as_it_likes(bench: Bench) -> None:
    module = bench.needing("libstdc++.so.6", "GLIBCXX_3.4.33")
    own = bench.link("libstdc++.so.6", defines=["newer"])
    assert bench.find(module, own) == []


def test_wheels_of_others_are_warned_of(bench: Bench) -> None:
    module = bench.needing("libm.so.6", "GLIBC_2.34")
    (finding,) = bench.find(module, severity=Severity.WARNING)
    assert finding.severity is Severity.WARNING


def test_tag_without_promise_says_what_is_needed(bench: Bench) -> None:
    module = bench.needing("libm.so.6", "GLIBC_2.34")
    (finding,) = bench.find(module, platforms="linux", severity=Severity.WARNING)
    assert finding.severity is Severity.WARNING
    assert finding.message == (
        f"Its tag linux_{MACHINE} promises nothing of the system. It needs glibc 2.34: RHEL 9, "
        f"Amazon Linux 2023, Ubuntu 22.04 and newer; manylinux_2_34_{MACHINE} would be true of its "
        "symbols"
    )
    assert bench.find(module, platforms="linux", severity=Severity.ERROR) == []


def test_what_needs_glibc_is_not_for_musl(bench: Bench) -> None:
    needing = bench.needing("libm.so.6", "GLIBC_2.34")
    not_judged, wrong = bench.find(needing, platforms="musllinux_1_2")
    assert (not_judged.kind, not_judged.severity) == (FindingKind.NOT_CHECKED, Severity.WARNING)
    assert (wrong.kind, wrong.severity) == (FindingKind.PLATFORM_TAG, Severity.ERROR)
    assert "promises musl" in wrong.message


def test_library_that_no_system_has_to_have_is_named(bench: Bench) -> None:
    modules = [bench.needing("libavutil.so.58", name=name) for name in ("a.so", "b.so")]
    sound = bench.needing("libsox.so", name="c.so")
    (finding,) = bench.find(*modules, sound)
    assert (finding.kind, finding.severity) == (FindingKind.UNPROMISED_LIBRARY, Severity.WARNING)
    assert finding.message.startswith("'demo/a.so' and 1 more need libavutil.so.58; the wheel does")
    assert finding.message.endswith("(and 1 more libraries are like that)")
    assert finding.details == ("libavutil.so.58: demo/a.so, demo/b.so", "libsox.so: demo/c.so")


def test_libpython_is_a_case_of_its_own(bench: Bench) -> None:
    (finding,) = bench.find(bench.needing("libpython3.12.so.1.0"))
    assert finding.kind is FindingKind.UNPROMISED_LIBRARY
    assert "Link modules without libpython" in finding.message


@pytest.mark.parametrize(
    "library",
    ["libtorch_cpu.so", "libcudart.so.13", "libcuda.so.1", "libGL.so.1", "libibverbs.so.1"],
)
def test_library_of_torch_cuda_driver_or_system_may_be_outside(bench: Bench, library: str) -> None:
    assert bench.find(bench.needing(library)) == []


def test_symbol_that_distributions_leave_out_is_found(bench: Bench) -> None:
    (finding,) = bench.find(bench.needing("libz.so.1", "", "deflateInit_", "_tr_init"))
    assert finding.kind is FindingKind.PLATFORM_TAG
    assert finding.details == ("_tr_init",)
    assert "uses _tr_init of libz.so.1, which not every system" in finding.message


def isa_note(levels: int) -> str:
    """Write what ``-z x86-64-v3`` makes the linker note; not every linker has that option."""
    fields = (4, 16, 5, b"GNU\0", 0xC0008002, 4, levels, 0)
    data = struct.pack("<III4sIIII", *fields)
    listed = ",".join(str(byte) for byte in data)
    return (
        '__asm__(".section .note.gnu.property,\\"a\\",@note\\n.balign 8\\n'
        f'.byte {listed}\\n.previous");\n'
    )


@only_x86_64
@pytest.mark.parametrize(
    ("levels", "name"), [(1, ""), (1 | 2, "x86-64-v2"), (1 | 2 | 4, "x86-64-v3"), (8, "x86-64-v4")]
)
def test_processor_that_the_linker_noted_is_found(
    bench: Bench, compile_c: Callable[..., Path], levels: int, name: str
) -> None:
    module = compile_c("_C.so", isa_note(levels), "-fcf-protection=none")
    found = bench.find(module)
    assert [one.kind for one in found] == ([FindingKind.PROCESSOR] if name else [])
    assert all(f"compiled for {name} processors" in one.message for one in found)


@only_x86_64
def test_real_module_needs_what_readelf_says(compile_c: Callable[..., Path], bench: Bench) -> None:
    readelf = shutil.which("readelf")
    if readelf is None:
        pytest.skip("there is no readelf")
    source = "#include <math.h>\ndouble f(double x, double y) { return pow(x, y) + log(x); }\n"
    module = compile_c("_C.so", source, "-lm")
    listing = subprocess.run(
        [readelf, "-W", "--version-info", module],
        check=True,
        capture_output=True,
        text=True,
        env={},
    ).stdout
    needed = {
        (int(major), int(minor))
        for major, minor in re.findall(r"Name: GLIBC_(\d+)\.(\d+)", listing)
    }
    newest = max(needed)
    found = bench.find(module, platforms="manylinux_2_5")
    if newest <= (2, 5):
        assert found == []
        return
    (finding,) = found
    assert f"needs glibc {newest[0]}.{newest[1]}," in finding.message
