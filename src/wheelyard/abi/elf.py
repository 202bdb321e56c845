"""A reader of 64-bit little-endian ELF files that touches only the pages an answer needs."""

from __future__ import annotations

import dataclasses
import mmap
import struct
from functools import cached_property
from typing import TYPE_CHECKING, Final

from wheelyard.abi.elf_bytes import ElfBytes, ElfError, gnu_hash, sysv_hash

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from wheelyard.model.cell import Machine

__all__ = ("MAGIC", "ElfError", "ElfFile", "ExportedSymbol", "UndefinedSymbol")

MAGIC: Final = b"\x7fELF"
_MACHINES: Final[Mapping[int, Machine]] = {62: "x86_64", 183: "aarch64"}

_FILE_HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
_PROGRAM_HEADER = struct.Struct("<IIQQQQQQ")
_SECTION_HEADER = struct.Struct("<IIQQQQIIQQ")
_DYNAMIC = struct.Struct("<QQ")
_SYMBOL = struct.Struct("<IBBHQQ")
_VERSION_NEED = struct.Struct("<HHIII")
_VERSION_NEED_ENTRY = struct.Struct("<IHHII")
_VERSION_DEFINITION = struct.Struct("<HHHHIII")
_U16 = struct.Struct("<H")
_U32 = struct.Struct("<I")
_U64 = struct.Struct("<Q")
_GNU_HASH = struct.Struct("<IIII")
_HASH = struct.Struct("<II")

_PT_LOAD, _PT_DYNAMIC = 1, 2
_SHT_SYMTAB, _SHT_NOBITS, _SHT_DYNSYM = 2, 8, 11
_DT_NEEDED, _DT_HASH, _DT_STRTAB, _DT_SYMTAB, _DT_SONAME, _DT_RPATH = 1, 4, 5, 6, 14, 15
_DT_RUNPATH, _DT_GNU_HASH, _DT_VERSYM = 29, 0x6FFFFEF5, 0x6FFFFFF0
_DT_VERDEF, _DT_VERNEED = 0x6FFFFFFC, 0x6FFFFFFE
_STB_WEAK, _STB_EXPORTED = 2, frozenset({1, 2, 10})
_SHN_UNDEF, _SHN_ABS, _STT_TLS = 0, 0xFFF1, 6
_VER_FLAG_BASE, _VERSION_HIDDEN, _VERSION_INDEX = 1, 0x8000, 0x7FFF
_LAST_UNVERSIONED = 1

# Far above what linkers write. A file that somebody made to waste time goes beyond them, since
# all that it can repeat is what it points at twice.
_MOST_DYNAMIC = 1 << 16
_MOST_VERSIONS = 1 << 15
_LONGEST_GNU_CHAIN = 1 << 12
_LONGEST_CHAIN = 1 << 16
_TEXT_FACTOR = 16
_TEXT_ALWAYS = 16 << 20
_LOAD_FACTOR = 2


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class UndefinedSymbol:
    """A dynamic symbol that another library has to provide."""

    name: str
    version: str | None
    weak: bool


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class ExportedSymbol:
    """A dynamic symbol that a library provides to others."""

    name: str
    version: str | None
    hidden: bool
    """With a version: only who asks for that version gets it. Without: only who asks for none."""


