"""Whether the files of a wheel load, weighed: a spare part that does not load does no harm."""

from __future__ import annotations

import dataclasses
import platform
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from wheelyard.abi.elf import ElfFile
from wheelyard.abi.libraries import folder_libraries, site_libraries
from wheelyard.abi.symbol_table import SymbolTable, write_symbol_table
from wheelyard.abi.wheel_symbols import read_library
from wheelyard.wheels.check import check
from wheelyard.wheels.findings import FindingKind, Severity, Surroundings
from wheelyard.wheels.surrounding import tabled_surroundings

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from wheelyard.model.cell import Machine
    from wheelyard.wheels.findings import CheckReport

MACHINE: Machine = "aarch64" if platform.machine() == "aarch64" else "x86_64"
TAG = f"cp312-cp312-manylinux_2_28_{MACHINE}"
NEW_STRING = "NSt7__cxx1112basic_stringIcSt11char_traitsIcESaIcEEE"
CHECK_FAIL = "_ZN3c106detail14torchCheckFailEPKcS2_jRK{}"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Bench:
    """Writes a wheel of these files and puts it beside torches made of a few symbols."""

    folder: Path
    make_site: Callable[..., Path]
    make_wheel: Callable[..., Path]
    link: Callable[..., Path]

    def surroundings(self, torch: str = "2.11.0+cu130", **torch_traits: int) -> Surroundings:
        return Surroundings(
            torch=torch,
            machine=MACHINE,
            libraries=site_libraries(self.make_site(**torch_traits)),
            interpreter=Path(sys.executable),
        )

    def check(
        self,
        files: Mapping[str, Path],
        *,
        torch: Surroundings | None = None,
        candidates: Sequence[Surroundings] = (),
        requires: Sequence[str] = ("torch",),
        tag: str = TAG,
        texts: Mapping[str, str] | None = None,
    ) -> CheckReport:
        wheel = self.make_wheel(
            tag=tag,
            texts=texts,
            files={name: path.read_bytes() for name, path in files.items()},
            requires=requires,
        )
        return check(
            wheel,
            expectation=None,
            surroundings=torch or (None if candidates else self.surroundings()),
            candidates=candidates,
            scratch=self.folder / "scratch",
        )

    def module(self, name: str, **traits: object) -> Path:
        """Link a module that Python can import."""
        defines = [f"PyInit_{name.partition('.')[0]}"]
        return self.link(f"modules/{name}", defines=defines, **traits)


@pytest.fixture
def bench(
    tmp_path: Path,
    make_torch_site: Callable[..., Path],
    make_wheel: Callable[..., Path],
    link_c: Callable[..., Path],
) -> Bench:
    return Bench(folder=tmp_path, make_site=make_torch_site, make_wheel=make_wheel, link=link_c)


def loading_findings(report: CheckReport) -> list[tuple[FindingKind, Severity]]:
    kinds = {
        FindingKind.MISSING_LIBRARY,
        FindingKind.MISSING_SYMBOL,
        FindingKind.ALTERNATIVE,
        FindingKind.TORCH,
        FindingKind.NOT_CHECKED,
    }
    return [(one.kind, one.severity) for one in report.findings if one.kind in kinds]


def verdicts(report: CheckReport) -> dict[str, bool | None]:
    return {file.member: file.loads for file in report.files}


def test_library_that_nobody_brings_is_an_error_when_nothing_loads_without_it(
    bench: Bench,
) -> None:
    lost = bench.link("elsewhere/liblost.so.1", defines=["of_lost"])
    report = bench.check({"demo/_C.so": bench.module("_C.so", asks=["of_lost"], needs=[lost])})
    assert loading_findings(report) == [(FindingKind.MISSING_LIBRARY, Severity.ERROR)]
    assert verdicts(report) == {"demo/_C.so": None}, "a system may have it"
    (finding,) = [one for one in report.findings if one.kind is FindingKind.MISSING_LIBRARY]
    assert finding.details == ("of_lost",)


