"""The libraries that may be around an extension: of wheel, torch, Python and system."""

from __future__ import annotations

import contextlib
import dataclasses
import re
from enum import StrEnum
from importlib.metadata import distributions
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Final, Protocol

from packaging.utils import canonicalize_name

from wheelyard.abi.elf import ElfError, ElfFile
from wheelyard.errors import MachineError, ProcessError
from wheelyard.run import run

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from collections.abc import Set as AbstractSet

    from packaging.utils import NormalizedName

    from wheelyard.abi.symbol_table import SymbolTable, TableLibrary
    from wheelyard.model.cell import Machine

_TOOL_ENV: Final = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C"}
_SYSTEM_DIRS: Final = ("/lib64", "/usr/lib64", "/lib", "/usr/lib", "/usr/local/lib")
_MULTIARCH: Final = ("x86_64-linux-gnu", "aarch64-linux-gnu")
_LDCONFIG_LINE = re.compile(r"\s*(\S+) \(.*\) => (/.+)")

PROMISED: Final = frozenset(
    {
        "ld-linux-aarch64.so.1",
        "ld-linux-x86-64.so.2",
        "libGL.so.1",
        "libICE.so.6",
        "libSM.so.6",
        "libX11.so.6",
        "libXext.so.6",
        "libXrender.so.1",
        "libatomic.so.1",
        "libc.so.6",
        "libdl.so.2",
        "libexpat.so.1",
        "libgcc_s.so.1",
        "libglib-2.0.so.0",
        "libgobject-2.0.so.0",
        "libgthread-2.0.so.0",
        "libm.so.6",
        "libmvec.so.1",
        "libnsl.so.1",
        "libpthread.so.0",
        "libresolv.so.2",
        "librt.so.1",
        "libstdc++.so.6",
        "libutil.so.1",
        "libz.so.1",
    }
)
"""What a manylinux wheel may expect of every system. Other libraries that this machine happens to
have, a CUDA in /usr/local for one, are no promise for the machine that installs the wheel."""


class Origin(StrEnum):
    """Who brings a library."""

    WHEEL = "wheel"
    BESIDE = "wheel beside it"
    TORCH = "torch"
    CUDA = "CUDA wheel"
    INTERPRETER = "interpreter"
    SYSTEM = "system"


class Contents(Protocol):
    """What the dynamic loader reads of a library, from the file or from a symbol table."""

    @property
    def soname(self) -> str | None: ...
    @property
    def needed(self) -> tuple[str, ...]: ...
    @property
    def rpath(self) -> tuple[str, ...]: ...
    @property
    def runpath(self) -> tuple[str, ...]: ...
    def exports(self, name: str, version: str | None = None) -> bool:
        """Tell whether the loader would bind a reference to ``name`` (of ``version``) to this."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Library:
    """A library, the name by which others need it, and where it lies."""

    name: str
    place: PurePosixPath
    """Inside site-packages for what wheels bring, for example ``torch/lib/libc10.so``; else the
    path on this machine."""
    origin: Origin
    contents: Contents

    def exports(self, name: str, version: str | None = None) -> bool:
        return self.contents.exports(name, version)

    @property
    def names(self) -> tuple[str, ...]:
        """The names that find it once it is loaded: of the file, and the one inside."""
        soname = self.contents.soname
        return (self.name, soname) if soname and soname != self.name else (self.name,)


@dataclasses.dataclass(frozen=True, slots=True)
class Tabled:
    """A library as a symbol table has it."""

    table: SymbolTable
    number: int

    @property
    def _entry(self) -> TableLibrary:
        return self.table.libraries[self.number]

    @property
    def soname(self) -> str | None:
        return self._entry.soname or None

    @property
    def needed(self) -> tuple[str, ...]:
        return self._entry.needed

    @property
    def rpath(self) -> tuple[str, ...]:
        return self._entry.rpath

    @property
    def runpath(self) -> tuple[str, ...]:
        return self._entry.runpath

    def exports(self, name: str, version: str | None = None) -> bool:
        return self.number in self.table.exporters(name, version)


class Opened:
    """A file that remembers its answers: the same is asked of it beside every torch."""

    def __init__(self, elf: ElfFile) -> None:
        self._elf = elf
        self._answers: dict[tuple[str, str | None], bool] = {}
        self.machine = elf.machine
        self.soname, self.needed = elf.soname, elf.needed
        self.rpath, self.runpath = elf.rpath, elf.runpath

    def exports(self, name: str, version: str | None = None) -> bool:
        asked = (name, version)
        found = self._answers.get(asked)
        if found is None:
            found = self._answers[asked] = self._elf.exports(name, version)
        return found


def wheel_libraries(files: Mapping[PurePosixPath, ElfFile]) -> tuple[Library, ...]:
    """Return the libraries of a wheel, given by where they are installed.

    Their name is the filename alone: that is how the loader finds a file that is not loaded yet,
    whatever SONAME is in it. auditwheel may leave the old SONAME in a library that it renamed.
    """
    return tuple(
        Library(name=place.name, place=place, origin=Origin.WHEEL, contents=Opened(elf))
        for place, elf in files.items()
    )


def site_libraries(site: Path) -> tuple[Library, ...]:
    """Return torch's libraries and those of its CUDA in a folder that holds ``torch``."""
    torch = tuple(_opened(sorted(site.glob("torch/lib/*.so*")), site, Origin.TORCH))
    if not torch:
        msg = f"There is no torch in {str(site)!r}. Name the folder that holds torch/lib."
        raise MachineError(msg)
    found = sorted({*site.glob("nvidia/*/lib/*.so*"), *site.glob("cusparselt/lib/*.so*")})
    return (*torch, *_opened(found, site, Origin.CUDA))


