"""Judge a wheel that somebody else built: which job's it is, whatever its name promises."""

from __future__ import annotations

import dataclasses
import re
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

from packaging.tags import Tag

from wheelyard.abi.symbol_table import SUFFIX
from wheelyard.abi.tables import SHIPPED_DIR, own_tables_folder
from wheelyard.errors import (
    CheckError,
    FetchError,
    ImpossibleCellError,
    IntegrityError,
    MachineError,
    UnknownNameError,
    UsageError,
)
from wheelyard.files import copy_file, disk_errors
from wheelyard.model.cell import Cell, GpuArch, PythonVersion, TorchBuild, parse_version
from wheelyard.model.job import Job
from wheelyard.model.releases import default_torch_build, torch_release
from wheelyard.planning.plan import reasons_against
from wheelyard.wheels.archive import open_wheel
from wheelyard.wheels.check import check
from wheelyard.wheels.describing import describe
from wheelyard.wheels.labels import read_labels
from wheelyard.wheels.surrounding import torch_candidates
from wheelyard.wheels.values import AdoptedWheel
from wheelyard.wheels.verdicts import find_verdict, judged_with, keep_verdict

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from wheelyard.farm import Farm
    from wheelyard.model.cell import Machine
    from wheelyard.model.metadata import CoreMetadata
    from wheelyard.model.recipe import RecipeVersion
    from wheelyard.wheels.findings import CheckReport, Surroundings
    from wheelyard.wheels.labels import Labels
    from wheelyard.wheels.values import UpstreamWheel

_ABI: Final = re.compile(r"cp\d{2,3}t?")
_SUFFIX: Final = re.compile(r"\.cpython-(\d{2,3}t?)-[\w-]+\.so$")


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class AdoptionWish:
    """What the user says about the wheel; the rest is read from it."""

    recipe: str | None = None
    python: PythonVersion | None = None
    torch: str | None = None
    """For example ``2.11.0`` or ``2.11.0+cu130``."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class JudgedWheel:
    """A wheel that passed the check as it came, and the job whose wheel it can become."""

    upstream: UpstreamWheel
    job: Job
    name: str
    """The filename that its metadata and files ask for."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class _Claims:
    """What the wheel says of itself, in places that its builder wrote and nobody renamed."""

    metadata: CoreMetadata
    machine: Machine
    pythons: Mapping[str, frozenset[PythonVersion]]
    """By the place that says so; a place that leaves it open is not there."""
    tags: frozenset[Tag]

    def name(self, python: PythonVersion) -> str:
        stem = f"{self.metadata.name.replace('-', '_')}-{self.metadata.version}"
        return f"{stem}-{python.python_tag}-{python.abi_tag}-linux_{self.machine}.whl"


def judge(
    wheel: UpstreamWheel,
    *,
    farm: Farm,
    wish: AdoptionWish,
    machine: Machine,
    cache: Path,
) -> JudgedWheel:
    """Find out which job's wheel it is; raise with the reason if it is nobody's."""
    claims = _read_claims(wheel)
    version = _recipe_version(claims, wheel, farm=farm, wish=wish)
    if claims.machine != machine:
        msg = (
            f"{wheel.filename} is for {claims.machine}, this machine is {machine}, where it cannot "
            "be tried. Adopt it on one of its kind."
        )
        raise MachineError(msg)
    python = _choose_python(claims, wheel, wanted=wish.python)
    name = claims.name(python)
    unseen = version.contents.loads_first
    report = _check(wheel, name, torch=wish.torch, machine=machine, unseen=unseen, cache=cache)
    if not report.passed:
        raise CheckError(describe(report))
    gpu_archs = _read_gpu_archs(report, version)
    torch = _choose_torch(
        _torches(wish.torch, farm=farm, machine=machine),
        Cell(python, farm.matrix.torches[0], machine),
        version=version,
        report=report,
        is_named=wish.torch is not None,
    )
    job = Job(version=version, cell=Cell(python, torch, machine), gpu_archs=gpu_archs)
    return JudgedWheel(upstream=wheel, job=job, name=name)


def take_in(judged: JudgedWheel, *, folder: Path, log_path: Path) -> AdoptedWheel:
    """Copy the very bytes that were judged to ``folder``, under their proper name."""
    upstream = judged.upstream
    path = folder / judged.name
    with disk_errors(path):
        is_same = copy_file(upstream.path, path, sha256=upstream.sha256)
    if not is_same:
        msg = f"{upstream.path} changed while it was looked at. Run the command again."
        raise IntegrityError(msg)
    return AdoptedWheel(
        path=path,
        sha256=upstream.sha256,
        log_path=log_path,
        url=upstream.url,
        filename=upstream.filename,
    )


