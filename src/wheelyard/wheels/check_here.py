"""Check a wheel against one machine: its Python, C library, driver and GPUs."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from packaging.tags import compatible_tags, cpython_tags

from wheelyard.model.cell import CudaVersion
from wheelyard.model.known_libraries import cuda_major
from wheelyard.model.possibility import reason_driver_too_old
from wheelyard.wheels.check_labels import promised_glibc
from wheelyard.wheels.findings import Finding, FindingKind, Severity

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from packaging.tags import Tag

    from wheelyard.machine.gpu import DriverFacts
    from wheelyard.machine.libc import Libc
    from wheelyard.model.cell import GpuArch, Machine, PythonVersion
    from wheelyard.wheels.labels import Labels


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Here:
    """The machine that a wheel is going to be installed on."""

    python: PythonVersion
    interpreter: Path
    machine: Machine
    libc: Libc
    platforms: tuple[str, ...]
    """The platform tags that it takes, the best first."""
    driver: DriverFacts | None
    gpus: tuple[GpuArch, ...]


def here_findings(labels: Labels, libraries: tuple[str, ...], here: Here) -> Iterator[Finding]:
    """Find why a wheel that needs these libraries cannot be installed or run on the machine."""
    if labels.tags and not labels.tags & frozenset(_taken(here)):
        yield Finding(kind=FindingKind.HERE, message=_why_not_taken(labels, here))
    majors = {major for name in libraries if (major := cuda_major(name)) is not None}
    if majors:
        # A wheel may hold parts for several; what it runs on is the oldest.
        yield from _driver_finding(CudaVersion(min(majors), 0), here)


def _taken(here: Here) -> Iterator[Tag]:
    version = (here.python.major, here.python.minor)
    yield from cpython_tags(version, [here.python.abi_tag], here.platforms)
    yield from compatible_tags(version, here.python.python_tag, here.platforms)


def _why_not_taken(labels: Labels, here: Here) -> str:
    tags = ", ".join(sorted(str(tag) for tag in labels.tags))
    if labels.machine not in {None, here.machine}:
        return f"It is for {labels.machine}, and this machine is {here.machine}"
    promised = [one for tag in labels.tags if (one := promised_glibc(tag.platform))]
    if promised and here.libc.name == "glibc" and min(promised) > here.libc.version:
        wanted = ".".join(str(part) for part in min(promised))
        return (
            f"It is for systems with glibc {wanted} or later ({tags}), and this one has "
            f"{here.libc}. Build it here, or for an older platform tag"
        )
    if promised and here.libc.name == "musl":
        return f"It is for systems with glibc ({tags}), and this one has musl"
    return (
        f"It is for {tags}, and Python {here.python} ({here.interpreter}) does not take that. "
        f"Name another Python with --python"
    )


def _driver_finding(cuda: CudaVersion, here: Here) -> Iterator[Finding]:
    if here.driver is None:
        message = f"It runs on CUDA {cuda.major}, and this machine has no NVIDIA driver"
        yield Finding(kind=FindingKind.HERE, message=message, severity=Severity.WARNING)
        return
    # Within a major version any driver of the first release will do (minor version compatibility).
    reason = reason_driver_too_old(cuda, driver=here.driver.version)
    if reason is not None:
        yield Finding(kind=FindingKind.HERE, message=reason)
