"""Gather what there is of our recipes for a cell: yard, published indexes, upstream, building."""

from __future__ import annotations

import contextlib
import dataclasses
import re
from collections import defaultdict
from typing import TYPE_CHECKING

from wheelyard.errors import FetchError, ImpossibleCellError
from wheelyard.finding.offer import Offer, Origin, gpus_lacking, would_be_wheel
from wheelyard.missing import find_missing
from wheelyard.model.published import PublishedWheel
from wheelyard.network.reading import read_document
from wheelyard.network.session import open_session
from wheelyard.planning.gaps import GapState
from wheelyard.planning.plan import make_job, reasons_against

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    import requests
    from packaging.utils import NormalizedName
    from packaging.version import Version

    from wheelyard.finding.question import Question
    from wheelyard.missing import Places
    from wheelyard.model.cell import Cell, GpuArch
    from wheelyard.model.job import Job
    from wheelyard.model.published import Published
    from wheelyard.model.record import BuildRecord
    from wheelyard.planning.gaps import Gap
    from wheelyard.workshop import Workshop

_LIMIT = 1 << 20
_FOUND = ".env"
_TARGET = re.compile(r"sm(\d{1,2})(\d)([af]?)(ptx)?")


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Offers:
    """Everything of ours for one cell, and why recipe versions are not for it."""

    everything: dataclasses.InitVar[Iterable[Offer]]
    gpu_archs: tuple[GpuArch, ...]
    refused: Mapping[str, str]
    """By label of the recipe version."""
    offers: tuple[Offer, ...] = dataclasses.field(init=False)
    """One wheel for each version: one that runs on the GPUs, exists, and is the default."""
    unfit: tuple[Offer, ...] = dataclasses.field(init=False)
    """Those that have no code for the GPUs."""

    def __post_init__(self, everything: Iterable[Offer]) -> None:
        unfit: list[Offer] = []
        by_version: defaultdict[tuple[str, str], list[Offer]] = defaultdict(list)
        for offer in everything:
            if gpus_lacking(offer, self.gpu_archs):
                unfit.append(offer)
            else:
                by_version[offer.name, offer.version.public].append(offer)
        best = (
            min(of_version, key=lambda one: (_distance(one.origin), *_unlike(one)))
            for of_version in by_version.values()
        )
        object.__setattr__(self, "offers", tuple(best))
        object.__setattr__(self, "unfit", tuple(unfit))

    def of(self, name: NormalizedName) -> tuple[Offer, ...]:
        """Return the offers of one project, the newest first."""
        found = [offer for offer in self.offers if offer.name == name]
        return tuple(sorted(found, key=lambda offer: offer.version, reverse=True))

    def why_unfit(self, name: NormalizedName) -> str:
        """Say which code the wheels of a project have, where it is none for the GPUs."""
        having = sorted({arch for one in self.unfit if one.name == name for arch in one.gpu_archs})
        if not having:
            return ""
        gpus = ", ".join(map(str, self.gpu_archs))
        return f"No wheel of {name} has code for GPU {gpus} (it has {', '.join(having)})."


def gather(question: Question, workshop: Workshop, places: Places) -> dict[Cell, Offers]:
    """Return the offers of every cell of the question."""
    jobs: dict[Cell, list[Job]] = {cell: [] for cell in question.cells}
    refused: dict[Cell, dict[str, str]] = {cell: {} for cell in question.cells}
    for cell in question.cells:
        for recipe in workshop.farm.recipes:
            for version in recipe.versions:
                reason = " ".join(reasons_against(version, cell))
                try:
                    job = None if reason else make_job(version, cell)
                except ImpossibleCellError as error:
                    reason, job = str(error), None
                if job is None:
                    refused[cell][version.label] = reason
                else:
                    jobs[cell].append(job)
    everything = [job for cell in question.cells for job in jobs[cell]]
    found = find_missing(everything, workshop, places)
    gaps: defaultdict[Cell, list[Gap]] = defaultdict(list)
    for gap in found.gaps:
        gaps[gap.job.cell].append(gap)
    with open_session(workshop.indexes, workshop.env) as session:
        metadata = _PublishedMetadata(session, workshop)
        return {
            cell: Offers(
                everything=(
                    *_of_yard(found.catalogue.records, cell, workshop),
                    *_published(found.published, jobs[cell], metadata),
                    *(_would_be(gap, workshop) for gap in gaps[cell]),
                ),
                gpu_archs=question.gpu_archs,
                refused=refused[cell],
            )
            for cell in question.cells
        }


def _unlike(offer: Offer) -> tuple[bool, bool]:
    """Say in which ways a wheel is not what the recipe gives for the locked torch."""
    return (offer.version.local or "").endswith(_FOUND), not offer.is_default


