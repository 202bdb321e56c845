"""Where jobs are built: farm, yard, caches and what this machine brings, looked up once."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from wheelyard.errors import UsageError
from wheelyard.files import file_sha256
from wheelyard.machine.folders import cache_folder
from wheelyard.machine.namespaces import SandboxLevel, find_sandbox
from wheelyard.model.record import Adopted
from wheelyard.model.source import FolderSource
from wheelyard.network.children import uv_environment, with_pytorch_index
from wheelyard.network.open_store import open_object_store
from wheelyard.network.opening import open_settings
from wheelyard.planning.fingerprint import (
    PlanFingerprint,
    adopted_fingerprint,
    explain_difference,
    plan_fingerprint,
)
from wheelyard.planning.locks import job_locks, needs_pytorch_index, toolkit_lock, torch_lock
from wheelyard.planning.plan import JobState, Standing
from wheelyard.progress import QUIET
from wheelyard.sources.fetch import fetch_source
from wheelyard.toolchain.containers import find_engine, open_container
from wheelyard.toolchain.redistributables import Redistributables
from wheelyard.toolchain.sandbox import Sandbox, choose_sandbox
from wheelyard.toolchain.shared_cache import SharedCache

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from wheelyard.farm import Farm
    from wheelyard.model.cell import CudaVersion, TorchBuild
    from wheelyard.model.job import Job
    from wheelyard.network.indexes import IndexSettings
    from wheelyard.progress import Transfers
    from wheelyard.sources.values import FetchedSource
    from wheelyard.toolchain.compile_cache import CacheName
    from wheelyard.toolchain.toolkit import Provider
    from wheelyard.yard.store import StoredWheel, Yard

SHARED_CACHE = "WHEELYARD_SHARED_CACHE"
"""Names the place of ``--shared-cache``, for CI."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Options:
    """How the user wants jobs built."""

    compile_jobs: int | None = None
    toolkit: Provider = "auto"
    sandbox: SandboxLevel | None = None
    foreign_python: Path | None = None
    """The interpreter of ``--env``, whose torch is used as it is."""
    compile_cache: CacheName = "sccache"
    shared_cache: str | None = None
    """A folder or ``s3://bucket/prefix`` that machines share compiled objects through."""
    container: str | None = None
    """The image that jobs are built in, or ``none``; left out, as the matrix says."""
    container_engine: str | None = None
    network: tuple[str, ...] = ()
    """``KEY=VALUE`` words of the network's settings."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Workshop:
    """A farm and a yard on this machine."""

    farm: Farm
    yard: Yard
    cache: Path
    env: Mapping[str, str]
    indexes: IndexSettings
    options: Options

    def uv_env(self, torch: TorchBuild | None = None) -> dict[str, str]:
        """The environment of uv children that install what locks say, also those of ``torch``."""
        child = uv_environment(self.indexes, self.env)
        if torch is None or not needs_pytorch_index(torch_lock(torch)):
            return child
        return with_pytorch_index(child, self.indexes, label=torch.cuda.label)

    def sandbox_of(self, job: Job) -> Sandbox:
        """Return what the job's commands run in: a container where one is wanted."""
        image = self.container
        if image is None:
            return self.sandbox()
        if job.foreign_torch or self.options.sandbox is not None:
            word = "--env" if job.foreign_torch else "--sandbox"
            msg = f"The container {image} has a system of its own: leave out {word} or --container."
            raise UsageError(msg)
        return open_container(
            image,
            job.cell,
            engine=find_engine(self.options.container_engine, self.env),
            env=self.env,
            scratch=self.cache / "sandbox",
        )

    @property
    def container(self) -> str | None:
        """The image that jobs are built in, if it is not this machine."""
        image = self.options.container or self.farm.matrix.container
        return None if image in {None, "none"} else image

    def sandbox(self) -> Sandbox:
        level = self.options.sandbox or find_sandbox(self.env).level
        return choose_sandbox(level, env=self.env, scratch=self.cache / "sandbox")

    def fingerprint(self, job: Job) -> PlanFingerprint:
        """Digest the files in git that decide the job's content."""
        farm = self.farm
        return plan_fingerprint(
            job,
            patches={
                name: file_sha256(farm.folder / "patches" / path)
                for name, path in farm.patch_files(job).items()
            },
            locks=self.lock_digests(job),
            folder_digest=self.folder_digest(job),
            gcc_major=farm.matrix.gcc_major,
            floor=farm.matrix.floor_of(job.version),
            container=farm.matrix.container,
        )

    def redistributables(self, cuda: CudaVersion) -> Redistributables | None:
        """Return NVIDIA's archives of this CUDA where the farm has their lock."""
        lock = self.farm.redist_lock(cuda)
        if lock is None:
            return None
        return Redistributables(lock=lock, settings=self.indexes, env=self.env)

    def lock_digests(self, job: Job) -> dict[str, str]:
        """Digest every lock that the job stands on, by its path."""
        locks = [self.farm.lock(request) for request in job_locks(job)]
        digests = {str(lock.request.path): lock.sha256 for lock in locks}
        return digests | self.redist_digest(job.cell.torch.cuda)

    def redist_digest(self, cuda: CudaVersion) -> dict[str, str]:
        """Digest the lock of NVIDIA's archives, where the index has no toolkit and it is there."""
        lock = self.farm.redist_lock(cuda) if toolkit_lock(cuda) is None else None
        return {} if lock is None else {str(lock.request.path): lock.sha256}

    def stored(self, job: Job, fingerprint: PlanFingerprint) -> StoredWheel | None:
        """Return the yard's wheel of this job, whether it is up to date or not."""
        exact = self.yard.find(plan_fingerprint=fingerprint.sha256)
        return exact or self.yard.find(identifier=job.identifier)

    def current(self, job: Job, fingerprint: PlanFingerprint) -> StoredWheel | None:
        """Return the yard's wheel of this job, built or adopted, if nothing changed since."""
        stored = self.stored(job, fingerprint)
        is_current = stored is not None and not changed_since(stored, job, fingerprint)
        return stored if is_current else None

    def shared_cache(self) -> SharedCache | None:
        """Open the store that compiled objects are shared through, where one is named."""
        place = self.options.shared_cache or self.env.get(SHARED_CACHE)
        if not place or self.options.compile_cache == "none":
            return None
        if self.options.compile_cache != "sccache":
            msg = (
                f"--shared-cache takes the objects of sccache. Leave out --compile-cache "
                f"{self.options.compile_cache}, or use what it shares caches with itself."
            )
            raise UsageError(msg)
        store = open_object_store(place, settings=self.indexes, env=self.env)
        return SharedCache(store=store, parallel=self.indexes.network.parallel)

    def fetch(self, job: Job, transfers: Transfers = QUIET) -> FetchedSource:
        """Bring a job's source into the cache, its bytes verified."""
        return fetch_source(
            job.version.source,
            cache=self.cache,
            farm=self.farm.folder,
            settings=self.indexes,
            env=self.env,
            transfers=transfers,
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
    settings = open_settings(env, options=options.network)
    return Workshop(
        farm=farm,
        yard=yard,
        cache=cache_folder(env),
        env=settings.env,
        indexes=settings.indexes,
        options=options,
    )
