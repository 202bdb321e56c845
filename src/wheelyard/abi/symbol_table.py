"""Symbol tables: which libraries of a torch build, or of a Python, export a symbol.

A file holds, little-endian, a fixed header, a JSON header (what the libraries are and what they
were read from), and hashes of names in buckets::

    magic, format, bucket bits, size of the JSON header, number of records
    CRC-32 of all the rest
    JSON header
    (2 ** bucket bits + 1) * u32    where each bucket's records begin
    records * u32                   24 bits of the hash, 1 byte that names the library; sorted

The hash is blake2b of ``name`` for what a reference without version binds to, and of
``name@version`` for each version that is defined. The top bit of the library byte marks a symbol
that has no version and so serves references to any version. A name that no library has is taken
for one that is there about once in a million.
"""

from __future__ import annotations

import dataclasses
import hashlib
import mmap
import struct
import zlib
from array import array
from bisect import bisect_left
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Final, NoReturn, Self

import msgspec

from wheelyard.errors import CheckError
from wheelyard.files import appearing
from wheelyard.model.cell import Machine  # noqa: TC001 - msgspec reads it

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from wheelyard.abi.elf import ElfFile, ExportedSymbol

SUFFIX: Final = ".symbols"
MAXIMUM_LIBRARIES: Final = 127

_MAGIC: Final = b"WYSYMBOL"
_FORMAT: Final = 1
_FIXED = struct.Struct("<8sHHII")
_CHECKSUM = struct.Struct("<I")
_U32_SIZE: Final = 4
_HASH_BITS, _TAIL_BITS, _LIBRARY_BITS = 64, 24, 8
_TAIL, _LIBRARY, _SERVES_ANY_VERSION = (1 << _TAIL_BITS) - 1, 0x7F, 0x80
_RECORDS_PER_BUCKET: Final = 16
_MAXIMUM_BUCKET_BITS: Final = 24
_NONE: Final[frozenset[int]] = frozenset()


class SymbolTableError(CheckError):
    """A symbol table cannot be used."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class TableLibrary:
    """A library as the loader sees it."""

    path: PurePosixPath
    """Relative to site-packages, for example ``torch/lib/libc10.so``."""
    soname: str
    needed: tuple[str, ...] = ()
    rpath: tuple[str, ...] = ()
    runpath: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class TableSource:
    """A file that symbols were read from."""

    filename: str
    sha256: str | None
    """Of all its bytes, as they were read; nothing where the libraries lay unpacked in a folder."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class LibrarySymbols:
    """A library and the hashes of what it exports, before they are put into a table."""

    library: TableLibrary
    named: array[int]
    """What references without version bind to."""
    versioned: array[int]
    serving_any: array[int]
    """Those of ``named`` that have no version."""


class NameHashes:
    """Hashes names, each once however many tables are asked."""

    def __init__(self) -> None:
        self._known: dict[str, int] = {}

    def __call__(self, key: str) -> int:
        found = self._known.get(key)
        if found is None:
            found = self._known[key] = hash_name(key)
        return found


