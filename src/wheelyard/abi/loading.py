"""What is loaded when an extension is imported after torch, as ld.so of glibc decides it."""

from __future__ import annotations

import dataclasses
import posixpath
import re
from collections import deque
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Final

from wheelyard.abi.libraries import PROMISED, Origin, Tabled

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from wheelyard.abi.libraries import Library, SystemLibraries
    from wheelyard.abi.symbol_table import SymbolTable

# What ``import torch`` loads: the first for everybody (RTLD_GLOBAL), the second for itself.
_FOR_ALL: Final = "libtorch_global_deps.so"
_FOR_TORCH: Final = "libtorch_python.so"

# Libraries that come with a driver, so that builders do not have them, and what they export.
_DRIVER_SYMBOLS: Final = {
    "libcuda.so.1": re.compile(r"cu[A-Z]\w*"),
    "libibverbs.so.1": re.compile(r"ibv_\w+"),
    "libmlx5.so.1": re.compile(r"mlx5\w+"),
    "libnvcuvid.so.1": re.compile(r"cuvid\w+"),
    "libnvidia-encode.so.1": re.compile(r"NvEncodeAPI\w+"),
    "libnvidia-ml.so.1": re.compile(r"nvml[A-Z]\w*"),
}


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Scope:
    """Everything that one extension can take symbols from, in the loader's order."""

    loaded: tuple[Library, ...]
    own: tuple[Library, ...]
    """Libraries of the wheel that it does not ask for: the package may load them for everybody."""
    unlinked: tuple[Library, ...]
    """Libraries of torch that are there, but that the extension does not ask for."""
    beside: tuple[Library, ...]
    """Those of other wheels, in the same way."""
    unseen: tuple[str, ...]
    """Names of other wheels whose libraries are loaded before, and are not here."""
    missing: tuple[str, ...]
    """What is NEEDED and nobody provides."""
    absent: tuple[str, ...]
    """What every system promises and this machine lacks all the same (``libGL.so.1``)."""
    unreached: Mapping[str, PurePosixPath]
    """What is there, but not where the loader looks: the package has to load it beforehand."""
    other_versions: Mapping[str, str]
    """For a missing library, the same one with another number: ``libcudart.so.13``."""
    driver: frozenset[str]
    """Libraries of a driver that are asked for."""
    _singles: tuple[Library, ...]
    _tabled: tuple[tuple[SymbolTable, frozenset[int]], ...]

    def find(self, name: str, version: str | None = None) -> Library | None:
        """Return the first library that provides the symbol."""
        return next((one for one in self.loaded if one.exports(name, version)), None)

    def provides(self, name: str, version: str | None = None) -> bool:
        """Tell quickly whether any library provides the symbol."""
        return any(
            not numbers.isdisjoint(table.exporters(name, version))
            for table, numbers in self._tabled
        ) or any(one.exports(name, version) for one in self._singles)

    def is_own(self, name: str, version: str | None = None) -> bool:
        """Tell whether a library of the wheel, that nobody asks for, provides the symbol."""
        return any(one.exports(name, version) for one in self.own)

    def is_of_driver(self, name: str) -> bool:
        return any(_DRIVER_SYMBOLS[library].fullmatch(name) for library in self.driver)


