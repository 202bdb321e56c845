"""The matrix: the combinations that the farm wants, and those it does not."""

from __future__ import annotations

import dataclasses
import itertools
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, TypeVar

from wheelyard.errors import InputFileError, UsageError
from wheelyard.model.cell import MACHINES, Cell, Machine, PythonVersion, TorchBuild
from wheelyard.model.platform import DEFAULT_FLOOR, PlatformFloor
from wheelyard.model.words import nearest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from wheelyard.model.recipe import RecipeVersion
    from wheelyard.model.recipe_file import MatrixFile


T = TypeVar("T")


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Exclusion:
    """Jobs that nobody wants, and why."""

    select: str
    reason: str


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Priority:
    """Jobs that come earlier (positive) or later (negative)."""

    select: str
    value: int


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Runner:
    """The labels of the GitHub runners that some jobs are built and tried on."""

    select: str
    build: tuple[str, ...]
    gpu: tuple[str, ...] = ()
    container: str = ""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Matrix:
    """Axes, exclusions and priorities; torch builds in the order of the file."""

    pythons: tuple[PythonVersion, ...]
    torches: tuple[TorchBuild, ...]
    machines: tuple[Machine, ...]
    exclusions: tuple[Exclusion, ...]
    priorities: tuple[Priority, ...]
    gcc_major: int | None
    """The compiler that every build box must have, if the farm insists on one."""
    runners: tuple[Runner, ...] = ()
    floor: PlatformFloor = DEFAULT_FLOOR
    """The oldest systems that its wheels have to load on."""
    container: str | None = None
    """The image that they are built in, by its digest, if not on the machine itself."""
    repository: str = ""
    """The page of the farm's repository, if it has one."""

    def cells(self) -> Iterator[Cell]:
        """Yield every combination of the axes, wanted torch builds first, Pythons innermost."""
        for torch, machine, python in itertools.product(self.torches, self.machines, self.pythons):
            yield Cell(python, torch, machine)

    def floor_of(self, version: RecipeVersion) -> PlatformFloor:
        """Return what this version's wheels have to load on; its recipe may say otherwise."""
        return version.build.floor or self.floor

    def reason_excluded(self, identifier: str) -> str | None:
        """Return why this job is not wanted, or nothing."""
        for item in self.exclusions:
            if fnmatchcase(identifier, item.select):
                return item.reason
        return None

    def runner(self, identifier: str) -> Runner | None:
        """Return where a job runs on GitHub."""
        matching = (one for one in self.runners if fnmatchcase(identifier, one.select))
        return next(matching, None)

    def priority(self, identifier: str) -> int:
        """Add up what the matching priorities give."""
        return sum(item.value for item in self.priorities if fnmatchcase(identifier, item.select))


def parse_matrix(file: MatrixFile, *, origin: str) -> Matrix:
    """Turn a decoded matrix file into a matrix; ``origin`` names the file in errors."""
    return Matrix(
        pythons=_parse_all(file.axes.python, PythonVersion.parse, axis="python", origin=origin),
        torches=_parse_all(file.axes.torch, TorchBuild.parse, axis="torch", origin=origin),
        machines=_parse_all(file.axes.machine, parse_machine, axis="machine", origin=origin),
        exclusions=tuple(
            Exclusion(select=item.select, reason=item.reason) for item in file.exclude
        ),
        priorities=tuple(
            Priority(select=item.select, value=item.value) for item in file.priorities
        ),
        gcc_major=file.toolchain.gcc,
        floor=PlatformFloor.parse(file.toolchain.platform),
        container=file.toolchain.container,
        runners=tuple(
            Runner(select=item.select, build=item.build, gpu=item.gpu, container=item.container)
            for item in file.runners
        ),
        repository=file.repository,
    )


def parse_machine(text: str) -> Machine:
    """Parse ``x86_64`` or ``aarch64``."""
    for machine in MACHINES:
        if text == machine:
            return machine
    msg = f"{text!r} is not a machine.{nearest(text, MACHINES)} Known: {', '.join(MACHINES)}."
    raise UsageError(msg)


def _parse_all(
    texts: tuple[str, ...], parser: Callable[[str], T], *, axis: str, origin: str
) -> tuple[T, ...]:
    values = []
    for number, text in enumerate(texts):
        try:
            values.append(parser(text))
        except UsageError as error:
            msg = f"{error} - at `$.axes.{axis}[{number}]` in {origin}"
            raise InputFileError(msg) from None
    return tuple(values)
