"""Recipes: how one distribution is fetched, patched, built and tested, as frozen values."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, NoReturn, Protocol, TypeVar, assert_never
from urllib.parse import unquote, urlsplit

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import NormalizedName, canonicalize_name, is_normalized_name
from packaging.version import Version

from wheelyard.errors import ImpossibleCellError, InputFileError, UnknownNameError, UsageError
from wheelyard.model.asset_name import AssetTemplate, UpstreamReleases
from wheelyard.model.cell import CudaVersion, GpuArch
from wheelyard.model.platform import PlatformFloor
from wheelyard.model.recipe_file import (
    BuildTable,
    FolderTable,
    GitTable,
    PatchTable,
    RecipeFile,
    SdistTable,
    UrlTable,
    VersionTable,
)
from wheelyard.model.source import FolderSource, GitSource, SdistSource, Source, UrlSource
from wheelyard.model.words import nearest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from wheelyard.model.cell import Cell, PythonVersion, TorchBuild


T = TypeVar("T")
_ANY = SpecifierSet()
CUDA_MAJOR = "{cuda-major}"
"""What a recipe writes where a requirement's name follows CUDA, as ``core-cu{cuda-major}``."""
_VERSION = "{version}"
"""What it writes where a requirement follows the version of the wheel."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Effort:
    """What one wheel costs, in CPU seconds on a current core; estimates only."""

    host: float
    device: float
    """Once for every GPU target."""

    def total(self, gpu_archs: int) -> float:
        """Return the CPU seconds for so many GPU targets, with nothing in the compile cache."""
        return self.host + self.device * gpu_archs


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class BuildSettings:
    """How the build child is called."""

    requires: tuple[Requirement, ...]
    environment: tuple[tuple[str, str], ...]
    memory_per_job: int
    """In bytes."""
    floor: PlatformFloor | None
    """The oldest systems it can be built for, where those are not the farm's."""
    effort: Effort
    probe: tuple[str, ...] = ()
    """Patterns of the sources that stand for all of them, below the source tree."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Contents:
    """What the finished wheel must hold, no less and no more."""

    extensions: tuple[str, ...]
    """Importable modules that are compiled, for example ``causal_conv1d_cuda``."""
    libraries: tuple[str, ...]
    """Compiled files that the package loads itself, for example ``torch_scatter/_scatter_cuda.so``
    by ``torch.ops.load_library``, as they are installed."""
    top_levels: frozenset[str]
    requires: tuple[str, ...]
    """Beside torch, as the recipe has them: ``{cuda-major}`` stands for that of the cell."""
    beside: tuple[str, ...]
    """What it runs with, although its metadata does not say so; with ``{cuda-major}`` too."""
    loads_first: tuple[str, ...]
    """Names of those among them whose libraries the package loads before its own."""
    entry_points: frozenset[str]
    bare_version: bool
    """Whether the wheel has to keep the public version, because the package compares it."""

    @property
    def compiled(self) -> tuple[str, ...]:
        """Everything that has to be there compiled, imported or loaded."""
        return (*self.extensions, *self.libraries)

    @property
    def depends_on_cuda(self) -> bool:
        """Whether wheels for two CUDA majors run with different distributions."""
        return any(CUDA_MAJOR in text for text in (*self.requires, *self.beside))

    def requires_with(self, cuda: CudaVersion) -> tuple[Requirement, ...]:
        """Return what a wheel for that CUDA requires beside torch."""
        return tuple(Requirement(text) for text in _with_cuda(self.requires, cuda))

    def runs_with(self, cuda: CudaVersion) -> tuple[Requirement, ...]:
        """Return what a wheel for that CUDA needs beside torch, said or not."""
        beside = (Requirement(text) for text in _with_cuda(self.beside, cuda))
        return (*self.requires_with(cuda), *beside)

    def loads_before(self, cuda: CudaVersion) -> frozenset[NormalizedName]:
        """Return the distributions whose libraries are loaded before those of the wheel."""
        return frozenset(canonicalize_name(text) for text in _with_cuda(self.loads_first, cuda))


def _with_cuda(texts: Iterable[str], cuda: CudaVersion) -> Iterator[str]:
    return (text.replace(CUDA_MAJOR, str(cuda.major)) for text in texts)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Conditions:
    """The cells that something applies to."""

    python: SpecifierSet = _ANY
    torch: SpecifierSet = _ANY
    cuda: SpecifierSet = _ANY

    def reasons_against(self, cell: Cell) -> tuple[str, ...]:
        """Say in words what ``cell`` does not meet."""
        return (*self.reasons_against_python(cell.python), *self.reasons_against_torch(cell.torch))

    def reasons_against_python(self, python: PythonVersion) -> tuple[str, ...]:
        return _unmet("Python", self.python, python)

    def reasons_against_torch(self, torch: TorchBuild) -> tuple[str, ...]:
        return (
            *_unmet("torch", self.torch, torch),
            *_unmet("CUDA", self.cuda, torch.cuda),
        )


def _unmet(word: str, specifier: SpecifierSet, of: _HasVersion) -> tuple[str, ...]:
    # most are empty, and to ask packaging takes longer
    if not len(specifier) or specifier.contains(of.version, prereleases=True):
        return ()
    return (f"needs {word} {specifier}, the cell has {of.version}",)


class _HasVersion(Protocol):
    @property
    def version(self) -> Version: ...


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Patch:
    """One member of the ordered patch series."""

    filename: str
    versions: SpecifierSet
    conditions: Conditions

    def path(self, recipe: str) -> str:
        """Return where it lies below ``patches/``; several recipes may share what is common."""
        return self.filename if "/" in self.filename else f"{recipe}/{self.filename}"

    def applies(self, version: Version, cell: Cell) -> bool:
        return self.covers(version) and not self.conditions.reasons_against(cell)

    def covers(self, version: Version) -> bool:
        """Whether ``version`` is one of those that the patch was written for."""
        return self.versions.contains(version, prereleases=True)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class RecipeVersion:
    """One version of a distribution, with everything that its build needs to know."""

    recipe: NormalizedName
    version: Version
    revision: int
    source: Source
    conditions: Conditions
    build: BuildSettings
    contents: Contents
    patches: tuple[Patch, ...]
    gpu_archs: tuple[tuple[CudaVersion, tuple[GpuArch, ...]], ...]
    """Default targets from each CUDA release on, ascending; none where there is no device code."""
    gpu_arch_range: SpecifierSet = _ANY
    """The targets that it has code for."""
    releases: UpstreamReleases | None = None
    """Where upstream publishes wheels of its own."""
    label: str = dataclasses.field(init=False, compare=False, repr=False)
    """How locks and messages name it, for example ``causal-conv1d-1.7.0``."""
    patches_depend_on_python: bool = dataclasses.field(init=False, compare=False, repr=False)
    """Whether two jobs of one group may have different patch series."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "label", f"{self.recipe}-{self.version}")
        depend = any(len(patch.conditions.python) for patch in self.patches)
        object.__setattr__(self, "patches_depend_on_python", depend)

    def reasons_against_gpu_archs(self, gpu_archs: Iterable[GpuArch]) -> tuple[str, ...]:
        """Say which targets it has no code for; nvcc may well compile it for them."""
        if not len(self.gpu_arch_range):
            return ()
        refused = [
            str(arch)
            for arch in gpu_archs
            if not self.gpu_arch_range.contains(f"{arch.major}.{arch.minor}")
        ]
        if not refused:
            return ()
        return (f"has code for GPU targets {self.gpu_arch_range}, not for {', '.join(refused)}",)

    def default_gpu_archs(self, cuda: CudaVersion) -> tuple[GpuArch, ...]:
        """Return the targets built for ``cuda`` when nobody asks for others."""
        if not self.gpu_archs:
            return ()
        for since, archs in reversed(self.gpu_archs):
            if since <= cuda:
                return archs
        first = self.gpu_archs[0][0]
        msg = f"{self.label} has GPU targets from CUDA {first} on, not for CUDA {cuda}."
        raise ImpossibleCellError(msg)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Recipe:
    """Everything the farm knows about one distribution."""

    name: NormalizedName
    summary: str
    homepage: str
    license: str
    versions: tuple[RecipeVersion, ...]
    """Newest first."""

    def version(self, version: str | None) -> RecipeVersion:
        """Return the version named ``version``, or the newest."""
        if version is None:
            return self.versions[0]
        for candidate in self.versions:
            if str(candidate.version) == version:
                return candidate
        known = ", ".join(str(candidate.version) for candidate in self.versions)
        msg = f"Recipe {self.name} has no version {version!r}; it has {known}."
        raise UnknownNameError(msg)


