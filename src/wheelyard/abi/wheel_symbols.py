"""What the libraries in one wheel export, read once for each digest."""

from __future__ import annotations

import dataclasses
import re
import tempfile
from array import array
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Final

import msgspec

from wheelyard.abi.elf import MAGIC, ElfFile
from wheelyard.abi.symbol_table import (
    LibrarySymbols,
    TableLibrary,
    TableSource,
    hash_symbols,
    table_library,
)
from wheelyard.files import appearing, disk_errors
from wheelyard.model.decode import UNREADABLE
from wheelyard.model.metadata import parse_core_metadata
from wheelyard.network.remote_zip import RemoteZip

if TYPE_CHECKING:
    from collections.abc import Callable

    import requests
    from packaging.requirements import Requirement

    from wheelyard.network.wheel_index import IndexWheel

_LIBRARY = re.compile(
    # cuSPARSELt 0.6 has its folder beside nvidia's; auditwheel puts what it grafts into *.libs
    r"(?:torch/lib|nvidia/[^/]+/lib|cusparselt/lib|[^/]+\.libs)/[^/]+\.so(?:\.\d+)*"
)
_METADATA = re.compile(r"[^/]+\.dist-info/METADATA")
# cuSPARSELt 0.7 exports 90,000 names: its API of 43 and all that is inside of it.
_CUSPARSELT = re.compile(r"libcusparseLt(?:-\w+)?\.so.*")
_PUBLIC_OF_CUSPARSELT = re.compile(r"(?:lib)?cusparseLt[\w.]*")
_KEPT_FORMAT: Final = 1


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class WheelSymbols:
    """What a wheel requires, and what its libraries export."""

    source: TableSource
    requires: tuple[Requirement, ...]
    libraries: tuple[LibrarySymbols, ...]


class _KeptLibrary(msgspec.Struct, frozen=True, kw_only=True):
    path: str
    soname: str
    needed: tuple[str, ...]
    rpath: tuple[str, ...]
    runpath: tuple[str, ...]
    named: bytes
    versioned: bytes
    serving_any: bytes


class _Kept(msgspec.Struct, frozen=True, kw_only=True):
    format: int
    filename: str
    sha256: str
    metadata: bytes
    libraries: tuple[_KeptLibrary, ...]


def is_library(path: str) -> bool:
    """Whether a file of a wheel, or of site-packages, belongs into a torch build's table."""
    return _LIBRARY.fullmatch(path) is not None


def read_library(elf: ElfFile, path: PurePosixPath) -> LibrarySymbols:
    """Read and hash what a library of a torch build exports to others."""
    symbols = elf.exported_symbols()
    if _CUSPARSELT.fullmatch(path.name):
        symbols = (one for one in symbols if _PUBLIC_OF_CUSPARSELT.fullmatch(one.name))
    return hash_symbols(table_library(elf, path), symbols)


def read_wheel(
    wheel: IndexWheel,
    *,
    session: requests.Session,
    kept: Path,
    say: Callable[[str], None],
) -> WheelSymbols:
    """Stream a wheel and read its libraries one by one, or take what ``kept`` has of its digest."""
    path = None if wheel.sha256 is None else kept / f"{wheel.sha256}.msgpack"
    found = None if path is None else _load(path)
    if found is None:
        say(f"reading {wheel.filename}")
        found = _read(wheel, session)
        with disk_errors(kept):
            kept.mkdir(parents=True, exist_ok=True)
            with appearing(kept / f"{found.sha256}.msgpack") as stream:
                stream.write(msgspec.msgpack.encode(found))
    return WheelSymbols(
        source=TableSource(filename=found.filename, sha256=found.sha256),
        requires=parse_core_metadata(found.metadata).requires,
        libraries=tuple(map(_symbols, found.libraries)),
    )


def _read(wheel: IndexWheel, session: requests.Session) -> _Kept:
    libraries: list[_KeptLibrary] = []
    metadata = b""
    with tempfile.TemporaryDirectory(prefix="wheelyard-wheel-") as scratch:
        archive = RemoteZip(wheel, session=session, scratch=Path(scratch))
        for member in archive.read(
            lambda name: bool(is_library(name) or _METADATA.fullmatch(name))
        ):
            if _METADATA.fullmatch(member.name):
                metadata = member.path.read_bytes()
            elif is_elf(member.path):
                elf = ElfFile.open(member.path, name=f"{member.name} in {wheel.filename}")
                libraries.append(_keep(read_library(elf, PurePosixPath(member.name))))
        sha256 = archive.sha256
    assert sha256 is not None
    return _Kept(
        format=_KEPT_FORMAT,
        filename=wheel.filename,
        sha256=sha256,
        metadata=metadata,
        libraries=tuple(libraries),
    )


def is_elf(path: Path) -> bool:
    """Whether a library is one: a few are linker scripts."""
    with path.open("rb") as stream:
        return stream.read(len(MAGIC)) == MAGIC


def _load(path: Path) -> _Kept | None:
    try:
        kept = msgspec.msgpack.decode(path.read_bytes(), type=_Kept)
    except (OSError, *UNREADABLE):
        return None
    return kept if kept.format == _KEPT_FORMAT else None


def _keep(one: LibrarySymbols) -> _KeptLibrary:
    return _KeptLibrary(
        path=str(one.library.path),
        soname=one.library.soname,
        needed=one.library.needed,
        rpath=one.library.rpath,
        runpath=one.library.runpath,
        named=one.named.tobytes(),
        versioned=one.versioned.tobytes(),
        serving_any=one.serving_any.tobytes(),
    )


def _symbols(kept: _KeptLibrary) -> LibrarySymbols:
    return LibrarySymbols(
        library=TableLibrary(
            path=PurePosixPath(kept.path),
            soname=kept.soname,
            needed=kept.needed,
            rpath=kept.rpath,
            runpath=kept.runpath,
        ),
        named=array("Q", kept.named),
        versioned=array("Q", kept.versioned),
        serving_any=array("Q", kept.serving_any),
    )
