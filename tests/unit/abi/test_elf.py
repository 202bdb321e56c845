"""The reader answers as binutils do, on real libraries, and never trips over damage."""

from __future__ import annotations

import random
import re
import shutil
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from wheelyard.abi.elf import ElfError, ElfFile
from wheelyard.abi.elf_bytes import gnu_hash, sysv_hash

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ENV = {"PATH": "/usr/bin:/bin", "LC_ALL": "C"}
LIBRARY = """
int counter;
int provided(void) { return ++counter; }
extern int asked(void);
extern int perhaps(void) __attribute__((weak));
int uses(void) { return asked() + (perhaps ? perhaps() : 0); }
static int hidden(void) { return 1; }
__attribute__((visibility("hidden"))) int inner(void) { return hidden(); }
"""


def _real_libraries() -> Iterator[str]:
    for module in ("_ssl", "_ctypes", "_decimal"):
        try:
            path = import_module(module).__file__
        except ImportError:
            continue
        if path:
            yield path
    for name in ("libstdc++.so.6", "libm.so.6", "libc.so.6"):
        for folder in ("/lib/x86_64-linux-gnu", "/lib/aarch64-linux-gnu", "/lib64", "/usr/lib64"):
            if Path(folder, name).exists():
                yield f"{folder}/{name}"
                break


REAL = pytest.mark.parametrize(
    "path", [pytest.param(Path(path), id=Path(path).name) for path in _real_libraries()]
)


def readelf(*arguments: str | Path) -> str:
    if shutil.which("readelf") is None:
        pytest.skip("binutils' readelf is not there to compare with")
    command = ["readelf", "-W", *arguments]
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=ENV)
    return done.stdout


def dynamic_symbols(path: Path) -> Iterator[tuple[str, str, str, str, str | None, bool]]:
    """Yield section, binding, visibility, name, version and whether it is the default one."""
    for line in readelf("--dyn-syms", path).splitlines():
        fields = line.split()
        if len(fields) < 8 or not fields[0].rstrip(":").isdigit():
            continue
        _, _, _, kind, binding, visibility, section, full = fields[:8]
        name, at, version = full.partition("@")
        if kind not in {"SECTION", "FILE"} and name:
            default = not at or version.startswith("@")
            yield section, binding, visibility, name, version.lstrip("@") or None, default


@REAL
def test_undefined_symbols_are_those_of_readelf(path: Path) -> None:
    expected = {
        (name, version, binding == "WEAK")
        for section, binding, _, name, version, _ in dynamic_symbols(path)
        if section == "UND"
    }
    found = {(one.name, one.version, one.weak) for one in ElfFile.open(path).undefined_symbols()}
    assert found == expected


@REAL
def test_every_exported_symbol_is_found_under_its_version(path: Path) -> None:
    elf = ElfFile.open(path)
    count = 0
    for section, _, _, name, version, default in dynamic_symbols(path):
        if section in {"UND", "ABS"}:
            continue
        count += 1
        assert elf.exports(name, version), (name, version)
        assert elf.exports(name, "NO_SUCH_1.0") is (version is None), (name, version)
        if default:
            assert elf.exports(name), name
        assert not elf.exports(f"{name}_not")
    assert count


@REAL
def test_undefined_symbols_are_not_exported(path: Path) -> None:
    elf = ElfFile.open(path)
    exported = {name for section, _, _, name, *_ in dynamic_symbols(path) if section != "UND"}
    missing = {symbol.name for symbol in elf.undefined_symbols()} - exported
    assert not [name for name in missing if elf.exports(name)]


@REAL
def test_dynamic_segment_reads_as_readelf_reads_it(path: Path) -> None:
    text = readelf("--dynamic", path)
    elf = ElfFile.open(path)
    assert elf.needed == tuple(re.findall(r"NEEDED\).*\[(.+)\]", text))
    assert elf.soname == next(iter(re.findall(r"SONAME\).*\[(.+)\]", text)), None)
    assert ":".join(elf.runpath) == "".join(re.findall(r"RUNPATH\).*\[(.+)\]", text))


