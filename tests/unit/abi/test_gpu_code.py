"""GPU targets are read from what nvcc writes; ``nvcc-13.0.fatbin`` is one kernel, compiled by it.

It was made with ``-gencode`` for sm_75, sm_90a, sm_100f, sm_120f and sm_120a, and PTX for
compute_80, compute_90a, compute_103f and compute_120f.
"""

from __future__ import annotations

import os
import re
import shutil
import struct
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from wheelyard.abi.elf import ElfError
from wheelyard.abi.gpu_code import GpuCode, read_gpu_code
from wheelyard.model.cell import GpuArch

if TYPE_CHECKING:
    from collections.abc import Callable

REAL = Path(__file__).with_name("nvcc-13.0.fatbin")
PTX, CUBIN, ARCH_SPECIFIC, FAMILY_SPECIFIC = 1, 2, 1 << 20, 1 << 21


def archs(text: str) -> frozenset[GpuArch]:
    return frozenset(GpuArch.parse(part) for part in text.split())


def entry(kind: int, sm: int, flags: int = 0x11, *, header: int = 64, payload: int = 40) -> bytes:
    fields = struct.pack("<HHIQIIIIIIQ", kind, 0x101, header, payload, 0, 0, 0, sm, 0, 0, flags)
    return fields.ljust(header, b"\0") + bytes(payload)


def container(*entries: bytes) -> bytes:
    content = b"".join(entries)
    return struct.pack("<IHHQ", 0xBA55ED50, 1, 16, len(content)) + content


@pytest.fixture
def with_fatbin(compile_c: Callable[..., Path], tmp_path: Path) -> Callable[[bytes], Path]:
    """Return a function that puts bytes into the section that nvcc uses."""

    def write(data: bytes) -> Path:
        blob = tmp_path / "code.fatbin"
        blob.write_bytes(data)
        source = f'__asm__(".section .nv_fatbin,\\"a\\"\\n.balign 8\\n.incbin \\"{blob}\\"");\n'
        return Path(compile_c("libkernel.so", source))

    return write


def test_targets_of_a_real_compilation_are_read(with_fatbin: Callable[[bytes], Path]) -> None:
    code = read_gpu_code(with_fatbin(REAL.read_bytes()))
    assert code.cubins == archs("7.5 9.0a 10.0f 12.0f 12.0a")
    assert code.ptx == archs("8.0 9.0a 10.3f 12.0f")


def test_targets_are_written_in_order() -> None:
    code = GpuCode(cubins=archs("12.0 8.0 9.0a"), ptx=archs("12.0"))
    assert str(code) == "8.0 9.0a 12.0 PTX 12.0"
    assert str(GpuCode()) == ""
    assert not GpuCode()


def test_containers_behind_one_another_are_all_read(with_fatbin: Callable[[bytes], Path]) -> None:
    first = container(entry(CUBIN, 80), entry(CUBIN, 90, ARCH_SPECIFIC, header=112))
    second = container(entry(PTX, 120, FAMILY_SPECIFIC, header=80, payload=8))
    code = read_gpu_code(with_fatbin(first + bytes(24) + second))
    assert code == GpuCode(cubins=archs("8.0 9.0a"), ptx=archs("12.0f"))


def test_other_kinds_of_entry_are_no_code(with_fatbin: Callable[[bytes], Path]) -> None:
    assert not read_gpu_code(with_fatbin(container(entry(8, 80), entry(64, 90))))


def test_file_without_gpu_code_has_none(compile_c: Callable[..., Path]) -> None:
    assert read_gpu_code(compile_c("libplain.so", "int x;\n")) == GpuCode()


def test_code_is_found_without_section_headers(with_fatbin: Callable[[bytes], Path]) -> None:
    path = with_fatbin(container(entry(CUBIN, 90)))
    data = bytearray(path.read_bytes())
    data[40:48] = bytes(8)
    data[58:64] = bytes(6)
    path.write_bytes(data)
    assert read_gpu_code(path).cubins == archs("9.0")


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(container(entry(CUBIN, 80))[:60], id="cut inside an entry"),
        pytest.param(container(entry(CUBIN, 80, header=0, payload=0)), id="entry without length"),
        pytest.param(struct.pack("<IHH", 0xBA55ED50, 1, 16), id="cut inside the header"),
    ],
)
def test_damaged_code_is_refused(with_fatbin: Callable[[bytes], Path], data: bytes) -> None:
    with pytest.raises(ElfError, match=r"GPU code in .*libkernel\.so.* is cut short"):
        read_gpu_code(with_fatbin(data))


@pytest.mark.parametrize("name", ["libtorch_cuda.so", "libtorch_cuda_linalg.so"])
def test_targets_of_torch_are_those_of_cuobjdump(name: str) -> None:
    site = os.environ.get("WHEELYARD_TEST_TORCH_SITE")
    if not site:
        pytest.skip("WHEELYARD_TEST_TORCH_SITE names no folder with torch")
    cuobjdump = shutil.which("cuobjdump")
    if cuobjdump is None:
        pytest.skip("cuobjdump is not on PATH to compare with")
    path = Path(site, "torch/lib", name)
    listing = subprocess.run(
        [cuobjdump, "-lelf", path], check=True, capture_output=True, text=True, env={}
    ).stdout
    expected = {
        GpuArch.parse(f"{major}.{minor}")
        for major, minor in re.findall(r"\.sm_(\d+)(\d[a]?)\.cubin", listing)
    }
    assert {arch for arch in read_gpu_code(path).cubins if arch.feature != "f"} == expected
