"""The plan fingerprint: a pure function of files in git that alone decides what is stale."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from typing import TYPE_CHECKING

from wheelyard.model.recipe import source_to_json

if TYPE_CHECKING:
    from collections.abc import Mapping

    from wheelyard.model.job import Job

BUILD_FORMAT = 1
"""Raised when wheelyard itself comes to build other bytes from the same files."""
ADOPTION_FORMAT = 1
"""Raised when wheelyard itself comes to make other bytes of the same upstream wheel."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class PlanFingerprint:
    """The digest, and the inputs it was made from so that a difference can be told."""

    sha256: str
    inputs: Mapping[str, object]


def plan_fingerprint(
    job: Job,
    *,
    patches: Mapping[str, str],
    locks: Mapping[str, str],
    folder_digest: str | None,
    gcc_major: int | None,
) -> PlanFingerprint:
    """Digest what decides a job's content: ``patches`` and ``locks`` map names to sha256."""
    version = job.version
    inputs: dict[str, object] = {
        **_identity(job),
        "build": {
            "environment": [list(item) for item in version.build.environment],
            "requires": sorted(str(item) for item in version.build.requires),
        },
        "folder": folder_digest,
        "foreign_torch": job.foreign_torch,
        "format": BUILD_FORMAT,
        "gcc_major": gcc_major,
        "locks": dict(sorted(locks.items())),
        "patches": [[name, digest] for name, digest in patches.items()],
        "source": source_to_json(version.source),
    }
    if job.lineinfo:
        inputs["lineinfo"] = True
    return _digested(inputs)


def adopted_fingerprint(job: Job, *, upstream_sha256: str) -> PlanFingerprint:
    """Digest what decides the content of a wheel that somebody else built.

    That is upstream's file and what stamp and check take from the recipe. Patches, locks and
    compilers had no part in it, so a change of theirs does not make it stale.
    """
    inputs: dict[str, object] = {
        **_identity(job),
        "adopted": upstream_sha256,
        "format": ADOPTION_FORMAT,
        "torch_requirement": str(job.torch_requirement),
    }
    return _digested(inputs)


def _identity(job: Job) -> dict[str, object]:
    """What a wheel is and holds, whoever built it."""
    contents = job.version.contents
    return {
        "cell": job.cell.identifier,
        "contents": {
            "entry_points": sorted(contents.entry_points),
            "extensions": sorted(contents.extensions),
            "requires": sorted(str(item) for item in contents.requires),
            "top_levels": sorted(contents.top_levels),
        },
        "gpu_archs": [str(arch) for arch in job.gpu_archs],
        "recipe": job.version.label,
        "revision": job.version.revision,
    }


def _digested(inputs: Mapping[str, object]) -> PlanFingerprint:
    text = json.dumps(inputs, sort_keys=True, separators=(",", ":"))
    return PlanFingerprint(sha256=hashlib.sha256(text.encode()).hexdigest(), inputs=inputs)


def explain_difference(old: Mapping[str, object], new: Mapping[str, object]) -> tuple[str, ...]:
    """Say in words which inputs changed between two fingerprints."""
    keys = sorted({*old, *new})
    return tuple(
        f"{key}: {json.dumps(old.get(key), sort_keys=True)} -> "
        f"{json.dumps(new.get(key), sort_keys=True)}"
        for key in keys
        if old.get(key) != new.get(key)
    )
