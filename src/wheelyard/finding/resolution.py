"""Resolve a question for one cell with uv: every distribution that is installed, or a conflict."""

from __future__ import annotations

import dataclasses
import re
import tempfile
import tomllib
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import uv
from packaging.utils import NormalizedName, canonicalize_name
from packaging.version import Version

from wheelyard.errors import FetchError, ProcessError
from wheelyard.model.releases import default_torch_build
from wheelyard.network.children import pytorch_index, uv_environment, with_pytorch_index
from wheelyard.network.uv_config import resolving_config, resolving_environment
from wheelyard.network.uv_indexes import run_uv

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from wheelyard.finding.offer import Offer
    from wheelyard.model.cell import Cell
    from wheelyard.network.indexes import IndexSettings

GLIBC_OF_UV = ((2, 17), (2, 28), *((2, minor) for minor in range(31, 41)))
"""The C libraries that uv resolves for."""

_UNSOLVED = "No solution found"
_FAILED_BUILD = re.compile(r"Failed to build `([^`]+)`")
_SOURCE_ONLY = re.compile(r"Wheels are required for `([^`]+)`")
_DATE = (1980, 1, 1, 0, 0, 0)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class RemoteFile:
    """A file that an index has, as a lock pins it."""

    name: str
    url: str = dataclasses.field(repr=False)
    sha256: str
    size: int | None


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Pinned:
    """One distribution of a resolution."""

    name: NormalizedName
    version: Version
    wheels: tuple[RemoteFile, ...]
    sdist: RemoteFile | None


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Resolved:
    """What would be installed, by name, and which of it is ours."""

    packages: Mapping[NormalizedName, Pinned]
    ours: tuple[Offer, ...]
    torch_index: str = ""
    """The index that torch comes from, where it is not the user's own."""

    @property
    def from_source(self) -> tuple[Pinned, ...]:
        """Those that the index has no wheel of: whoever installs them runs their build."""
        ours = {offer.name for offer in self.ours}
        return tuple(
            item for item in self.packages.values() if not item.wheels and item.name not in ours
        )

    def version(self, name: str) -> Version | None:
        found = self.packages.get(canonicalize_name(name))
        return None if found is None else found.version


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Conflict:
    """Why there is no resolution, in uv's words."""

    text: str


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Resolver:
    """uv with the user's indexes; it downloads metadata only."""

    settings: IndexSettings
    env: Mapping[str, str] = dataclasses.field(repr=False)
    scratch: Path
    ours: frozenset[NormalizedName]
    """The projects that are never taken from a source distribution."""
    pythons: Mapping[str, Path] = dataclasses.field(default_factory=dict)
    """Free-threaded interpreters of this machine, by version: uv resolves for one that is there."""

    def resolve(
        self,
        requirements: Iterable[str],
        cell: Cell,
        *,
        offers: Iterable[Offer],
        glibc: tuple[int, int],
        with_torch: bool = True,
    ) -> Resolved | Conflict:
        """Return every distribution for ``cell``; only these offers of ours may be taken."""
        offers = tuple(offers)
        wanted = [*requirements, *([f"torch=={_torch(cell)}"] if with_torch else [])]
        self.scratch.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=self.scratch, prefix="resolve-") as folder:
            place = Path(folder)
            _write_stubs(offers, place / "ours")
            (place / "requirements.in").write_text("".join(f"{line}\n" for line in wanted))
            config = resolving_config(self.settings, find_links=[str(place / "ours")])
            (place / "uv.toml").write_text(config, encoding="utf-8")
            conflict = self._run(place, cell, glibc=glibc, only_wheels=True)
            if conflict is not None and _SOURCE_ONLY.search(conflict.text):
                # some projects publish no wheel at all; what they hold is seen when it is built
                conflict = self._run(place, cell, glibc=glibc, only_wheels=False)
            if conflict is not None:
                return conflict
            resolved = _read_pylock(place / "pylock.toml", offers)
            return dataclasses.replace(resolved, torch_index=self._torch_index(cell))

    def _run(
        self, place: Path, cell: Cell, *, glibc: tuple[int, int], only_wheels: bool
    ) -> Conflict | None:
        command = [uv.find_uv_bin(), "pip", "compile", "--quiet", "--config-file", "uv.toml"]
        command += ["--format", "pylock.toml", "--output-file", "pylock.toml"]
        command += ["--python-platform", _platform(cell, glibc)]
        if cell.python.free_threaded:
            command += ["--python", str(self.pythons[str(cell.python)])]
        else:
            command += ["--python-version", str(cell.python)]
        only = [":all:"] if only_wheels else sorted(self.ours)
        command += [word for name in only for word in ("--only-binary", name)]
        try:
            run_uv([*command, "requirements.in"], env=self._child_env(cell), cwd=place)
        except ProcessError as error:
            unbuilt = _FAILED_BUILD.search(error.tail)
            if unbuilt is not None and not only_wheels:
                return Conflict(
                    text=f"{unbuilt[1]} has no wheel on the index, no recipe here, and a source "
                    "that does not tell what it requires"
                )
            if _UNSOLVED not in error.tail:
                msg = (
                    f"The dependencies for {cell.identifier} could not be resolved:\n"
                    f"{error.tail.rstrip()}\nIf the index cannot be reached, `wheelyard doctor "
                    "network` measures every way to it."
                )
                raise FetchError(msg) from error
            return Conflict(text=error.tail)
        return None

    def _child_env(self, cell: Cell) -> dict[str, str]:
        child = uv_environment(self.settings, self.env, resolving=True)
        child = resolving_environment(child)
        if self._torch_index(cell):
            child = with_pytorch_index(child, self.settings, label=cell.torch.cuda.label)
            child["UV_INDEX_STRATEGY"] = "unsafe-best-match"
        return child

    def _torch_index(self, cell: Cell) -> str:
        if default_torch_build(cell.torch.version, cell.machine) == cell.torch:
            return ""
        return pytorch_index(self.settings, label=cell.torch.cuda.label)


