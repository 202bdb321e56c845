"""Our wheels as a resolver may take them: those that exist, and those that could be built."""

from __future__ import annotations

import dataclasses
from enum import StrEnum
from typing import TYPE_CHECKING

from wheelyard.model.cell import GpuArch
from wheelyard.model.gpu_targets import How, run_on

if TYPE_CHECKING:
    from collections.abc import Iterable

    from packaging.utils import NormalizedName
    from packaging.version import Version

    from wheelyard.model.job import Job
    from wheelyard.model.platform import PlatformFloor


class Origin(StrEnum):
    """Where a wheel comes from, the nearest first."""

    yard = "yard"
    published = "published"
    upstream = "upstream"
    """Upstream published a wheel that passes the check; ``adopt`` takes it in."""
    candidate = "candidate"
    """Upstream has one of such a name, which nobody has looked at yet."""
    build = "build"

    @property
    def exists(self) -> bool:
        return self in {Origin.yard, Origin.published}


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Offer:
    """One wheel of ours for one cell."""

    name: NormalizedName
    version: Version
    """With its local part."""
    filename: str
    metadata: bytes
    origin: Origin
    place: str
    """The path or URL of the wheel, or the identifier of the job that makes it."""
    sha256: str = ""
    """Of the wheel, where it exists."""
    gpu_archs: tuple[str, ...] = ()
    is_default: bool = True
    """Made for the recipe's default GPU targets."""
    index_url: str = ""
    """The index that serves it, or will once it is made."""
    effort: float = 0.0
    """CPU seconds until it exists."""
    doubt: str = ""
    """Why it is not known whether somebody has it already."""

    @property
    def public(self) -> str:
        return f"{self.name} {self.version.public}"


@dataclasses.dataclass(frozen=True, slots=True)
class _Code:
    cubins: tuple[GpuArch, ...]
    ptx: tuple[GpuArch, ...] = ()


def gpus_lacking(offer: Offer, gpus: Iterable[GpuArch]) -> tuple[str, ...]:
    """Return the GPUs that the wheel has no native code for; one without GPU code runs on all."""
    if not offer.gpu_archs:
        return ()
    code = _Code(tuple(GpuArch.parse(text) for text in offer.gpu_archs))
    return tuple(str(gpu) for gpu in gpus if run_on(gpu, code).how is not How.NATIVE)


def would_be_wheel(job: Job, *, floor: PlatformFloor) -> tuple[str, bytes]:
    """Return filename and METADATA of the wheel that a job would make, as far as is known."""
    cell, version = job.cell, job.version
    name = str(version.recipe).replace("-", "_")
    platform = f"{floor}_{cell.machine}"
    build = f"-{version.revision}" if version.revision else ""
    tags = f"{cell.python.python_tag}-{cell.python.abi_tag}-{platform}"
    requires = [job.torch_requirement, *version.contents.requires_with(cell.torch.cuda)]
    python = version.conditions.python
    lines = ["Metadata-Version: 2.1", f"Name: {version.recipe}", f"Version: {job.wheel_version}"]
    lines += [f"Requires-Python: {python}"] if len(python) else []
    lines += [f"Requires-Dist: {requirement}" for requirement in requires]
    filename = f"{name}-{job.wheel_version}{build}-{tags}.whl"
    return filename, "\n".join([*lines, "", ""]).encode()
