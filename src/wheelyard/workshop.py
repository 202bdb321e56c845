"""Where jobs are built: farm, yard, caches and what this machine brings, looked up once."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import TYPE_CHECKING

from wheelyard.files import file_sha256
from wheelyard.machine.folders import cache_folder
from wheelyard.machine.namespaces import SandboxLevel, find_sandbox
from wheelyard.model.record import Adopted
from wheelyard.model.source import FolderSource
from wheelyard.network.children import uv_environment
from wheelyard.network.indexes import IndexSettings, read_index_settings
from wheelyard.planning.fingerprint import (
    PlanFingerprint,
    adopted_fingerprint,
    explain_difference,
    plan_fingerprint,
)
from wheelyard.planning.locks import job_locks
from wheelyard.planning.plan import JobState, Standing
from wheelyard.sources.fetch import fetch_source
from wheelyard.toolchain.sandbox import Sandbox, choose_sandbox

if TYPE_CHECKING:
    from collections.abc import Mapping

    from wheelyard.farm import Farm
    from wheelyard.model.job import Job
    from wheelyard.sources.values import FetchedSource
    from wheelyard.toolchain.toolkit import Provider
    from wheelyard.yard.store import StoredWheel, Yard


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Options:
    """How the user wants jobs built."""

    compile_jobs: int | None = None
    toolkit: Provider = "auto"
    sandbox: SandboxLevel | None = None
    foreign_python: Path | None = None
    """The interpreter of ``--env``, whose torch is used as it is."""
    use_compile_cache: bool = True


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Workshop:
    """A farm and a yard on this machine."""

    farm: Farm
    yard: Yard
    cache: Path
    env: Mapping[str, str]
    indexes: IndexSettings
    options: Options

    def uv_env(self) -> dict[str, str]:
        """The environment of uv children that install what locks say."""
        return uv_environment(self.indexes, self.env)

    def sandbox(self) -> Sandbox:
        level = self.options.sandbox or find_sandbox(self.env).level
        return choose_sandbox(level, env=self.env, scratch=self.cache / "sandbox")

    def fingerprint(self, job: Job) -> PlanFingerprint:
        """Digest the files in git that decide the job's content."""
        farm = self.farm
        return plan_fingerprint(
            job,
            patches={
                patch.filename: file_sha256(farm.patch_path(job.version.recipe, patch))
                for patch in job.patches
            },
            locks={str(request.path): farm.lock(request).sha256 for request in job_locks(job)},
            folder_digest=self.folder_digest(job),
            gcc_major=farm.matrix.gcc_major,
        )

    def standing(self, job: Job, fingerprint: PlanFingerprint) -> Standing:
        """Say how the job stands against the yard, and for a stale one what changed."""
        stored = self.stored(job, fingerprint)
        if stored is None:
            return Standing(state=JobState.missing)
        return standing_of(stored, job, fingerprint)

    def stored(self, job: Job, fingerprint: PlanFingerprint) -> StoredWheel | None:
        """Return the yard's wheel of this job, whether it is up to date or not."""
        exact = self.yard.find(plan_fingerprint=fingerprint.sha256)
        return exact or self.yard.find(identifier=job.identifier)

    def current(self, job: Job, fingerprint: PlanFingerprint) -> StoredWheel | None:
        """Return the yard's wheel of this job, built or adopted, if nothing changed since."""
        stored = self.stored(job, fingerprint)
        is_current = stored is not None and not changed_since(stored, job, fingerprint)
        return stored if is_current else None

    def fetch(self, job: Job) -> FetchedSource:
        """Bring a job's source into the cache, its bytes verified."""
        return fetch_source(
            job.version.source,
            cache=self.cache,
            farm=self.farm.folder,
            settings=self.indexes,
            env=self.env,
        )

    def folder_digest(self, job: Job) -> str | None:
        """A folder of the farm has no pin: its files themselves decide."""
        is_folder = isinstance(job.version.source, FolderSource)
        return self.fetch(job).digest if is_folder else None


def standing_of(stored: StoredWheel, job: Job, fingerprint: PlanFingerprint) -> Standing:
    """Say whether the yard's wheel of this job is what the job would be now."""
    origin = stored.record.origin
    changed = changed_since(stored, job, fingerprint)
    return Standing(
        state=JobState.stale if changed else JobState.done,
        differences=changed,
        adopted=origin.place if isinstance(origin, Adopted) else "",
    )


def changed_since(stored: StoredWheel, job: Job, fingerprint: PlanFingerprint) -> tuple[str, ...]:
    """Say which inputs of a stored wheel of this job are others now.

    ``fingerprint`` is what the job would be built from; an adopted wheel was made from less.
    """
    record = stored.record
    if isinstance(record.origin, Adopted):
        fingerprint = adopted_fingerprint(job, upstream_sha256=record.origin.sha256)
    if record.plan_fingerprint == fingerprint.sha256:
        return ()
    return explain_difference(record.fingerprint_inputs, fingerprint.inputs)


def open_workshop(farm: Farm, yard: Yard, *, env: Mapping[str, str], options: Options) -> Workshop:
    """Read the user's settings and return the workshop."""
    home = Path(env.get("HOME", os.path.expanduser("~")))  # noqa: PTH111 - of this user, whoever
    return Workshop(
        farm=farm,
        yard=yard,
        cache=cache_folder(env),
        env=env,
        indexes=read_index_settings(env, home=home, cwd=Path.cwd()),
        options=options,
    )
