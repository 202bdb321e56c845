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
import sys
import zipfile
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


def test_code_for_linking_on_the_device_is_not_what_runs(
    compile_c: Callable[..., Path], tmp_path: Path
) -> None:
    sections = {".nv_fatbin": entry(CUBIN, 90), "__nv_relfatbin": entry(CUBIN, 80)}
    lines = []
    for section, content in sections.items():
        blob = tmp_path / f"code{section}"
        blob.write_bytes(container(content))
        lines.append(f'__asm__(".section {section},\\"a\\"\\n.balign 8\\n.incbin \\"{blob}\\"");')
    path = compile_c("libkernel.so", "\n".join([*lines, ""]))
    assert read_gpu_code(path).cubins == archs("9.0")


def test_compressed_code_is_told_by_its_header(with_fatbin: Callable[[bytes], Path]) -> None:
    code = container(entry(CUBIN, 90, 0x8011 | ARCH_SPECIFIC), entry(PTX, 90, 0x8011))
    assert read_gpu_code(with_fatbin(code)) == GpuCode(cubins=archs("9.0a"), ptx=archs("9.0"))


def write_huge(path: Path, *, gap: int) -> Path:
    """Write an ELF file, mostly holes: two fat binaries far from one another, entries of 1 MiB."""
    first = container(*[entry(CUBIN, 80, payload=0)])
    steps = 256
    header = struct.pack("<IHHQ", 0xBA55ED50, 1, 16, steps << 20)
    size = 4096 + len(first) + gap + len(header) + (steps << 20)
    names = b"\0.shstrtab\0.nv_fatbin\0"
    sections = [(0,) * 10]
    sections += [(1, 3, 0, 0, 512, len(names), 0, 0, 1, 0)]
    sections += [(11, 1, 2, 4096, 4096, size - 4096, 0, 0, 8, 0)]
    ident = b"\x7fELF\x02\x01\x01".ljust(16, b"\0")
    with path.open("wb") as stream:
        stream.write(
            ident + struct.pack("<HHIQQQIHHHHHH", 3, 62, 1, 0, 0, 1024, 0, 64, 56, 0, 64, 3, 1)
        )
        stream.seek(512)
        stream.write(names)
        stream.seek(1024)
        stream.write(b"".join(struct.pack("<IIQQQQIIQQ", *section) for section in sections))
        stream.seek(4096)
        stream.write(first)
        at = 4096 + len(first) + gap
        stream.seek(at)
        stream.write(header)
        for step in range(steps):
            stream.seek(at + len(header) + (step << 20))
            stream.write(entry(CUBIN, 90, payload=0)[:8] + struct.pack("<Q", (1 << 20) - 64))
            stream.write(entry(CUBIN, 90, payload=0)[16:])
        stream.truncate(size)
    return path


def test_huge_file_is_read_in_little_memory(tmp_path: Path) -> None:
    path = write_huge(tmp_path / "libhuge.so", gap=256 << 20)
    script = (
        "import pathlib, resource, sys; from wheelyard.abi.gpu_code import read_gpu_code; "
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss; "
        "print(read_gpu_code(pathlib.Path(sys.argv[1]))); "
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)"
    )
    environment = {"PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-c", script, path],
        check=True,
        capture_output=True,
        text=True,
        env=environment,
    )
    code, grown = done.stdout.splitlines()
    assert code == "8.0 9.0"
    assert int(grown) < 40 << 10, "kilobytes; the file has half a gigabyte"


def find_cuobjdump() -> str:
    places = sorted(Path("/usr/local").glob("cuda*/bin"), reverse=True)
    search = os.pathsep.join([os.environ.get("PATH", ""), *map(str, places)])
    found = shutil.which("cuobjdump", path=search)
    if found is None:
        pytest.skip("there is no cuobjdump to compare with, on PATH or in /usr/local/cuda*")
    return found


def cuobjdump_code(path: Path) -> GpuCode | None:
    """Return what cuobjdump says of a file, or nothing where it cannot read it either."""
    command = [find_cuobjdump(), str(path)]
    done = subprocess.run(command, check=False, capture_output=True, text=True, errors="replace")
    if "fatal" in done.stderr:
        return None
    found: dict[str, set[GpuArch]] = {"elf": set(), "ptx": set()}
    for kind, major, minor in re.findall(
        r"Fatbin (elf|ptx) code:\n=+\narch = sm_(\d+)(\d[af]?)\n", done.stdout
    ):
        found[kind].add(GpuArch.parse(f"{major}.{minor}"))
    return GpuCode(cubins=frozenset(found["elf"]), ptx=frozenset(found["ptx"]))


def test_targets_are_those_of_cuobjdump(with_fatbin: Callable[[bytes], Path]) -> None:
    path = with_fatbin(REAL.read_bytes())
    assert cuobjdump_code(path) == read_gpu_code(path)


@pytest.mark.parametrize("name", ["libtorch_cuda.so", "libtorch_cuda_linalg.so"])
def test_targets_of_torch_are_those_of_cuobjdump(name: str) -> None:
    site = os.environ.get("WHEELYARD_TEST_TORCH_SITE")
    if not site:
        pytest.skip("WHEELYARD_TEST_TORCH_SITE names no folder with torch")
    path = Path(site, "torch/lib", name)
    assert cuobjdump_code(path) == read_gpu_code(path)


def test_targets_in_real_wheels_are_those_of_cuobjdump(tmp_path: Path) -> None:
    folder = os.environ.get("WHEELYARD_TEST_WHEELS")
    if not folder:
        pytest.skip("WHEELYARD_TEST_WHEELS names no folder with wheels of CUDA extensions")
    find_cuobjdump()
    compared = 0
    for wheel in sorted(Path(folder).glob("*.whl")):
        with zipfile.ZipFile(wheel) as archive:
            for member in archive.namelist():
                if not re.search(r"\.so(\.[\d.]+)?$", member):
                    continue
                path = Path(archive.extract(member, tmp_path))
                code = read_gpu_code(path)
                expected = cuobjdump_code(path) if code else None
                if expected is not None:
                    assert code == expected, f"{member} of {wheel.name}"
                    compared += 1
                path.unlink()
    assert compared