class _Parser:
    """Turns the tables of one recipe file into values, with the key path in each error."""

    def __init__(self, origin: str) -> None:
        self.origin = origin

    def refuse(self, path: str, message: str) -> NoReturn:
        msg = f"{message} - at `$.{path}` in {self.origin}"
        raise InputFileError(msg)

    def parse(self, path: str, text: str, parser: Callable[[str], T]) -> T:
        try:
            return parser(text)
        except (UsageError, ValueError) as error:  # InvalidVersion and its like, or long numbers
            # packaging draws an arrow below a requirement, which makes three lines of one
            message = str(error).partition("\n")[0]
            self.refuse(path, message if repr(text) in message else f"{message}, given {text!r}")

    def specifier(self, path: str, text: str) -> SpecifierSet:
        return self.parse(path, text, SpecifierSet)

    def requirements(self, path: str, texts: Iterable[str]) -> tuple[Requirement, ...]:
        return tuple(
            self.parse(f"{path}[{number}]", text, Requirement) for number, text in enumerate(texts)
        )


def parse_recipe(file: RecipeFile, *, origin: str) -> Recipe:
    """Turn a decoded recipe file into a recipe; ``origin`` names the file in errors."""
    parser = _Parser(origin)
    name = file.name
    if not is_normalized_name(name):
        message = f"{name!r} is not a normalized name; write {canonicalize_name(name)!r}"
        parser.refuse("name", message)
    versions = [
        _parse_version(parser, file, table, number) for number, table in enumerate(file.versions)
    ]
    _refuse_repetition(parser, versions)
    _refuse_idle_patches(parser, file, versions)
    return Recipe(
        name=canonicalize_name(name),
        summary=file.summary,
        homepage=file.homepage,
        license=file.license,
        versions=tuple(sorted(versions, key=lambda item: item.version, reverse=True)),
    )