def test_plugin_for_a_library_of_the_system_is_a_warning_when_the_rest_loads(bench: Bench) -> None:
    lost = bench.link("elsewhere/liblost.so.1", defines=["of_lost"])
    report = bench.check(
        {
            "demo/_C.so": bench.module("_C.so"),
            "demo/libplugin.so": bench.link("libplugin.so", asks=["of_lost"], needs=[lost]),
        }
    )
    assert loading_findings(report) == [(FindingKind.MISSING_LIBRARY, Severity.WARNING)]
    assert verdicts(report) == {"demo/_C.so": True, "demo/libplugin.so": None}


def test_one_of_several_alternatives_is_enough(bench: Bench) -> None:
    def runtime(major: int) -> Path:
        name = f"libcudart.so.{major}"
        return bench.link(f"elsewhere/{name}", defines=["cudaMalloc"], version=name)

    files = {
        f"demo/libdemo_cuda{major}0.so": bench.link(
            f"libdemo_cuda{major}0.so", asks=["cudaMalloc"], needs=[runtime(major)]
        )
        for major in (11, 12, 13)
    }
    report = bench.check(files)
    assert loading_findings(report) == [(FindingKind.ALTERNATIVE, Severity.WARNING)]
    assert report.passed
    assert list(verdicts(report).values()) == [False, False, True]
    del files["demo/libdemo_cuda130.so"]
    report = bench.check(files)
    assert not report.passed
    assert {severity for _, severity in loading_findings(report)} == {Severity.ERROR}


def test_library_takes_symbols_from_what_the_file_that_loads_it_has(bench: Bench) -> None:
    site = bench.make_site()
    inner = bench.link("libinner.so", asks=["_ZN3c104warnEv"])
    options = ["-Wl,-rpath,$ORIGIN"]
    outer = bench.module("_C.so", needs=[inner, site / "torch/lib/libc10.so"], options=options)
    report = bench.check({"demo/_C.so": outer, "demo/libinner.so": inner})
    assert loading_findings(report) == []
    alone = bench.check({"demo/libinner.so": inner, "demo/_D.so": bench.module("_D.so")})
    assert loading_findings(alone) == [(FindingKind.MISSING_SYMBOL, Severity.ERROR)]


def test_library_of_the_wheel_that_is_not_asked_for_may_be_loaded_by_the_package(
    bench: Bench,
) -> None:
    files = {
        "demo/_C.so": bench.module("_C.so", asks=["of_common"]),
        "demo/libcommon.so": bench.link("libcommon.so", defines=["of_common"]),
    }
    report = bench.check(files)
    assert loading_findings(report) == [(FindingKind.NOT_CHECKED, Severity.WARNING)]
    assert verdicts(report) == {"demo/_C.so": None, "demo/libcommon.so": True}


def test_python_is_the_one_of_the_files_suffix(bench: Bench) -> None:
    new_in_313 = "PyList_Extend"
    files = {
        f"demo/_C.cpython-{python}-{MACHINE}-linux-gnu.so": bench.module(
            f"_C.cpython-{python}-{MACHINE}-linux-gnu.so", asks=["PyList_New", new_in_313]
        )
        for python in ("312", "313")
    }
    torch = dataclasses.replace(bench.surroundings(), interpreter=None)
    report = bench.check(files, torch=torch, tag=f"py3-none-manylinux_2_28_{MACHINE}")
    assert list(verdicts(report).values()) == [False, True]
    (finding,) = [one for one in report.findings if one.kind is FindingKind.MISSING_SYMBOL]
    assert finding.details == (new_in_313,)
    assert "another Python" in finding.message


def test_python_that_is_not_known_is_said_and_not_held_against_the_wheel(bench: Bench) -> None:
    name = f"_C.cpython-399-{MACHINE}-linux-gnu.so"
    torch = dataclasses.replace(bench.surroundings(), interpreter=None)
    asking = bench.check({name: bench.module(name, asks=["PyList_New"])}, torch=torch)
    assert loading_findings(asking) == [(FindingKind.NOT_CHECKED, Severity.WARNING)]
    assert verdicts(asking) == {name: None}
    assert loading_findings(bench.check({name: bench.module(name)}, torch=torch)) == []


