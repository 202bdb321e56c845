"""The libraries that an extension will meet when it is loaded beside torch."""

from __future__ import annotations

import contextlib
import dataclasses
import re
from collections import deque
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Final

from wheelyard.abi.elf import ElfError, ElfFile
from wheelyard.errors import MachineError, ProcessError
from wheelyard.run import run

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping

    from wheelyard.model.cell import Machine

# What ``import torch`` loads with RTLD_GLOBAL; it needs CUDA, OpenMP and the like.
_PRELOADED: Final = "libtorch_global_deps.so"
_TOOL_ENV: Final = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C"}
_SYSTEM_DIRS: Final = ("/lib64", "/usr/lib64", "/lib", "/usr/lib", "/usr/local/lib")
_MULTIARCH: Final = ("x86_64-linux-gnu", "aarch64-linux-gnu")
_LDCONFIG_LINE = re.compile(r"\s*(\S+) \(.*\) => (/.+)")

# What a manylinux wheel may expect of every system. Other libraries that this machine happens to
# have, a CUDA in /usr/local for one, are no promise for the machine that installs the wheel.
_PROMISED: Final = frozenset(
    {
        "ld-linux-aarch64.so.1",
        "ld-linux-x86-64.so.2",
        "libGL.so.1",
        "libICE.so.6",
        "libSM.so.6",
        "libX11.so.6",
        "libXext.so.6",
        "libXrender.so.1",
        "libc.so.6",
        "libdl.so.2",
        "libexpat.so.1",
        "libgcc_s.so.1",
        "libglib-2.0.so.0",
        "libgobject-2.0.so.0",
        "libgthread-2.0.so.0",
        "libm.so.6",
        "libnsl.so.1",
        "libpthread.so.0",
        "libresolv.so.2",
        "librt.so.1",
        "libstdc++.so.6",
        "libutil.so.1",
        "libz.so.1",
    }
)
# Libraries that come with a driver, so that builders do not have them, and what they export.
_DRIVER_SYMBOLS: Final = {
    "libcuda.so.1": re.compile(r"cu[A-Z]\w*"),
    "libibverbs.so.1": re.compile(r"ibv_\w+"),
    "libmlx5.so.1": re.compile(r"mlx5\w+"),
    "libnvcuvid.so.1": re.compile(r"cuvid\w+"),
    "libnvidia-encode.so.1": re.compile(r"NvEncodeAPI\w+"),
    "libnvidia-ml.so.1": re.compile(r"nvml[A-Z]\w*"),
}


class Origin(StrEnum):
    """Who brings a library."""

    WHEEL = "wheel"
    TORCH = "torch"
    CUDA = "CUDA wheel"
    INTERPRETER = "interpreter"
    SYSTEM = "system"


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Library:
    """A library file and the name by which others need it."""

    name: str
    path: Path
    origin: Origin


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Provider:
    """A library that is loaded when the extension looks for its symbols."""

    library: Library
    elf: ElfFile

    def exports(self, name: str, version: str | None = None) -> bool:
        return self.elf.exports(name, version)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Providers:
    """Everything that one extension can take symbols from, in the loader's order."""

    loaded: tuple[Provider, ...]
    unlinked: tuple[Provider, ...]
    """Libraries of torch that are there, but that the extension does not ask for."""
    missing: tuple[str, ...]
    """What is NEEDED and nobody provides."""
    absent: tuple[str, ...]
    """What every system promises and this machine lacks all the same (``libGL.so.1``)."""
    other_versions: Mapping[str, str]
    """For a missing library, the same one with another number: ``libcudart.so.13``."""
    driver: frozenset[str]
    """Libraries of a driver that are asked for."""

    def find(self, name: str, version: str | None = None) -> Provider | None:
        """Return the first library that provides the symbol."""
        return next((one for one in self.loaded if one.exports(name, version)), None)

    def is_of_driver(self, name: str) -> bool:
        return any(_DRIVER_SYMBOLS[library].fullmatch(name) for library in self.driver)