def folder_libraries(folder: Path) -> tuple[Library, ...]:
    """Return every library in a folder that other wheels are installed in."""
    return tuple(_opened(sorted(folder.rglob("*.so*")), folder, Origin.BESIDE))


def distribution_libraries(folder: Path, names: AbstractSet[NormalizedName]) -> tuple[Library, ...]:
    """Return the libraries that these distributions brought into a folder."""
    files = {
        Path(folder, path)
        for distribution in distributions(path=[str(folder)])
        if canonicalize_name(distribution.name) in names
        for path in distribution.files or ()
        if ".so" in path.name
    }
    return tuple(_opened(sorted(files), folder, Origin.BESIDE))


def tabled_libraries(table: SymbolTable) -> tuple[Library, ...]:
    """Return the libraries of torch and its CUDA as a symbol table has them."""
    return tuple(
        Library(
            name=entry.path.name,
            place=entry.path,
            origin=Origin.TORCH if entry.path.parts[0] == "torch" else Origin.CUDA,
            contents=Tabled(table, number),
        )
        for number, entry in enumerate(table.libraries)
    )


def tabled_interpreter(table: SymbolTable) -> Library:
    """Return the interpreter, or the libpython that it is linked to, of a symbol table."""
    entry = table.libraries[0]
    return Library(
        name=entry.path.name,
        place=entry.path,
        origin=Origin.INTERPRETER,
        contents=Tabled(table, 0),
    )


def interpreter_libraries(path: Path) -> tuple[Library, ...]:
    """Return the Python program itself, and libpython and its like where it is linked to them."""
    try:
        program = path.resolve(strict=True)
        elf = ElfFile.open(program)
    except (ElfError, OSError) as error:
        msg = (
            f"{str(path)!r} is not a Python executable ({error}). "
            "Name the program itself: what `python -c 'import sys; print(sys.executable)'` prints."
        )
        raise MachineError(msg) from error
    folders = [
        Path(part.replace("${ORIGIN}", "$ORIGIN").replace("$ORIGIN", str(program.parent)))
        for part in (*elf.rpath, *elf.runpath)
    ]
    found = [program]
    for name in elf.needed:
        places = (folder / name for folder in (*folders, program.parent.parent / "lib"))
        place = next((one for one in places if one.is_file()), None)
        if place is not None and name not in PROMISED:
            found.append(place)
    return tuple(_opened(found, Path("/"), Origin.INTERPRETER))


class SystemLibraries:
    """The libraries of this machine's system, each looked for when it is asked for.

    Of those that not every system has, only what is ``asked`` for.
    """

    def __init__(self, machine: Machine | None, asked: Iterable[str] = ()) -> None:
        self._machine = machine
        self._allowed = PROMISED | {*asked}
        self._found: dict[str, Library | None] = {}
        self._listed: Mapping[str, Sequence[Path]] | None = None

    def get(self, name: str) -> Library | None:
        """Return the library of that name, if the system has one for this machine."""
        if name not in self._found:
            places = self._places(name) if name in self._allowed else ()
            libraries = _opened(places, Path("/"), Origin.SYSTEM)
            fitting = (one for one in libraries if _machine_of(one) == self._machine)
            self._found[name] = next(fitting, None)
        return self._found[name]

    def _places(self, name: str) -> Iterator[Path]:
        for folder in _SYSTEM_DIRS:
            for place in (Path(folder), *(Path(folder) / triplet for triplet in _MULTIARCH)):
                if (place / name).is_file():
                    yield place / name
        if self._listed is None:
            self._listed = _known_to_loader()
        yield from self._listed.get(name, ())


def _machine_of(library: Library) -> Machine | None:
    return library.contents.machine if isinstance(library.contents, Opened) else None


def _opened(paths: Iterable[Path], base: Path, origin: Origin) -> Iterator[Library]:
    """Open what is a library; a linker script and the like is none."""
    for path in paths:
        with contextlib.suppress(ElfError, OSError):
            place = PurePosixPath(path.relative_to(base)) if origin is not Origin.SYSTEM else path
            yield Library(
                name=path.name,
                place=PurePosixPath(place),
                origin=origin,
                contents=Opened(ElfFile.open(path)),
            )


def _known_to_loader() -> Mapping[str, Sequence[Path]]:
    """Return what ldconfig lists, by name."""
    try:
        listing = run(["ldconfig", "-p"], env=_TOOL_ENV).output
    except (MachineError, ProcessError):
        return {}
    known: dict[str, list[Path]] = {}
    for line in listing.splitlines():
        match = _LDCONFIG_LINE.fullmatch(line)
        if match:
            known.setdefault(Path(match[2]).name, []).append(Path(match[2]))
    return known
