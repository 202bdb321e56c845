"""Answer a question: the cells that have everything, the best first, and why others do not."""

from __future__ import annotations

import concurrent.futures
import dataclasses
from typing import TYPE_CHECKING

from packaging.utils import canonicalize_name

from wheelyard.finding.explaining import explain, lacks_platform, names
from wheelyard.finding.resolution import GLIBC_OF_UV, Conflict, Resolved
from wheelyard.model.possibility import reason_driver_too_old, reasons_impossible
from wheelyard.model.releases import default_torch_build

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from packaging.requirements import Requirement
    from packaging.utils import NormalizedName

    from wheelyard.finding.offer import Offer
    from wheelyard.finding.offering import Offers
    from wheelyard.finding.question import Question
    from wheelyard.finding.resolution import Resolver
    from wheelyard.model.cell import Cell

PARALLEL = 4
"""Resolutions at once: they wait for the index most of the time."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Fit:
    """A cell that has everything."""

    cell: Cell
    resolved: Resolved

    @property
    def to_make(self) -> tuple[Offer, ...]:
        """Wheels of ours that do not exist yet."""
        return tuple(offer for offer in self.resolved.ours if not offer.origin.exists)

    @property
    def works_now(self) -> bool:
        return not self.to_make

    @property
    def effort(self) -> float:
        """CPU seconds until everything exists."""
        return sum(offer.effort for offer in self.to_make)

    @property
    def order(self) -> tuple[object, ...]:
        """Works now, then the newest, then the least to build."""
        cell = self.cell
        torch, cuda = cell.torch.version, cell.torch.cuda
        newest = (-torch.major, -torch.minor, -torch.micro, -cuda.major, -cuda.minor)
        return (
            not self.works_now,
            *newest,
            cell.python.free_threaded,
            -cell.python.minor,
            self.effort,
        )


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class LeftOut:
    """A cell that does not have everything."""

    cell: Cell
    reason: str
    impossible: bool = False
    """There is no such torch for that Python, whatever is asked for."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class HeldBack:
    """A newer version of ours that does not go together with the rest."""

    offer: Offer
    taken: str
    """What is taken in its place."""
    reason: str


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Elsewhere:
    """What would be had with a newer C library, where that alone is in the way."""

    fit: Fit
    glibc: tuple[int, int]
    held_back: tuple[HeldBack, ...]


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """The cells that fit, the best first; all others; and what the best could not take."""

    question: Question
    fits: tuple[Fit, ...]
    left_out: tuple[LeftOut, ...]
    held_back: tuple[HeldBack, ...] = ()
    elsewhere: Elsewhere | None = None

    @property
    def best(self) -> Fit | None:
        return self.fits[0] if self.fits else None


def answer(
    question: Question,
    offers: Mapping[Cell, Offers],
    resolver: Resolver,
    *,
    tell: Callable[[int, int], None] = lambda _done, _all: None,
) -> Answer:
    """Resolve every cell that may fit, and say of each other one why it does not.

    ``tell`` hears how many cells are settled, of how many that have to be resolved.
    """
    asker = _Asker(question, offers, resolver)
    left_out = [item for cell in question.cells if (item := asker.refusal(cell)) is not None]
    refused = {item.cell for item in left_out}
    found = asker.settle([cell for cell in question.cells if cell not in refused], tell)
    fits = [
        Fit(cell=cell, resolved=one) for cell, one in found.items() if isinstance(one, Resolved)
    ]
    conflicts = {cell: one for cell, one in found.items() if isinstance(one, Conflict)}
    left_out += [
        LeftOut(cell=cell, reason=explain(conflict, ours=resolver.ours))
        for cell, conflict in conflicts.items()
    ]
    fits.sort(key=lambda fit: fit.order)
    order = {cell: number for number, cell in enumerate(question.cells)}
    left_out.sort(key=lambda item: order[item.cell])
    return Answer(
        question=question,
        fits=tuple(fits),
        left_out=tuple(left_out),
        held_back=asker.held_back(fits[0], question.glibc) if fits else (),
        elsewhere=None if fits else asker.elsewhere(conflicts),
    )


