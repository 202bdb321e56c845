"""What the farm lacks: the yard, published indexes and upstream's releases read, then compared."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import platform
from collections import defaultdict
from typing import TYPE_CHECKING

from wheelyard.errors import (
    CheckError,
    FetchError,
    ImpossibleCellError,
    IntegrityError,
    MachineError,
    UnknownNameError,
    UsageError,
)
from wheelyard.model.asset_name import Verdict
from wheelyard.model.matrix import parse_machine
from wheelyard.model.record import Adopted
from wheelyard.network.session import open_session
from wheelyard.planning.gaps import (
    Existing,
    Gap,
    GapState,
    Release,
    find_gap,
    gpu_archs_lacking,
    why_not_served,
)
from wheelyard.stages import Adoption, bring
from wheelyard.survey import survey
from wheelyard.upstreams.published import IndexReader
from wheelyard.upstreams.releases import ReleaseReader
from wheelyard.wheels.adopt import AdoptionWish, judge
from wheelyard.wheels.judgements import Judgements

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from wheelyard.model.asset_name import Asset
    from wheelyard.model.job import Job
    from wheelyard.model.published import Published
    from wheelyard.model.record import BuildRecord
    from wheelyard.planning.plan import PlannedJob, Standing
    from wheelyard.workshop import Workshop
    from wheelyard.yard.catalogue import Catalogue

logger = logging.getLogger(__name__)

_REFUSALS = (CheckError, ImpossibleCellError, UnknownNameError, UsageError)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Places:
    """Where to look beside the yard."""

    indexes: tuple[str, ...] = ()
    upstream: bool = False
    judge: bool = False
    """Download upstream wheels that nobody has looked at, and look."""
    trust_index: bool = False
    """Believe an index that is new, or that lost wheels."""
    has_index: bool = False
    """Whoever only takes from an index means one that is there."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Found:
    """How every job stands, in the order of the jobs, and the yard's records."""

    gaps: tuple[Gap, ...]
    planned: Mapping[str, PlannedJob]
    """By identifier; those that have no lock are not there."""
    catalogue: Catalogue
    published: tuple[Published, ...] = ()
    """What the indexes said that were asked."""

    def jobs(self, *states: GapState) -> tuple[Job, ...]:
        return tuple(gap.job for gap in self.gaps if gap.state in states)


def find_missing(jobs: Sequence[Job], workshop: Workshop, places: Places) -> Found:
    """Say of every job whether it exists anywhere that is asked; none is missing by mistake."""
    found = survey(jobs, workshop)
    standings: dict[str, Standing | str] = {
        item.job.identifier: item.standing for item in found.planned
    }
    standings |= {item.job.identifier: item.reason for item in found.unlocked}
    existing = Existing(
        covered=_coverage(found.catalogue.records),
        published=_read_indexes(jobs, workshop, places, found.catalogue),
    )
    if places.upstream:
        existing = _with_upstream(jobs, standings, existing, workshop)
    gaps = [find_gap(job, standings[job.identifier], existing) for job in jobs]
    if places.judge:
        judgements = Judgements(workshop.cache)
        gaps = [_judged(gap, standings, existing, workshop, judgements) for gap in gaps]
    return Found(
        gaps=tuple(gaps),
        planned={item.job.identifier: item for item in found.planned},
        catalogue=found.catalogue,
        published=tuple(existing.published),
    )


def _coverage(records: Iterable[BuildRecord]) -> Callable[[Job], str]:
    """Return who serves a job that has no wheel of its own: one adopted with more GPU targets."""
    adopted: defaultdict[tuple[str, str], list[BuildRecord]] = defaultdict(list)
    for record in records:
        if isinstance(record.origin, Adopted):
            label = f"{record.name}-{record.version.public}"
            adopted[label, record.cell.identifier].append(record)

    def covered(job: Job) -> str:
        for record in adopted.get((job.version.label, job.cell.identifier), ()):
            if not gpu_archs_lacking(job, record.gpu_archs):
                return record.identifier
        return ""

    return covered


