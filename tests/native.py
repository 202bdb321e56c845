"""Make shared objects out of symbol names, and a torch out of a few of them."""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

NEW_STRING = "NSt7__cxx1112basic_stringIcSt11char_traitsIcESaIcEEE"
OLD_STRING = "Ss"


def compile_source(folder: Path, name: str, source: str, *options: str) -> Path:
    """Compile C into a shared object, an object file or a program, as the name says."""
    compiler = shutil.which("gcc")
    if compiler is None:
        pytest.skip("there is no gcc")
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    text = path.with_name(f"{path.name}.c")
    text.write_text(source, encoding="utf-8")
    kinds = ["-c"] if path.suffix == ".o" else ["-shared", "-fPIC"] if ".so" in name else []
    command = [compiler, *kinds, "-o", str(path), str(text), *options]
    subprocess.run(command, check=True, env={"PATH": os.environ["PATH"], "LC_ALL": "C"})
    return path


def link(
    folder: Path,
    name: str,
    *,
    defines: Iterable[str] = (),
    asks: Iterable[str] = (),
    needs: Iterable[Path] = (),
    version: str = "",
    gpu_code: bytes = b"",
    options: Iterable[str] = (),
) -> Path:
    """Link a library or extension that defines and asks for symbols of exactly these names.

    ``version`` is that of all its symbols. A symbol that is asked for need not exist. ``gpu_code``
    is put where nvcc puts its fat binaries.
    """
    lines = [
        f'void d{number}(void) __asm__("{symbol}"); void d{number}(void) {{}}'
        for number, symbol in enumerate(defines)
    ]
    asked = list(asks)
    lines += [
        f'extern void a{number}(void) __asm__("{symbol}");' for number, symbol in enumerate(asked)
    ]
    table = ", ".join(f"a{number}" for number in range(len(asked)))
    lines += [f'void *table[] __attribute__((visibility("hidden"))) = {{{table}}};']
    flags = [f"-Wl,-soname,{name.rpartition('/')[2]}", "-Wl,--unresolved-symbols=ignore-all"]
    flags += ["-Wl,--no-as-needed", "-Wl,--allow-shlib-undefined"]
    if version:
        script = folder / f"{name}.map"
        script.parent.mkdir(parents=True, exist_ok=True)
        script.write_text(f"{version} {{ global: *; }};\n", encoding="utf-8")
        flags += [f"-Wl,--version-script={script}"]
    flags += [str(path) for path in needs]
    if gpu_code:
        blob = folder / f"{name}.fatbin"
        blob.parent.mkdir(parents=True, exist_ok=True)
        blob.write_bytes(gpu_code)
        lines += [f'__asm__(".section .nv_fatbin,\\"a\\"\\n.incbin \\"{blob}\\"");']
    return compile_source(folder, name, "\n".join([*lines, ""]), *flags, *options)


def fatbin(*, cubins: Iterable[int] = (), ptx: Iterable[int] = ()) -> bytes:
    """Write a fat binary whose code is empty, for SM numbers such as 90."""
    entries = [(2, sm) for sm in cubins] + [(1, sm) for sm in ptx]
    content = b"".join(
        struct.pack("<HHIQIIIIIIQ", kind, 0x101, 64, 8, 0, 0, 0, sm, 0, 0, 0x11).ljust(72, b"\0")
        for kind, sm in entries
    )
    return struct.pack("<IHHQ", 0xBA55ED50, 1, 16, len(content)) + content


def write_torch_site(folder: Path, *, cxx11_abi: int = 1, cuda: int = 13) -> Path:
    """Write a folder with a torch of that ABI beside a CUDA runtime of that major version."""
    string = NEW_STRING if cxx11_abi else OLD_STRING
    runtime = f"libcudart.so.{cuda}"
    cudart = link(
        folder,
        f"site/nvidia/cu{cuda}/lib/{runtime}",
        defines=["cudaMalloc", "__cudaRegisterFatBinary"],
        version=runtime,
    )
    cublas = f"libcublas.so.{cuda}"
    link(
        folder,
        f"site/nvidia/cu{cuda}/lib/{cublas}",
        defines=["cublasCreate_v2"],
        version=cublas,
    )
    c10 = link(
        folder,
        "site/torch/lib/libc10.so",
        defines=[
            f"_ZN3c106detail14torchCheckFailEPKcS2_jRK{string}",
            f"_ZN3c105ErrorC2ENS_14SourceLocationE{string}",
            "_ZN3c104warnEv",
        ],
    )
    cpu = link(folder, "site/torch/lib/libtorch_cpu.so", defines=["_ZN2at5emptyEv"], needs=[c10])
    link(
        folder,
        "site/torch/lib/libtorch_python.so",
        defines=["THPVariable_Wrap"],
        needs=[cpu],
    )
    link(folder, "site/torch/lib/libtorch_global_deps.so", needs=[cudart])
    return c10.parents[2]
