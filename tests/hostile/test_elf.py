"""ELF files that were mutated, and those that somebody made to waste time and memory."""

from __future__ import annotations

import random
import struct
from typing import TYPE_CHECKING

import pytest
from hostile.mutating import mutate

from wheelyard.abi.elf import ElfFile
from wheelyard.abi.gpu_code import gpu_code_of
from wheelyard.wheels.check import check
from wheelyard.wheels.describing import describe

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager
    from pathlib import Path

    from hostile.conftest import Tally

HASH, STRTAB, SYMTAB, NEEDED, RPATH = 4, 5, 6, 1, 15
GNU_HASH, VERSYM, VERDEF, VERNEED = 0x6FFFFEF5, 0x6FFFFFF0, 0x6FFFFFFC, 0x6FFFFFFE
MUTATIONS = 300
UNDEFINED = struct.pack("<IBBHQQ", 1, 0x10, 0, 0, 0, 0)


def make_elf(
    dynamic: list[tuple[int, int | bytes]],
    *,
    loads: int = 1,
    dynamics: int = 1,
    sections: int = 0,
) -> bytes:
    """Return an ELF file whose dynamic segment has these entries; bytes stand for where they lie.

    Its addresses are its offsets; ``loads`` and ``dynamics`` segments show all of it.
    """
    count = loads + dynamics
    at = 64 + 56 * count + 16 * (len(dynamic) + 1)
    table, body = bytearray(), bytearray()
    for tag, value in dynamic:
        table += struct.pack("<QQ", tag, at + len(body) if isinstance(value, bytes) else value)
        body += value if isinstance(value, bytes) else b""
    table += bytes(16)
    size = at + len(body)
    header = struct.pack(
        *("<16sHHIQQQIHHHHHH", b"\x7fELF\x02\x01\x01", 3, 62, 1, 0, 64, 0, 0, 64, 56, count),
        *(64, sections, 0),
    )
    load = struct.pack("<IIQQQQQQ", 1, 5, 0, 0, 0, size, size, 1)
    of_dynamic = struct.pack("<IIQQQQQQ", 2, 6, 64 + 56 * count, 0, 0, len(table), len(table), 8)
    return header + load * loads + of_dynamic * dynamics + table + body


def _gnu_hash(first: int, bucket: int, chain: bytes) -> bytes:
    return struct.pack("<IIIIQI", 1, first, 1, 0, (1 << 64) - 1, bucket) + chain


def _time_wasters() -> dict[str, bytes]:
    names = b"\0" + b"a" * 900_000 + b"\0"
    hashed = struct.pack("<III", 1, 200_000, 0) + bytes(4 * 200_000)
    symbols = UNDEFINED * 200_000
    needs = struct.pack("<HHIII", 1, 60_000, 1, 16, 1)
    fatbin = struct.pack("<IHHQ", 0xBA55ED50, 1, 16, 1 << 20) + struct.pack("<HHIQ", 2, 1, 1, 0)
    step_of_one = struct.pack("<HHHHIII", 1, 0, 1, 0, 0, 0, 1)
    version = b"\0libc.so.6\0GLIBC_2." + b"9" * 5000 + b"\0"
    need = struct.pack("<HHIII", 1, 1, 1, 16, 0) + struct.pack("<IHHII", 0, 0, 2, 11, 0)
    return {
        "names that share a megabyte": make_elf(
            [(HASH, hashed), (SYMTAB, symbols), (STRTAB, names)]
        ),
        "a text without end": make_elf([(NEEDED, 0), (STRTAB, b"a" * (3 << 20))]),
        "a needed library, a million times": make_elf(
            [(STRTAB, b"\0lib.so\0"), *[(NEEDED, 1)] * 300_000]
        ),
        "rpath of a million folders": make_elf(
            [(RPATH, 1), (STRTAB, b"\0" + b"a:" * 500_000 + b"\0")]
        ),
        "thousands of dynamic segments": make_elf([(NEEDED, 0)] * 2000, dynamics=60_000),
        "thousands of loads of the same": make_elf([(STRTAB, bytes(1 << 20))], loads=60_000),
        "hash chain without end": make_elf(
            [
                (GNU_HASH, _gnu_hash(0, 0, bytes(4 << 20))),
                (SYMTAB, bytes(24)),
                (STRTAB, b"\0"),
            ]
        ),
        "hash chain in a circle": make_elf(
            [
                (HASH, struct.pack("<IIIII", 1, 2, 1, 0, 1)),
                (SYMTAB, UNDEFINED * 2),
                (STRTAB, names),
            ]
        ),
        "versions in steps of a byte": make_elf(
            [(VERNEED, needs + bytes(1 << 20)), (STRTAB, b"\0a\0")]
        ),
        "defined versions in steps of a byte": make_elf(
            [(VERDEF, step_of_one + b"\1\0\0\0" * (1 << 19)), (STRTAB, b"\0a\0"), (VERSYM, b"\0\0")]
        ),
        "version of 5000 digits": make_elf(
            [
                (VERNEED, need),
                (STRTAB, version),
                (HASH, struct.pack("<II", 1, 2)),
                (SYMTAB, UNDEFINED * 2),
            ]
        ),
        "fat binary in steps of a byte": make_elf([(STRTAB, fatbin + b"\1" * (1 << 20))]),
        "fat binaries without number": make_elf([(STRTAB, fatbin[:16] * 200_000)]),
        "sections beyond its end": make_elf([(STRTAB, b"\0")], sections=65_535),
        "nothing": b"\x7fELF",
        "a header and no more": make_elf([])[:64],
    }


