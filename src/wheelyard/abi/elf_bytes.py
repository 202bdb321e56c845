"""The bytes of an ELF file, read with every offset checked, and the hashes of its tables."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Final, NoReturn

from wheelyard.errors import CheckError

if TYPE_CHECKING:
    import mmap
    import struct


LONGEST_TEXT: Final = 1 << 20
"""Of a symbol; what C++ makes of its templates has some ten thousand characters at most."""


class ElfError(CheckError):
    """A file cannot be read as a 64-bit little-endian ELF file."""


@dataclasses.dataclass(frozen=True, slots=True)
class ElfBytes:
    """The file's bytes, read with every offset checked."""

    data: mmap.mmap | bytes
    name: str

    def unpack(self, layout: struct.Struct, offset: int) -> tuple[int, ...]:
        if offset + layout.size > len(self.data):
            self.refuse(f"it ends before offset {offset + layout.size:#x}")
        return layout.unpack_from(self.data, offset)

    def slice(self, offset: int, size: int) -> memoryview:
        if offset + size > len(self.data):
            self.refuse(f"it ends before offset {offset + size:#x}")
        return memoryview(self.data)[offset : offset + size]

    def text(self, offset: int) -> str:
        last = offset + LONGEST_TEXT
        end = self.data.find(b"\0", offset, last) if offset < len(self.data) else -1
        if end < 0:
            self.refuse(f"the text at offset {offset:#x} has no end")
        return self.data[offset:end].decode("utf-8", "backslashreplace")

    def has_text(self, text: bytes, offset: int) -> bool:
        return self.data[offset : offset + len(text) + 1] == text + b"\0"

    def refuse(self, why: str) -> NoReturn:
        msg = f"{self.name!r} is not a usable ELF file: {why}. Build or download it again."
        raise ElfError(msg)


def gnu_hash(name: bytes) -> int:
    """Return the hash that DT_GNU_HASH tables are made with."""
    value = 5381
    for byte in name:
        value = (value * 33 + byte) & 0xFFFFFFFF
    return value


def sysv_hash(name: bytes) -> int:
    """Return the hash that DT_HASH tables are made with."""
    value = 0
    for byte in name:
        value = (value << 4) + byte
        value = (value ^ (value & 0xF0000000) >> 24) & 0x0FFFFFFF
    return value
