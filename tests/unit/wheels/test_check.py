"""Every kind of finding is found where it is, and nowhere else."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import json
import os
import platform
import re
import stat
import struct
import sys
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from packaging.requirements import Requirement
from packaging.tags import Tag
from packaging.utils import canonicalize_name
from packaging.version import Version

from wheelyard.abi.libraries import site_libraries
from wheelyard.errors import CheckError
from wheelyard.model.cell import GpuArch, Machine
from wheelyard.wheels.check import (
    CheckReport,
    Expectation,
    FindingKind,
    Severity,
    Surroundings,
    check,
    require_passed,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import TypeAlias

    Breaking: TypeAlias = Callable[["Bench"], CheckReport]

MACHINE: Machine = "aarch64" if platform.machine() == "aarch64" else "x86_64"
OTHER_MACHINE = {"x86_64": 183, "aarch64": 62}[MACHINE]
VERSION = "1.0+cu130.torch2.11.0"
TAG = f"cp312-cp312-manylinux_2_28_{MACHINE}"
DIST_INFO = f"demo-{VERSION}.dist-info"
EXTENSION = f"demo_cuda.cpython-312-{MACHINE}-linux-gnu.so"
EXPECTED = Expectation(
    name=canonicalize_name("demo"),
    version=Version(VERSION),
    tag=Tag("cp312", "cp312", f"manylinux_2_28_{MACHINE}"),
    build_tag=None,
    extensions=("demo_cuda",),
    top_levels=frozenset({"demo", "demo_cuda"}),
    requires=(Requirement("torch==2.11.0"),),
    gpu_archs=(GpuArch.parse("9.0"),),
    machine=MACHINE,
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Bench:
    """Writes a wheel that is right but for the changes, and checks it."""

    folder: Path
    site: Path
    make_wheel: Callable[..., Path]
    link: Callable[..., Path]
    make_fatbin: Callable[..., bytes]
    good_extension: bytes

    def extension(self, **changes: object) -> bytes:
        """Compile an extension like the good one but for the changes."""
        arguments: dict[str, object] = {
            "defines": ["PyInit_demo_cuda"],
            "asks": ["_ZN3c104warnEv", "PyModule_Create2"],
            "needs": [self.site / "torch/lib/libc10.so"],
            "gpu_code": self.make_fatbin(cubins=[90]),
        }
        return self.link("changed.so", **(arguments | changes)).read_bytes()

    def files(self, files: Mapping[str, bytes | None] | None = None) -> dict[str, bytes]:
        """Return the files of the good wheel with others added, replaced or taken out (None)."""
        good: dict[str, bytes | None] = {
            "demo/__init__.py": b"",
            EXTENSION: self.good_extension,
        }
        changed = good | dict(files or {})
        return {name: content for name, content in changed.items() if content is not None}

    def check(
        self,
        *,
        files: Mapping[str, bytes | None] | None = None,
        expectation: Expectation | None = EXPECTED,
        surroundings: bool = True,
        gpus: tuple[GpuArch, ...] = (),
        **changes: object,
    ) -> CheckReport:
        arguments: dict[str, object] = {
            "name": "demo",
            "version": VERSION,
            "tag": TAG,
            "files": self.files(files),
            "requires": ["torch==2.11.0"],
        }
        beside = Surroundings(
            torch="2.11.0+cu130",
            machine="x86_64",
            libraries=site_libraries(self.site),
            interpreter=Path(sys.executable),
        )
        return check(
            self.make_wheel(**(arguments | changes)),
            expectation=expectation,
            surroundings=beside if surroundings else None,
            gpus=gpus,
            scratch=self.folder / "scratch",
        )


@pytest.fixture(scope="module")
def good_extension(
    link_once: Callable[..., Path],
    make_torch_site: Callable[..., Path],
    make_fatbin: Callable[..., bytes],
) -> bytes:
    return link_once(
        "good.so",
        defines=["PyInit_demo_cuda"],
        asks=["_ZN3c104warnEv", "PyModule_Create2"],
        needs=[make_torch_site() / "torch/lib/libc10.so"],
        gpu_code=make_fatbin(cubins=[90]),
    ).read_bytes()


@pytest.fixture
def bench(
    tmp_path: Path,
    make_torch_site: Callable[..., Path],
    make_wheel: Callable[..., Path],
    link_c: Callable[..., Path],
    make_fatbin: Callable[..., bytes],
    good_extension: bytes,
) -> Bench:
    return Bench(
        folder=tmp_path,
        site=make_torch_site(),
        make_wheel=make_wheel,
        link=link_c,
        make_fatbin=make_fatbin,
        good_extension=good_extension,
    )


def expecting(**changes: object) -> Expectation:
    return dataclasses.replace(EXPECTED, **changes)  # type: ignore[arg-type]


CASES: list[tuple[FindingKind, str, Breaking]] = []


def case(kind: FindingKind, message: str) -> Callable[[Breaking], Breaking]:
    """Register a way to break a wheel, the one kind that is then found, and what is said of it."""

    def register(breaking: Breaking) -> Breaking:
        CASES.append((kind, message, breaking))
        return breaking

    return register


@case(FindingKind.NOT_A_WHEEL, "cannot be read as a wheel")
def page_in_place_of_a_wheel(bench: Bench) -> CheckReport:
    path = bench.folder / f"demo-1.0-{TAG}.whl"
    path.write_text("<html>404</html>")
    return check(path, expectation=EXPECTED, surroundings=None, scratch=bench.folder)


@case(FindingKind.UNSAFE_MEMBER, "'../evil.py' climbs")
def member_that_climbs(bench: Bench) -> CheckReport:
    return bench.check(extra=[(zipfile.ZipInfo("../evil.py"), b"")])


@case(FindingKind.UNSAFE_MEMBER, "'demo/lib.so' is a link")
def member_that_is_a_link(bench: Bench) -> CheckReport:
    info = zipfile.ZipInfo("demo/lib.so")
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    return bench.check(extra=[(info, b"/etc/passwd")])


@case(FindingKind.UNSAFE_MEMBER, "'demo/__init__.py' is there more than once")
def member_that_is_there_twice(bench: Bench) -> CheckReport:
    return bench.check(extra=[(zipfile.ZipInfo("demo/__init__.py"), b"evil")])


@case(FindingKind.DAMAGED_MEMBER, "'demo/data.txt' .* cannot be unpacked")
def member_that_is_damaged(bench: Bench) -> CheckReport:
    content = b"a text that is stored as it is"
    whole = bench.make_wheel(
        name="demo",
        version=VERSION,
        tag=TAG,
        files=bench.files({"demo/data.txt": content}),
        requires=["torch==2.11.0"],
        spoil=lambda members: members.pop("demo/data.txt"),
        extra=[(zipfile.ZipInfo("demo/data.txt"), content)],
    )
    whole.write_bytes(whole.read_bytes().replace(b"a text that", b"a test that"))
    return check(whole, expectation=EXPECTED, surroundings=None, scratch=bench.folder)


@case(FindingKind.NAME, "METADATA says demo 1.0$")
def filename_that_upstream_changed_alone(bench: Bench) -> CheckReport:
    metadata = "Metadata-Version: 2.1\nName: demo\nVersion: 1.0\nRequires-Dist: torch==2.11.0\n"
    return bench.check(texts={"METADATA": metadata})


@case(FindingKind.NAME, "METADATA says other ")
def metadata_of_another_project(bench: Bench) -> CheckReport:
    fields = f"Name: other\nVersion: {VERSION}\nRequires-Dist: torch==2.11.0\n"
    return bench.check(texts={"METADATA": f"Metadata-Version: 2.1\n{fields}"})


@case(FindingKind.NAME, r"the folder is 'demo-1.0\+cu130")
def folder_of_another_version(bench: Bench) -> CheckReport:
    return bench.check(
        filename=f"demo-2.0-{TAG}.whl",
        texts={
            "METADATA": "Metadata-Version: 2.1\nName: demo\nVersion: 2.0\n"
            "Requires-Dist: torch==2.11.0\n"
        },
        expectation=expecting(version=Version("2.0")),
    )


@case(FindingKind.NAME, "more than one dist-info folder")
def second_dist_info_folder(bench: Bench) -> CheckReport:
    return bench.check(files={"aaa-9.9.dist-info/METADATA": b""})


@case(FindingKind.NAME, "It is demo 1.0.*, not demo 1.1")
def another_version_than_the_job_asked_for(bench: Bench) -> CheckReport:
    return bench.check(expectation=expecting(version=Version("1.1+cu130.torch2.11.0")))


@case(FindingKind.TAG, "WHEEL says cp311-cp311-linux")
def tags_in_wheel_that_the_filename_lacks(bench: Bench) -> CheckReport:
    text = f"Wheel-Version: 1.0\nRoot-Is-Purelib: false\nTag: cp311-cp311-linux_{MACHINE}\n"
    return bench.check(texts={"WHEEL": text})


@case(FindingKind.TAG, "no WHEEL")
def wheel_file_that_is_not_there(bench: Bench) -> CheckReport:
    return bench.check(texts={"WHEEL": None})


@case(FindingKind.TAG, "not cp312-cp312t-")
def tag_for_another_abi(bench: Bench) -> CheckReport:
    tag = Tag("cp312", "cp312t", f"manylinux_2_28_{MACHINE}")
    return bench.check(expectation=expecting(tag=tag))


@case(FindingKind.TAG, "manylinux_2_28_.*, not cp312-cp312-manylinux_2_17_")
def tag_for_newer_systems_than_asked(bench: Bench) -> CheckReport:
    tag = Tag("cp312", "cp312", f"manylinux_2_17_{MACHINE}")
    return bench.check(expectation=expecting(tag=tag))


@case(FindingKind.BUILD_TAG, "filename says build 2, WHEEL says 1")
def build_tag_that_differs(bench: Bench) -> CheckReport:
    return bench.check(
        build="1",
        filename=f"demo-{VERSION}-2-{TAG}.whl",
        expectation=expecting(build_tag="2"),
    )


@case(FindingKind.BUILD_TAG, "build tag is none, not 1")
def build_tag_that_is_missing(bench: Bench) -> CheckReport:
    return bench.check(expectation=expecting(build_tag="1"))


@case(FindingKind.RECORD, "'demo/__init__.py' has another digest")
def file_that_was_changed_later(bench: Bench) -> CheckReport:
    return bench.check(spoil=lambda members: members.update({"demo/__init__.py": b"evil"}))


@case(FindingKind.RECORD, "'demo/late.py' is not listed")
def file_that_was_added_later(bench: Bench) -> CheckReport:
    return bench.check(spoil=lambda members: members.update({"demo/late.py": b""}))


@case(FindingKind.RECORD, "'demo/gone.py' is listed, but not there")
def file_that_was_taken_out(bench: Bench) -> CheckReport:
    files = {"demo/gone.py": b""}
    return bench.check(files=files, spoil=lambda members: members.pop("demo/gone.py"))


@case(FindingKind.RECORD, "no RECORD")
def record_that_is_not_there(bench: Bench) -> CheckReport:
    return bench.check(spoil=lambda members: members.pop(f"{DIST_INFO}/RECORD"))


@case(FindingKind.RECORD, "RECORD cannot be read")
def record_that_is_no_table(bench: Bench) -> CheckReport:
    return bench.check(texts={"RECORD": "one,two\n"})


def edit_record(old: bytes, new: bytes) -> Callable[[dict[str, bytes]], None]:
    def edit(members: dict[str, bytes]) -> None:
        name = f"{DIST_INFO}/RECORD"
        assert old in members[name]
        members[name] = members[name].replace(old, new)

    return edit


@case(FindingKind.RECORD, "'demo/__init__.py' is 0 bytes long, not 7")
def size_that_is_wrong(bench: Bench) -> CheckReport:
    empty = b"47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU,"
    return bench.check(spoil=edit_record(empty + b"0", empty + b"7"))


@case(FindingKind.RECORD, "no digest that counts .md5=")
def digest_that_is_weak(bench: Bench) -> CheckReport:
    good = b"sha256=47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU"
    return bench.check(spoil=edit_record(good, b"md5=1B2M2Y8AsgTpgAmY7PhCfg"))


@case(FindingKind.RECORD, "'demo/__init__.py' is listed twice")
def line_that_is_there_twice(bench: Bench) -> CheckReport:
    line = b"demo/__init__.py,sha256=47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU,0\n"
    return bench.check(spoil=edit_record(line, line + line))


@case(FindingKind.METADATA, "no METADATA")
def metadata_that_is_not_there(bench: Bench) -> CheckReport:
    return bench.check(texts={"METADATA": None})


@case(FindingKind.METADATA, "METADATA cannot be read")
def metadata_that_is_not_valid(bench: Bench) -> CheckReport:
    text = f"Metadata-Version: 2.1\nName: demo\nVersion: {VERSION}\nRequires-Dist: torch=2\n"
    return bench.check(texts={"METADATA": text})


@case(FindingKind.REQUIREMENT, "does not require 'torch==2.11.0'")
def pin_that_is_missing(bench: Bench) -> CheckReport:
    return bench.check(requires=[])


@case(FindingKind.REQUIREMENT, "requires 'ninja', which the recipe does not declare")
def requirement_that_nobody_declared(bench: Bench) -> CheckReport:
    return bench.check(requires=["torch==2.11.0", "ninja"])


@case(FindingKind.TOP_LEVEL, "installs the top level 'tests'")
def package_that_nobody_declared(bench: Bench) -> CheckReport:
    return bench.check(files={"tests/__init__.py": b""})


@case(FindingKind.TOP_LEVEL, "installs the top level 'torch'")
def module_inside_torch(bench: Bench) -> CheckReport:
    prefix = f"demo-{VERSION}.data/platlib"
    return bench.check(files={f"{prefix}/torch/extra.py": b""})


@case(FindingKind.TOP_LEVEL, "folder of torch")
def module_inside_torch_of_any_wheel(bench: Bench) -> CheckReport:
    return bench.check(files={"torch/extra.py": b""}, expectation=None)


@case(FindingKind.TOP_LEVEL, "declares the top level 'demo', the wheel does not have it")
def package_that_is_missing(bench: Bench) -> CheckReport:
    return bench.check(files={"demo/__init__.py": None})


@case(FindingKind.ENTRY_POINT, "has the entry point 'console_scripts:Demo'")
def entry_point_that_nobody_declared(bench: Bench) -> CheckReport:
    return bench.check(entry_points="[console_scripts]\nDemo = demo:main\n")


@case(FindingKind.ENTRY_POINT, "declares the entry point 'console_scripts:demo'")
def entry_point_that_is_missing(bench: Bench) -> CheckReport:
    wanted = frozenset({"console_scripts:demo"})
    return bench.check(expectation=expecting(entry_points=wanted))


@case(FindingKind.ENTRY_POINT, "entry_points.txt cannot be read")
def entry_points_that_are_no_table(bench: Bench) -> CheckReport:
    return bench.check(entry_points="Demo = demo:main\n")


@case(FindingKind.SCRIPT, "has the script 'demo.sh'")
def script_that_nobody_declared(bench: Bench) -> CheckReport:
    return bench.check(files={f"demo-{VERSION}.data/scripts/demo.sh": b"#!/bin/sh\n"})


@case(FindingKind.DATA_FILE, "installs 'data/etc/demo.conf' outside")
def file_outside_of_site_packages(bench: Bench) -> CheckReport:
    return bench.check(files={f"demo-{VERSION}.data/data/etc/demo.conf": b""})


@case(FindingKind.PATH_FILE, "'demo.pth' runs at every start")
def path_file(bench: Bench) -> CheckReport:
    return bench.check(files={"demo.pth": b"import evil\n"})


@case(FindingKind.NO_EXTENSIONS, "Nothing in it is compiled; expected: demo_cuda")
def pure_wheel_under_a_compiled_tag(bench: Bench) -> CheckReport:
    return bench.check(
        files={EXTENSION: None, "demo_cuda.py": b""}, expectation=expecting(gpu_archs=())
    )


@case(FindingKind.NO_EXTENSIONS, "though its tag is for one machine")
def pure_wheel_that_nobody_expects_anything_of(bench: Bench) -> CheckReport:
    return bench.check(files={EXTENSION: None}, expectation=None)


@case(FindingKind.MISSING_EXTENSION, "'demo_cuda2' is not there")
def extension_that_is_missing(bench: Bench) -> CheckReport:
    return bench.check(expectation=expecting(extensions=("demo_cuda", "demo_cuda2")))


@case(FindingKind.MISSING_EXTENSION, "The library 'demo/_ops.so' is not there")
def library_that_is_missing(bench: Bench) -> CheckReport:
    return bench.check(expectation=expecting(libraries=("demo/_ops.so",)))


@case(FindingKind.NO_EXTENSIONS, "expected: demo/_ops.so")
def nothing_compiled_where_a_library_is_expected(bench: Bench) -> CheckReport:
    expected = expecting(extensions=(), libraries=("demo/_ops.so",), gpu_archs=())
    return bench.check(files={EXTENSION: None, "demo_cuda.py": b""}, expectation=expected)


@case(FindingKind.MISSING_EXTENSION, "it has no PyInit_demo_cuda")
def extension_that_cannot_be_imported(bench: Bench) -> CheckReport:
    return bench.check(files={EXTENSION: bench.extension(defines=["PyInit_demo"])})


@case(FindingKind.WRONG_PYTHON, "is for cp311, the tag for cp312")
def extension_for_another_python(bench: Bench) -> CheckReport:
    name = EXTENSION.replace("312", "311")
    return bench.check(files={EXTENSION: None, name: bench.good_extension})


@case(FindingKind.TAG, "Its tag is for any machine")
def extension_under_a_pure_tag(bench: Bench) -> CheckReport:
    return bench.check(tag="py3-none-any", expectation=None)


@case(FindingKind.MACHINE, f"the tag says {MACHINE}")
def extension_for_another_machine(bench: Bench) -> CheckReport:
    data = bytearray(bench.good_extension)
    data[18] = OTHER_MACHINE
    return bench.check(files={EXTENSION: bytes(data)}, surroundings=False)


@case(FindingKind.DAMAGED_BINARY, "'demo/_C.so' is not a usable ELF file")
def extension_that_is_cut_short(bench: Bench) -> CheckReport:
    return bench.check(files={"demo/_C.so": bench.good_extension[:1000]})


@case(FindingKind.DAMAGED_BINARY, "GPU code in 'demo/_C.so' is cut short")
def extension_whose_gpu_code_is_cut_short(bench: Bench) -> CheckReport:
    return bench.check(
        files={"demo/_C.so": bench.extension(gpu_code=bench.make_fatbin(cubins=[90])[:-40])}
    )


@case(FindingKind.GRAFTED_LIBRARY, "'libcudart-0a1b2c3d.so.13' is inside the wheel")
def cuda_library_inside(bench: Bench) -> CheckReport:
    grafted = bench.link("grafted.so").read_bytes()
    return bench.check(files={"demo.libs/libcudart-0a1b2c3d.so.13": grafted})


@case(FindingKind.GRAFTED_LIBRARY, "'libc10.so' is inside the wheel")
def torch_library_inside_any_wheel(bench: Bench) -> CheckReport:
    grafted = (bench.site / "torch/lib/libc10.so").read_bytes()
    return bench.check(files={"demo.libs/libc10.so": grafted}, expectation=None)


@case(FindingKind.RPATH, "looks for libraries in '/usr/local/cuda/lib64'")
def absolute_rpath(bench: Bench) -> CheckReport:
    options = ["-Wl,-rpath,$ORIGIN/../torch/lib:/usr/local/cuda/lib64"]
    return bench.check(files={EXTENSION: bench.extension(options=options)})


def needing_glibc(bench: Bench, version: str, *, tag: str = TAG) -> CheckReport:
    libc = bench.link("elsewhere/libm.so.6", defines=["newer"], version=version)
    extension = bench.extension(asks=["newer"], needs=[libc])
    return bench.check(files={EXTENSION: extension}, surroundings=False, tag=tag)


@case(FindingKind.PLATFORM_TAG, r"needs glibc 2\.35, .* promises that 2\.28 is enough")
def platform_tag_that_promises_too_much(bench: Bench) -> CheckReport:
    return needing_glibc(bench, "GLIBC_2.35")


@case(FindingKind.PLATFORM_TAG, r"needs glibc 2\.36, .* promises that 2\.28 is enough")
def relocations_that_need_a_newer_loader(bench: Bench) -> CheckReport:
    return needing_glibc(bench, "GLIBC_ABI_DT_RELR")


@case(FindingKind.PLATFORM_TAG, r"needs glibc 2\.20, .* promises that 2\.17 is enough")
def one_platform_tag_of_two_that_promises_too_much(bench: Bench) -> CheckReport:
    tag = f"cp312-cp312-manylinux_2_17_{MACHINE}.manylinux_2_28_{MACHINE}"
    return needing_glibc(bench, "GLIBC_2.20", tag=tag)


@case(FindingKind.GPU_CODE_MISSING, r"has no GPU code for 12\.0 PTX 12\.0")
def target_that_is_missing(bench: Bench) -> CheckReport:
    wanted = (GpuArch.parse("9.0"), GpuArch.parse("12.0+PTX"))
    return bench.check(expectation=expecting(gpu_archs=wanted))


@case(FindingKind.GPU_CODE_MISSING, r"no GPU code in it; asked for: 9\.0")
def extension_without_gpu_code(bench: Bench) -> CheckReport:
    return bench.check(files={EXTENSION: bench.extension(gpu_code=b"")})


@case(FindingKind.GPU_CODE_UNASKED, r"has unasked GPU code for 8\.0 PTX 9\.0")
def target_that_nobody_asked_for(bench: Bench) -> CheckReport:
    code = bench.make_fatbin(cubins=[80, 90], ptx=[90])
    return bench.check(files={EXTENSION: bench.extension(gpu_code=code)})


@case(FindingKind.MISSING_LIBRARY, r"needs libcudart\.so\.12: compiled for another CUDA")
def library_of_another_cuda(bench: Bench) -> CheckReport:
    runtime = bench.link("elsewhere/libcudart.so.12")
    needs = [runtime, bench.site / "torch/lib/libc10.so"]
    pin = "torch==2.11.0+cu128"
    return bench.check(
        files={EXTENSION: bench.extension(needs=needs)},
        requires=[pin],
        expectation=expecting(requires=(Requirement(pin),)),
    )


@case(FindingKind.REQUIREMENT, r"links libcudart\.so\.12, of CUDA 12, .* takes for CUDA 13")
def torch_of_another_cuda_than_what_is_linked(bench: Bench) -> CheckReport:
    runtime = bench.link("elsewhere/libcudart.so.12")
    needs = [runtime, bench.site / "torch/lib/libc10.so"]
    return bench.check(files={EXTENSION: bench.extension(needs=needs)}, surroundings=False)


@case(FindingKind.REQUIRES_PYTHON, "tag says cp312-cp312, .* lets Python <3.12 alone")
def python_that_metadata_refuses(bench: Bench) -> CheckReport:
    fields = (
        f"Name: demo\nVersion: {VERSION}\nRequires-Dist: torch==2.11.0\nRequires-Python: <3.12\n"
    )
    return bench.check(texts={"METADATA": f"Metadata-Version: 2.1\n{fields}"})


@case(FindingKind.LIMITED_API, "from 3.9 on, but uses _PyDict_NewPresized, outside of the limited")
def symbol_outside_of_the_limited_api(bench: Bench) -> CheckReport:
    tag = f"cp39-abi3-manylinux_2_28_{MACHINE}"
    return bench.check(
        files={
            EXTENSION: None,
            "demo_cuda.abi3.so": bench.extension(asks=["_PyDict_NewPresized"]),
        },
        tag=tag,
        expectation=expecting(tag=Tag("cp39", "abi3", f"manylinux_2_28_{MACHINE}")),
        surroundings=False,
    )


@case(FindingKind.UNPROMISED_LIBRARY, "needs libavutil.so.58; the wheel does not bring it")
def library_that_no_system_has_to_have(bench: Bench) -> CheckReport:
    needs = [bench.link("elsewhere/libavutil.so.58")]
    return bench.check(files={EXTENSION: bench.extension(needs=needs)}, surroundings=False)


@case(FindingKind.PROCESSOR, "compiled for x86-64-v3 processors")
def extension_for_newer_processors(bench: Bench) -> CheckReport:
    if MACHINE != "x86_64":
        pytest.skip("only x86_64 has such a mark")
    note = struct.pack("<III4sIIII", 4, 16, 5, b"GNU\0", 0xC0008002, 4, 0b111, 0)
    blob = bench.folder / "note"
    blob.write_bytes(note)
    # The linker merges notes by its own lights unless gcc writes none.
    source = bench.folder / "note.s"
    source.write_text(
        f'.section .note.gnu.property,"a",@note\n.balign 8\n.incbin "{blob}"\n'
        '.section .note.GNU-stack,"",@progbits\n'
    )
    options = [str(source), "-fcf-protection=none"]
    return bench.check(files={EXTENSION: bench.extension(options=options)})


@case(FindingKind.GPU_CODE_BY_PTX, r"On RTX 50.* only after the driver .*, from 9\.0\+PTX")
def gpu_that_only_ptx_is_for(bench: Bench) -> CheckReport:
    code = bench.make_fatbin(cubins=[90], ptx=[90])
    return bench.check(
        files={EXTENSION: bench.extension(gpu_code=code)},
        expectation=expecting(gpu_archs=(GpuArch.parse("9.0+PTX"),)),
        gpus=(GpuArch(12, 0),),
    )


@case(FindingKind.GPU_CODE_MISSING, r"Nothing in it runs on A100 \(8\.0\): its GPU code is for 9")
def gpu_that_nothing_is_for(bench: Bench) -> CheckReport:
    return bench.check(gpus=(GpuArch(8, 0),))


@case(FindingKind.GPU_CODE_SUSPICIOUS, "machine code for 10.3")
def code_for_b300(bench: Bench) -> CheckReport:
    code = bench.make_fatbin(cubins=[103])
    return bench.check(
        files={EXTENSION: bench.extension(gpu_code=code)},
        expectation=expecting(gpu_archs=(GpuArch.parse("10.3"),)),
    )


@case(
    FindingKind.MISSING_SYMBOL, r"1 symbol is missing, wrong CXX11 ABI.*\nc10::detail::torchCheck"
)
def symbol_of_the_other_abi(bench: Bench) -> CheckReport:
    asks = ["_ZN3c106detail14torchCheckFailEPKcS2_jRKSs"]
    return bench.check(files={EXTENSION: bench.extension(asks=asks)})


@case(FindingKind.MISSING_SYMBOL, "5 symbols are missing, .* another minor version of torch")
def symbols_of_another_torch(bench: Bench) -> CheckReport:
    asks = [f"_ZN2at6other{number}Ev" for number in range(5)]
    return bench.check(files={EXTENSION: bench.extension(asks=asks)})


@case(FindingKind.GPU_CODE_MISSING, "registers GPU code .* but there is no GPU code in it")
def gpu_code_that_was_stripped(bench: Bench) -> CheckReport:
    runtime = bench.site / "nvidia/cu13/lib/libcudart.so.13"
    asks = ["__cudaRegisterFatBinary"]
    stripped = bench.extension(asks=asks, needs=[runtime], gpu_code=b"")
    return bench.check(files={EXTENSION: stripped}, expectation=expecting(gpu_archs=()))


@case(FindingKind.DAMAGED_BINARY, "is empty: Python cannot import it")
def module_that_is_empty(bench: Bench) -> CheckReport:
    return bench.check(files={"demo/_C.so": b""})


@case(FindingKind.DAMAGED_BINARY, "pointer of git-lfs")
def module_that_was_not_fetched(bench: Bench) -> CheckReport:
    return bench.check(files={"demo/_C.so": b"version https://git-lfs.github.com/spec/v1\n"})


@case(FindingKind.WRONG_PYTHON, "is called a module for aarch64|is called a module for x86_64")
def suffix_of_another_machine(bench: Bench) -> CheckReport:
    other = {"x86_64": "aarch64", "aarch64": "x86_64"}[MACHINE]
    name = f"demo/_C.cpython-312-{other}-linux-gnu.so"
    return bench.check(files={name: bench.extension(defines=["PyInit__C"])})


@case(FindingKind.MISSING_SYMBOL, "another CUDA: it is asked for in version libcudart.so.12")
def symbol_in_the_version_of_another_cuda(bench: Bench) -> CheckReport:
    other = bench.link(
        "elsewhere/libcudart.so.13", defines=["cudaMalloc"], version="libcudart.so.12"
    )
    return bench.check(files={EXTENSION: bench.extension(asks=["cudaMalloc"], needs=[other])})


@case(FindingKind.NOT_CHECKED, "is for another machine than the torch beside it")
def wheel_of_another_machine_than_this_one(bench: Bench) -> CheckReport:
    data = bytearray(bench.good_extension)
    data[18] = OTHER_MACHINE
    other: Machine = "x86_64" if MACHINE == "aarch64" else "aarch64"
    return bench.check(
        files={EXTENSION: None, EXTENSION.replace(MACHINE, other): bytes(data)},
        tag=TAG.replace(MACHINE, other),
        expectation=expecting(tag=Tag("cp312", "cp312", f"manylinux_2_28_{other}"), machine=other),
    )


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize(
    ("kind", "message", "breaking"),
    [pytest.param(*one, id=one[2].__name__.replace("_", " ")) for one in CASES],
)
def test_what_is_broken_is_found_and_nothing_else(
    bench: Bench, kind: FindingKind, message: str, breaking: Breaking
) -> None:
    report = breaking(bench)
    assert {finding.kind for finding in report.findings} == {kind}
    said = (line for one in report.findings for line in (one.message, *one.details))
    assert re.search(message, "\n".join(said))
    assert report.passed is all(one.severity is Severity.WARNING for one in report.findings)


def test_every_kind_of_finding_is_shown_by_a_case() -> None:
    # A wheel of 2 GiB; what is compared with several torch builds, or with a machine.
    elsewhere = {
        *(FindingKind.SIZE, FindingKind.TORCH),
        *(FindingKind.ALTERNATIVE, FindingKind.HERE),
    }
    assert {kind for kind, _, _ in CASES} == set(FindingKind) - elsewhere


def test_right_wheel_has_no_findings(bench: Bench) -> None:
    report = bench.check()
    assert report.findings == ()
    assert report.passed
    assert {name: str(code) for name, code in report.gpu_code.items()} == {EXTENSION: "9.0"}
    assert {"libc10.so", "libc.so.6"} <= set(report.external_libraries)
    assert report.platform_tag == f"manylinux_2_28_{MACHINE}"
    require_passed(report)


def test_requirement_of_an_extra_need_not_be_declared(bench: Bench) -> None:
    report = bench.check(requires=["torch==2.11.0", 'pytest; extra == "dev"'])
    assert not [one for one in report.findings if one.kind is FindingKind.REQUIREMENT]


def test_right_wheel_has_no_findings_without_a_recipe(bench: Bench) -> None:
    assert bench.check(expectation=None).findings == ()


def test_all_findings_are_collected(bench: Bench) -> None:
    report = bench.check(
        files={"demo.pth": b"", "tests/__init__.py": b""},
        requires=[],
        expectation=expecting(build_tag="3", gpu_archs=(GpuArch.parse("8.0"),)),
    )
    kinds = {finding.kind for finding in report.findings}
    assert {
        FindingKind.PATH_FILE,
        FindingKind.TOP_LEVEL,
        FindingKind.REQUIREMENT,
        FindingKind.BUILD_TAG,
        FindingKind.GPU_CODE_MISSING,
        FindingKind.GPU_CODE_UNASKED,
    } <= kinds


def test_what_harms_no_user_is_a_warning_in_wheels_of_others(bench: Bench) -> None:
    grafted = bench.link("grafted.so").read_bytes()
    report = bench.check(
        files={
            "demo.pth": b"",
            "demo.libs/libnvjpeg-0a1b2c3d.so.13": grafted,
            EXTENSION: bench.extension(options=["-Wl,-rpath,/opt/lib"]),
        },
        texts={"WHEEL": f"Wheel-Version: 1.0\nTag: cp312-cp312-linux_{MACHINE}\n"},
        expectation=None,
    )
    assert {(one.kind, one.severity) for one in report.findings} == {
        (FindingKind.PATH_FILE, Severity.WARNING),
        (FindingKind.GRAFTED_LIBRARY, Severity.WARNING),
        (FindingKind.RPATH, Severity.WARNING),
        (FindingKind.TAG, Severity.WARNING),
    }
    assert report.passed


@pytest.mark.parametrize(
    ("name", "platform_tag"),
    [
        pytest.param("linux", "manylinux_2_28", id="any linux"),
        pytest.param("manylinux_2_34", "manylinux_2_28", id="older than asked"),
        pytest.param("manylinux_2_28", "manylinux2014", id="by its old name"),
        pytest.param("manylinux_2_17", "manylinux2014_{0}.manylinux_2_17", id="both names"),
        pytest.param("linux", "linux", id="not repaired"),
    ],
)
def test_platform_tag_that_more_systems_take_will_do(
    bench: Bench, name: str, platform_tag: str
) -> None:
    tag = f"cp312-cp312-{platform_tag.format(MACHINE)}_{MACHINE}"
    expected = expecting(tag=Tag("cp312", "cp312", f"{name}_{MACHINE}"))
    assert bench.check(tag=tag, expectation=expected).findings == ()


def test_library_named_like_that_of_torch_is_not_taken_for_it(bench: Bench) -> None:
    library = bench.link("audio.so").read_bytes()
    files = {"demo/libtorchaudio.so": library, "demo/libcurrent.so": library}
    assert bench.check(files=files).findings == ()


def test_graft_folder_of_auditwheel_is_no_top_level(bench: Bench) -> None:
    library = bench.link("jpeg.so").read_bytes()
    assert bench.check(files={"demo.libs/libjpeg-0a1b2c3d.so.8": library}).findings == ()


def test_files_that_are_not_for_the_loader_are_let_be(
    bench: Bench, compile_c: Callable[..., Path]
) -> None:
    cubin = bytearray(compile_c("kernel.o", "int x;\n").read_bytes())
    cubin[18] = 190
    assert bench.check(files={"demo/kernel.cubin": bytes(cubin)}).findings == ()


def test_stronger_digest_in_record_will_do(bench: Bench) -> None:
    good = b"sha256=47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU"
    empty = base64.urlsafe_b64encode(hashlib.sha512(b"").digest()).rstrip(b"=")
    assert bench.check(spoil=edit_record(good, b"sha512=" + empty)).findings == ()


def test_missing_symbols_are_all_named_in_the_details(bench: Bench) -> None:
    asks = [f"_ZN2at6other{number}Ev" for number in range(5)]
    report = bench.check(files={EXTENSION: bench.extension(asks=asks)})
    (finding,) = report.findings
    assert finding.member == EXTENSION
    assert len(finding.details) == 5


def test_report_is_written_as_json_with_a_format(bench: Bench) -> None:
    report = bench.check(files={"demo.pth": b""})
    document = json.loads(json.dumps(report.to_json()))
    assert document["format"] == 1
    assert document["passed"] is False
    assert document["gpu_code"] == {EXTENSION: {"cubins": ["9.0"], "ptx": []}}
    assert document["findings"] == [
        {
            "details": [],
            "kind": "path-file",
            "member": "demo.pth",
            "message": "'demo.pth' runs at every start of Python",
            "severity": "error",
        }
    ]


def test_wheel_that_did_not_pass_is_refused_with_all_reasons(bench: Bench) -> None:
    report = bench.check(files={"demo.pth": b""}, requires=[])
    with pytest.raises(CheckError, match="must not be shipped") as caught:
        require_passed(report)
    assert "demo.pth" in str(caught.value)
    assert "torch==2.11.0" in str(caught.value)


def test_nothing_is_left_in_the_scratch_folder(bench: Bench) -> None:
    bench.check()
    assert list((bench.folder / "scratch").iterdir()) == []


def test_file_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(CheckError, match=r"gone\.whl' cannot be read"):
        check(tmp_path / "gone.whl", expectation=None, surroundings=None, scratch=tmp_path)


def test_wheel_is_checked_against_a_real_torch(bench: Bench) -> None:
    site = os.environ.get("WHEELYARD_TEST_TORCH_SITE")
    if not site:
        pytest.skip("WHEELYARD_TEST_TORCH_SITE names no folder with torch")
    real = dataclasses.replace(bench, site=Path(site))
    string = "NSt7__cxx1112basic_stringIcSt11char_traitsIcESaIcEEE"
    there = [f"_ZN3c106detail14torchCheckFailEPKcS2_jRK{string}", "PyModule_Create2"]
    assert real.check(files={EXTENSION: real.extension(asks=there)}).findings == ()
    wrong = ["_ZN3c106detail14torchCheckFailEPKcS2_jRKSs"]
    (finding,) = real.check(files={EXTENSION: real.extension(asks=wrong)}).findings
    assert finding.kind is FindingKind.MISSING_SYMBOL
    assert "wrong CXX11 ABI" in finding.message
