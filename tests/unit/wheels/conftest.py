"""Wheels as a project's own build writes them, plain and compiled."""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import subprocess
import zipfile
from typing import TYPE_CHECKING

import pytest

from wheelyard.abi.making_tables import make_site_table
from wheelyard.model.matrix import parse_machine
from wheelyard.wheels.values import UpstreamWheel

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    Publish = Callable[..., UpstreamWheel]

MACHINE = parse_machine(platform.machine())
PLATFORM = f"linux_{MACHINE}"
CHECK_FAIL = "_ZN3c106detail14torchCheckFailEPKcS2_jRK"
NEW_STRING = "NSt7__cxx1112basic_stringIcSt11char_traitsIcESaIcEEE"
OLD_STRING = "Ss"
TORCHES = {
    "2.6.0+cu124": {"cxx11_abi": 0, "cuda": 12},
    "2.8.0+cu128": {"cxx11_abi": 1, "cuda": 12},
    "2.11.0+cu130": {"cxx11_abi": 1, "cuda": 13},
}
METADATA = """\
Metadata-Version: 2.1
Name: demo-ext
Version: 1.0
Requires-Python: >=3.9
Requires-Dist: torch

A demonstration.
"""
WHEEL = """\
Wheel-Version: 1.0
Generator: test
Root-Is-Purelib: false
Tag: cp312-cp312-linux_x86_64

"""
DIST_INFO = "demo_ext-1.0.dist-info"


@pytest.fixture
def write_wheel(tmp_path: Path) -> Callable[..., Path]:
    """Return a function that writes a wheel with these members beside the usual ones."""

    def write(
        members: Mapping[str, bytes],
        *,
        name: str = "demo_ext-1.0-cp312-cp312-linux_x86_64.whl",
        metadata: str = METADATA,
        folder: str = "built",
        date: tuple[int, int, int, int, int, int] = (2024, 5, 6, 7, 8, 10),
        mode: int = 0o664,
    ) -> Path:
        path = tmp_path / folder / name
        path.parent.mkdir(exist_ok=True)
        texts = {
            f"{DIST_INFO}/METADATA": metadata.encode(),
            f"{DIST_INFO}/WHEEL": WHEEL.encode(),
        }
        texts |= members
        names = [*texts, f"{DIST_INFO}/RECORD"]
        texts[f"{DIST_INFO}/RECORD"] = "".join(f"{member},,\n" for member in names).encode()
        with zipfile.ZipFile(path, "w") as archive:
            for member, content in texts.items():
                info = zipfile.ZipInfo(member, date)
                info.external_attr = (0o100000 | mode) << 16
                archive.writestr(info, content)
        return path

    return write


@pytest.fixture
def compile_library(tmp_path: Path) -> Callable[..., bytes]:
    """Return a function that compiles C into a shared library and returns its bytes."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("there is no C compiler")
    folder = tmp_path / "libraries"
    folder.mkdir()

    def compiled(name: str, source: str, *, needs: tuple[str, ...] = (), rpath: str = "") -> bytes:
        (folder / "source.c").write_text(source)
        flags = ["-shared", "-fPIC", f"-Wl,-soname,{name}", "-Wl,--no-as-needed"]
        flags += [f"-Wl,-rpath,{rpath}"] if rpath else []
        links = [f"-l:{library}" for library in needs]
        subprocess.run(
            [compiler, *flags, "-o", name, "source.c", "-L.", *links],
            check=True,
            cwd=folder,
            env={"PATH": os.environ["PATH"]},
        )
        return (folder / name).read_bytes()

    return compiled


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory, make_torch_site: Callable[..., Path]) -> Path:
    """Return a cache with the symbol tables of three small torches."""
    cache = tmp_path_factory.mktemp("cache")
    for torch, facts in TORCHES.items():
        path = cache / "symbols" / f"torch-{torch}-{MACHINE}.symbols"
        site = cache / torch
        ignored = shutil.ignore_patterns("*.c", "*.map")
        shutil.copytree(make_torch_site(**facts), site, ignore=ignored)
        make_site_table(site, path, name=f"torch-{torch}")
    return cache


@pytest.fixture
def cache(tables: Path, tmp_path: Path) -> Path:
    """Return a cache of this test, with those tables."""
    folder = tmp_path / "cache"
    folder.mkdir()
    (folder / "symbols").symlink_to(tables / "symbols")
    return folder


@pytest.fixture
def publish(
    make_wheel: Callable[..., Path],
    link_c: Callable[..., Path],
    make_fatbin: Callable[..., bytes],
    make_torch_site: Callable[..., Path],
) -> Publish:
    """Return a function that makes a wheel of the probe and renames it, as upstream does."""

    def make(
        *,
        cuda: int = 13,
        string: str = NEW_STRING,
        label: str = "cu12torch2.6cxx11abiFALSE",
        tag: str = f"cp312-cp312-{PLATFORM}",
        suffix: str = f".cpython-312-{MACHINE}-linux-gnu.so",
        cubins: tuple[int, ...] = (80, 90),
        ptx: tuple[int, ...] = (),
        filename: str | None = None,
        **words: object,
    ) -> UpstreamWheel:
        site = make_torch_site(cuda=cuda)
        extension = link_c(
            "probe_cuda.so",
            defines=["PyInit_probe_cuda"],
            asks=[f"{CHECK_FAIL}{string}", "_ZN2at5emptyEv", "cudaMalloc"],
            needs=[
                site / "torch/lib/libc10.so",
                site / "torch/lib/libtorch_cpu.so",
                site / f"nvidia/cu{cuda}/lib/libcudart.so.{cuda}",
            ],
            gpu_code=make_fatbin(cubins=cubins, ptx=ptx) if cubins or ptx else b"",
        )
        about = {"name": "probe", "version": "1.1", "requires": ["torch", "packaging"]} | words
        files = {"probe/__init__.py": b"", f"probe_cuda{suffix}": extension.read_bytes()}
        named = filename or f"{about['name']}-{about['version']}+{label}-{tag}.whl"
        path = make_wheel(tag=tag, files=files, filename=named, **about)
        sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
        return UpstreamWheel(path=path, sha256=sha256, url="", filename=path.name)

    return make
