"""`plan --missing`: wanted minus existing, for people, for programs and for engines."""

from __future__ import annotations

import itertools
from collections import Counter
from typing import TYPE_CHECKING

from wheelyard.cli.output import print_json, print_lines, print_table
from wheelyard.cli.session import open_farm, open_workshop
from wheelyard.errors import UsageError
from wheelyard.missing import Found, Places, find_missing
from wheelyard.planning.gaps import GapState, count_reasons
from wheelyard.planning.plan import expand_matrix, select_jobs, select_unwanted
from wheelyard.scheduling.order import schedule
from wheelyard.survey import planning

if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping, Sequence

    from wheelyard.farm import Farm
    from wheelyard.planning.gaps import Gap
    from wheelyard.planning.plan import Unwanted
    from wheelyard.scheduling.order import ScheduledGroup

BUILT = (GapState.missing, GapState.stale)
"""What an engine builds."""
_NAMED = (*BUILT, GapState.adoptable, GapState.candidate, GapState.unknown)
"""What is named one by one; the rest is only counted."""


def show_missing(arguments: argparse.Namespace, env: Mapping[str, str]) -> None:
    """Show what the farm lacks, and what it costs to have it."""
    farm = open_farm(arguments)
    workshop = open_workshop(arguments, farm, env)
    with planning():
        jobs, unwanted = expand_matrix(farm.recipes, farm.matrix)
        jobs = select_jobs(jobs, *patterns_of(arguments))
        unwanted = select_unwanted(unwanted, *patterns_of(arguments))
        found = find_missing(jobs, workshop, places_of(arguments))
        groups = groups_to_build(found, farm, limit=limit_of(arguments))
    if arguments.engine == "github":
        from wheelyard.engines.github import (  # noqa: PLC0415
            make_plan,
            plan_to_json,
            write_outputs,
        )

        plan = make_plan(
            groups,
            farm.matrix,
            fingerprint=lambda name: found.planned[name].fingerprint.sha256,
        )
        if arguments.digest and plan.digest != arguments.digest:
            msg = (
                f"The plan has digest {plan.digest}, asked for was {arguments.digest}: the farm's "
                "files, the index or upstream's releases changed since. Plan again."
            )
            raise UsageError(msg)
        document = plan_to_json(plan)
        if arguments.outputs is not None:
            write_outputs(document, arguments.outputs)
        print_json(document)
    elif arguments.json:
        print_json(_to_json(found, unwanted, groups))
    else:
        _print(found, unwanted, groups)


def patterns_of(arguments: argparse.Namespace) -> tuple[str, ...]:
    """Return every pattern over identifiers that the command line has."""
    given = (*arguments.select, *arguments.patterns)
    return given or ("*",)


def places_of(arguments: argparse.Namespace) -> Places:
    """Return where the command line wants to have looked."""
    if arguments.judge and not arguments.upstream:
        msg = "--judge looks at upstream's wheels. Add --upstream, which lists them."
        raise UsageError(msg)
    return Places(
        indexes=tuple(arguments.index),
        upstream=arguments.upstream,
        judge=arguments.judge,
        trust_index=arguments.trust_index,
    )


def limit_of(arguments: argparse.Namespace) -> int | None:
    """Return how many jobs there may be at most."""
    limit: int | None = arguments.limit
    if limit is not None and limit < 1:
        msg = f"--limit {limit} builds nothing. Give 1 or more, or leave it out."
        raise UsageError(msg)
    return limit


def groups_to_build(
    found: Found, farm: Farm, *, limit: int | None = None
) -> tuple[ScheduledGroup, ...]:
    """Return what is missing or stale as groups in the order of starting."""

    def order(jobs: Sequence[object]) -> tuple[ScheduledGroup, ...]:
        return schedule(
            jobs,  # type: ignore[arg-type]
            records=found.catalogue.records,
            priority=farm.matrix.priority,
        )

    groups = order(found.jobs(*BUILT))
    if limit is None:
        return groups
    first = [item.job for item in itertools.islice(itertools.chain.from_iterable(groups), limit)]
    return order(first)


def _print(found: Found, unwanted: Sequence[Unwanted], groups: Sequence[ScheduledGroup]) -> None:
    gaps = {gap.job.identifier: gap for gap in found.gaps}
    building = [item.job.identifier for item in itertools.chain.from_iterable(groups)]
    others = [
        gap.job.identifier for gap in found.gaps if gap.state in _NAMED and gap.state not in BUILT
    ]
    rows = [(str(gaps[name].state), name, gaps[name].note) for name in (*building, *others)]
    if rows:
        print_table(("STATE", "JOB", ""), rows)
        print_lines("")
    _print_counts(found)
    print_lines("", f"{len(unwanted)} combinations are not wanted:")
    print_lines(*(f"  {count:5}  {reason}" for reason, count in count_reasons(unwanted)))
    seconds = sum(group.cpu_seconds for group in groups)
    print_lines(
        "",
        f"to build: {len(building)} jobs in {len(groups)} groups, {seconds / 3600:.1f} CPU hours",
    )


def _print_counts(found: Found) -> None:
    by_version: dict[str, Counter[GapState]] = {}
    for gap in found.gaps:
        by_version.setdefault(gap.job.version.label, Counter())[gap.state] += 1
    total: Counter[GapState] = Counter(gap.state for gap in found.gaps)
    rows = [_row(label, counts) for label, counts in sorted(by_version.items())]
    header = ("RECIPE", "WANTED", *(state.upper() for state in GapState))
    print_table(header, [*rows, _row("all", total)])


def _row(label: str, counts: Counter[GapState]) -> tuple[str, ...]:
    return (label, str(counts.total()), *(str(counts[state]) for state in GapState))


def _to_json(
    found: Found, unwanted: Sequence[Unwanted], groups: Sequence[ScheduledGroup]
) -> dict[str, object]:
    counts = Counter(str(gap.state) for gap in found.gaps)
    return {
        "counts": {
            "wanted": len(found.gaps),
            **{str(state): counts[str(state)] for state in GapState},
        },
        "groups": [
            {
                "cpu_seconds": round(group.cpu_seconds, 1),
                "group": group.group.name,
                "jobs": [item.job.identifier for item in group],
            }
            for group in groups
        ],
        "jobs": [_gap_to_json(gap) for gap in found.gaps],
        "unwanted": [
            {"count": count, "reason": reason} for reason, count in count_reasons(unwanted)
        ],
    }


def _gap_to_json(gap: Gap) -> dict[str, object]:
    adopt = gap.adopt
    return {
        "adopt": None if adopt is None else {"sha256": adopt.sha256, "url": adopt.url},
        "candidates": [{"sha256": one.sha256, "url": one.url} for one in gap.candidates],
        "identifier": gap.job.identifier,
        "note": gap.note,
        "state": str(gap.state),
    }