class Surrounding:
    """The libraries around the extensions of one wheel, each opened once."""

    def __init__(self, libraries: Iterable[Library], *, interpreter: ElfFile) -> None:
        self.machine = interpreter.machine
        self._by_name: dict[str, Library] = {}
        for library in libraries:
            self._by_name.setdefault(library.name, library)
        self._opened: dict[Path, ElfFile] = {}
        # Extensions see, beside what they ask for, what the interpreter needs and what
        # ``import torch`` loads for everybody; torch's own libraries are not among that.
        self._global = [
            self._provider(_library(Path(interpreter.name), Origin.INTERPRETER)),
            *self._closure([*interpreter.needed, _PRELOADED]),
        ]

    def providers(self, extension: ElfFile) -> Providers:
        """Return what is loaded when ``extension`` is imported after torch."""
        loaded = {
            provider.library.path: provider
            for provider in (*self._global, *self._closure(extension.needed), *self._own())
        }
        unknown = sorted({*extension.needed} - self._by_name.keys() - _DRIVER_SYMBOLS.keys())
        asked = {name for provider in loaded.values() for name in provider.elf.needed}
        return Providers(
            loaded=tuple(loaded.values()),
            unlinked=tuple(self._unlinked(loaded.keys())),
            missing=tuple(name for name in unknown if name not in _PROMISED),
            absent=tuple(name for name in unknown if name in _PROMISED),
            other_versions={name: other for name in unknown if (other := self._relative(name))},
            driver=frozenset((asked | {*extension.needed}) & _DRIVER_SYMBOLS.keys()),
        )

    def _closure(self, names: Iterable[str]) -> Iterator[Provider]:
        """Yield the named libraries and what they need in turn, breadth first as the loader."""
        queue = deque(names)
        seen = set(queue)
        while queue:
            library = self._by_name.get(queue.popleft())
            if library is None:
                continue
            provider = self._provider(library)
            yield provider
            queue.extend(name for name in provider.elf.needed if name not in seen)
            seen.update(provider.elf.needed)

    def _own(self) -> Iterator[Provider]:
        """Yield the wheel's libraries: a package may load them itself, for everybody."""
        for library in self._by_name.values():
            if library.origin is Origin.WHEEL and library.name.startswith("lib"):
                yield self._provider(library)

    def _unlinked(self, loaded: Collection[Path]) -> Iterator[Provider]:
        for library in self._by_name.values():
            if library.path not in loaded and library.origin in (Origin.TORCH, Origin.CUDA):
                with contextlib.suppress(ElfError):
                    yield self._provider(library)

    def _provider(self, library: Library) -> Provider:
        if library.path not in self._opened:
            self._opened[library.path] = ElfFile.open(library.path)
        return Provider(library=library, elf=self._opened[library.path])

    def _relative(self, missing: str) -> str | None:
        """Return the library that differs from the missing one in its number only."""
        stem = missing.partition(".so")[0]
        return next((name for name in self._by_name if name.partition(".so")[0] == stem), None)


def survey(*, wheel_files: Iterable[Path], torch_site: Path, interpreter: Path) -> Surrounding:
    """Find the libraries of the wheel, of torch, of its CUDA, of the interpreter and the system."""
    executable = _open_interpreter(interpreter)
    libraries = [
        # By filename alone: that is how the loader finds a file that is not loaded yet, whatever
        # SONAME is in it. auditwheel may leave the old SONAME in a library that it renamed.
        *(_library(path, Origin.WHEEL) for path in wheel_files),
        *_torch_libraries(torch_site),
        *_interpreter_libraries(executable),
        *_system_libraries(executable.needed, executable.machine),
    ]
    return Surrounding(libraries, interpreter=executable)


def _open_interpreter(path: Path) -> ElfFile:
    try:
        return ElfFile.open(path.resolve(strict=True))
    except (ElfError, OSError) as error:
        msg = (
            f"{str(path)!r} is not a Python executable ({error}). "
            "Name the program itself: what `python -c 'import sys; print(sys.executable)'` prints."
        )
        raise MachineError(msg) from error


def _library(path: Path, origin: Origin) -> Library:
    return Library(name=path.name, path=path, origin=origin)


def _torch_libraries(site: Path) -> Iterator[Library]:
    found = sorted(site.glob("torch/lib/*.so*"))
    if not found:
        msg = f"There is no torch in {str(site)!r}. Name the folder that holds torch/lib."
        raise MachineError(msg)
    yield from (_library(path, Origin.TORCH) for path in found)
    for path in sorted(site.glob("nvidia/*/lib/*.so*")):
        yield _library(path, Origin.CUDA)


def _interpreter_libraries(interpreter: ElfFile) -> Iterator[Library]:
    """Yield libpython, where the interpreter is linked to one, and its like."""
    origin = Path(interpreter.name).parent
    places = [
        Path(part.replace("${ORIGIN}", "$ORIGIN").replace("$ORIGIN", str(origin)))
        for part in (*interpreter.rpath, *interpreter.runpath)
    ]
    for name in interpreter.needed:
        for place in (*places, origin.parent / "lib"):
            if name not in _PROMISED and (place / name).is_file():
                yield _library(place / name, Origin.INTERPRETER)
                break


def _system_libraries(asked: Iterable[str], machine: Machine | None) -> Iterator[Library]:
    """Yield the promised libraries, and the others that the interpreter asks for."""
    wanted = _PROMISED | {*asked}
    seen: set[str] = set()
    for path in (*_known_to_loader(), *_in_usual_folders(wanted)):
        if path.name in wanted - seen and _is_for(machine, path):
            seen.add(path.name)
            yield _library(path, Origin.SYSTEM)


def _is_for(machine: Machine | None, path: Path) -> bool:
    try:
        return ElfFile.open(path).machine == machine
    except (ElfError, OSError):
        return False


def _known_to_loader() -> Iterator[Path]:
    try:
        listing = run(["ldconfig", "-p"], env=_TOOL_ENV).output
    except (MachineError, ProcessError):
        return
    for line in listing.splitlines():
        match = _LDCONFIG_LINE.fullmatch(line)
        if match:
            yield Path(match[2])


def _in_usual_folders(names: Collection[str]) -> Iterator[Path]:
    for folder in _SYSTEM_DIRS:
        for place in (Path(folder), *(Path(folder) / triplet for triplet in _MULTIARCH)):
            yield from (place / name for name in sorted(names) if (place / name).is_file())
