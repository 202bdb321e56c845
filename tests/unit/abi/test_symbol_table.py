"""A table answers as the libraries do that it was made of, and damage is told."""

from __future__ import annotations

import random
import shutil
import subprocess
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

import pytest

from wheelyard.abi.elf import ElfFile, ExportedSymbol
from wheelyard.abi.symbol_table import (
    LibrarySymbols,
    NameHashes,
    SymbolTable,
    SymbolTableError,
    TableLibrary,
    TableSource,
    hash_symbols,
    table_library,
    write_symbol_table,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

ENV = {"PATH": "/usr/bin:/bin", "LC_ALL": "C"}
SYSTEM = ("libstdc++.so.6", "libm.so.6", "libc.so.6", "libgcc_s.so.1", "libz.so.1")
SYSTEM_DIRS = ("/lib/x86_64-linux-gnu", "/lib/aarch64-linux-gnu", "/lib64", "/usr/lib64")


def _system_libraries() -> Iterator[Path]:
    for name in SYSTEM:
        places = (Path(folder, name) for folder in SYSTEM_DIRS)
        yield from [place for place in places if place.exists()][:1]


def _library(name: str, *symbols: ExportedSymbol) -> LibrarySymbols:
    library = TableLibrary(path=PurePosixPath("torch/lib", name), soname=name)
    return hash_symbols(library, symbols)


def read_library(elf: ElfFile, path: PurePosixPath) -> LibrarySymbols:
    return hash_symbols(table_library(elf, path), elf.exported_symbols())


def _symbol(name: str, version: str | None = None, *, hidden: bool = False) -> ExportedSymbol:
    return ExportedSymbol(name=name, version=version, hidden=hidden)


@pytest.fixture
def make_table(tmp_path: Path) -> Callable[..., SymbolTable]:
    """Return a function that writes a table and loads it."""

    def make(*libraries: LibrarySymbols, sources: Iterable[TableSource] = ()) -> SymbolTable:
        path = tmp_path / "made.symbols"
        write_symbol_table(
            path, name="made", machine="x86_64", libraries=libraries, sources=sources
        )
        return SymbolTable.load(path)

    return make


@pytest.mark.parametrize("path", [pytest.param(path, id=path.name) for path in _system_libraries()])
def test_every_symbol_of_nm_is_exported_under_its_version(path: Path) -> None:
    if shutil.which("nm") is None:
        pytest.skip("binutils' nm is not there to compare with")
    done = subprocess.run(
        ["nm", "-D", "--defined-only", "--with-symbol-versions", path],
        check=True,
        capture_output=True,
        text=True,
        env=ENV,
    )
    expected = set()
    for line in done.stdout.splitlines():
        kind, full = line.split()[-2:]
        name, at, version = full.partition("@")
        if kind != "A":  # the names of the versions themselves
            expected.add((name, version.lstrip("@") or None, bool(at) and version[:1] != "@"))
    found = {
        (symbol.name, symbol.version, symbol.hidden)
        for symbol in ElfFile.open(path).exported_symbols()
        if symbol.name != symbol.version
    }
    # the loader does not look at the mark of the oldest version: see check_match in glibc
    assert {item[:2] for item in found} == {item[:2] for item in expected}
    assert {item for item in found - expected if item[2]} == set()


@pytest.mark.parametrize("style", ["sysv", "gnu"])
def test_exported_symbols_are_those_that_exports_finds(
    compile_c: Callable[..., Path], style: str
) -> None:
    script = compile_c("empty.o", "").with_name("versions.map")
    script.write_text("V_1 { global: first; local: inner; };\nV_2 { } V_1;\n")
    source = (
        "void first(void) {}\nvoid second(void) {}\nvoid now(void) {}\nvoid inner(void) {}\n"
        "void plain(void) {}\nextern void asked(void);\nvoid asks(void) { asked(); }\n"
        '__asm__(".symver second,call@V_2");\n__asm__(".symver now,other@@V_2");\n'
    )
    elf = ElfFile.open(
        compile_c("lib.so", source, f"-Wl,--version-script={script}", f"-Wl,--hash-style={style}")
    )
    found = {symbol.name: symbol for symbol in elf.exported_symbols()}
    assert found["first"] == _symbol("first", "V_1")
    assert found["call"] == _symbol("call", "V_2", hidden=True)
    assert found["other"] == _symbol("other", "V_2")
    assert found["plain"] == _symbol("plain")
    assert not {"asked", "inner"} & found.keys()
    for symbol in found.values():
        assert elf.exports(symbol.name, symbol.version)
        assert elf.exports(symbol.name) is (not symbol.hidden)


def test_library_that_exports_nothing_has_no_exported_symbols(
    compile_c: Callable[..., Path],
) -> None:
    source = "extern int asked(void);\nstatic int (*keep)(void) __attribute__((used)) = asked;\n"
    elf = ElfFile.open(compile_c("libnothing.so", source, "-nostdlib"))
    assert list(elf.exported_symbols()) == []


def test_table_answers_as_the_libraries_do(make_table: Callable[..., SymbolTable]) -> None:
    elves = [ElfFile.open(path) for path in _system_libraries()]
    table = make_table(*(read_library(elf, PurePosixPath(Path(elf.name).name)) for elf in elves))
    asked: set[tuple[str, str | None]] = set()
    for elf in elves:
        symbols = list(elf.exported_symbols())
        asked |= {(symbol.name, symbol.version) for symbol in symbols}
        asked |= {(symbol.name, None) for symbol in symbols}
        asked |= {(symbol.name, "NO_SUCH_1.0") for symbol in symbols[::7]}
        asked |= {(symbol.name, symbol.version) for symbol in elf.undefined_symbols()}
    assert len(asked) > 1000
    for name, version in asked:
        expected = {number for number, elf in enumerate(elves) if elf.exports(name, version)}
        assert table.exporters(name, version) == expected, (name, version)


def test_every_library_that_has_a_symbol_is_named(make_table: Callable[..., SymbolTable]) -> None:
    table = make_table(
        _library("liba.so", _symbol("both"), _symbol("one")), _library("libb.so", _symbol("both"))
    )
    assert table.exporters("both") == {0, 1}
    assert table.exporters("one") == {0}
    assert table.exporters("none") == frozenset()


@pytest.mark.parametrize(
    ("symbol", "version", "expected"),
    [
        pytest.param(_symbol("f", "V_1"), None, True, id="default-without-version"),
        pytest.param(_symbol("f", "V_1"), "V_1", True, id="default-of-its-version"),
        pytest.param(_symbol("f", "V_1"), "V_2", False, id="default-of-another"),
        pytest.param(_symbol("f", "V_1", hidden=True), None, False, id="old-without-version"),
        pytest.param(_symbol("f", "V_1", hidden=True), "V_1", True, id="old-of-its-version"),
        pytest.param(_symbol("f"), "V_9", True, id="plain-serves-any-version"),
        pytest.param(_symbol("f", hidden=True), None, True, id="hidden-plain"),
        pytest.param(_symbol("f", hidden=True), "V_9", False, id="hidden-plain-serves-no-version"),
    ],
)
def test_versions_bind_as_in_the_loader(
    make_table: Callable[..., SymbolTable],
    symbol: ExportedSymbol,
    version: str | None,
    expected: bool,  # noqa: FBT001
) -> None:
    table = make_table(_library("lib.so", symbol))
    assert bool(table.exporters("f", version)) is expected


def test_plain_symbol_of_one_library_serves_versions_beside_a_versioned_one(
    make_table: Callable[..., SymbolTable],
) -> None:
    table = make_table(_library("liba.so", _symbol("f", "V_1")), _library("libb.so", _symbol("f")))
    assert table.exporters("f", "V_1") == {0, 1}
    assert table.exporters("f", "V_2") == {1}


def test_header_is_what_was_written(
    make_table: Callable[..., SymbolTable], compile_c: Callable[..., Path]
) -> None:
    path = compile_c(
        "liba.so", "", "-Wl,-soname,liba.so.1", "-Wl,-rpath,$ORIGIN:/opt/lib", "-Wl,-z,now"
    )
    source = TableSource(filename="torch-1.0-py3-none-any.whl", sha256="ab" * 32)
    elf = ElfFile.open(path)
    table = make_table(read_library(elf, PurePosixPath("torch/lib/liba.so")), sources=[source])
    assert (table.name, table.machine, table.sources) == ("made", "x86_64", (source,))
    assert table.libraries == (
        TableLibrary(
            path=PurePosixPath("torch/lib/liba.so"),
            soname="liba.so.1",
            needed=elf.needed,
            rpath=(),
            runpath=("$ORIGIN", "/opt/lib"),
        ),
    )


def test_library_without_soname_is_known_by_its_filename(compile_c: Callable[..., Path]) -> None:
    elf = ElfFile.open(compile_c("liba.so", ""))
    assert read_library(elf, PurePosixPath("lib/liba.so")).library.soname == "liba.so"


def test_same_symbols_make_the_same_bytes(tmp_path: Path) -> None:
    symbols = [_symbol(f"s{number}", "V") for number in range(1000)]
    chance = random.Random(3)  # noqa: S311
    written = []
    for _ in range(2):
        chance.shuffle(symbols)
        libraries = [_library("lib.so", *symbols)]
        path = tmp_path / "t.symbols"
        write_symbol_table(path, name="t", machine="aarch64", libraries=libraries, sources=[])
        written.append(path.read_bytes())
    assert written[0] == written[1]


@pytest.mark.parametrize("count", [0, 1, 15, 16, 17, 5000])
def test_tables_of_every_size_find_all_and_nothing_else(
    make_table: Callable[..., SymbolTable], count: int
) -> None:
    table = make_table(_library("lib.so", *(_symbol(f"s{number}") for number in range(count))))
    assert all(table.exporters(f"s{number}") == {0} for number in range(count))
    assert not any(table.exporters(f"t{number}") for number in range(2000))


def test_tables_may_share_the_hashes_of_names(tmp_path: Path) -> None:
    path = tmp_path / "t.symbols"
    libraries = [_library("lib.so", _symbol("f"))]
    write_symbol_table(path, name="t", machine="x86_64", libraries=libraries, sources=[])
    hashes = NameHashes()
    tables = [SymbolTable.load(path, hashes=hashes) for _ in range(2)]
    assert [table.exporters("f") for table in tables] == [{0}, {0}]


def test_more_libraries_than_a_table_holds_are_refused(
    make_table: Callable[..., SymbolTable],
) -> None:
    assert make_table(*(_library(f"{n}.so", _symbol("f")) for n in range(127))).exporters("f")
    with pytest.raises(SymbolTableError, match="has 128 libraries"):
        make_table(*(_library(f"{number}.so") for number in range(128)))


def test_damage_is_told_with_a_remedy(
    make_table: Callable[..., SymbolTable], tmp_path: Path
) -> None:
    make_table(_library("lib.so", *(_symbol(f"s{number}") for number in range(300))))
    path = tmp_path / "made.symbols"
    whole = path.read_bytes()
    chance = random.Random(4)  # noqa: S311
    damaged = [whole[:length] for length in range(0, len(whole), 41)]
    for _ in range(300):
        flipped = bytearray(whole)
        flipped[chance.randrange(len(flipped))] ^= 1 << chance.randrange(8)
        damaged.append(bytes(flipped))
    for data in damaged:
        path.write_bytes(data)
        with pytest.raises(SymbolTableError, match=r"made\.symbols.*update symbols"):
            SymbolTable.load(path)


def test_table_that_is_not_there_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(SymbolTableError, match=r"none\.symbols"):
        SymbolTable.load(tmp_path / "none.symbols")


def test_table_of_a_later_wheelyard_says_so(
    make_table: Callable[..., SymbolTable], tmp_path: Path
) -> None:
    make_table(_library("lib.so"))
    path = tmp_path / "made.symbols"
    data = bytearray(path.read_bytes())
    data[8:10] = b"\x09\x00"
    path.write_bytes(data)
    with pytest.raises(SymbolTableError, match="its format is 9, and this wheelyard reads 1"):
        SymbolTable.load(path)
