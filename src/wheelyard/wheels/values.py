"""What a wheel is after each stage: built or adopted, repaired, checked, tested."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, ClassVar

from wheelyard.model.record import TestLevel

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from packaging.version import Version

    from wheelyard.wheels.check import CheckReport

__all__ = [
    "AdoptedWheel",
    "BuiltWheel",
    "CheckedWheel",
    "RepairedWheel",
    "SmokeReport",
    "TestLevel",
    "TestedWheel",
    "UpstreamWheel",
]


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class BuiltWheel:
    """A wheel as the project's own build wrote it."""

    path: Path
    sha256: str
    log_path: Path
    seconds: float
    cpu_seconds: float
    """Of the build child and all its compilers."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class UpstreamWheel:
    """A wheel that somebody else built, as it came."""

    path: Path
    sha256: str
    url: str
    """Where it was downloaded, without credentials; empty for a file that was here."""
    filename: str


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class AdoptedWheel:
    """A wheel as somebody else built it, under the name that its own metadata and files ask for."""

    path: Path
    sha256: str
    log_path: Path
    url: str
    """Where it was downloaded, without credentials; empty for a file that was here."""
    filename: str
    """As upstream named it, whatever that promised."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class RepairedWheel:
    """A wheel with its final name, version, tags and bytes."""

    path: Path
    sha256: str
    version: Version
    """With its local part."""
    platform_tag: str
    """For example ``manylinux_2_24_x86_64``; older ones carry their alias behind a dot."""
    external_libraries: tuple[str, ...]
    """SONAMEs that the wheel needs and does not carry: torch, CUDA and the driver."""
    grafted_libraries: tuple[str, ...]
    """Members that repair put into the wheel."""
    policy_symbols: tuple[str, ...]
    """The newest version of each versioned system symbol, for example ``GLIBC_2.14``."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class CheckedWheel:
    """A repaired wheel that passed the static check."""

    wheel: RepairedWheel
    report: CheckReport


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class SmokeReport:
    """What the smoke test saw."""

    level: TestLevel
    machine_description: str
    measurements: tuple[Mapping[str, object], ...]
    seconds: float


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class TestedWheel:
    """A checked wheel that was installed into a clean environment and worked there."""

    __test__: ClassVar[bool] = False

    wheel: CheckedWheel
    level: TestLevel
    report: SmokeReport