class Process:
    """A Python process that has imported torch, and in which the wheel is installed."""

    def __init__(
        self,
        *,
        wheel: Sequence[Library],
        torch: Sequence[Library],
        system: SystemLibraries,
        beside: Sequence[Library] = (),
        unseen: tuple[str, ...] = (),
    ) -> None:
        self._wheel, self._torch, self._beside, self._unseen = wheel, torch, beside, unseen
        self._everywhere = _by_name((*wheel, *torch, *beside))
        self._by_place = {one.place: one for one in (*wheel, *torch, *beside)}
        self._system = system
        self._searches: dict[PurePosixPath, _Search] = {}
        torch_by_name = _by_name(torch)
        self._for_all = self._torch_closure(_FOR_ALL, torch_by_name)
        for_torch = self._torch_closure(_FOR_TORCH, torch_by_name)
        # What is loaded is found by its name from everywhere, without any search.
        self._loaded = {
            name: one for one in (*beside, *for_torch, *self._for_all) for name in one.names
        }

    def scope(self, library: Library, python: Sequence[Library]) -> Scope:
        """Return what ``library`` can take symbols from in this Python."""
        search = self._search(library)
        asked = {name for one in (library, *search.found) for name in one.contents.needed}
        interpreter = [
            *python,
            *self._named(name for one in python for name in one.contents.needed),
        ]
        loaded = {one.place: one for one in (*interpreter, *self._for_all, *search.found, library)}
        unknown = sorted(search.unknown)
        tables: dict[int, tuple[SymbolTable, set[int]]] = {}
        singles = []
        for one in loaded.values():
            if isinstance(one.contents, Tabled):
                table = one.contents.table
                tables.setdefault(id(table), (table, set()))[1].add(one.contents.number)
            else:
                singles.append(one)
        return Scope(
            loaded=tuple(loaded.values()),
            own=tuple(
                one for one in self._wheel if one.place not in loaded and one.name.startswith("lib")
            ),
            unlinked=tuple(one for one in self._torch if one.place not in loaded),
            beside=tuple(one for one in self._beside if one.place not in loaded),
            unseen=self._unseen,
            missing=tuple(name for name in unknown if name not in PROMISED),
            absent=tuple(name for name in unknown if name in PROMISED),
            unreached=search.unreached,
            other_versions={name: other for name in unknown if (other := self._relative(name))},
            driver=frozenset(asked & _DRIVER_SYMBOLS.keys()),
            _singles=tuple(singles),
            _tabled=tuple((table, frozenset(numbers)) for table, numbers in tables.values()),
        )

    def needing(self, library: Library) -> Iterator[Library]:
        """Yield the wheel's files that load ``library``: their scope counts for it too."""
        for one in self._wheel:
            if one.place != library.place and library.place in self._search(one).places:
                yield one

    def find(
        self, name: str, loader: Library, chain: Sequence[Library]
    ) -> tuple[Library | None, bool]:
        """Return what a NEEDED name leads to, and whether the loader itself gets there."""
        found = self._loaded.get(name) or self._by_search(name, loader, chain)
        found = found or self._system.get(name)
        return (found, True) if found is not None else (self._everywhere.get(name), False)

    def _search(self, root: Library) -> _Search:
        if root.place not in self._searches:
            self._searches[root.place] = _Search(self, root)
        return self._searches[root.place]

    def _by_search(self, name: str, loader: Library, chain: Sequence[Library]) -> Library | None:
        """Look into RUNPATH of the file that asks; else into RPATH of it and of its loaders."""
        asking = (
            [(loader, loader.contents.runpath)]
            if loader.contents.runpath
            else [(one, one.contents.rpath) for one in (loader, *chain) if not one.contents.runpath]
        )
        for one, folders in asking:
            for folder in folders:
                place = _place(folder, one, name)
                if place in self._by_place:
                    return self._by_place[place]
        return None

    def _torch_closure(self, root: str, by_name: Mapping[str, Library]) -> tuple[Library, ...]:
        """Return a library of torch and all that it needs: torch finds its own, it is said."""
        found: dict[str, Library] = {}
        queue = deque([root])
        while queue:
            name = queue.popleft()
            library = by_name.get(name) or self._system.get(name)
            if library is not None and name not in found:
                found[name] = library
                queue.extend(library.contents.needed)
        return tuple(found.values())

    def _named(self, names: Iterable[str]) -> Iterator[Library]:
        yield from (found for name in names if (found := self._system.get(name)) is not None)

    def _relative(self, missing: str) -> str | None:
        """Return the library that differs from the missing one in its number only."""
        stem = missing.partition(".so")[0]
        return next((name for name in self._everywhere if name.partition(".so")[0] == stem), None)


class _Search:
    """What one file needs, and that needs in turn, breadth first as the loader."""

    def __init__(self, process: Process, root: Library) -> None:
        self.found: list[Library] = []
        self.unknown: set[str] = set()
        self.unreached: dict[str, PurePosixPath] = {}
        queue: deque[tuple[str, tuple[Library, ...]]] = deque(
            (name, (root,)) for name in root.contents.needed
        )
        seen = set(root.contents.needed)
        while queue:
            name, chain = queue.popleft()
            library, reached = process.find(name, chain[0], chain[1:])
            if library is None:
                # What torch's own libraries lack is torch's affair.
                if name not in _DRIVER_SYMBOLS and chain[0].origin is Origin.WHEEL:
                    self.unknown.add(name)
                continue
            if not reached:
                self.unreached[name] = library.place
            self.found.append(library)
            needed = [one for one in library.contents.needed if one not in seen]
            seen.update(needed)
            queue.extend((one, (library, *chain)) for one in needed)
        self.places = frozenset(one.place for one in self.found)


def _by_name(libraries: Iterable[Library]) -> Mapping[str, Library]:
    found: dict[str, Library] = {}
    for library in libraries:
        found.setdefault(library.name, library)
    return found


def _place(folder: str, asking: Library, name: str) -> PurePosixPath:
    """Return where a RUNPATH entry leads, for example ``$ORIGIN/../torch/lib``."""
    origin = str(asking.place.parent)
    plain = folder.replace("${ORIGIN}", "$ORIGIN").replace("$ORIGIN", origin)
    return PurePosixPath(posixpath.normpath(posixpath.join(plain, name)))