@REAL
def test_version_needs_are_those_of_readelf(path: Path) -> None:
    expected: dict[str, set[str]] = {}
    library = ""
    for line in readelf("--version-info", path).splitlines():
        if match := re.search(r"File: (\S+)\s+Cnt", line):
            library = match[1]
        elif match := re.search(r"^  0x\w+:\s+Name: (\S+)\s+Flags", line):
            expected.setdefault(library, set()).add(match[1])
    assert {key: set(value) for key, value in ElfFile.open(path).version_needs.items()} == expected


@REAL
def test_sections_are_found_by_name(path: Path) -> None:
    table = readelf("--section-headers", path)
    match = re.search(r"\.dynstr\s+STRTAB\s+\w+\s+(\w+)\s+(\w+)", table)
    assert match is not None
    offset, size = int(match[1], 16), int(match[2], 16)
    elf = ElfFile.open(path)
    section = elf.section(".dynstr")
    assert section is not None
    assert bytes(section) == path.read_bytes()[offset : offset + size]
    assert elf.section(".no_such_section") is None
    assert elf.section(".bss") is None


def test_machine_is_told() -> None:
    assert ElfFile.open(Path(sys.executable).resolve()).machine in {"x86_64", "aarch64"}


@pytest.fixture
def library(compile_c: Callable[..., Path]) -> Path:
    path = compile_c(
        "libdemo.so", LIBRARY, "-Wl,-soname,libdemo.so.1", "-Wl,-rpath,$ORIGIN/../lib:/opt/lib"
    )
    return Path(path)


def test_runpath_is_split(library: Path) -> None:
    assert ElfFile.open(library).runpath == ("$ORIGIN/../lib", "/opt/lib")


def test_old_rpath_is_told_from_runpath(compile_c: Callable[..., Path]) -> None:
    elf = ElfFile.open(
        compile_c("libold.so", LIBRARY, "-Wl,--disable-new-dtags,-rpath,/opt/cuda/lib64")
    )
    assert elf.rpath == ("/opt/cuda/lib64",)
    assert elf.runpath == ()


def test_weak_symbols_are_told_apart(library: Path) -> None:
    symbols = {one.name: one.weak for one in ElfFile.open(library).undefined_symbols()}
    assert symbols["asked"] is False
    assert symbols["perhaps"] is True


def test_local_symbols_are_not_exported(library: Path) -> None:
    elf = ElfFile.open(library)
    assert elf.exports("provided")
    assert elf.exports("counter")
    assert not elf.exports("inner")
    assert not elf.exports("asked")


def test_old_version_is_bound_by_those_who_ask_for_it_only(compile_c: Callable[..., Path]) -> None:
    source = (
        "void first(void) {}\nvoid second(void) {}\nvoid now(void) {}\n"
        '__asm__(".symver second,call@V_2");\n__asm__(".symver now,other@@V_2");\n'
    )
    script = compile_c("empty.o", "").with_name("versions.map")
    script.write_text("V_1 { global: first; local: *; };\nV_2 { } V_1;\n")
    elf = ElfFile.open(compile_c("libversions.so", source, f"-Wl,--version-script={script}"))
    assert elf.exports("call", "V_2")
    assert not elf.exports("call")
    assert not elf.exports("call", "V_1")
    assert elf.exports("other")
    assert elf.exports("first", "V_1")


def test_symbol_without_version_serves_those_who_ask_for_one(
    compile_c: Callable[..., Path],
) -> None:
    script = compile_c("empty.o", "").with_name("versions.map")
    script.write_text("V_1 { global: first; };\n")
    source = "void first(void) {}\nvoid plain(void) {}\n"
    elf = ElfFile.open(compile_c("libversions.so", source, f"-Wl,--version-script={script}"))
    assert elf.exports("plain", "V_9")
    assert not elf.exports("first", "V_9")


def test_function_whose_address_a_program_takes_is_not_the_program_s(
    compile_c: Callable[..., Path],
) -> None:
    source = "int puts(const char *);\nint main(int c, char **v) { return v[c] == (char *)puts; }\n"
    program = compile_c("program", source, "-no-pie", "-fno-pie", "-rdynamic")
    elf = ElfFile.open(program)
    assert elf.exports("main")
    assert not elf.exports("puts")