def _refuse_repetition(parser: _Parser, versions: list[RecipeVersion]) -> None:
    if not versions:
        parser.refuse("versions", "A recipe needs at least one version")
    seen: set[Version] = set()
    for number, item in enumerate(versions):
        if item.version in seen:
            message = f"Version {str(item.version)!r} is given twice"
            parser.refuse(f"versions[{number}].version", message)
        seen.add(item.version)


def _refuse_idle_patches(parser: _Parser, file: RecipeFile, versions: list[RecipeVersion]) -> None:
    """A patch that matches no version is a mistake, not a spare part."""
    for number, table in enumerate(file.patches):
        patch = _parse_patch(parser, table, number)
        if not any(patch.covers(item.version) for item in versions):
            known = ", ".join(str(item.version) for item in versions)
            message = f"{table.versions!r} of patch {table.file!r} matches no version of {known}"
            parser.refuse(f"patches[{number}].versions", message)


def _parse_version(
    parser: _Parser, file: RecipeFile, table: VersionTable, number: int
) -> RecipeVersion:
    path = f"versions[{number}]"
    version = parser.parse(f"{path}.version", table.version, Version)
    name = canonicalize_name(file.name)
    patches = tuple(_parse_patch(parser, patch, at) for at, patch in enumerate(file.patches))
    parsed = RecipeVersion(
        recipe=name,
        version=version,
        revision=table.revision,
        source=_parse_source(parser, table, name=name, path=path),
        conditions=Conditions(
            python=parser.specifier(f"{path}.python", table.python),
            torch=parser.specifier(f"{path}.torch", table.torch),
            cuda=parser.specifier(f"{path}.cuda", table.cuda),
        ),
        build=_parse_build(parser, file.build, table),
        contents=_parse_contents(parser, file, table, version),
        patches=tuple(patch for patch in patches if patch.covers(version)),
        gpu_archs=_parse_gpu_archs(parser, file),
        gpu_arch_range=parser.specifier(f"{path}.gpu-archs", table.gpu_archs),
        releases=_parse_releases(parser, file),
    )
    for reason in parsed.reasons_against_gpu_archs(
        arch for _, archs in parsed.gpu_archs for arch in archs
    ):
        parser.refuse("gpu-archs", f"{parsed.label} {reason}")
    return parsed


def _parse_releases(parser: _Parser, file: RecipeFile) -> UpstreamReleases | None:
    table = file.releases
    if table is None:
        return None
    return UpstreamReleases(
        repository=table.repository,
        tag=table.tag,
        template=parser.parse("releases.asset", table.asset, AssetTemplate.parse),
    )


def _parse_source(
    parser: _Parser, table: VersionTable, *, name: NormalizedName, path: str
) -> Source:
    given = [item for item in (table.sdist, table.url, table.git, table.folder) if item is not None]
    if len(given) != 1:
        parser.refuse(path, f"Give exactly one of sdist, url, git, folder; there are {len(given)}")
    match given[0]:
        case SdistTable() as sdist:
            return SdistSource(
                name=name, filename=sdist.filename, sha256=sdist.sha256, size=sdist.size
            )
        case UrlTable() as file:
            filename = file.filename or unquote(urlsplit(file.url).path).rpartition("/")[2]
            return UrlSource(url=file.url, filename=filename, sha256=file.sha256, size=file.size)
        case GitTable() as git:
            return GitSource(url=git.url, commit=git.commit, submodules=git.submodules)
        case FolderTable() as folder:
            return FolderSource(path=folder.path)
        case _ as never:
            assert_never(never)


