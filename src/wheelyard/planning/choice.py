"""The best cell for a machine when nobody names one, and why it is the best."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from packaging.version import Version

from wheelyard.errors import ImpossibleCellError, MachineError
from wheelyard.model.cell import Cell, TorchBuild
from wheelyard.model.possibility import reason_driver_too_old, reasons_against_build
from wheelyard.planning.plan import nearest_hint, reasons_against

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from wheelyard.model.cell import CudaVersion, Machine, PythonVersion
    from wheelyard.model.matrix import Matrix
    from wheelyard.model.recipe import RecipeVersion


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Wish:
    """What the user fixed; ``None`` leaves the choice to us."""

    python: PythonVersion | None = None
    torch: str | None = None
    """A public version such as ``2.11.0``."""
    cuda: CudaVersion | None = None


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Offer:
    """What this machine has."""

    machine: Machine
    pythons: Collection[PythonVersion]
    driver: str | None
    has_toolkit: Callable[[CudaVersion], bool]
    has_lock: Callable[[TorchBuild], bool]


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Choice:
    """A cell, and one sentence for each part that was chosen here."""

    cell: Cell
    reasons: tuple[str, ...]


def choose_cell(
    version: RecipeVersion,
    matrix: Matrix,
    *,
    wish: Wish,
    offer: Offer,
    known_torches: Sequence[TorchBuild],
) -> Choice:
    """Return the first torch build of the matrix that works here, with the newest Python.

    A torch build that the user names may be one that the matrix does not want.
    """
    refusals: list[str] = []
    pythons = _pythons(wish, offer)
    candidates = _candidates(matrix, wish=wish, known_torches=known_torches)
    for torch in candidates:
        cell = _choose_python(version, torch, pythons=pythons, offer=offer, refusals=refusals)
        if cell is None:
            continue
        refusal = _refuse_torch(torch, offer)
        if refusal is None:
            return Choice(cell=cell, reasons=_reasons(cell, wish))
        refusals.append(refusal)
    hint = nearest_hint(Cell(pythons[0], candidates[0], offer.machine)) if candidates else ""
    raise ImpossibleCellError(_nothing(version, wish, refusals, hint))


def _pythons(wish: Wish, offer: Offer) -> list[PythonVersion]:
    if wish.python is not None:
        return [wish.python]
    # free-threaded Pythons are never anybody's default
    here = sorted((item for item in offer.pythons if not item.free_threaded), reverse=True)
    if not here:
        msg = "There is no CPython here to build for. `wheelyard doctor` says what was looked at."
        raise MachineError(msg)
    return here


def _candidates(
    matrix: Matrix, *, wish: Wish, known_torches: Sequence[TorchBuild]
) -> list[TorchBuild]:
    wanted = None if wish.torch is None else Version(wish.torch)
    found = [
        torch
        for torch in dict.fromkeys((*matrix.torches, *known_torches))
        if (wanted is None or torch.version == wanted)
        and (wish.cuda is None or torch.cuda == wish.cuda)
        and (wanted is not None or wish.cuda is not None or torch in matrix.torches)
    ]
    if not found and wanted is not None and wish.cuda is not None:
        # never built, as the reasons against it will say
        return [TorchBuild(wanted, wish.cuda)]
    return found


def _refuse_torch(torch: TorchBuild, offer: Offer) -> str | None:
    if not offer.has_lock(torch):
        return f"torch {torch} has no lock (run `wheelyard update torch {torch}`)."
    if not offer.has_toolkit(torch.cuda):
        return (
            f"CUDA {torch.cuda} (torch {torch}) is not installed, not on the index whole, and its "
            "redistributable archives are not locked (`wheelyard update redist`)."
        )
    if offer.driver is None:
        return None
    return reason_driver_too_old(torch.cuda, driver=offer.driver)


def _choose_python(
    version: RecipeVersion,
    torch: TorchBuild,
    *,
    pythons: Sequence[PythonVersion],
    offer: Offer,
    refusals: list[str],
) -> Cell | None:
    # whatever the Python
    against = list(reasons_against_build(torch, offer.machine))
    if not against:
        needs = version.conditions.reasons_against_torch(torch)
        against = [f"{version.label} {reason}." for reason in needs]
    if against:
        refusals.extend(against)
        return None
    for python in pythons:
        cell = Cell(python, torch, offer.machine)
        reasons = reasons_against(version, cell)
        if not reasons:
            return cell
        refusals.extend(reasons)
    return None


def _reasons(cell: Cell, wish: Wish) -> tuple[str, ...]:
    reasons = []
    if wish.torch is None or wish.cuda is None:
        reasons.append(
            f"torch {cell.torch}: first in matrix.toml that is locked, has a toolkit and fits"
        )
    if wish.python is None:
        reasons.append(f"Python {cell.python}: newest one here that this torch has wheels for")
    return tuple(reasons)


def _nothing(version: RecipeVersion, wish: Wish, refusals: list[str], hint: str) -> str:
    asked = [
        f"{name} {value}"
        for name, value in (("Python", wish.python), ("torch", wish.torch), ("CUDA", wish.cuda))
        if value is not None
    ]
    why = " ".join(dict.fromkeys(refusals)) or "No torch build of the matrix matches."
    return (
        f"No cell for {version.label} with {', '.join(asked) or 'what is here'}. {why}{hint} "
        "`wheelyard matrix` shows the cells that are possible."
    )