def _distance(origin: Origin) -> int:
    return list(Origin).index(origin)


def _of_yard(records: Sequence[BuildRecord], cell: Cell, workshop: Workshop) -> Iterable[Offer]:
    best: dict[tuple[str, str], BuildRecord] = {}
    for record in records:
        if record.cell == cell and record.torch_origin == "locked":
            key = str(record.name), str(record.version)
            if key not in best or record.revision > best[key].revision:
                best[key] = record
    for record in best.values():
        if workshop.yard.damage(record) is None:
            yield Offer(
                name=record.name,
                version=record.version,
                filename=record.filename,
                metadata=workshop.yard.metadata_path(record.filename).read_bytes(),
                origin=Origin.yard,
                place=str(workshop.yard.wheel_path(record.filename)),
                sha256=record.sha256,
                gpu_archs=record.gpu_archs,
                is_default=record.is_default,
                index_url=workshop.yard.index_url(record.index_label),
            )


class _PublishedMetadata:
    """Reads what an index serves beside a wheel, each file once."""

    def __init__(self, session: requests.Session, workshop: Workshop) -> None:
        self._session = session
        self._workshop = workshop
        self._found: dict[str, bytes] = {}

    def of(self, wheel: PublishedWheel) -> bytes:
        if wheel.url not in self._found:
            self._found[wheel.url] = read_document(
                f"{wheel.url}.metadata",
                read=lambda text: text,
                limit=_LIMIT,
                session=self._session,
                settings=self._workshop.indexes,
            )
        return self._found[wheel.url]


def _published(
    indexes: Sequence[Published], jobs: Sequence[Job], metadata: _PublishedMetadata
) -> Iterable[Offer]:
    """Yield the wheels of published indexes for these jobs, also those for other GPU targets."""
    for job in jobs:
        seen: set[Version] = set()
        for index in indexes:
            wheels = index.wheels.get(job.version.recipe, ())
            for wheel in sorted(wheels, key=lambda item: -item.revision):
                archs = _gpu_archs(wheel, job)
                if archs is None or wheel.version in seen:
                    continue
                seen.add(wheel.version)
                with contextlib.suppress(FetchError):  # then it counts as one to be built
                    yield Offer(
                        name=job.version.recipe,
                        version=wheel.version,
                        filename=wheel.filename,
                        metadata=metadata.of(wheel),
                        origin=Origin.published,
                        place=wheel.url,
                        sha256=wheel.sha256,
                        gpu_archs=archs,
                        is_default=wheel.version == job.wheel_version,
                        index_url=index.url,
                    )


def _gpu_archs(wheel: PublishedWheel, job: Job) -> tuple[str, ...] | None:
    """Return the GPU targets of a wheel that is the job's, or would be with other targets."""
    if wheel.is_of(job):
        return tuple(str(arch) for arch in job.gpu_archs)
    ours, local = job.wheel_version.local or "", wheel.version.local or ""
    # in an index of their own lie wheels for a torch that was found, which who names it wants
    traits = local.removesuffix(_FOUND).removeprefix(ours).split(".")[1:]
    targets = [_TARGET.fullmatch(trait) for trait in traits]
    named = PublishedWheel.is_of(dataclasses.replace(wheel, version=job.wheel_version), job)
    if wheel.version.public != job.wheel_version.public or not named or not all(targets):
        return None
    if not local.startswith(f"{ours}."):
        return None
    if not targets:
        return tuple(str(arch) for arch in job.gpu_archs)
    return tuple(
        f"{one[1]}.{one[2]}{one[3]}{'+PTX' if one[4] else ''}" for one in targets if one is not None
    )


def _would_be(gap: Gap, workshop: Workshop) -> Offer:
    """Return the wheel that the job would give, by adopting or building it."""
    job = gap.job
    filename, metadata = would_be_wheel(job, floor=workshop.farm.matrix.floor_of(job.version))
    origins = {GapState.adoptable: Origin.upstream, GapState.candidate: Origin.candidate}
    origin = origins.get(gap.state, Origin.build)
    effort = job.version.build.effort.total(len(job.gpu_archs)) if origin is Origin.build else 60.0
    return Offer(
        name=job.version.recipe,
        version=job.wheel_version,
        filename=filename,
        metadata=metadata,
        origin=origin,
        place=gap.note if origin is not Origin.build else job.identifier,
        gpu_archs=tuple(str(arch) for arch in job.gpu_archs),
        index_url=workshop.yard.index_url(job.index_label),
        effort=effort,
        doubt=gap.note if gap.state is GapState.unknown else "",
    )