def _parse_patch(parser: _Parser, table: PatchTable, number: int) -> Patch:
    path = f"patches[{number}]"
    return Patch(
        filename=table.file,
        versions=parser.specifier(f"{path}.versions", table.versions),
        conditions=Conditions(
            python=parser.specifier(f"{path}.python", table.python),
            torch=parser.specifier(f"{path}.torch", table.torch),
            cuda=parser.specifier(f"{path}.cuda", table.cuda),
        ),
    )


def _parse_build(parser: _Parser, build: BuildTable, table: VersionTable) -> BuildSettings:
    environment = build.environment | table.environment
    return BuildSettings(
        requires=parser.requirements("build.requires", build.requires),
        environment=tuple(sorted(environment.items())),
        memory_per_job=round(build.memory_per_job * 2**30),
        floor=None if build.platform is None else PlatformFloor.parse(build.platform),
        effort=Effort(host=build.effort.host, device=build.effort.device),
        probe=build.probe,
    )


def _parse_contents(
    parser: _Parser, file: RecipeFile, table: VersionTable, version: Version
) -> Contents:
    wheel = file.wheel
    requires = wheel.requires if table.requires is None else table.requires
    top_levels = wheel.top_levels if table.top_levels is None else table.top_levels
    contents = Contents(
        extensions=wheel.extensions if table.extensions is None else table.extensions,
        libraries=wheel.libraries,
        top_levels=frozenset(top_levels),
        requires=_parse_templates(parser, "wheel.requires", requires, version),
        beside=_parse_templates(parser, "wheel.beside", wheel.beside, version),
        loads_first=wheel.loads_first,
        entry_points=frozenset(wheel.entry_points),
        bare_version=wheel.bare_version,
    )
    _refuse_unbrought(parser, contents)
    return contents


def _parse_templates(
    parser: _Parser, path: str, texts: Iterable[str], version: Version
) -> tuple[str, ...]:
    """Make sure that each is a requirement with a CUDA major put in; normalize it without."""
    parsed = []
    for number, given in enumerate(texts):
        text = given.replace(_VERSION, str(version))
        found = parser.parse(f"{path}[{number}]", text.replace(CUDA_MAJOR, "12"), Requirement)
        parsed.append(text if CUDA_MAJOR in text else str(found))
    return tuple(parsed)


def _refuse_unbrought(parser: _Parser, contents: Contents) -> None:
    """What is loaded before the wheel has to be in its lock."""
    cuda = CudaVersion(12, 0)
    brought = {canonicalize_name(item.name) for item in contents.runs_with(cuda)}
    missing = sorted(contents.loads_before(cuda) - brought)
    if missing:
        message = f"Neither wheel.requires nor wheel.beside names {', '.join(missing)}"
        parser.refuse("wheel.loads-first", message)


def _parse_gpu_archs(
    parser: _Parser, file: RecipeFile
) -> tuple[tuple[CudaVersion, tuple[GpuArch, ...]], ...]:
    parsed = []
    for since, texts in file.gpu_archs.items():
        path = f"gpu-archs.{since!r}"
        cuda = parser.parse(path, since, CudaVersion.parse)
        if not texts:
            parser.refuse(path, "The list of GPU targets is empty")
        archs = {parser.parse(path, text, GpuArch.parse) for text in texts}
        parsed.append((cuda, tuple(sorted(archs))))
    return tuple(sorted(parsed))


def find_recipe(recipes: Iterable[Recipe], name: str) -> Recipe:
    """Return the recipe of that name, or name the nearest one."""
    by_name = {str(recipe.name): recipe for recipe in recipes}
    found = by_name.get(canonicalize_name(name))
    if found is not None:
        return found
    msg = f"There is no recipe {name!r}.{nearest(name, by_name)} Known: {', '.join(by_name)}."
    raise UnknownNameError(msg)


def source_to_json(source: Source) -> dict[str, object]:
    """Return what identifies a source's bytes; where they are fetched from does not count."""
    match source:
        case SdistSource():
            return {"kind": "sdist", "sha256": source.sha256}
        case UrlSource():
            return {"kind": "url", "sha256": source.sha256}
        case GitSource():
            return {"commit": source.commit, "kind": "git", "submodules": list(source.submodules)}
        case FolderSource():
            return {"kind": "folder", "path": source.path}
        case _:
            assert_never(source)
