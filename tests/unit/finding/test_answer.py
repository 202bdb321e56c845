from __future__ import annotations

from typing import TYPE_CHECKING

from packaging.utils import canonicalize_name

from wheelyard.finding.answer import answer
from wheelyard.finding.offering import Offers
from wheelyard.finding.question import Question, parse_requirements
from wheelyard.finding.resolution import Conflict, Resolver
from wheelyard.model.cell import Cell, PythonVersion, TorchBuild
from wheelyard.network.indexes import IndexSettings

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from wheelyard.finding.offer import Offer
    from wheelyard.finding.resolution import Resolved

TORCHES = [TorchBuild.parse(text) for text in ("2.12.1+cu130", "2.11.0+cu130", "2.10.0+cu128")]
OTHER_INDEX = TorchBuild.parse("2.11.0+cu128")
PYTHONS = [PythonVersion.parse(text) for text in ("3.12", "3.11")]


class Asked(Resolver):
    """Resolves nothing, and remembers for which cells it was asked."""

    def resolve(
        self,
        requirements: Iterable[str],
        cell: Cell,
        *,
        offers: Iterable[Offer],
        glibc: tuple[int, int],
        with_torch: bool = True,
    ) -> Resolved | Conflict:
        del requirements, offers, glibc, with_torch
        (self.scratch / cell.identifier).touch()
        return Conflict(text=self.env["TEXT"])


def asked(text: str, folder: Path, *, torches: Iterable[TorchBuild] = TORCHES) -> set[str]:
    """Return the cells that were resolved until all were left out with a reason."""
    cells = tuple(Cell(python, torch, "x86_64") for torch in torches for python in PYTHONS)
    question = Question(requirements=parse_requirements(["core"]), cells=cells, glibc=(2, 36))
    offers = {cell: Offers(everything=(), gpu_archs=(), refused={}) for cell in cells}
    resolver = Asked(
        settings=IndexSettings(),
        env={"TEXT": text},
        scratch=folder,
        ours=frozenset({canonicalize_name("mamba-ssm")}),
    )
    told: list[tuple[int, int]] = []
    found = answer(question, offers, resolver, tell=lambda done, total: told.append((done, total)))
    assert [item.cell for item in found.left_out] == list(cells)
    assert told[-1] == (len(cells), len(cells))
    return {path.name for path in folder.iterdir()}


def test_conflict_without_torch_is_asked_for_once_for_each_python(tmp_path: Path) -> None:
    text = "Because core depends on a==1 and b depends on a==2, we can conclude that none fits."
    assert asked(text, tmp_path) == {
        "cp312-torch2.12.1-cu130-x86_64",
        "cp311-torch2.12.1-cu130-x86_64",
    }


def test_conflict_with_torch_or_a_wheel_of_ours_is_asked_for_in_every_cell(tmp_path: Path) -> None:
    for number, name in enumerate(("torch", "mamba-ssm")):
        folder = tmp_path / str(number)
        folder.mkdir()
        text = f"Because core depends on a==1 and {name}==2 depends on a==2, we can conclude that"
        text = f"{text} none fits."
        assert len(asked(text, folder)) == 6


def test_torch_of_another_index_is_asked_for_itself(tmp_path: Path) -> None:
    text = "Because core depends on a==1 and b depends on a==2, we can conclude that none fits."
    found = asked(text, tmp_path, torches=[*TORCHES, OTHER_INDEX])
    assert {name for name in found if name.startswith("cp312-")} == {
        "cp312-torch2.12.1-cu130-x86_64",
        "cp312-torch2.11.0-cu128-x86_64",
    }