def _read_claims(wheel: UpstreamWheel) -> _Claims:
    with wheel.path.open("rb") as stream:
        if not stream.read(4).startswith(b"PK"):
            msg = f"{wheel.path} is not a wheel: it does not begin as an archive. Get it again."
            raise FetchError(msg)
    with open_wheel(wheel.path) as archive:
        labels = read_labels(archive)
        members = tuple(archive.members)
    if labels.metadata is None or labels.info is None:
        found = "; ".join(finding.message for finding in labels.findings)
        msg = f"{wheel.filename} says not what it is: {found}. Nothing can be made of it."
        raise CheckError(msg)
    if labels.machine is None:
        platforms = ", ".join(sorted({tag.platform for tag in labels.tags}))
        msg = (
            f"{wheel.filename} is for {platforms or 'no platform'}. Only wheels that are compiled "
            "for Linux on x86_64 or aarch64 can be adopted."
        )
        raise CheckError(msg)
    return _Claims(
        metadata=labels.metadata,
        machine=labels.machine,
        pythons=_pythons(labels, members),
        tags=labels.tags,
    )


def _pythons(labels: Labels, members: Iterable[str]) -> Mapping[str, frozenset[PythonVersion]]:
    filename = frozenset[Tag]() if labels.filename is None else labels.filename.tags
    info = frozenset[Tag]() if labels.info is None else labels.info.tags
    suffixes = {match[1] for name in members if (match := _SUFFIX.search(name))}
    said = {
        "its filename": {tag.abi for tag in filename if _ABI.fullmatch(tag.abi)},
        "its WHEEL": {tag.abi for tag in info if _ABI.fullmatch(tag.abi)},
        "its compiled files": suffixes,
    }
    return {
        place: frozenset(PythonVersion.parse(text) for text in texts)
        for place, texts in said.items()
        if texts
    }


def _recipe_version(
    claims: _Claims, wheel: UpstreamWheel, *, farm: Farm, wish: AdoptionWish
) -> RecipeVersion:
    name, version = claims.metadata.name, claims.metadata.version
    recipe = farm.recipe(wish.recipe or name)
    if recipe.name != name:
        msg = (
            f"{wheel.filename} is a wheel of {name}, not of {recipe.name}. "
            "Leave out --recipe, or name the other file."
        )
        raise UsageError(msg)
    for candidate in recipe.versions:
        if candidate.version.public == version.public:
            return candidate
    known = ", ".join(str(candidate.version) for candidate in recipe.versions)
    msg = (
        f"{wheel.filename} is version {version.public}, recipe {name} has {known}. Add a table "
        f"`[[versions]]` for {version.public} to recipes/{name}.toml: it says what the wheel must "
        "hold and how it is tried."
    )
    raise UnknownNameError(msg)


def _choose_python(
    claims: _Claims, wheel: UpstreamWheel, *, wanted: PythonVersion | None
) -> PythonVersion:
    found = frozenset[PythonVersion]().union(*claims.pythons.values())
    said = "; ".join(
        f"{place}: {', '.join(map(str, sorted(pythons)))}"
        for place, pythons in claims.pythons.items()
    )
    if wanted is not None and (wanted in found or not found):
        return wanted
    if wanted is not None:
        msg = f"{wheel.filename} is not for Python {wanted} ({said}). Leave out --python."
        raise UsageError(msg)
    if len(found) == 1:
        return next(iter(found))
    if not found:
        tags = ", ".join(sorted(f"{tag.interpreter}-{tag.abi}" for tag in claims.tags))
        msg = (
            f"{wheel.filename} ({tags}) does not say for which Python it is, and the yard's wheels "
            "are for one each. Name it with --python, for example --python 3.12."
        )
        raise UsageError(msg)
    msg = f"{wheel.filename} is for several Pythons ({said}). Name the one with --python."
    raise UsageError(msg)


