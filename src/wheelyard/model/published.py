"""What a published index says that there is."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from packaging.utils import InvalidWheelFilename, NormalizedName

from wheelyard.model.wheel_filename import parse_wheel_filename

if TYPE_CHECKING:
    from collections.abc import Mapping

    from packaging.tags import Tag
    from packaging.version import Version

    from wheelyard.model.job import Job


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class PublishedWheel:
    """A wheel as a project's page names it."""

    filename: str
    name: NormalizedName
    version: Version
    revision: int
    built_for: str
    """What its build tag says after the revision, where its version does not say it."""
    tags: frozenset[Tag]
    url: str
    sha256: str

    def is_of(self, job: Job) -> bool:
        """Whether its name is the one of the job's wheel, of whatever revision."""
        said = self.name, self.version, self.built_for
        if said != (job.version.recipe, job.wheel_version, job.build_suffix):
            return False
        python, machine = job.cell.python, job.cell.machine
        return any(
            (tag.interpreter, tag.abi) == (python.python_tag, python.abi_tag)
            and tag.platform.endswith(f"_{machine}")
            for tag in self.tags
        )


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Published:
    """One index: the wheels of the projects that could be read, and why others could not."""

    url: str
    wheels: Mapping[NormalizedName, tuple[PublishedWheel, ...]]
    unknown: Mapping[NormalizedName, str]

    def find(self, job: Job) -> PublishedWheel | None:
        """Return the wheel of the highest revision that is named as the job's is."""
        found = [item for item in self.wheels.get(job.version.recipe, ()) if item.is_of(job)]
        return max(found, key=lambda item: item.revision, default=None)


def parse_published(filename: str, *, url: str, sha256: str) -> PublishedWheel | None:
    """Read a wheel's filename; nothing for another kind of file."""
    try:
        name, version, build, tags = parse_wheel_filename(filename)
    except InvalidWheelFilename:
        return None
    return PublishedWheel(
        filename=filename,
        name=name,
        version=version,
        revision=build[0] if build else 0,
        built_for=build[1] if build else "",
        tags=tags,
        url=url,
        sha256=sha256,
    )
