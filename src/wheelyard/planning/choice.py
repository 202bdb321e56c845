"""The best cell for a machine when nobody names one, and why it is the best."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from wheelyard.errors import ImpossibleCellError
from wheelyard.model.cell import Cell
from wheelyard.model.possibility import reason_driver_too_old
from wheelyard.planning.plan import reasons_against

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from wheelyard.model.cell import CudaVersion, Machine, PythonVersion, TorchBuild
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
    candidates = [
        torch
        for torch in dict.fromkeys((*matrix.torches, *known_torches))
        if (wish.torch is None or str(torch.version) == wish.torch)
        and (wish.cuda is None or torch.cuda == wish.cuda)
        and (wish.torch is not None or wish.cuda is not None or torch in matrix.torches)
    ]
    for torch in candidates:
        refusal = _refuse_torch(torch, offer)
        if refusal is not None:
            refusals.append(refusal)
            continue
        choice = _choose_python(version, torch, wish=wish, offer=offer, refusals=refusals)
        if choice is not None:
            return choice
    raise ImpossibleCellError(_nothing(version, wish, refusals))


def _refuse_torch(torch: TorchBuild, offer: Offer) -> str | None:
    if not offer.has_lock(torch):
        return f"torch {torch} has no lock (run `wheelyard update torch {torch}`)."
    if not offer.has_toolkit(torch.cuda):
        return f"CUDA {torch.cuda} (torch {torch}) is not installed and not on the index whole."
    if offer.driver is None:
        return None
    return reason_driver_too_old(torch.cuda, driver=offer.driver)


def _choose_python(
    version: RecipeVersion,
    torch: TorchBuild,
    *,
    wish: Wish,
    offer: Offer,
    refusals: list[str],
) -> Choice | None:
    # free-threaded Pythons are never anybody's default
    here = sorted((item for item in offer.pythons if not item.free_threaded), reverse=True)
    pythons = [wish.python] if wish.python is not None else here
    for python in pythons:
        cell = Cell(python, torch, offer.machine)
        reasons = reasons_against(version, cell)
        if not reasons:
            return Choice(cell=cell, reasons=_reasons(cell, wish))
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


def _nothing(version: RecipeVersion, wish: Wish, refusals: list[str]) -> str:
    asked = [
        f"{name} {value}"
        for name, value in (("Python", wish.python), ("torch", wish.torch), ("CUDA", wish.cuda))
        if value is not None
    ]
    why = " ".join(dict.fromkeys(refusals)) or "No torch build of the matrix matches."
    return (
        f"No cell for {version.label} with {', '.join(asked) or 'what is here'}. {why} "
        "`wheelyard matrix` shows the cells that are possible."
    )