def test_wheel_that_fits_another_torch_names_it(bench: Bench) -> None:
    old = bench.surroundings("2.6.0+cu124", cxx11_abi=0, cuda=12)
    new = bench.surroundings("2.11.0+cu130", cxx11_abi=1, cuda=13)
    site = bench.make_site(cxx11_abi=1, cuda=13)
    extension = bench.module(
        "_C.so", asks=[CHECK_FAIL.format(NEW_STRING)], needs=[site / "torch/lib/libc10.so"]
    )
    files = {"demo/_C.so": extension}
    assert bench.check(files, candidates=[old, new]).fits == ("2.11.0+cu130",)
    report = bench.check(files, torch=old, candidates=[old, new])
    assert not report.passed
    assert report.fits == ("2.11.0+cu130",)
    assert [kind for kind, _ in loading_findings(report)] == [
        FindingKind.MISSING_SYMBOL,
        FindingKind.TORCH,
    ]
    assert "wrong CXX11 ABI" in report.findings[0].message
    assert "but beside 2.11.0+cu130" in report.findings[1].message


def test_wheel_that_fits_no_torch_says_what_is_missing_beside_the_nearest(bench: Bench) -> None:
    old = bench.surroundings("2.6.0+cu124", cxx11_abi=0, cuda=12)
    new = bench.surroundings("2.11.0+cu130", cxx11_abi=1, cuda=13)
    site = bench.make_site(cxx11_abi=1, cuda=13)
    asks = [CHECK_FAIL.format(NEW_STRING), "_ZN2at11no_such_oneEv"]
    extension = bench.module("_C.so", asks=asks, needs=[site / "torch/lib/libc10.so"])
    report = bench.check({"demo/_C.so": extension}, candidates=[old, new])
    assert not report.passed
    assert report.fits == ()
    assert report.torch == "2.11.0+cu130"
    assert "beside torch 2.11.0+cu130, nor beside any" in report.findings[-1].message
    (missing,) = [one for one in report.findings if one.kind is FindingKind.MISSING_SYMBOL]
    assert missing.details in {("at::no_such_one()",), (asks[1],)}


def test_metadata_that_allows_a_torch_beside_which_it_does_not_load_is_a_warning(
    bench: Bench,
) -> None:
    old = bench.surroundings("2.6.0+cu124", cxx11_abi=0, cuda=13)
    new = bench.surroundings("2.11.0+cu130", cxx11_abi=1, cuda=13)
    site = bench.make_site(cxx11_abi=1, cuda=13)
    extension = bench.module(
        "_C.so", asks=[CHECK_FAIL.format(NEW_STRING)], needs=[site / "torch/lib/libc10.so"]
    )
    files = {"demo/_C.so": extension}

    def warned(requirement: str) -> list[str]:
        report = bench.check(files, candidates=[old, new], requires=[requirement])
        assert report.passed
        return [one.message for one in report.findings if one.kind is FindingKind.REQUIREMENT]

    (message,) = warned("torch>=2.5")
    assert "asks for torch >=2.5" in message
    assert "beside 2.6.0+cu124" in message
    assert warned("torch==2.11.*") == []


def test_symbol_table_leads_to_the_same_verdict_as_the_torch_that_it_was_made_from(
    bench: Bench,
) -> None:
    site = bench.make_site(cxx11_abi=0, cuda=12)
    real = bench.surroundings("2.6.0+cu124", cxx11_abi=0, cuda=12)
    path = bench.folder / "torch.symbols"
    write_symbol_table(
        path,
        name="torch 2.6.0+cu124",
        machine=MACHINE,
        libraries=[
            read_library(ElfFile.open(site / one.place), one.place) for one in real.libraries
        ],
        sources=[],
    )
    tabled = dataclasses.replace(
        tabled_surroundings(SymbolTable.load(path), torch="2.6.0+cu124"),
        interpreter=Path(sys.executable),
    )
    good = bench.module("_C.so", asks=["cudaMalloc", CHECK_FAIL.format("Ss")], needs=[])
    bad = bench.module(
        "_D.so", asks=[CHECK_FAIL.format(NEW_STRING)], needs=[site / "torch/lib/libc10.so"]
    )
    files = {"_C.so": good, "_D.so": bad}
    assert bench.check(files, torch=real).findings == bench.check(files, torch=tabled).findings
    assert not bench.check(files, torch=tabled).passed