def hash_name(key: str) -> int:
    """Return the 64 bits that stand for ``name`` or ``name@version``."""
    digest = hashlib.blake2b(key.encode("utf-8"), digest_size=_HASH_BITS // 8).digest()
    return int.from_bytes(digest, "big")


class _LibraryEntry(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    path: str
    soname: str
    needed: tuple[str, ...] = ()
    rpath: tuple[str, ...] = ()
    runpath: tuple[str, ...] = ()


class _SourceEntry(msgspec.Struct, frozen=True, kw_only=True):
    filename: str
    sha256: str | None


class _Header(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    machine: Machine
    libraries: tuple[_LibraryEntry, ...]
    sources: tuple[_SourceEntry, ...]


class SymbolTable:
    """The exported symbols of a set of libraries, looked up in the file as it lies on disk."""

    def __init__(
        self, data: mmap.mmap | bytes, *, origin: str, hashes: NameHashes | None = None
    ) -> None:
        self._data = data
        self._origin = origin
        self._hashes = hashes or NameHashes()
        self._asked: dict[tuple[str, str | None], frozenset[int]] = {}
        header = self._read_fixed()
        self.name: str = header.name
        self.machine: Machine = header.machine
        self.libraries: tuple[TableLibrary, ...] = tuple(map(_library, header.libraries))
        self.sources: tuple[TableSource, ...] = tuple(
            TableSource(filename=source.filename, sha256=source.sha256) for source in header.sources
        )

    @classmethod
    def load(cls, path: Path, *, hashes: NameHashes | None = None) -> Self:
        """Map a table into memory; give the tables that are asked together one ``hashes``."""
        try:
            with path.open("rb") as stream:
                data = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
        except (OSError, ValueError) as error:
            _refuse(str(path), str(error))
        return cls(data, origin=str(path), hashes=hashes)

    def exporters(self, name: str, version: str | None = None) -> frozenset[int]:
        """Return which of ``libraries`` a reference to ``name`` (of ``version``) binds to."""
        asked = (name, version)
        found = self._asked.get(asked)
        if found is None:
            found = self._asked[asked] = self._find(name, version)
        return found

    def _find(self, name: str, version: str | None) -> frozenset[int]:
        plain = self._library_bytes(name)
        if version is None:
            return frozenset(byte & _LIBRARY for byte in plain) if plain else _NONE
        any_version = [byte & _LIBRARY for byte in plain if byte & _SERVES_ANY_VERSION]
        versioned = self._library_bytes(f"{name}@{version}")
        return frozenset((*any_version, *versioned)) if any_version or versioned else _NONE

    def _library_bytes(self, key: str) -> list[int]:
        value = self._hashes(key)
        bucket = value >> self._bucket_shift
        tail = value >> self._tail_shift & _TAIL
        end = self._begins[bucket + 1]
        place = bisect_left(self._records, tail << _LIBRARY_BITS, self._begins[bucket], end)
        found = []
        while place < end and self._records[place] >> _LIBRARY_BITS == tail:
            found.append(self._records[place] & 0xFF)
            place += 1
        return found

    def _read_fixed(self) -> _Header:
        start = _FIXED.size + _CHECKSUM.size
        if len(self._data) < start or self._data[: len(_MAGIC)] != _MAGIC:
            _refuse(self._origin, "it does not begin as one")
        _, form, bits, header_size, count = _FIXED.unpack_from(self._data)
        if form != _FORMAT:
            _refuse(self._origin, f"its format is {form}, and this wheelyard reads {_FORMAT}")
        with memoryview(self._data) as view, view[start:] as rest:
            found = _checksum(bytes(view[: _FIXED.size]), rest)
        if found != _CHECKSUM.unpack_from(self._data, _FIXED.size)[0]:
            _refuse(self._origin, "its checksum is wrong")
        self._bucket_shift = _HASH_BITS - bits
        self._tail_shift = self._bucket_shift - _TAIL_BITS
        buckets = start + header_size
        records = buckets + ((1 << bits) + 1) * _U32_SIZE
        if bits > _MAXIMUM_BUCKET_BITS or records + count * _U32_SIZE != len(self._data):
            _refuse(self._origin, "its length is wrong")
        # every machine that has torch builds is little-endian
        self._begins = memoryview(self._data)[buckets:records].cast("I")
        self._records = memoryview(self._data)[records:].cast("I")
        try:
            return msgspec.json.decode(self._data[start:buckets], type=_Header)
        except msgspec.DecodeError as error:
            _refuse(self._origin, str(error))


def table_library(elf: ElfFile, path: PurePosixPath) -> TableLibrary:
    """Describe a library for a table."""
    return TableLibrary(
        path=path,
        soname=elf.soname or path.name,
        needed=elf.needed,
        rpath=elf.rpath,
        runpath=elf.runpath,
    )


def hash_symbols(library: TableLibrary, symbols: Iterable[ExportedSymbol]) -> LibrarySymbols:
    """Hash what a library exports."""
    made = LibrarySymbols(
        library=library, named=array("Q"), versioned=array("Q"), serving_any=array("Q")
    )
    for symbol in symbols:
        if symbol.version is not None:
            made.versioned.append(hash_name(f"{symbol.name}@{symbol.version}"))
        if symbol.version is None or not symbol.hidden:
            made.named.append(hash_name(symbol.name))
        if symbol.version is None and not symbol.hidden:
            made.serving_any.append(made.named[-1])
    return made


def write_symbol_table(
    path: Path,
    *,
    name: str,
    machine: Machine,
    libraries: Iterable[LibrarySymbols],
    sources: Iterable[TableSource],
) -> None:
    """Write the table of these libraries, the same bytes for the same symbols."""
    libraries = tuple(libraries)
    if len(libraries) > MAXIMUM_LIBRARIES:
        msg = (
            f"{name!r} has {len(libraries)} libraries; a symbol table holds {MAXIMUM_LIBRARIES}. "
            "Please report this: the format of the tables has to change."
        )
        raise SymbolTableError(msg)
    header = _Header(
        name=name,
        machine=machine,
        libraries=tuple(_entry(one.library) for one in libraries),
        sources=tuple(
            _SourceEntry(filename=source.filename, sha256=source.sha256) for source in sources
        ),
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    with appearing(path) as stream:
        stream.write(_encode(header, sorted(set(_marked(libraries)))))


def _encode(header: _Header, marked: Sequence[int]) -> bytes:
    """Lay out header and records; ``marked`` holds hash and library byte of each, sorted."""
    bits = max(0, (len(marked) // _RECORDS_PER_BUCKET).bit_length())
    encoded = msgspec.json.encode(header)
    begins = [0] * ((1 << bits) + 1)
    records = []
    for item in marked:
        value, library = item >> _LIBRARY_BITS, item & 0xFF
        begins[(value >> (_HASH_BITS - bits)) + 1] += 1
        tail = value >> (_HASH_BITS - bits - _TAIL_BITS) & _TAIL
        records.append(tail << _LIBRARY_BITS | library)
    for bucket in range(1, len(begins)):
        begins[bucket] += begins[bucket - 1]
    rest = encoded + struct.pack(f"<{len(begins)}I", *begins)
    rest += struct.pack(f"<{len(records)}I", *records)
    fixed = _FIXED.pack(_MAGIC, _FORMAT, bits, len(encoded), len(records))
    return fixed + _CHECKSUM.pack(_checksum(fixed, rest)) + rest


def _checksum(fixed: bytes, rest: bytes | memoryview) -> int:
    return zlib.crc32(rest, zlib.crc32(fixed))


def _marked(libraries: Sequence[LibrarySymbols]) -> Iterator[int]:
    """Yield each hash with the byte of its library behind it."""
    for number, one in enumerate(libraries):
        serving_any = set(one.serving_any)
        for value in {*one.named, *one.versioned}:
            mark = _SERVES_ANY_VERSION if value in serving_any else 0
            yield value << _LIBRARY_BITS | mark | number


def _library(entry: _LibraryEntry) -> TableLibrary:
    return TableLibrary(
        path=PurePosixPath(entry.path),
        soname=entry.soname,
        needed=entry.needed,
        rpath=entry.rpath,
        runpath=entry.runpath,
    )


def _entry(library: TableLibrary) -> _LibraryEntry:
    return _LibraryEntry(
        path=str(library.path),
        soname=library.soname,
        needed=library.needed,
        rpath=library.rpath,
        runpath=library.runpath,
    )


def _refuse(origin: str, why: str) -> NoReturn:
    msg = (
        f"{origin!r} is not a usable symbol table: {why}. "
        "Delete it, and make it again with `wheelyard update symbols`."
    )
    raise SymbolTableError(msg)