@pytest.mark.parametrize("style", ["sysv", "gnu", "both"])
def test_each_kind_of_hash_table_will_do(compile_c: Callable[..., Path], style: str) -> None:
    elf = ElfFile.open(compile_c("libdemo.so", LIBRARY, f"-Wl,--hash-style={style}"))
    assert elf.exports("provided")
    assert not elf.exports("asked")
    assert {"asked", "perhaps"} <= {one.name for one in elf.undefined_symbols()}


def test_library_that_exports_nothing_still_tells_what_it_needs(
    compile_c: Callable[..., Path],
) -> None:
    source = "extern int asked(void);\nstatic int (*keep)(void) __attribute__((used)) = asked;\n"
    elf = ElfFile.open(compile_c("libnothing.so", source, "-nostdlib"))
    assert [one.name for one in elf.undefined_symbols()] == ["asked"]
    assert not elf.exports("keep")


def test_symbols_are_found_without_section_headers(library: Path) -> None:
    data = bytearray(library.read_bytes())
    data[40:48] = bytes(8)
    data[58:64] = bytes(6)
    elf = ElfFile(bytes(data), name="stripped")
    assert not elf.has_sections
    assert elf.section(".text") is None
    assert elf.exports("provided")
    assert "asked" in {one.name for one in elf.undefined_symbols()}


def test_object_file_is_nothing_for_the_loader(compile_c: Callable[..., Path]) -> None:
    elf = ElfFile.open(compile_c("demo.o", LIBRARY))
    assert not elf.is_dynamic
    assert elf.needed == ()
    assert not elf.exports("provided")


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"#!/bin/sh\n", id="script"),
        pytest.param(b"\x7fELF\x01\x01" + bytes(100), id="32-bit"),
        pytest.param(b"\x7fELF\x02\x02" + bytes(100), id="big-endian"),
        pytest.param(b"\x7fELF\x02\x01" + bytes(10), id="short"),
    ],
)
def test_what_is_no_elf_file_is_refused_by_name(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "not.so"
    path.write_bytes(data)
    with pytest.raises(ElfError, match=r"not\.so"):
        ElfFile.open(path)


def _ask_everything(data: bytes) -> None:
    elf = ElfFile(data, name="damaged")
    elf.read_through()
    elf.exports("provided")
    elf.exports("provided", "V_1")
    assert len(list(elf.exported_symbols())) <= len(data)
    elf.section(".text")
    for block in elf.loaded_bytes():
        assert len(block) <= len(data)


@pytest.mark.parametrize("style", ["sysv", "gnu"])
def test_damage_is_an_elf_error_and_nothing_else(
    compile_c: Callable[..., Path], style: str
) -> None:
    versions = compile_c("v.so", "").with_name("v.map")
    versions.write_text("V_1 { global: provided; local: inner; };\n")
    options = ("-Wl,-z,noseparate-code", f"-Wl,--version-script={versions}", "-s")
    path = compile_c("libdemo.so", LIBRARY, f"-Wl,--hash-style={style}", *options)
    whole = path.read_bytes()
    # The tables that are read lie in the first pages, the section headers at the end.
    places = [*range(0x800), *range(len(whole) - 0xA00, len(whole))]
    chance = random.Random(5)  # noqa: S311
    refused = 0
    for _ in range(3000):
        data = bytearray(whole)
        for _ in range(chance.randint(1, 4)):
            data[chance.choice(places)] = chance.choice([0, 1, 0x80, 0xFF, chance.randrange(256)])
        try:
            _ask_everything(bytes(data))
        except ElfError:
            refused += 1
    assert refused > 100


def test_file_that_was_cut_short_is_refused(library: Path) -> None:
    whole = library.read_bytes()
    for length in range(6, len(whole), 97):
        with pytest.raises(ElfError, match="'damaged' is not a usable ELF file"):
            _ask_everything(whole[:length])


def test_hashes_are_those_of_the_specification() -> None:
    assert gnu_hash(b"printf") == 0x156B2BB8
    assert gnu_hash(b"") == 5381
    assert sysv_hash(b"printf") == 0x077905A6