def _check(
    wheel: UpstreamWheel,
    name: str,
    *,
    torch: str | None,
    machine: Machine,
    unseen: tuple[str, ...],
    cache: Path,
) -> CheckReport:
    """Check the wheel beside every torch that is known, or return the verdict that was kept."""
    own = own_tables_folder(cache)
    tables = [path for folder in (SHIPPED_DIR, own) for path in folder.glob(f"*{SUFFIX}")]
    against = judged_with(filename=name, torch=torch or "", tables=tables, unseen=unseen)
    known = find_verdict(cache, wheel.sha256, against)
    if known is not None:
        return known
    candidates: Sequence[Surroundings] = tuple(
        torch_candidates(machine, own_tables=own, unseen=unseen)
    )
    given, candidates = _narrow(candidates, torch)
    work = cache / "work"
    with disk_errors(work):
        work.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=work, prefix=".adopt-") as scratch:
        # under its proper name, so that upstream's renaming is no finding
        path = Path(scratch, name)
        path.symlink_to(wheel.path.absolute())
        report = check(
            path,
            expectation=None,
            surroundings=given,
            candidates=candidates,
            scratch=Path(scratch),
        )
    if report.sha256 != wheel.sha256:
        msg = f"{wheel.path} changed while it was looked at. Run the command again."
        raise IntegrityError(msg)
    report = dataclasses.replace(report, filename=wheel.filename)
    keep_verdict(cache, report, against)
    return report


def _narrow(
    candidates: Sequence[Surroundings], torch: str | None
) -> tuple[Surroundings | None, Sequence[Surroundings]]:
    """Return the one that is named and those that may advise, or the several of that release.

    What has no table is not judged here; the check beside its files will do it.
    """
    if torch is None:
        return None, candidates
    named = [one for one in candidates if torch in {one.torch, one.torch.partition("+")[0]}]
    return (named[0], candidates) if len(named) == 1 else (None, named)


def _read_gpu_archs(report: CheckReport, version: RecipeVersion) -> tuple[GpuArch, ...]:
    """Return the targets that the files hold code for, as the job's identifier will name them."""
    cubins = frozenset[GpuArch]().union(*(code.cubins for code in report.gpu_code.values()))
    ptx = frozenset[GpuArch]().union(*(code.ptx for code in report.gpu_code.values()))
    if not version.gpu_archs and not cubins | ptx:
        return ()
    if not cubins:
        msg = (
            f"{report.filename} has no GPU code{' but PTX' if ptx else ''}: it was built without a "
            f"CUDA compiler, or is not the wheel of {version.label} with extensions."
        )
        raise CheckError(msg)
    if ptx - cubins:
        lone = ", ".join(str(arch) for arch in sorted(ptx - cubins))
        msg = (
            f"{report.filename} has PTX for {lone} without GPU code for it, which no list of GPU "
            f"targets says, so no job is named so. Build it instead: `wheelyard build "
            f"{version.recipe} --version {version.version}`."
        )
        raise CheckError(msg)
    return tuple(sorted(dataclasses.replace(arch, ptx=arch in ptx) for arch in cubins))


def _torches(wanted: str | None, *, farm: Farm, machine: Machine) -> Sequence[TorchBuild]:
    """Return the torch builds that come into question, the most wanted first."""
    if wanted is None:
        return farm.matrix.torches
    if "+" in wanted:
        return [TorchBuild.parse(wanted)]
    release = torch_release(parse_version(wanted))
    default = default_torch_build(release.version, machine)
    builds = [TorchBuild(release.version, cuda) for cuda in reversed(release.cudas(machine))]
    return list(dict.fromkeys([default, *builds] if default else builds))


def _choose_torch(
    torches: Sequence[TorchBuild],
    cell: Cell,
    *,
    version: RecipeVersion,
    report: CheckReport,
    is_named: bool,
) -> TorchBuild:
    """Return the first torch that the wheel loads beside, and that its Python has wheels of."""
    fits = report.fits
    if fits is None and report.torch:
        fits = (report.torch,)
    if fits is None and not is_named:
        msg = (
            f"It cannot be told which torch {report.filename} fits: there are no symbol tables. "
            "Name it with --torch, for example --torch 2.11.0+cu130."
        )
        raise UsageError(msg)
    fitting = [torch for torch in torches if fits is None or str(torch) in fits]
    if not fitting:
        shown = ", ".join(fits or ())
        msg = (
            f"{report.filename} loads beside torch {shown}, and matrix.toml wants none of these. "
            "Name one of them with --torch."
        )
        raise CheckError(msg)
    refusals: list[str] = []
    for torch in fitting:
        reasons = reasons_against(version, dataclasses.replace(cell, torch=torch))
        if not reasons:
            return torch
        refusals.extend(reasons)
    msg = f"{report.filename} cannot become a job's wheel. {' '.join(dict.fromkeys(refusals))}"
    raise ImpossibleCellError(msg)