def _read_indexes(
    jobs: Sequence[Job], workshop: Workshop, places: Places, catalogue: Catalogue
) -> tuple[Published, ...]:
    if not places.indexes:
        return ()
    known = {record.filename: record.sha256 for record in catalogue.records}
    names = {job.version.recipe for job in jobs}
    with open_session(workshop.indexes, workshop.env) as session:
        return tuple(
            IndexReader(
                url,
                session=session,
                settings=workshop.indexes,
                memory=workshop.cache / "network" / "published",
                trusting=places.trust_index,
                must_exist=places.has_index,
            ).read(names, known=known)
            for url in places.indexes
        )


def _with_upstream(
    jobs: Sequence[Job],
    standings: dict[str, Standing | str],
    existing: Existing,
    workshop: Workshop,
) -> Existing:
    """Ask for the releases of those versions that something is missing of."""
    versions = {
        job.version.label: job.version
        for job in jobs
        if find_gap(job, standings[job.identifier], existing).state
        in {GapState.missing, GapState.unlocked}
    }
    judgements = Judgements(workshop.cache)
    with open_session(workshop.indexes, workshop.env) as session:
        reader = ReleaseReader(session=session, settings=workshop.indexes, env=workshop.env)
        releases: dict[str, Release] = {
            label: reader.read(version) for label, version in versions.items()
        }

    def verdict(asset: Asset, job: Job) -> Verdict | None:
        if asset.sha256 is None:
            return None
        return judgements.find(asset.sha256, torch=str(job.cell.torch))

    return dataclasses.replace(existing, releases=releases, verdict=verdict)


def _judged(
    gap: Gap,
    standings: dict[str, Standing | str],
    existing: Existing,
    workshop: Workshop,
    judgements: Judgements,
) -> Gap:
    """Look at the wheels that may be the job's, one after another, until one is."""
    seen: dict[str, Verdict] = {}
    for asset in gap.candidates:
        try:
            verdict = _judge(asset, gap.job, workshop)
        except (FetchError, IntegrityError) as error:
            note = " ".join(str(error).split())[:500]
            return Gap(job=gap.job, state=GapState.unknown, note=note)
        except MachineError:
            return gap  # only a machine of its kind can look at it
        judgements.keep(verdict, torch=str(gap.job.cell.torch))
        seen[asset.filename] = verdict
        if not why_not_served(gap.job, verdict):
            break
    if not seen:
        return gap

    def known(asset: Asset, job: Job) -> Verdict | None:
        return seen.get(asset.filename) or existing.verdict(asset, job)

    again = dataclasses.replace(existing, verdict=known)
    return find_gap(gap.job, standings[gap.job.identifier], again)


def _judge(asset: Asset, job: Job, workshop: Workshop) -> Verdict:
    torch = str(job.cell.torch)
    wish = AdoptionWish(recipe=str(job.version.recipe), torch=torch)
    logger.info("looking at %s beside torch %s", asset.filename, torch)
    upstream = bring(Adoption(place=asset.url, sha256=asset.sha256, wish=wish), workshop)
    try:
        judged = judge(
            upstream,
            farm=workshop.farm,
            wish=wish,
            machine=parse_machine(platform.machine()),
            cache=workshop.cache,
        )
    except _REFUSALS as error:
        with contextlib.suppress(OSError):
            upstream.path.unlink()  # it is not asked for again: the verdict is kept
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        return Verdict(
            sha256=upstream.sha256, identifier="", gpu_archs=(), refusal=" ".join(lines)[:500]
        )
    return Verdict(
        sha256=upstream.sha256,
        identifier=judged.job.identifier,
        gpu_archs=tuple(str(arch) for arch in judged.job.gpu_archs),
        refusal="",
    )
