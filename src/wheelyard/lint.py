"""Everything that is wrong with the files of a farm, found at once and without building."""

from __future__ import annotations

import ast
import dataclasses
import re
import tomllib
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from packaging.licenses import InvalidLicenseExpression, canonicalize_license_expression
from packaging.utils import InvalidSdistFilename, parse_sdist_filename

from wheelyard.errors import ImpossibleCellError, LockError, UnknownNameError
from wheelyard.farm import Farm, read_farm_files
from wheelyard.model.possibility import reason_cuda_cannot_compile, reasons_against_build
from wheelyard.model.source import SdistSource
from wheelyard.planning.locks import wanted_locks

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from wheelyard.model.cell import CudaVersion, Machine, TorchBuild
    from wheelyard.model.matrix import Matrix
    from wheelyard.model.recipe import Patch, Recipe, RecipeVersion

_TOLD: Final = ("memory-per-job", "effort")
_LOCKS: Final = ("build", "runtime")
"""The kinds that recipes ask for; the others are of the matrix, or of who builds."""
_SCHEMES: Final = ("https://", "http://")
_DIFF_BEGINS: Final = re.compile(r"^(?:diff --git |--- )", re.MULTILINE)


class Severity(StrEnum):
    """Whether it has to be mended."""

    ERROR = "error"
    WARNING = "warning"


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Problem:
    """One thing that is wrong."""

    file: str
    """Relative to the farm."""
    message: str
    severity: Severity = Severity.ERROR


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Linted:
    """What was looked at, and all that is wrong with it."""

    recipes: int
    problems: tuple[Problem, ...]

    @property
    def passed(self) -> bool:
        return not any(one.severity is Severity.ERROR for one in self.problems)


def lint_farm(folder: Path) -> Linted:
    """Look at every recipe, at what belongs to it, and at what belongs to none."""
    files = read_farm_files(folder)
    # an error of reading names its file itself
    problems = [Problem(file="", message=str(error)) for error in files.errors]
    farm = files.farm
    if farm is not None:
        for recipe in farm.recipes:
            problems += _recipe_problems(recipe, farm)
        # a recipe that cannot be read may be the one that wants them
        if not files.errors:
            problems += _leftovers(farm)
        problems += _lock_problems(farm)
    count = sum(1 for _ in folder.glob("recipes/*.toml"))
    return Linted(recipes=count, problems=tuple(problems))


def _recipe_problems(recipe: Recipe, farm: Farm) -> Iterator[Problem]:
    file = f"recipes/{recipe.name}.toml"
    errors = (
        *_description_errors(recipe),
        *_untold(farm.folder / file),
        *_contents_errors(recipe),
        *_gpu_arch_errors(recipe),
        *(error for version in recipe.versions for error in _version_errors(version, farm.matrix)),
        *_series_errors(recipe),
    )
    yield from (Problem(file=file, message=message) for message in errors)
    for message in (*_idle_gpu_archs(recipe, farm.matrix), *_idle_patches(recipe, farm.matrix)):
        yield Problem(file=file, message=message, severity=Severity.WARNING)
    yield from _script_problems(farm.smoke_path(recipe.name), farm)
    patches = {patch.filename: patch for one in recipe.versions for patch in one.patches}
    for patch in patches.values():
        yield from _patch_problems(farm.patch_path(recipe.name, patch), farm)


def _description_errors(recipe: Recipe) -> Iterator[str]:
    if not recipe.summary.strip() or "\n" in recipe.summary:
        yield f"`summary` is {recipe.summary!r}; say in one line what it is"
    if not recipe.homepage.startswith(_SCHEMES):
        yield f"`homepage` is {recipe.homepage!r}, which is no URL"
    try:
        canonical = canonicalize_license_expression(recipe.license)
    except InvalidLicenseExpression as error:
        yield f"`license` is no SPDX expression: {error}"
        return
    if canonical != recipe.license:
        yield f"`license` is {recipe.license!r}; SPDX writes {canonical!r}"


def _untold(path: Path) -> Iterator[str]:
    """Find estimates that are left to a default, which fits no package in particular."""
    build = tomllib.loads(path.read_text(encoding="utf-8"))["build"]
    for key in _TOLD:
        if key not in build:
            yield f"`build.{key}` is missing; builds are planned by it"


def _contents_errors(recipe: Recipe) -> Iterator[str]:
    found: dict[str, None] = {}
    for version in recipe.versions:
        contents = version.contents
        if not contents.compiled:
            found["`wheel.extensions` is empty; a wheel without compiled code would pass"] = None
        for extension in contents.extensions:
            top = extension.partition(".")[0]
            if top not in contents.top_levels:
                found[f"{extension!r} is an extension, but {top!r} is no top level"] = None
        for library in contents.libraries:
            top = library.partition("/")[0]
            if top not in contents.top_levels or not library.endswith(".so"):
                what = f"{library!r} is no library of a top level"
                found[f"{what}; write its path in the wheel, as 'name/_ops.so'"] = None
        if bool(version.gpu_archs) != bool(version.build.effort.device):
            has = "GPU targets" if version.gpu_archs else "no GPU targets"
            device = version.build.effort.device
            found[f"`build.effort.device` is {device:g}, and there are {has}"] = None
    yield from found