def _ask_everything(data: bytes) -> None:
    elf = ElfFile(data, name="hostile.so")
    elf.read_through()
    for _ in elf.exported_symbols():
        pass
    for name in ("", "a", "printf"):
        elf.exports(name, "GLIBC_2.2.5")
    gpu_code_of(elf)


@pytest.mark.parametrize(
    "data", [pytest.param(data, id=name) for name, data in _time_wasters().items()]
)
def test_file_made_to_waste_time_or_memory_wastes_neither(
    make_wheel: Callable[..., Path],
    tmp_path: Path,
    data: bytes,
    tally: Tally,
    little_memory: Callable[[], AbstractContextManager[None]],
) -> None:
    wheel = make_wheel(tag="cp312-cp312-linux_x86_64", files={"demo.so": data})
    with little_memory():
        tally.meets(lambda: _ask_everything(data))
        report = tally.meets(
            lambda: check(wheel, expectation=None, surroundings=None, scratch=tmp_path / "scratch")
        )
        describe(report)  # type: ignore[arg-type]


@pytest.mark.parametrize("seed", range(3))
def test_mutated_library_gives_answers_or_an_error(
    link_once: Callable[..., Path], make_fatbin: Callable[..., bytes], seed: int, tally: Tally
) -> None:
    chance = random.Random(seed)  # noqa: S311
    library = link_once(
        "hostile_cuda.so",
        defines=["PyInit_hostile_cuda"],
        asks=["cudaMalloc", "printf", "_ZN3c106detail14torchCheckFailEPKcS2_jRK"],
        gpu_code=make_fatbin(cubins=(80, 90), ptx=(90,)),
    ).read_bytes()
    for _ in range(MUTATIONS):
        data = mutate(library, chance)
        tally.meets(lambda: _ask_everything(data))  # noqa: B023


def test_wheel_of_a_mutated_library_gets_a_report(
    make_wheel: Callable[..., Path],
    link_once: Callable[..., Path],
    make_fatbin: Callable[..., bytes],
    tmp_path: Path,
    tally: Tally,
) -> None:
    chance = random.Random(0)  # noqa: S311
    library = link_once(
        "hostile_cuda.so",
        defines=["PyInit_hostile_cuda"],
        asks=["cudaMalloc", "printf"],
        gpu_code=make_fatbin(cubins=(80, 90)),
    ).read_bytes()
    for _ in range(MUTATIONS // 6):
        files = {"demo.so": mutate(library, chance)}
        wheel = make_wheel(tag="cp312-cp312-linux_x86_64", files=files)
        report = tally.meets(
            lambda: check(wheel, expectation=None, surroundings=None, scratch=tmp_path / "s")  # noqa: B023
        )
        describe(report)  # type: ignore[arg-type]
