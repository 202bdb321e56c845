"""The farm: the folder with recipes, patches, locks and the matrix, read once."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

from wheelyard.errors import InputFileError, LockError, WheelyardError
from wheelyard.files import disk_errors, replace_file
from wheelyard.model.cell import parse_version
from wheelyard.model.decode import decode_table
from wheelyard.model.lock import HEADER, Lock, LockRequest
from wheelyard.model.matrix import Matrix, parse_matrix
from wheelyard.model.recipe import Patch, Recipe, RecipeVersion, find_recipe, parse_recipe
from wheelyard.model.recipe_file import MatrixFile, RecipeFile
from wheelyard.model.redistributables import redist_lock_request

if TYPE_CHECKING:
    from collections.abc import Iterable

    from packaging.utils import NormalizedName

    from wheelyard.model.cell import CudaVersion
    from wheelyard.model.job import Job

_SHARED = (
    "matrix.toml",
    "locks/redist/*.toml",
    "locks/toolkit/*.txt",
    "locks/torch/*.txt",
    "patches/*.py",
    "patches/common/*.py",
    "recipes/*.py",
)
"""What belongs to no recipe in particular."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Farm:
    """Recipes and matrix as values, and the folder where patches, locks and tests lie."""

    folder: Path
    recipes: tuple[Recipe, ...]
    matrix: Matrix
    patch_helpers: tuple[Path, ...]
    """The modules that patches which are code share."""

    def recipe(self, name: str) -> Recipe:
        """Return the recipe of that name, or name the nearest one."""
        return find_recipe(self.recipes, name)

    def recipe_version(self, name: str, version: str | None) -> RecipeVersion:
        """Return the recipe version of these names; the newest without ``version``."""
        return self.recipe(name).version(version)

    def patch_path(self, recipe: NormalizedName, patch: Patch) -> Path:
        return self.folder / "patches" / patch.path(recipe)

    def patch_files(self, job: Job) -> dict[str, str]:
        """Name what decides how a job's source is patched: its patches, and what code shares.

        By the name in the fingerprint, where each lies below ``patches/``.
        """
        recipe = job.version.recipe
        files = {patch.filename: patch.path(recipe) for patch in job.patches}
        if any(name.endswith(".py") for name in files):
            files |= {path.name: path.name for path in self.patch_helpers}
        return files

    def smoke_path(self, recipe: NormalizedName) -> Path:
        """The smoke test of a recipe, run with its wheel installed."""
        return self.folder / "recipes" / recipe / "smoke.py"

    def smoke_helpers(self) -> tuple[Path, ...]:
        """The modules that smoke tests share."""
        return tuple(sorted((self.folder / "recipes").glob("*.py")))

    def lock(self, request: LockRequest) -> Lock:
        """Read the lock that answers ``request``; a missing or stale one is an error."""
        path = self.folder / request.path
        remedy = f"Run `wheelyard update {request.kind} {request.name}`."
        try:
            text = path.read_text(encoding="utf-8")
        except FileNotFoundError:
            msg = f"There is no lock {request.path} in {self.folder}. {remedy}"
            raise LockError(msg) from None
        first = text.partition("\n")[0]
        if first != request.header:
            msg = (
                f"The lock {path} is stale: it says {first.removeprefix(HEADER)!r}, "
                f"wanted is {request.header.removeprefix(HEADER)!r}. {remedy}"
            )
            raise LockError(msg)
        return Lock(request=request, text=text)

    def redist_lock(self, cuda: CudaVersion) -> Lock | None:
        """Read the lock of NVIDIA's archives of the newest release of ``cuda``, if there is one."""
        names = [path.stem for path in self.folder.glob(f"locks/redist/{cuda}.*.toml")]
        newest = max(names, key=parse_version, default=None)
        return None if newest is None else self.lock(redist_lock_request(newest))


def find_farm_folder(start: Path) -> Path:
    """Return the nearest folder at or above ``start`` that is a farm, or the one we ship."""
    return farm_around(start) or shipped_farm()


def farm_around(start: Path) -> Path | None:
    """Return the nearest folder at or above ``start`` that is a farm, if there is one."""
    return next((folder for folder in (start, *start.parents) if _is_farm(folder)), None)


