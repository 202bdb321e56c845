"""A farm's workflow, started for a plan and followed through all its rounds."""

from __future__ import annotations

import dataclasses
import logging
import secrets
import time
from typing import TYPE_CHECKING, Any, Final

from wheelyard.errors import FetchError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from wheelyard.network.github_api import GithubApi

logger = logging.getLogger(__name__)

WORKFLOW: Final = "farm.yml"


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Patience:
    """How often GitHub is asked, and how long a run is waited for to appear."""

    poll: float
    appear: float
    """Both in seconds."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Round:
    """One run of the workflow that is over."""

    number: int
    conclusion: str
    url: str
    failed: tuple[str, ...]
    """Its jobs that failed, by name."""


class GithubRun:
    """Starts the workflow with a ticket of its own, by which its runs are found again."""

    def __init__(
        self,
        api: GithubApi,
        *,
        ref: str,
        patience: Patience,
        say: Callable[[str], object] = logger.info,
    ) -> None:
        self._api = api
        self._ref = ref
        self._patience = patience
        self._say = say

    def start(self, digest: str, inputs: Mapping[str, str]) -> str:
        """Start the first round and return the ticket."""
        ticket = f"{digest[:16]}-{secrets.token_hex(4)}"
        body = {
            "ref": self._ref,
            "inputs": {**inputs, "digest": digest, "round": "0", "ticket": ticket},
        }
        self._api.post(f"actions/workflows/{WORKFLOW}/dispatches", body)
        self._say(f"started {WORKFLOW} as {ticket}")
        return ticket

    def follow(self, ticket: str) -> Iterator[Round]:
        """Yield every round as it ends; the workflow starts the next one by itself."""
        number = 0
        run = self._find(ticket, number)
        if run is None:
            msg = (
                f"GitHub started no run of {WORKFLOW} for {ticket} within "
                f"{self._patience.appear:.0f} s. Look at the Actions page of the repository."
            )
            raise FetchError(msg)
        while run is not None:
            ended = self._wait(run)
            yield Round(
                number=number,
                conclusion=str(ended["conclusion"]),
                url=str(ended["html_url"]),
                failed=self._failed(ended),
            )
            number += 1
            run = self._find(ticket, number, seconds=self._patience.poll)

    def _find(
        self, ticket: str, number: int, *, seconds: float | None = None
    ) -> dict[str, Any] | None:
        until = time.monotonic() + (self._patience.appear if seconds is None else seconds)
        title = f"farm {ticket} round {number}"
        while True:
            path = f"actions/workflows/{WORKFLOW}/runs"
            answer = self._api.get(path, event="workflow_dispatch", per_page=50)
            for run in answer.get("workflow_runs", []):
                if run.get("display_title") == title:
                    self._say(f"round {number}: {run.get('html_url')}")
                    return dict(run)
            if time.monotonic() >= until:
                return None
            time.sleep(min(self._patience.poll, 5.0))

    def _wait(self, run: Mapping[str, Any]) -> dict[str, Any]:
        before = ""
        while True:
            now = self._api.get(f"actions/runs/{int(run['id'])}")
            if now.get("status") == "completed":
                return now
            text = self._progress(now)
            if text != before:
                self._say(text)
                before = text
            time.sleep(self._patience.poll)

    def _progress(self, run: Mapping[str, Any]) -> str:
        jobs = list(self._api.pages(f"actions/runs/{int(run['id'])}/jobs", "jobs"))
        over = sum(job.get("status") == "completed" for job in jobs)
        running = sum(job.get("status") == "in_progress" for job in jobs)
        return f"{run.get('status')}: {over} of {len(jobs)} jobs over, {running} running"

    def _failed(self, run: Mapping[str, Any]) -> tuple[str, ...]:
        jobs = self._api.pages(f"actions/runs/{int(run['id'])}/jobs", "jobs")
        return tuple(str(job["name"]) for job in jobs if job.get("conclusion") == "failure")