def _torch(cell: Cell) -> str:
    is_default = default_torch_build(cell.torch.version, cell.machine) == cell.torch
    return str(cell.torch.version if is_default else cell.torch)


def _platform(cell: Cell, glibc: tuple[int, int]) -> str:
    known = [one for one in GLIBC_OF_UV if one <= glibc] or [GLIBC_OF_UV[0]]
    return f"{cell.machine}-manylinux_{known[-1][0]}_{known[-1][1]}"


def _write_stubs(offers: Iterable[Offer], folder: Path) -> None:
    """Write wheels that hold metadata and nothing else: a resolver reads no more."""
    folder.mkdir()
    for offer in offers:
        name = f"{str(offer.name).replace('-', '_')}-{offer.version}.dist-info"
        with zipfile.ZipFile(folder / offer.filename, "w") as archive:
            for member, content in (
                ("METADATA", offer.metadata),
                ("WHEEL", b"Wheel-Version: 1.0\nGenerator: wheelyard\nRoot-Is-Purelib: false\n"),
                ("RECORD", b""),
            ):
                archive.writestr(zipfile.ZipInfo(f"{name}/{member}", _DATE), content)


def _read_pylock(path: Path, offers: Iterable[Offer]) -> Resolved:
    document = tomllib.loads(path.read_text(encoding="utf-8"))
    packages = [_pinned(entry) for entry in document.get("packages", ())]
    by_version = {(offer.name, offer.version): offer for offer in offers}
    return Resolved(
        packages={item.name: item for item in sorted(packages, key=lambda item: item.name)},
        ours=tuple(
            by_version[item.name, item.version]
            for item in packages
            if (item.name, item.version) in by_version
        ),
    )


def _pinned(entry: dict[str, Any]) -> Pinned:
    sdist = entry.get("sdist")
    return Pinned(
        name=canonicalize_name(entry["name"]),
        version=Version(entry["version"]),
        wheels=tuple(_file(item) for item in entry.get("wheels", ())),
        sdist=None if sdist is None else _file(sdist),
    )


def _file(entry: dict[str, Any]) -> RemoteFile:
    url = str(entry.get("url") or entry.get("path"))
    return RemoteFile(
        name=str(entry.get("name") or url.rpartition("/")[2].partition("#")[0]).replace("%2B", "+"),
        url=url,
        sha256=entry["hashes"]["sha256"],
        size=entry.get("size"),
    )
