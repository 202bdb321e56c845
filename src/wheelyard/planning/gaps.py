"""Wanted minus existing: what the farm lacks, from values that others have read."""

from __future__ import annotations

import dataclasses
import re
from collections import Counter
from enum import StrEnum
from typing import TYPE_CHECKING

from wheelyard.model.cell import GpuArch
from wheelyard.model.gpu_targets import How, run_on
from wheelyard.planning.plan import JobState, Standing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from wheelyard.model.asset_name import Asset, Verdict
    from wheelyard.model.job import Job
    from wheelyard.model.published import Published
    from wheelyard.planning.plan import Unwanted

_PLAIN = (
    (re.compile(r"^torch [\d.]+ "), "its torch "),
    (re.compile(r"(for Python \S+) on \S+$"), r"\1"),
    (re.compile(r", the cell has .*"), ""),
)


class GapState(StrEnum):
    """How a wanted job stands against everything that could be asked."""

    existing = "existing"
    stale = "stale"
    adoptable = "adoptable"
    """Upstream has a wheel that passes the check."""
    candidate = "candidate"
    """Upstream has a wheel of such a name, which nobody has looked at."""
    missing = "missing"
    unknown = "unknown"
    """A place that may have it could not be read: not to be built by mistake."""
    unlocked = "unlocked"


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Gap:
    """A wanted job, how it stands, and the reason in one line."""

    job: Job
    state: GapState
    note: str = ""
    adopt: Asset | None = None
    """The upstream wheel to adopt."""
    candidates: tuple[Asset, ...] = ()
    """Upstream wheels to look at before it is built."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Release:
    """What upstream published of one recipe version, or why that is not known."""

    assets: tuple[Asset, ...] = ()
    unknown: str = ""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Existing:
    """Everything that exists, beside the jobs' own standing against the yard."""

    covered: Callable[[Job], str] = lambda _job: ""
    """The yard's wheel, by its identifier, that runs wherever the job's would."""
    published: Sequence[Published] = ()
    releases: Mapping[str, Release] = dataclasses.field(default_factory=dict)
    """By label of the recipe version."""
    verdict: Callable[[Asset, Job], Verdict | None] = lambda _asset, _job: None


def find_gap(job: Job, standing: Standing | str, existing: Existing) -> Gap:
    """Say how one job stands; ``standing`` is a text where it has no lock."""
    return (
        _in_yard(job, standing, existing)
        or _in_an_index(job, existing.published)
        or _upstream(job, standing, existing)
    )


def _in_yard(job: Job, standing: Standing | str, existing: Existing) -> Gap | None:
    if isinstance(standing, Standing) and standing.state is JobState.done:
        return Gap(job=job, state=GapState.existing, note="yard")
    covered = existing.covered(job)
    if covered:
        return Gap(job=job, state=GapState.existing, note=f"yard: {covered} serves it too")
    if isinstance(standing, Standing) and standing.state is JobState.stale:
        return Gap(job=job, state=GapState.stale, note="; ".join(standing.differences))
    return None


def _in_an_index(job: Job, published: Sequence[Published]) -> Gap | None:
    older: Gap | None = None
    for index in published:
        wheel = index.find(job)
        if wheel is not None and wheel.revision >= job.version.revision:
            return Gap(job=job, state=GapState.existing, note=wheel.url)
        if wheel is not None:
            note = f"revision: {wheel.revision} -> {job.version.revision} ({index.url})"
            older = Gap(job=job, state=GapState.stale, note=note)
    unknown = (index.unknown.get(job.version.recipe) for index in published)
    reason = next((text for text in unknown if text), None)
    return older if reason is None else Gap(job=job, state=GapState.unknown, note=reason)


def _upstream(job: Job, standing: Standing | str, existing: Existing) -> Gap:
    release = existing.releases.get(job.version.label, Release())
    if release.unknown:
        return Gap(job=job, state=GapState.unknown, note=release.unknown)
    candidates = assets_for(job, release.assets)
    unseen: list[Asset] = []
    refusals: list[str] = []
    for asset in candidates:
        verdict = existing.verdict(asset, job)
        if verdict is None:
            unseen.append(asset)
            continue
        reason = why_not_served(job, verdict)
        if not reason:
            return Gap(job=job, state=GapState.adoptable, note=asset.url, adopt=asset)
        refusals.append(f"{asset.filename}: {reason}")
    if unseen:
        note = unseen[0].url
        return Gap(job=job, state=GapState.candidate, note=note, candidates=tuple(unseen))
    if not isinstance(standing, Standing):
        return Gap(job=job, state=GapState.unlocked, note=standing)
    return Gap(job=job, state=GapState.missing, note="; ".join(refusals))


def assets_for(job: Job, assets: Iterable[Asset]) -> tuple[Asset, ...]:
    """Return the assets whose names may be the job's, the likelier ABI first."""
    named = [one for one in assets if one.promise.is_for(job.version.version, job.cell)]
    return tuple(sorted(named, key=lambda one: (one.promise.abi is False, one.filename)))


def why_not_served(job: Job, verdict: Verdict) -> str:
    """Say why a wheel that was looked at is none for this job; nothing if it is one."""
    if verdict.refusal:
        return verdict.refusal
    expected = f"{job.version.label}-{job.cell.identifier}"
    if not f"{verdict.identifier}-".startswith(f"{expected}-"):
        return f"it is the wheel of {verdict.identifier}"
    lacking = gpu_archs_lacking(job, verdict.gpu_archs)
    return f"it has no GPU code for {', '.join(lacking)}" if lacking else ""


@dataclasses.dataclass(frozen=True, slots=True)
class _Code:
    cubins: tuple[GpuArch, ...]
    ptx: tuple[GpuArch, ...] = ()


def gpu_archs_lacking(job: Job, gpu_archs: Iterable[str]) -> tuple[str, ...]:
    """Return the job's targets whose GPUs code for ``gpu_archs`` does not run on as it is."""
    code = _Code(tuple(GpuArch.parse(text) for text in gpu_archs))
    return tuple(str(arch) for arch in job.gpu_archs if run_on(arch, code).how is not How.NATIVE)


def count_reasons(unwanted: Iterable[Unwanted]) -> tuple[tuple[str, int], ...]:
    """Return why combinations are not built, and how many each reason stops, the most first."""
    counts = Counter(_short(item) for item in unwanted)
    return tuple(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def _short(item: Unwanted) -> str:
    """The reason without what differs from cell to cell."""
    if not item.impossible:
        return f"excluded: {item.reason}"
    first = item.reason.partition(" (it has ")[0].partition(". ")[0].rstrip(".")
    for pattern, plain in _PLAIN:
        first = pattern.sub(plain, first)
    return first