def shipped_farm() -> Path:
    """Return the farm that is packed with wheelyard, or in a checkout that of its repository."""
    packed, checkout = Path(__file__).parent / "packed", Path(__file__).parents[2]
    return packed if packed.is_dir() or not _is_farm(checkout) else checkout


def is_packed(folder: Path) -> bool:
    """Whether it is a farm inside wheelyard's own distribution, where nothing may be written."""
    return folder.is_relative_to(Path(__file__).parent)


def _is_farm(folder: Path) -> bool:
    return (folder / "matrix.toml").is_file() and (folder / "recipes").is_dir()


def make_farm(folder: Path) -> None:
    """Lay out a farm for recipes of one's own: the matrix, and what recipes and jobs share."""
    shipped = shipped_farm()
    for path in sorted(path for pattern in _SHARED for path in shipped.glob(pattern)):
        bring_shared(path.relative_to(shipped), folder)


def bring_shared(path: Path, folder: Path) -> None:
    """Copy a file of the shipped farm to its place in another one that has it not."""
    target = folder / path
    if not target.exists():
        with disk_errors(target):
            replace_file(target, (shipped_farm() / path).read_bytes())


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class FarmFiles:
    """What could be read of a farm, and why the rest could not."""

    farm: Farm | None
    """With the recipes that could be read; nothing without a matrix."""
    errors: tuple[WheelyardError, ...]


def load_farm(folder: Path) -> Farm:
    """Read every recipe and the matrix; all files that cannot be used are named together."""
    found = read_farm_files(folder)
    if found.errors or found.farm is None:
        raise InputFileError("\n".join(str(error) for error in found.errors))
    return found.farm


def read_farm_files(folder: Path) -> FarmFiles:
    """Read every recipe and the matrix, each by itself."""
    if not (folder / "recipes").is_dir():
        msg = f"{folder} is not a farm: it has no folder `recipes`. Give another with --farm DIR."
        raise InputFileError(msg)
    errors: list[WheelyardError] = []
    recipes = _load_recipes(folder, errors)
    matrix = _load_matrix(folder, errors)
    if matrix is None:
        return FarmFiles(farm=None, errors=tuple(errors))
    farm = Farm(
        folder=folder,
        recipes=tuple(recipes),
        matrix=matrix,
        patch_helpers=tuple(sorted((folder / "patches").glob("*.py"))),
    )
    return FarmFiles(farm=farm, errors=tuple(errors))


def _load_recipes(folder: Path, errors: list[WheelyardError]) -> list[Recipe]:
    recipes = []
    for path in sorted((folder / "recipes").glob("*.toml")):
        try:
            recipe = _load_recipe(path)
            _require_files(_files_of(folder, recipe), origin=path)
        except WheelyardError as error:
            errors.append(error)
        else:
            recipes.append(recipe)
    return recipes


def _load_recipe(path: Path) -> Recipe:
    file = decode_table(_read(path), RecipeFile, origin=str(path))
    recipe = parse_recipe(file, origin=str(path))
    if recipe.name != path.stem:
        msg = f"{path} is the recipe of {recipe.name!r}; name the file {recipe.name}.toml"
        raise InputFileError(msg)
    return recipe


def _files_of(folder: Path, recipe: Recipe) -> Iterable[Path]:
    yield folder / "recipes" / recipe.name / "smoke.py"
    for version in recipe.versions:
        for patch in version.patches:
            yield folder / "patches" / patch.path(recipe.name)


def _require_files(paths: Iterable[Path], *, origin: Path) -> None:
    missing = sorted({str(path) for path in paths if not path.is_file()})
    if missing:
        msg = f"{origin} needs these files, which are not there: {', '.join(missing)}"
        raise InputFileError(msg)


def _load_matrix(folder: Path, errors: list[WheelyardError]) -> Matrix | None:
    path = folder / "matrix.toml"
    try:
        file = decode_table(_read(path), MatrixFile, origin=str(path))
        return parse_matrix(file, origin=str(path))
    except WheelyardError as error:
        errors.append(error)
        return None


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        msg = f"Cannot read {path}: {error}"
        raise InputFileError(msg) from None
