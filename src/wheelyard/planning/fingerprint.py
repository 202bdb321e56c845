"""The plan fingerprint: a pure function of files in git that alone decides what is stale."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from typing import TYPE_CHECKING

import msgspec

from wheelyard.model.recipe import source_to_json

if TYPE_CHECKING:
    from collections.abc import Mapping

    from wheelyard.model.cell import Cell
    from wheelyard.model.job import Job
    from wheelyard.model.platform import PlatformFloor
    from wheelyard.model.recipe import RecipeVersion

BUILD_FORMAT = 3
"""Raised when wheelyard itself comes to build other bytes from the same files.

Since 2 a wheel holds its bill of materials, since 3 it is held to the systems that are wanted.
"""
ADOPTION_FORMAT = 2
"""Raised when wheelyard itself comes to make other bytes of the same upstream wheel; as above."""
_ANY_CELL = "\0"
"""Stands for the cell in text; JSON never holds it as it is."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class PlanFingerprint:
    """The digest, and the inputs it was made from so that a difference can be told."""

    sha256: str
    shared: Mapping[str, object]
    """The inputs without the cell, one mapping for a whole group."""
    cell: str

    @property
    def inputs(self) -> dict[str, object]:
        return {"cell": self.cell, **self.shared}


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Inputs:
    """Some of the inputs, and each as the JSON that is digested."""

    values: Mapping[str, object]
    texts: Mapping[str, str]

    @classmethod
    def of(cls, values: Mapping[str, object]) -> Inputs:
        return cls(values=values, texts={key: _json(item) for key, item in values.items()})


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class GroupFingerprint:
    """What the fingerprints of jobs that differ in Python only share, put into words once."""

    inputs: Mapping[str, object]
    """Without the cell."""
    before: bytes
    after: bytes
    """What stands before the cell and behind it in the text that is digested."""

    @classmethod
    def of(cls, *parts: Inputs) -> GroupFingerprint:
        """Put together what a recipe version and what a group contributes."""
        values: dict[str, object] = {}
        texts: dict[str, str] = {"cell": _ANY_CELL}
        for part in parts:
            values |= part.values
            texts |= part.texts
        text = ",".join(f'"{key}":{texts[key]}' for key in sorted(texts))
        before, after = f"{{{text}}}".encode().split(_ANY_CELL.encode())
        return cls(inputs=values, before=before, after=after)

    def of_cell(self, cell: Cell) -> PlanFingerprint:
        """Return the fingerprint of the job for that cell."""
        name = cell.identifier
        text = b'%b"%b"%b' % (self.before, name.encode("ascii"), self.after)
        return PlanFingerprint(
            sha256=hashlib.sha256(text).hexdigest(),
            shared=self.inputs,
            cell=name,
        )


def plan_fingerprint(
    job: Job,
    *,
    patches: Mapping[str, str],
    locks: Mapping[str, str],
    folder_digest: str | None,
    gcc_major: int | None,
    floor: PlatformFloor,
    container: str | None = None,
) -> PlanFingerprint:
    """Digest what decides a job's content: ``patches`` and ``locks`` map names to sha256."""
    group = group_fingerprint(
        job,
        of_version=version_inputs(job.version, folder_digest=folder_digest, floor=floor),
        patches=patches,
        locks=locks,
        gcc_major=gcc_major,
        container=container,
    )
    return group.of_cell(job.cell)


def version_inputs(
    version: RecipeVersion, *, folder_digest: str | None, floor: PlatformFloor
) -> Inputs:
    """Return what a recipe version contributes to the fingerprints of all its jobs."""
    return Inputs.of(
        {
            **_identity(version),
            "build": {
                "environment": [list(item) for item in version.build.environment],
                "requires": sorted(str(item) for item in version.build.requires),
            },
            "folder": folder_digest,
            "format": BUILD_FORMAT,
            "platform": str(floor),
            "source": source_to_json(version.source),
        }
    )


def group_fingerprint(
    job: Job,
    *,
    of_version: Inputs,
    patches: Mapping[str, str],
    locks: Mapping[str, str],
    gcc_major: int | None,
    container: str | None = None,
) -> GroupFingerprint:
    """Return what the fingerprints share of every job of the group with these patches."""
    inputs: dict[str, object] = {
        "foreign_torch": job.foreign_torch,
        "gcc_major": gcc_major,
        "gpu_archs": [str(arch) for arch in job.gpu_archs],
        "locks": dict(sorted(locks.items())),
        "patches": [[name, digest] for name, digest in patches.items()],
    }
    if job.lineinfo:
        inputs["lineinfo"] = True
    if container is not None:
        inputs["container"] = container
    return GroupFingerprint.of(of_version, Inputs.of(inputs))


def adopted_fingerprint(job: Job, *, upstream_sha256: str) -> PlanFingerprint:
    """Digest what decides the content of a wheel that somebody else built.

    That is upstream's file and what stamp and check take from the recipe. Patches, locks and
    compilers had no part in it, so a change of theirs does not make it stale.
    """
    inputs: dict[str, object] = {
        **_identity(job.version),
        "adopted": upstream_sha256,
        "format": ADOPTION_FORMAT,
        "gpu_archs": [str(arch) for arch in job.gpu_archs],
        "torch_requirement": str(job.torch_requirement),
    }
    return GroupFingerprint.of(Inputs.of(inputs)).of_cell(job.cell)


def _identity(version: RecipeVersion) -> dict[str, object]:
    """What a wheel is and holds, whoever built it and for which cell."""
    contents = version.contents
    expected: dict[str, object] = {
        "entry_points": sorted(contents.entry_points),
        "extensions": sorted(contents.extensions),
        "requires": sorted(contents.requires),
        "top_levels": sorted(contents.top_levels),
    }
    if contents.bare_version:
        expected["bare_version"] = True
    if contents.libraries:
        expected["libraries"] = sorted(contents.libraries)
    return {
        "contents": expected,
        "recipe": version.label,
        "revision": version.revision,
    }


def _json(value: object) -> str:
    """Write what ``json.dumps`` does, which fingerprints stand on for good; mostly much faster."""
    text = msgspec.json.encode(value, order="sorted").decode()
    if text.isascii() and text.isprintable():
        return text
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


def explain_difference(old: Mapping[str, object], new: Mapping[str, object]) -> tuple[str, ...]:
    """Say in words which inputs changed between two fingerprints."""
    keys = sorted({*old, *new})
    return tuple(
        f"{key}: {json.dumps(old.get(key), sort_keys=True)} -> "
        f"{json.dumps(new.get(key), sort_keys=True)}"
        for key in keys
        if old.get(key) != new.get(key)
    )
