"""Which GPU targets a compiled file holds code for, from the headers of its fat binaries."""

from __future__ import annotations

import dataclasses
import mmap
import re
import struct
from typing import TYPE_CHECKING, Final, Literal

from wheelyard.abi.elf import ElfError, ElfFile
from wheelyard.model.cell import GpuArch

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# What the runtime registers. ``__nv_relfatbin`` holds what was compiled for linking on the device
# (``-rdc``): what came of that lies here too, and only that is ever loaded.
_SECTION: Final = ".nv_fatbin"
_WINDOW: Final = 16 << 20
_CONTAINER_START = re.compile(re.escape(struct.pack("<IHH", 0xBA55ED50, 1, 16)))

# magic, version, header size, size of the entries
_CONTAINER = struct.Struct("<IHHQ")
# kind, version, header size, padded payload size, compressed size, options, code version,
# SM number, name, name size, flags: as seen in what fatbinary 12.4 to 13.0 writes.
_ENTRY = struct.Struct("<HHIQIIIIIIQ")
_KIND_PTX, _KIND_CUBIN = 1, 2
_FLAG_ARCH_SPECIFIC, _FLAG_FAMILY_SPECIFIC = 1 << 20, 1 << 21


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class GpuCode:
    """The targets that there is machine code for, and those that there is PTX for."""

    cubins: frozenset[GpuArch] = frozenset()
    ptx: frozenset[GpuArch] = frozenset()

    def __bool__(self) -> bool:
        return bool(self.cubins or self.ptx)

    def __sub__(self, other: GpuCode) -> GpuCode:
        """Return what this has and ``other`` does not."""
        return GpuCode(cubins=self.cubins - other.cubins, ptx=self.ptx - other.ptx)

    def __str__(self) -> str:
        """For example ``8.0 9.0 PTX 9.0``."""
        cubins = " ".join(str(arch) for arch in sorted(self.cubins))
        ptx = " ".join(str(arch) for arch in sorted(self.ptx))
        return " ".join(part for part in (cubins, ptx and f"PTX {ptx}") if part)


def read_gpu_code(path: Path) -> GpuCode:
    """Read the headers of every fat binary that the CUDA runtime would register from this file."""
    return gpu_code_of(ElfFile.open(path))


def gpu_code_of(elf: ElfFile) -> GpuCode:
    """Do the same for a file that is open already."""
    cubins: set[GpuArch] = set()
    ptx: set[GpuArch] = set()
    for block in _blocks(elf):
        for kind, arch in _entries(block, elf.name):
            if kind == _KIND_CUBIN:
                cubins.add(arch)
            elif kind == _KIND_PTX:
                ptx.add(arch)
    return GpuCode(cubins=frozenset(cubins), ptx=frozenset(ptx))


def _blocks(elf: ElfFile) -> Iterator[memoryview]:
    """Yield the parts of the file that may hold fat binaries."""
    if not elf.has_sections:
        yield from elf.loaded_bytes()
        return
    section = elf.section(_SECTION)
    if section is not None:
        yield section


def _entries(block: memoryview, name: str) -> Iterator[tuple[int, GpuArch]]:
    at = _find_container(block, 0)
    while at is not None:
        header = _unpack(_CONTAINER, block, at, name)
        begin = at + header[2]
        end = begin + header[3]
        while begin < end:
            kind, _, header_size, payload_size, *_, sm, _, _, flags = _unpack(
                _ENTRY, block, begin, name
            )
            if kind in (_KIND_PTX, _KIND_CUBIN):
                yield kind, _gpu_arch(sm, flags)
            begin += header_size + payload_size
            if header_size < _ENTRY.size:
                raise _error(name)
            _forget(block)
        at = _find_container(block, end)


def _find_container(block: memoryview, start: int) -> int | None:
    """Return where the next one begins; they lie close together, but a gap may be a gigabyte."""
    for begin in range(start, len(block), _WINDOW):
        match = _CONTAINER_START.search(block[begin : begin + _WINDOW + _CONTAINER.size])
        if match:
            return begin + match.start()
        _forget(block)
    return None


def _forget(block: memoryview) -> None:
    """Unmap what was read: headers lie so far apart that each costs pages of its own."""
    if isinstance(block.obj, mmap.mmap):
        block.obj.madvise(mmap.MADV_DONTNEED)


def _gpu_arch(sm: int, flags: int) -> GpuArch:
    feature: Literal["", "a", "f"] = ""
    if flags & _FLAG_ARCH_SPECIFIC:
        feature = "a"
    elif flags & _FLAG_FAMILY_SPECIFIC:
        feature = "f"
    return GpuArch(sm // 10, sm % 10, feature)


def _unpack(layout: struct.Struct, block: memoryview, offset: int, name: str) -> tuple[int, ...]:
    if offset + layout.size > len(block):
        raise _error(name)
    return layout.unpack_from(block, offset)


def _error(name: str) -> ElfError:
    msg = f"The GPU code in {name!r} is cut short. Build or download the file again."
    return ElfError(msg)
