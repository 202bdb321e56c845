"""`fill --engine github`: the farm's workflow builds the plan; this follows it."""

from __future__ import annotations

import itertools
import logging
from typing import TYPE_CHECKING

from wheelyard.cli.filling import about, plan_fill
from wheelyard.cli.missing import patterns_of, places_of
from wheelyard.cli.output import print_json, print_lines
from wheelyard.cli.session import open_farm, open_workshop
from wheelyard.engines.github import FarmPlan, make_plan
from wheelyard.engines.github_run import GithubRun, Patience, Round
from wheelyard.errors import FillError, UsageError
from wheelyard.missing import find_missing
from wheelyard.network.github_api import GithubApi
from wheelyard.network.session import open_session
from wheelyard.planning.gaps import GapState

if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping, Sequence

    from wheelyard.model.job import Job
    from wheelyard.workshop import Workshop

logger = logging.getLogger(__name__)

APPEAR = 180.0
"""Seconds that a run is waited for after it was asked for."""


def fill_on_github(arguments: argparse.Namespace, env: Mapping[str, str]) -> None:
    """Start the workflow for what is missing, follow it, and say what it published."""
    repository = arguments.repository or env.get("GITHUB_REPOSITORY")
    if not repository:
        msg = "Name the repository that has the workflow: --repository OWNER/NAME."
        raise UsageError(msg)
    workshop = open_workshop(arguments, open_farm(arguments), env)
    found, groups = plan_fill(arguments, workshop, machine=None)
    plan = make_plan(
        groups,
        workshop.farm.matrix,
        fingerprint=lambda name: found.planned[name].fingerprint.sha256,
    )
    for line in about(found, len(plan.jobs)):
        logger.info("%s", line)
    if not plan.jobs:
        return
    with open_session(workshop.indexes, workshop.env) as session:
        run = GithubRun(
            GithubApi(repository, session=session, env=workshop.env),
            ref=arguments.ref,
            patience=Patience(poll=arguments.poll, appear=APPEAR),
        )
        ticket = run.start(plan.digest, _inputs(arguments))
        if arguments.detach:
            return
        rounds = list(run.follow(ticket))
    jobs = [item.job for item in itertools.chain.from_iterable(groups)]
    _tell(arguments, workshop, plan, rounds, jobs)


def _inputs(arguments: argparse.Namespace) -> dict[str, str]:
    inputs = {
        "select": " ".join(patterns_of(arguments)),
        "limit": str(arguments.limit or ""),
        "upstream": "true" if arguments.upstream else "false",
    }
    return inputs | ({"deadline": arguments.deadline} if arguments.deadline else {})


def _tell(
    arguments: argparse.Namespace,
    workshop: Workshop,
    plan: FarmPlan,
    rounds: Sequence[Round],
    jobs: Sequence[Job],
) -> None:
    """Say what exists now; the published index is what counts."""
    published = _published(arguments, workshop, jobs)
    left = [name for name in plan.jobs if published is not None and name not in published]
    if arguments.json:
        print_json(
            {
                "digest": plan.digest,
                "left": left,
                "published": sorted(published or ()),
                "rounds": [
                    {
                        "conclusion": one.conclusion,
                        "failed": list(one.failed),
                        "round": one.number,
                        "url": one.url,
                    }
                    for one in rounds
                ],
            }
        )
    else:
        for one in rounds:
            print_lines(f"round {one.number}: {one.conclusion} {one.url}")
            print_lines(*(f"  failed: {name}" for name in one.failed))
        if published is not None:
            print_lines("", f"{len(published)} of {len(plan.jobs)} are published in:")
            print_lines(*(f"  {url}" for url in arguments.index))
    if rounds[-1].conclusion != "success" or left:
        msg = (
            f"{len(left)} of {len(plan.jobs)} jobs are not published; the last round ended as "
            f"{rounds[-1].conclusion}. Its page has the logs: {rounds[-1].url}"
        )
        raise FillError(msg)


def _published(
    arguments: argparse.Namespace, workshop: Workshop, jobs: Sequence[Job]
) -> frozenset[str] | None:
    """Return the jobs that the index has now; nothing where no index is named."""
    if not arguments.index:
        return None
    found = find_missing(jobs, workshop, places_of(arguments))
    return frozenset(job.identifier for job in found.jobs(GapState.existing))
