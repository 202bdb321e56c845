"""The engine of GitHub Actions: a plan as matrices of at most 256 entries, one for each group."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from typing import TYPE_CHECKING, Annotated, Final, Literal

import msgspec

from wheelyard.errors import InputFileError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path

    from wheelyard.model.cell import Machine
    from wheelyard.model.matrix import Matrix
    from wheelyard.scheduling.order import ScheduledGroup

FORMAT: Literal[1] = 1
MOST_ENTRIES: Final = 256
"""What GitHub takes in one matrix."""
RUNNERS: Final[dict[Machine, tuple[str, ...]]] = {
    "x86_64": ("ubuntu-24.04",),
    "aarch64": ("ubuntu-24.04-arm",),
}
"""Where a group is built that ``matrix.toml`` names no runner for: the index has the toolkit."""
RUNNER_CORES: Final = 4

_Sha256 = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]
_Identifier = Annotated[str, msgspec.Meta(pattern="^[A-Za-z0-9][A-Za-z0-9._+-]*$")]


class PlannedEntry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A group: what one job of the workflow builds."""

    group: _Identifier
    jobs: dict[_Identifier, _Sha256]
    """Plan fingerprints by identifier, the leader first."""
    runner: tuple[str, ...]
    gpu: tuple[str, ...] = ()
    container: str = ""
    minutes: int
    """Expected, with the cores of an ordinary runner."""


class FarmPlan(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a run of the farm builds, and may publish: nothing else."""

    format: Literal[1] = FORMAT
    entries: tuple[PlannedEntry, ...]

    @property
    def jobs(self) -> dict[str, str]:
        """Every plan fingerprint, by identifier."""
        return {name: sha256 for entry in self.entries for name, sha256 in entry.jobs.items()}

    @property
    def digest(self) -> str:
        """One digest of all jobs and what decides their content, whatever their order."""
        text = json.dumps(self.jobs, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()

    def waves(self, most: int = MOST_ENTRIES) -> tuple[tuple[PlannedEntry, ...], ...]:
        """Return the entries in matrices that GitHub takes, in the order of starting."""
        return tuple(
            self.entries[start : start + most] for start in range(0, len(self.entries), most)
        )


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Wave:
    """The matrices of one run of the workflow."""

    build: tuple[dict[str, object], ...]
    gpu: tuple[dict[str, object], ...]
    """Those that are tried on a GPU afterwards."""


def make_plan(
    groups: Iterable[ScheduledGroup], matrix: Matrix, *, fingerprint: Callable[[str], str]
) -> FarmPlan:
    """Turn groups in the order of starting into a plan; ``fingerprint`` is given identifiers."""
    return FarmPlan(entries=tuple(_entry(group, matrix, fingerprint) for group in groups))


def _entry(
    group: ScheduledGroup, matrix: Matrix, fingerprint: Callable[[str], str]
) -> PlannedEntry:
    leader = group.group.leader
    runner = matrix.runner(leader.identifier)
    seconds = group.cpu_seconds / RUNNER_CORES + group.overhead * len(group.group.jobs)
    names = [job.identifier for job in group.group.jobs]
    return PlannedEntry(
        group=group.group.name,
        jobs={name: fingerprint(name) for name in names},
        runner=RUNNERS[leader.cell.machine] if runner is None else runner.build,
        gpu=() if runner is None else runner.gpu,
        container="" if runner is None else runner.container,
        minutes=max(1, round(seconds / 60)),
    )


def matrices(entries: Iterable[PlannedEntry]) -> Wave:
    """Return what ``strategy.matrix`` of the workflow's jobs takes."""
    built = [_to_matrix(entry) for entry in entries]
    tried = [
        {"group": one["group"], "jobs": one["jobs"], "runner": one["gpu"]}
        for one in built
        if one["gpu"]
    ]
    return Wave(build=tuple(built), gpu=tuple(tried))


def _to_matrix(entry: PlannedEntry) -> dict[str, object]:
    return {
        "container": entry.container,
        "gpu": list(entry.gpu),
        "group": entry.group,
        "jobs": " ".join(entry.jobs),
        "minutes": entry.minutes,
        "runner": list(entry.runner),
    }


def plan_to_json(plan: FarmPlan, *, most: int = MOST_ENTRIES) -> dict[str, object]:
    """Return the plan with the matrices of its first wave: the others are planned when it is done.

    What the first wave publishes is not missing any more, so the next run plans the second.
    """
    waves = plan.waves(most)
    first = matrices(waves[0] if waves else ())
    return {
        "digest": plan.digest,
        "gpu": {"include": list(first.gpu)},
        "jobs": len(plan.jobs),
        "matrix": {"include": list(first.build)},
        "plan": msgspec.to_builtins(plan),
        "waves": len(waves),
    }


def write_outputs(document: Mapping[str, object], path: Path) -> None:
    """Append the parts that later jobs take to the file that ``GITHUB_OUTPUT`` names."""
    lines = [
        f"{name}={json.dumps(document[name], separators=(',', ':'))}\n"
        for name in ("gpu", "jobs", "matrix", "waves")
    ]
    with path.open("a", encoding="utf-8") as file:
        file.writelines([*lines, f"digest={document['digest']}\n"])


def read_plan(path: Path) -> FarmPlan:
    """Read the plan out of what ``plan --engine github`` printed."""
    try:
        document = json.loads(path.read_bytes())
        return msgspec.convert(document["plan"], FarmPlan)
    except (OSError, ValueError, KeyError, TypeError, msgspec.ValidationError) as error:
        msg = (
            f"{path} is no plan: {error}. Make it with `wheelyard plan --missing --engine github`."
        )
        raise InputFileError(msg) from error