def test_symbol_that_the_loader_never_looks_up_is_not_missing(bench: Bench) -> None:
    asks = ["_ZSt21ios_base_library_initv"]
    assert verdicts(bench.check({"_C.so": bench.module("_C.so", asks=asks)})) == {"_C.so": True}


def test_symbol_of_a_cuda_library_that_is_not_asked_for_may_be_preloaded(bench: Bench) -> None:
    report = bench.check({"_C.so": bench.module("_C.so", asks=["cublasCreate_v2"])})
    assert loading_findings(report) == [(FindingKind.NOT_CHECKED, Severity.WARNING)]
    assert verdicts(report) == {"_C.so": None}


def test_symbol_of_another_wheel_may_be_preloaded_and_one_that_none_has_is_missing(
    bench: Bench,
) -> None:
    core = bench.link("core/lib/libcore.so", defines=["core_gemm"])
    torch = dataclasses.replace(bench.surroundings(), beside=folder_libraries(core.parents[1]))
    report = bench.check({"_C.so": bench.module("_C.so", asks=["core_gemm"])}, torch=torch)
    assert loading_findings(report) == [(FindingKind.NOT_CHECKED, Severity.WARNING)]
    assert "unless the package loads libcore.so before" in report.findings[-1].message
    other = bench.module("_D.so", asks=["core_norm"])
    report = bench.check({"_D.so": other}, torch=torch)
    assert loading_findings(report) == [(FindingKind.MISSING_SYMBOL, Severity.ERROR)]
    unseen = dataclasses.replace(torch, unseen=("core",))
    report = bench.check({"_D.so": other}, torch=unseen)
    assert loading_findings(report) == [(FindingKind.NOT_CHECKED, Severity.WARNING)]
    assert "unless core, which is not here, brings it" in report.findings[-1].message


def test_alternative_for_another_torch_is_no_alternative(bench: Bench) -> None:
    c10 = bench.make_site() / "torch/lib/libc10.so"
    files = {
        "demo/_C_90.so": bench.module("_C_90.so", asks=["_ZN3c107missingEv"], needs=[c10]),
        "demo/_C_100.so": bench.module("_C_100.so", needs=[c10]),
    }
    assert not bench.check(files).passed


def test_file_that_needs_a_library_which_does_not_load_does_not_load_either(bench: Bench) -> None:
    c10 = bench.make_site() / "torch/lib/libc10.so"
    inner = bench.link("libinner.so", asks=["_ZN3c107missingEv"], needs=[c10])
    options = ["-Wl,-rpath,$ORIGIN"]
    files = {
        "demo/_C.so": bench.module("_C.so", needs=[inner], options=options),
        "demo/libinner.so": inner,
    }
    assert verdicts(bench.check(files)) == {"demo/_C.so": False, "demo/libinner.so": False}


def test_limited_api_is_asked_of_the_oldest_python_that_the_wheel_lets_in(bench: Bench) -> None:
    files = {"demo/_C.abi3.so": bench.module("_C.abi3.so", asks=["PyObject_CallNoArgs"])}
    torch = dataclasses.replace(bench.surroundings(), interpreter=None)
    tag = f"cp38-abi3-manylinux_2_28_{MACHINE}"
    assert verdicts(bench.check(files, torch=torch, tag=tag)) == {"demo/_C.abi3.so": False}
    metadata = "Metadata-Version: 2.1\nName: demo\nVersion: 1.0\nRequires-Python: >=3.10\n\n"
    report = bench.check(files, torch=torch, tag=tag, texts={"METADATA": metadata})
    assert verdicts(report) == {"demo/_C.abi3.so": True}