def _gpu_arch_errors(recipe: Recipe) -> Iterator[str]:
    for since, archs in recipe.versions[0].gpu_archs:
        try:
            reason = reason_cuda_cannot_compile(since, archs)
        except UnknownNameError as error:
            reason = str(error)
        if reason is not None:
            yield f"`gpu-archs.{str(since)!r}`: {reason}"


def _idle_gpu_archs(recipe: Recipe, matrix: Matrix) -> Iterator[str]:
    rows = [since for since, _ in recipe.versions[0].gpu_archs]
    asked = {_row(rows, torch.cuda) for torch in matrix.torches}
    for since in rows:
        if since not in asked:
            yield f"`gpu-archs.{str(since)!r}` is for no torch build of matrix.toml"


def _row(rows: list[CudaVersion], cuda: CudaVersion) -> CudaVersion | None:
    return max((since for since in rows if since <= cuda), default=None)


def _version_errors(version: RecipeVersion, matrix: Matrix) -> Iterator[str]:
    if isinstance(version.source, SdistSource):
        yield from _sdist_errors(version, version.source)
    refusals = {
        torch: [_refusal(version, torch, machine) for machine in matrix.machines]
        for torch in matrix.torches
    }
    if all(all(reasons) for reasons in refusals.values()):
        listed = "; ".join(f"{torch}: {reasons[0]}" for torch, reasons in refusals.items())
        yield f"{version.version} can be built for no torch build of matrix.toml ({listed})"


def _refusal(version: RecipeVersion, torch: TorchBuild, machine: Machine) -> str:
    """Say why there is no job of this version with this torch; empty if there is."""
    own = version.conditions.reasons_against_torch(torch)
    if own:
        return own[0]
    try:
        archs = version.default_gpu_archs(torch.cuda)
        return " ".join(reasons_against_build(torch, machine, archs))
    except (ImpossibleCellError, UnknownNameError) as error:
        return str(error)


def _sdist_errors(version: RecipeVersion, source: SdistSource) -> Iterator[str]:
    try:
        found = parse_sdist_filename(source.filename)
    except InvalidSdistFilename as error:
        yield f"{version.version}: {error}"
        return
    if found != (version.recipe, version.version):
        yield f"{version.version} is made of {source.filename!r}, which is another's"


def _series_errors(recipe: Recipe) -> Iterator[str]:
    """Find patches that stand in another order than their numbers say, or share one."""
    for version in recipe.versions:
        numbers = [patch.filename[:4] for patch in version.patches if "/" not in patch.filename]
        if numbers != sorted(set(numbers)):
            yield f"the patches of {version.version} are not numbered in their order: {numbers}"


def _idle_patches(recipe: Recipe, matrix: Matrix) -> Iterator[str]:
    """Find patches that every cell of the matrix is too new or too old for."""
    seen: dict[str, bool] = {}
    for version in recipe.versions:
        for patch in version.patches:
            is_used = any(_may_apply(patch, version, torch) for torch in matrix.torches)
            seen[patch.filename] = seen.get(patch.filename, False) or is_used
    for filename, is_used in seen.items():
        if not is_used:
            yield f"{filename!r} applies to no torch build of matrix.toml"


def _may_apply(patch: Patch, version: RecipeVersion, torch: TorchBuild) -> bool:
    conditions = (patch.conditions, version.conditions)
    return not any(one.reasons_against_torch(torch) for one in conditions)


def _script_problems(path: Path, farm: Farm) -> Iterator[Problem]:
    """Find a script that cannot run, or does not say what it is for."""
    file = str(path.relative_to(farm.folder))
    try:
        module = ast.parse(path.read_bytes(), filename=file)
    except SyntaxError as error:
        yield Problem(file=file, message=f"it is no Python: {error.msg}, line {error.lineno}")
        return
    if not ast.get_docstring(module):
        yield Problem(file=file, message="it has no docstring that says what it does and why")


def _patch_problems(path: Path, farm: Farm) -> Iterator[Problem]:
    if path.suffix == ".py":
        yield from _script_problems(path, farm)
        return
    before = _DIFF_BEGINS.split(path.read_text(encoding="utf-8", errors="replace"), maxsplit=1)[0]
    if not before.strip():
        file = str(path.relative_to(farm.folder))
        yield Problem(file=file, message="nothing above the diff says why it is there")


def _lock_problems(farm: Farm) -> Iterator[Problem]:
    for request in dict.fromkeys(wanted_locks(farm)):
        try:
            farm.lock(request)
        except LockError as error:
            yield Problem(file=str(request.path), message=str(error))


def _leftovers(farm: Farm) -> Iterator[Problem]:
    """Find locks and patches that no recipe asks for."""
    wanted = {farm.folder / request.path for request in wanted_locks(farm)}
    wanted |= {
        farm.patch_path(recipe.name, patch)
        for recipe in farm.recipes
        for version in recipe.versions
        for patch in version.patches
    }
    lying = [path for kind in _LOCKS for path in farm.folder.glob(f"locks/{kind}/*.txt")]
    lying += [
        path for suffix in ("patch", "py") for path in farm.folder.glob(f"patches/*/*.{suffix}")
    ]
    for path in sorted({*lying} - wanted):
        file = str(path.relative_to(farm.folder))
        message = "no recipe asks for it; delete it, or name it where it belongs"
        yield Problem(file=file, message=message, severity=Severity.WARNING)
