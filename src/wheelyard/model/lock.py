"""Locks: hashed requirement lists in git that say in advance everything that is installed."""

from __future__ import annotations

import dataclasses
import hashlib
import re
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Literal

from packaging.requirements import Requirement
from packaging.utils import NormalizedName, canonicalize_name

from wheelyard.model.markers import marker_environment

if TYPE_CHECKING:
    from wheelyard.model.cell import CudaVersion, TorchBuild
    from wheelyard.model.recipe import RecipeVersion

Kind = Literal["torch", "toolkit", "redist", "build", "runtime"]

HEADER = "# wheelyard lock of: "
_PIN = re.compile(r"^(?P<pin>(?P<name>[A-Za-z0-9][A-Za-z0-9._-]*)==[^\n\\]+)", re.MULTILINE)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class LockRequest:
    """What a lock must hold: the requirements that it was resolved from, and for whom."""

    kind: Kind
    name: str
    """For example ``2.11.0+cu130``, ``13.0``, ``12.4.1`` or ``causal-conv1d-1.7.0``."""
    requirements: tuple[str, ...]
    python: str
    """The oldest Python that it serves, for example ``3.10``; empty where none matters."""
    machines: tuple[str, ...]

    @property
    def path(self) -> PurePosixPath:
        """Relative to the farm's folder."""
        suffix = "toml" if self.kind == "redist" else "txt"
        return PurePosixPath("locks", self.kind, f"{self.name}.{suffix}")

    @property
    def header(self) -> str:
        """The first line of the file, by which a stale lock is known."""
        wanted = ", ".join(self.requirements)
        python = f"; Python >= {self.python}" if self.python else ""
        return f"{HEADER}{wanted}{python}; {', '.join(self.machines)}"


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Lock:
    """A lock file as it stands."""

    request: LockRequest
    text: str

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.text.encode()).hexdigest()

    def names_for(self, *, python: str, machine: str) -> frozenset[NormalizedName]:
        """The distributions that it brings to a Python, as ``3.12.1``, and a machine.

        What it pins for others only is not among them.
        """
        environment = marker_environment(python=python, machine=machine)
        pins = (Requirement(match["pin"]) for match in _PIN.finditer(self.text))
        return frozenset(
            canonicalize_name(pin.name)
            for pin in pins
            if pin.marker is None or pin.marker.evaluate(environment)
        )


def without(text: str, names: frozenset[NormalizedName]) -> str:
    """Return the requirement entries of a lock, less those of ``names``.

    An entry is its line and the indented lines with its hashes.
    """
    kept: list[str] = []
    keep = True
    for line in text.splitlines(keepends=True):
        match = _PIN.match(line)
        if match is not None:
            keep = canonicalize_name(match["name"]) not in names
        if keep and not line.startswith("#"):
            kept.append(line)
    return "".join(kept)


_BROUGHT_BY_TORCH = frozenset({"triton"})
"""Every torch pins its own: that is in the lock of the torch build, and no other fits."""
_PYTHONS = tuple(f"3.{minor}" for minor in range(9, 16))


def torch_lock_request(
    torch: TorchBuild, *, python: str, machines: tuple[str, ...], requirement: str
) -> LockRequest:
    """The lock of a torch build: torch and all it pulls, for all its Pythons."""
    return LockRequest(
        kind="torch",
        name=str(torch),
        requirements=(requirement,),
        python=python,
        machines=machines,
    )


def toolkit_lock_request(cuda: CudaVersion, requirement: Requirement) -> LockRequest:
    """The lock of a CUDA toolkit that is assembled from the index's wheels."""
    return LockRequest(
        kind="toolkit",
        name=str(cuda),
        requirements=(str(requirement),),
        python="3.9",
        machines=("aarch64", "x86_64"),
    )


def build_lock_request(version: RecipeVersion) -> LockRequest:
    """The lock of a recipe version's build requirements."""
    requirements = {str(requirement) for requirement in version.build.requires}
    return LockRequest(
        kind="build",
        name=version.label,
        requirements=tuple(sorted({*requirements, "build", "packaging"})),
        python=_oldest_python(version),
        machines=("aarch64", "x86_64"),
    )


def runtime_lock_request(version: RecipeVersion, cuda: CudaVersion) -> LockRequest:
    """The lock of what a recipe version's wheel runs with beside torch, for the smoke test.

    Nearly always it is the same for every CUDA, and named so.
    """
    contents = version.contents
    requires = contents.runs_with(cuda)
    return LockRequest(
        kind="runtime",
        name=f"{version.label}-cu{cuda.major}" if contents.depends_on_cuda else version.label,
        requirements=tuple(
            sorted(str(item) for item in requires if item.name not in _BROUGHT_BY_TORCH)
        ),
        python=_oldest_python(version),
        machines=("aarch64", "x86_64"),
    )


def _oldest_python(version: RecipeVersion) -> str:
    """Return the oldest Python that a version takes: what it requires need not serve older ones."""
    allowed = version.conditions.python
    return next((python for python in _PYTHONS if allowed.contains(python)), _PYTHONS[0])