class ElfFile:
    """One ELF file: executable, shared object or extension module.

    Symbols are found as the dynamic loader finds them, through the dynamic segment, so section
    headers may be missing; and through the hash table, so that asking a library of 400 MB costs
    a few pages.
    """

    def __init__(self, data: mmap.mmap | bytes, *, name: str) -> None:
        self.name = name
        self._bytes = ElfBytes(data, name)
        if data[:6] != MAGIC + b"\x02\x01":
            self._bytes.refuse("it does not begin as a 64-bit little-endian one does")
        header = self._bytes.unpack(_FILE_HEADER, 0)
        self.machine: Machine | None = _MACHINES.get(header[2])
        self._segments = self._table(_PROGRAM_HEADER, offset=header[5], count=header[10])
        self._section_table: tuple[int, int, int] = (header[6], header[12], header[13])
        self._dynamic = tuple(self._read_dynamic())

    @classmethod
    def open(cls, path: Path, *, name: str | None = None) -> ElfFile:
        """Map the file into memory; it must not be cut short while it is in use.

        ``name`` stands for it in errors, where its path would tell people nothing.
        """
        name = name or str(path)
        with path.open("rb") as stream:
            try:
                data = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
            except ValueError:
                msg = f"{name!r} is not a usable ELF file: it is empty."
                raise ElfError(msg) from None
        return cls(data, name=name)

    @property
    def is_dynamic(self) -> bool:
        """Whether the dynamic loader has anything to do with it (an object file says no)."""
        return bool(self._dynamic)

    @cached_property
    def soname(self) -> str | None:
        return next(iter(self._dynamic_texts(_DT_SONAME)), None)

    @cached_property
    def needed(self) -> tuple[str, ...]:
        return self._dynamic_texts(_DT_NEEDED)

    @cached_property
    def rpath(self) -> tuple[str, ...]:
        return tuple(part for text in self._dynamic_texts(_DT_RPATH) for part in text.split(":"))

    @cached_property
    def runpath(self) -> tuple[str, ...]:
        return tuple(part for text in self._dynamic_texts(_DT_RUNPATH) for part in text.split(":"))

    @cached_property
    def version_needs(self) -> Mapping[str, frozenset[str]]:
        """Which symbol versions are needed of which library, ``libc.so.6``: ``GLIBC_2.32``."""
        needs: dict[str, set[str]] = {}
        for library, _, version in self._version_needs():
            needs.setdefault(library, set()).add(version)
        return {library: frozenset(versions) for library, versions in needs.items()}

    def read_through(self) -> None:
        """Read once all that can be asked, so that damage shows now and not later."""
        _ = self.soname, self.needed, self.rpath, self.runpath, self.version_needs
        _ = self._sections, self._defined_versions, self.exports("")
        for _ in self.undefined_symbols():
            pass

    def undefined_symbols(self) -> Iterator[UndefinedSymbol]:
        """Yield what other libraries have to provide, in the order of the symbol table."""
        needed_versions = {number: version for _, number, version in self._version_needs()}
        text = self._texts()
        count = self._undefined_bound
        table = self._bytes.slice(self._symbol_offset(0), count * _SYMBOL.size) if count else b""
        for index, (name, info, _, section, _, _) in enumerate(_SYMBOL.iter_unpack(table)):
            if section != _SHN_UNDEF or not name or info >> 4 not in _STB_EXPORTED:
                continue
            yield UndefinedSymbol(
                name=text(name),
                version=needed_versions.get(self._version_number(index) & _VERSION_INDEX),
                weak=info >> 4 == _STB_WEAK,
            )

    def object_undefined_symbols(self) -> Iterator[str]:
        """Yield what an object file leaves to the linker to find."""
        text, seen = self._texts(0), 0
        for section in self._sections:
            if section[1] != _SHT_SYMTAB or section[6] >= len(self._sections):
                continue
            names = self._sections[section[6]][4]
            size = section[5] - section[5] % _SYMBOL.size
            seen += size
            if seen > _LOAD_FACTOR * len(self._bytes.data):
                self._bytes.refuse("it has the same symbols again and again")
            table = self._bytes.slice(section[4], size)
            for name, info, _, place, _, _ in _SYMBOL.iter_unpack(table):
                if place == _SHN_UNDEF and name and info >> 4 in _STB_EXPORTED:
                    yield text(names + name)

    def exported_symbols(self) -> Iterator[ExportedSymbol]:
        """Yield what the loader can find here, in the order of the symbol table.

        A reference is bound as ``exports`` tells: without version to what is not hidden, with one
        to that version, or to what has none and is not hidden.
        """
        first, end = self._exported_bounds
        text = self._texts()
        table = self._bytes.slice(self._symbol_offset(first), (end - first) * _SYMBOL.size)
        for index, (name, info, _, section, value, _) in enumerate(
            _SYMBOL.iter_unpack(table), first
        ):
            if name and _is_defined(info, section, value):
                number = self._version_number(index)
                is_hidden, number = bool(number & _VERSION_HIDDEN), number & _VERSION_INDEX
                version = self._defined_versions.get(number)
                yield ExportedSymbol(
                    name=text(name),
                    version=version,
                    hidden=is_hidden and (version is None or number > _LAST_UNVERSIONED + 1),
                )

    def exports(self, name: str, version: str | None = None) -> bool:
        """Tell whether the loader would bind a reference to ``name`` (of ``version``) to this."""
        encoded = name.encode("utf-8")
        return any(
            self._fits_version(index, version)
            for index in self._candidates(encoded)
            if self._defines(index, encoded)
        )

    def section(self, name: str) -> memoryview | None:
        """Return the bytes of a section, or nothing where there is none of that name."""
        encoded = name.encode("utf-8")
        sections = self._sections
        if not sections:
            return None
        names = sections[self._section_table[2]][4] if self._section_table[2] < len(sections) else 0
        for section in sections:
            if section[1] != _SHT_NOBITS and self._bytes.has_text(encoded, names + section[0]):
                return self._bytes.slice(section[4], section[5])
        return None

    @property
    def has_sections(self) -> bool:
        return bool(self._sections)

    def loaded_bytes(self) -> Iterator[memoryview]:
        """Yield what is loaded into memory, segment by segment."""
        size = sum(segment[5] for segment in self._segments if segment[0] == _PT_LOAD)
        if size > _LOAD_FACTOR * len(self._bytes.data):
            self._bytes.refuse("it loads the same bytes again and again")
        for segment in self._segments:
            if segment[0] == _PT_LOAD:
                yield self._bytes.slice(segment[2], segment[5])

    def _table(self, layout: struct.Struct, *, offset: int, count: int) -> list[tuple[int, ...]]:
        return list(layout.iter_unpack(self._bytes.slice(offset, count * layout.size)))

    @cached_property
    def _sections(self) -> list[tuple[int, ...]]:
        offset, count, _ = self._section_table
        return self._table(_SECTION_HEADER, offset=offset, count=count if offset else 0)

    def _read_dynamic(self) -> Iterator[tuple[int, int]]:
        count = 0
        for segment in self._segments:
            if segment[0] == _PT_DYNAMIC:
                size = segment[5] - segment[5] % _DYNAMIC.size
                for tag, value in _DYNAMIC.iter_unpack(self._bytes.slice(segment[2], size)):
                    if tag == 0:
                        return
                    count += 1
                    if count > _MOST_DYNAMIC:
                        self._bytes.refuse("its dynamic segment has no end")
                    yield tag, value

    def _dynamic_value(self, wanted: int) -> int | None:
        return next((value for tag, value in self._dynamic if tag == wanted), None)

    def _dynamic_texts(self, wanted: int) -> tuple[str, ...]:
        text = self._texts()
        return tuple(text(value) for tag, value in self._dynamic if tag == wanted)

    def _offset(self, address: int) -> int:
        """Translate an address of the loaded image into an offset of the file."""
        places = (
            offset + address - start
            for kind, _, offset, start, _, size, _, _ in self._segments
            if kind == _PT_LOAD and start <= address < start + size
        )
        place = next(places, None)
        if place is None:
            self._bytes.refuse(f"address {address:#x} lies in no segment")
        return place

    @cached_property
    def _tables(self) -> Mapping[int, int]:
        """Where in the file the tables of the dynamic segment begin."""
        wanted = {_DT_HASH, _DT_GNU_HASH, _DT_STRTAB, _DT_SYMTAB}
        wanted |= {_DT_VERSYM, _DT_VERDEF, _DT_VERNEED}
        return {tag: self._offset(value) for tag, value in self._dynamic if tag in wanted}

    def _texts(self, begin: int | None = None) -> Callable[[int], str]:
        """Return a reader of texts that does not read the same part without end.

        They lie in the string table, or where ``begin`` says.
        """
        left = _TEXT_FACTOR * len(self._bytes.data) + _TEXT_ALWAYS
        begin = self._tables.get(_DT_STRTAB, 0) if begin is None else begin

        def read(offset: int) -> str:
            nonlocal left
            text = self._bytes.text(begin + offset)
            left -= len(text)
            if left < 0:
                self._bytes.refuse("its names share more of their text than any linker lets them")
            return text

        return read

    def _symbol_offset(self, index: int) -> int:
        return self._tables.get(_DT_SYMTAB, 0) + index * _SYMBOL.size

    @cached_property
    def _undefined_bound(self) -> int:
        """How many entries of the symbol table can be undefined ones."""
        tables = self._tables
        if _DT_SYMTAB not in tables:
            return 0
        if _DT_GNU_HASH in tables:
            buckets, first_hashed, bloom_words, _ = self._gnu_hash
            start = tables[_DT_GNU_HASH] + _GNU_HASH.size + bloom_words * _U64.size
            if any(self._bytes.slice(start, buckets * _U32.size)):
                # Linkers put what is exported, and only that, behind ``first_hashed``.
                return first_hashed
        if _DT_HASH in tables:
            return self._bytes.unpack(_HASH, tables[_DT_HASH])[1]
        sizes = (section[5] for section in self._sections if section[1] == _SHT_DYNSYM)
        size = next(sizes, None)
        if size is None:
            self._bytes.refuse("nothing tells the length of its symbol table")
        return size // _SYMBOL.size

    @property
    def _exported_bounds(self) -> tuple[int, int]:
        """The part of the symbol table in which a look-up by name can end."""
        tables = self._tables
        if _DT_SYMTAB not in tables:
            return 0, 0
        if _DT_GNU_HASH in tables:
            buckets, first, bloom_words, _ = self._gnu_hash
            start = tables[_DT_GNU_HASH] + _GNU_HASH.size + bloom_words * _U64.size
            table = self._bytes.slice(start, buckets * _U32.size)
            last = max(number for (number,) in _U32.iter_unpack(table))
            if last < first:
                return 0, 0
            chain = start + buckets * _U32.size - first * _U32.size
            while not self._bytes.unpack(_U32, chain + last * _U32.size)[0] & 1:
                last += 1
            return first, last + 1
        if _DT_HASH in tables:
            return 0, self._bytes.unpack(_HASH, tables[_DT_HASH])[1]
        return 0, 0

    def _version_number(self, index: int) -> int:
        """Return the symbol's entry in the table of versions; 1 stands for none."""
        table = self._tables.get(_DT_VERSYM)
        if table is None:
            return _LAST_UNVERSIONED
        return self._bytes.unpack(_U16, table + index * _U16.size)[0]

    def _version_needs(self) -> Iterator[tuple[str, int, str]]:
        """Yield library, version number and version name."""
        seen = 0
        text = self._texts()
        for offset, (_, count, library, first, _) in self._chain(_DT_VERNEED, _VERSION_NEED):
            entry = offset + first
            seen += count
            if seen > _VERSION_INDEX:
                self._bytes.refuse("it needs more symbol versions than can be numbered")
            for _ in range(count):
                _, _, number, name, step = self._bytes.unpack(_VERSION_NEED_ENTRY, entry)
                yield text(library), number & _VERSION_INDEX, text(name)
                entry += step

    @cached_property
    def _defined_versions(self) -> Mapping[int, str]:
        """The versions that this library defines, by number; its base version is left out."""
        versions: dict[int, str] = {}
        text = self._texts()
        for offset, definition in self._chain(_DT_VERDEF, _VERSION_DEFINITION):
            _, flags, number, count, _, first, _ = definition
            if count and not flags & _VER_FLAG_BASE:
                (name,) = self._bytes.unpack(_U32, offset + first)
                versions[number & _VERSION_INDEX] = text(name)
        return versions

    def _chain(self, table: int, layout: struct.Struct) -> Iterator[tuple[int, tuple[int, ...]]]:
        """Yield offset and fields of records that each end with the distance to the next."""
        offset = self._tables.get(table)
        if offset is None:
            return
        for _ in range(_MOST_VERSIONS):
            record = self._bytes.unpack(layout, offset)
            yield offset, record
            if not record[-1]:
                return
            offset += record[-1]
        self._bytes.refuse("its table of symbol versions has no end")

    def _fits_version(self, index: int, version: str | None) -> bool:
        """Decide as ``check_match`` of glibc's dl-lookup.c does."""
        if _DT_VERSYM not in self._tables:
            return True
        number = self._version_number(index)
        is_hidden, number = bool(number & _VERSION_HIDDEN), number & _VERSION_INDEX
        if version is None:
            return not is_hidden or number <= _LAST_UNVERSIONED + 1
        defined = self._defined_versions.get(number)
        return defined == version or (defined is None and not is_hidden)

    def _defines(self, index: int, name: bytes) -> bool:
        name_offset, info, _, section, value, _ = self._bytes.unpack(
            _SYMBOL, self._symbol_offset(index)
        )
        return _is_defined(info, section, value) and self._bytes.has_text(
            name, self._tables.get(_DT_STRTAB, 0) + name_offset
        )

    def _candidates(self, name: bytes) -> Iterator[int]:
        """Yield the symbols whose hash says that they may be called ``name``."""
        tables = self._tables
        if _DT_SYMTAB not in tables:
            return iter(())
        if _DT_GNU_HASH in tables:
            return self._gnu_hash_candidates(name)
        if _DT_HASH in tables:
            return self._hash_candidates(name)
        return iter(())

    @cached_property
    def _gnu_hash(self) -> tuple[int, ...]:
        header = self._bytes.unpack(_GNU_HASH, self._tables[_DT_GNU_HASH])
        if not header[0] or not header[2]:
            self._bytes.refuse("its hash table is empty")
        return header

    def _gnu_hash_candidates(self, name: bytes) -> Iterator[int]:
        buckets, first, bloom_words, shift = self._gnu_hash
        value = gnu_hash(name)
        bloom = self._tables[_DT_GNU_HASH] + _GNU_HASH.size
        (word,) = self._bytes.unpack(_U64, bloom + value // 64 % bloom_words * _U64.size)
        if not word >> value % 64 & word >> (value >> (shift & 31)) % 64 & 1:
            return
        bucket = bloom + bloom_words * _U64.size
        (index,) = self._bytes.unpack(_U32, bucket + value % buckets * _U32.size)
        chain = bucket + buckets * _U32.size
        if index < first:
            return
        for _ in range(_LONGEST_GNU_CHAIN):
            (found,) = self._bytes.unpack(_U32, chain + (index - first) * _U32.size)
            if found | 1 == value | 1:
                yield index
            if found & 1:
                return
            index += 1
        self._bytes.refuse("a chain of its hash table has no end")

    def _hash_candidates(self, name: bytes) -> Iterator[int]:
        table = self._tables[_DT_HASH]
        buckets, count = self._bytes.unpack(_HASH, table)
        if not buckets:
            return
        bucket = table + _HASH.size
        (index,) = self._bytes.unpack(_U32, bucket + sysv_hash(name) % buckets * _U32.size)
        chain = bucket + buckets * _U32.size
        # As many steps as there are symbols: a damaged chain may run in a circle.
        for _ in range(min(count, _LONGEST_CHAIN)):
            if not index:
                return
            yield index
            (index,) = self._bytes.unpack(_U32, chain + index * _U32.size)


def _is_defined(info: int, section: int, value: int) -> bool:
    return (
        section != _SHN_UNDEF
        and (value != 0 or section == _SHN_ABS or info & 0xF == _STT_TLS)
        and info >> 4 in _STB_EXPORTED
    )
