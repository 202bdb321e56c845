"""What compiled files need of a system beyond a manylinux policy, and who put it there."""

from __future__ import annotations

import dataclasses
import re
import tempfile
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, NoReturn

from wheelyard.abi.elf import ElfError, ElfFile
from wheelyard.errors import RepairError
from wheelyard.leavings import find_left
from wheelyard.model.policies import (
    first_distributions,
    glibc_number,
    oldest_policy_with,
    policy_for,
)
from wheelyard.wheels.archive import open_wheel
from wheelyard.wheels.check_binaries import read_binaries
from wheelyard.wheels.unpack import unpack

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from collections.abc import Set as AbstractSet

    from wheelyard.model.cell import Machine
    from wheelyard.model.platform import PlatformFloor
    from wheelyard.model.policies import Policy
    from wheelyard.wheels.check_binaries import Binary

_NAMED_OBJECTS = 4


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Excess:
    """A symbol version that a file asks for and the policy does not have."""

    binary: Binary
    library: str
    version: str

    @property
    def set_name(self) -> str:
        return self.version.partition("_")[0]

    @property
    def rank(self) -> tuple[bool, tuple[int, ...]]:
        """Sorts the version that fewest systems have last; words are newer than any number."""
        digits = tuple(int(part) for part in re.findall(r"\d{1,9}", self.version))
        return not re.fullmatch(r"\w+?_[\d.]+", self.version), digits

    @property
    def symbols(self) -> tuple[str, ...]:
        found = self.binary.elf.undefined_symbols()
        return tuple(sorted(one.name for one in found if one.version == self.version))


def find_excess(
    binaries: Iterable[Binary], policy: Policy, *, glibc: tuple[int, int], own: AbstractSet[str]
) -> Iterator[Excess]:
    """Yield what the files need of libraries not their ``own`` that systems need not have."""
    for binary in binaries:
        for library, version in needed_versions(binary.elf, own):
            if not policy.has_version(version, glibc=glibc):
                yield Excess(binary=binary, library=library, version=version)


def own_libraries(binaries: Iterable[Binary]) -> frozenset[str]:
    binaries = tuple(binaries)
    names = {PurePosixPath(binary.member).name for binary in binaries}
    return frozenset(names | {binary.elf.soname for binary in binaries if binary.elf.soname})


def needed_versions(elf: ElfFile, own: AbstractSet[str]) -> Iterator[tuple[str, str]]:
    """Yield library and symbol version, for libraries that the wheel does not bring."""
    for library, versions in elf.version_needs.items():
        if library not in own:
            yield from ((library, version) for version in versions)


def refuse_above(
    floor: PlatformFloor,
    wheel: Path,
    *,
    machine: Machine,
    object_folders: Sequence[Path],
    scratch: Path,
) -> NoReturn:
    """Say which symbols keep a wheel above the floor, and what they come from.

    ``object_folders`` are where its build compiled.
    """
    with (
        open_wheel(wheel) as archive,
        tempfile.TemporaryDirectory(prefix="excess-", dir=scratch) as folder,
    ):
        binaries, _ = read_binaries(unpack(archive, Path(folder), algorithms={}).elf_paths)
        own, policy = own_libraries(binaries), policy_for(floor.glibc, machine)
        excess = sorted(
            find_excess(binaries, policy, glibc=floor.glibc, own=own),
            key=lambda one: (one.binary.member, one.rank),
        )
        origins = find_origins({name for one in excess for name in one.symbols}, object_folders)
        lines = [f"  {line}" for one in excess for line in _lines(one, origins, machine)]
    true = oldest_policy_with([one.version for one in excess], machine)
    other = f', or write `platform = "{true.name}"` there' if excess and true else ""
    found = "\n".join(lines or ["  what auditwheel counts beside symbol versions"])
    msg = (
        f"{wheel.name} needs newer systems than {floor}, which the farm wants it to load on:\n"
        f"{found}\n"
        "Take the calls out with a patch, or have an older system compile it (--container)"
        f"; `build.platform` in its recipe says for what systems it is{other}."
    )
    raise RepairError(msg)


def _lines(excess: Excess, origins: Mapping[str, Sequence[str]], machine: Machine) -> Iterator[str]:
    glibc = glibc_number(excess.version)
    if glibc is None:
        policy = oldest_policy_with([excess.version], machine)
        glibc = None if policy is None else policy.glibc
    systems = first_distributions(glibc) if glibc is not None else ()
    on = f", on {', '.join(systems)} and newer" if systems else ""
    for symbol in excess.symbols or ("(no symbol: by its format)",):
        objects = origins.get(symbol, ())
        come = ", ".join(objects[:_NAMED_OBJECTS]) + (" ..." if objects[_NAMED_OBJECTS:] else "")
        where = f"from {come}" if come else "from none of the objects: a library was linked in"
        yield f"{symbol}@{excess.version} of {excess.library}{on}: {excess.binary.member}, {where}"


def find_origins(symbols: AbstractSet[str], folders: Iterable[Path]) -> dict[str, tuple[str, ...]]:
    """Return by symbol the object files that ask for it, relative to the folder they are below."""
    origins: dict[str, list[str]] = {}
    for folder in folders:
        for path in find_left(folder, ".o"):
            try:
                asked = set(ElfFile.open(path).object_undefined_symbols())
            except (ElfError, OSError):
                continue
            for symbol in sorted(asked & symbols):
                origins.setdefault(symbol, []).append(str(path.relative_to(folder)))
    return {symbol: tuple(found) for symbol, found in origins.items()}
