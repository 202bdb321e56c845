"""Wheels as a project's own build writes them, plain and compiled."""

from __future__ import annotations

import os
import shutil
import subprocess
import zipfile
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

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