class _Asker:
    """Asks the resolver about one question."""

    def __init__(
        self, question: Question, offers: Mapping[Cell, Offers], resolver: Resolver
    ) -> None:
        self._question = question
        self._offers = offers
        self._resolver = resolver
        self._texts = [str(requirement) for requirement in question.requirements]

    def refusal(self, cell: Cell) -> LeftOut | None:
        """Say what speaks against the cell before anything is resolved."""
        impossible = " ".join(reasons_impossible(cell))
        reason = impossible or self._why_not(cell)
        if not reason:
            return None
        return LeftOut(cell=cell, reason=reason, impossible=bool(impossible))

    def _why_not(self, cell: Cell) -> str:
        if self._question.driver is not None:
            too_old = reason_driver_too_old(cell.torch.cuda, driver=self._question.driver)
            if too_old is not None:
                return too_old
        if cell.python.free_threaded and str(cell.python) not in self._resolver.pythons:
            return (
                f"Dependencies of a free-threaded Python are resolved where there is one "
                f"(uv python install {cell.python})."
            )
        asked = dict.fromkeys(canonicalize_name(one.name) for one in self._question.requirements)
        reasons = [self._why_none(name, cell) for name in asked if name in self._resolver.ours]
        return " ".join(reason for reason in reasons if reason)

    def settle(
        self, cells: Sequence[Cell], tell: Callable[[int, int], None]
    ) -> dict[Cell, Resolved | Conflict]:
        """Resolve every cell, in the order of the cells.

        The first is asked alone: the others then find its pages in uv's cache. Then one of each
        kind, because a conflict that torch and wheels of ours have no part in is that of all others
        of the kind.
        """
        tell(0, len(cells))
        found: dict[Cell, Resolved | Conflict] = {}
        first_of_kind = {_kind(cell): cell for cell in reversed(cells)}
        general: dict[object, Conflict] = {}
        for batch in (cells[:1], tuple(first_of_kind.values()), cells):
            found |= {cell: general[_kind(cell)] for cell in batch if _kind(cell) in general}
            waiting = [cell for cell in batch if cell not in found]
            with concurrent.futures.ThreadPoolExecutor(max_workers=PARALLEL) as pool:
                for cell, one in zip(waiting, pool.map(self.resolve, waiting), strict=True):
                    found[cell] = one
                    if isinstance(one, Conflict) and not self._concerns_torch(one):
                        general[_kind(cell)] = one
                    tell(len(found), len(cells))
        tell(len(cells), len(cells))
        return {cell: found[cell] for cell in cells}

    def _concerns_torch(self, conflict: Conflict) -> bool:
        return not names(conflict).isdisjoint({"torch", *self._resolver.ours})

    def _why_none(self, name: NormalizedName, cell: Cell) -> str:
        """Say why no version of ours that is asked for is for this cell."""
        requirement = self._asked(name)[0]
        offers = self._offers[cell].of(name)
        if any(requirement.specifier.contains(one.version, prereleases=True) for one in offers):
            return ""
        refused = [
            reason
            for label, reason in self._offers[cell].refused.items()
            if label.startswith(f"{name}-")
            and requirement.specifier.contains(label.removeprefix(f"{name}-"), prereleases=True)
        ]
        if refused:
            return refused[0]
        if not offers and self._offers[cell].why_unfit(name):
            return self._offers[cell].why_unfit(name)
        known = ", ".join(str(one.version.public) for one in offers)
        return f"There is no recipe for {requirement}" + (f" (there is {known})." if known else ".")

    def _asked(self, name: NormalizedName) -> list[Requirement]:
        return [one for one in self._question.requirements if canonicalize_name(one.name) == name]

    def resolve(self, cell: Cell) -> Resolved | Conflict:
        """Take what exists if that goes together, then what needs least to be made."""
        offers = self._offers[cell].offers
        existing = [offer for offer in offers if offer.origin.exists]
        having = {offer.name for offer in existing}
        fewest = [*existing, *(offer for offer in offers if offer.name not in having)]
        found: Resolved | Conflict | None = None
        tried: list[Sequence[Offer]] = []
        for chosen in (existing, fewest, offers):
            if not self._may_do(chosen) or any(set(chosen) == set(other) for other in tried):
                continue
            tried.append(chosen)
            found = self._ask(cell, chosen, glibc=self._question.glibc)
            if isinstance(found, Resolved):
                return found
        return found or self._ask(cell, offers, glibc=self._question.glibc)

    def _may_do(self, offers: Sequence[Offer]) -> bool:
        """Whether every project of ours that is asked for by name has an offer."""
        names = {offer.name for offer in offers}
        asked = {canonicalize_name(one.name) for one in self._question.requirements}
        return bool(offers) and asked & self._resolver.ours <= names

    def _ask(
        self,
        cell: Cell,
        offers: Sequence[Offer],
        *,
        glibc: tuple[int, int],
        pins: Sequence[str] = (),
    ) -> Resolved | Conflict:
        texts = [*self._texts, *pins]
        return self._resolver.resolve(texts, cell, offers=offers, glibc=glibc)

    def held_back(self, fit: Fit, glibc: tuple[int, int]) -> tuple[HeldBack, ...]:
        """Say why newer versions of ours were not taken, where that was not asked for."""
        found = []
        for taken in fit.resolved.ours:
            newest = self._offers[fit.cell].of(taken.name)[0]
            specifiers = [one.specifier for one in self._asked(taken.name)]
            may = all(one.contains(newest.version, prereleases=True) for one in specifiers)
            if newest.version <= taken.version or not may:
                continue
            pin = f"{newest.name}=={newest.version}"
            again = self._ask(fit.cell, self._offers[fit.cell].offers, glibc=glibc, pins=[pin])
            reason = "it would have to be made"
            if isinstance(again, Conflict):
                reason = explain(again, ours=self._resolver.ours)
            found.append(HeldBack(offer=newest, taken=taken.public, reason=reason))
        return tuple(found)

    def elsewhere(self, conflicts: Mapping[Cell, Conflict]) -> Elsewhere | None:
        """Ask again as if the C library were newer, for the first cell where that is in the way."""
        for cell, conflict in conflicts.items():
            if not lacks_platform(conflict):
                continue
            found = self._ask(cell, self._offers[cell].offers, glibc=GLIBC_OF_UV[-1])
            if isinstance(found, Resolved):
                fit = Fit(cell=cell, resolved=found)
                glibc = self._least_glibc(cell)
                return Elsewhere(fit=fit, glibc=glibc, held_back=self.held_back(fit, glibc))
        return None

    def _least_glibc(self, cell: Cell) -> tuple[int, int]:
        newer = [one for one in GLIBC_OF_UV if one > self._question.glibc]
        while len(newer) > 1:
            middle = newer[(len(newer) - 1) // 2]
            found = self._ask(cell, self._offers[cell].offers, glibc=middle)
            at = newer.index(middle)
            newer = newer[: at + 1] if isinstance(found, Resolved) else newer[at + 1 :]
        return newer[0]


def _kind(cell: Cell) -> object:
    """What cells share that are resolved from the same indexes for the same Python."""
    is_default = default_torch_build(cell.torch.version, cell.machine) == cell.torch
    return cell.python, None if is_default else cell.torch.cuda
