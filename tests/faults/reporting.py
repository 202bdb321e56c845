"""Counts what was injected, what was survived and what was lost, and tells it at the end."""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from typing import TYPE_CHECKING, Literal, get_args

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

Depth = Literal["short", "whole", "every"]
TALLY: pytest.StashKey[Tally] = pytest.StashKey()
NETWORK = ("faults/test_table.py", "faults/test_resume.py", "faults/test_routes.py")
"""Where each test is about one fault between here and upstream."""
POINTS: dict[Depth, int] = {"short": 6, "whole": 48, "every": 1 << 30}
"""How many points of one action are tried at most."""


@dataclasses.dataclass(kw_only=True)
class Counts:
    """One action under one kind of fault."""

    kind: str
    name: str
    found: int
    """Places where the fault can strike."""
    most: int
    """How many of them are tried at most."""
    injected: int = 0
    survived: int = 0
    wrong: list[str] = dataclasses.field(default_factory=list)

    @property
    def lost(self) -> int:
        return self.injected - self.survived

    def points(self) -> Iterator[int]:
        """Yield the places that are tried, from 1: all, or the first, the last and some between."""
        if self.found <= self.most:
            yield from range(1, self.found + 1)
            return
        step = (self.found - 1) / (self.most - 1)
        yield from (1 + round(step * number) for number in range(self.most))

    def tried(self, point: object, *, survived: bool, why: object = "") -> None:
        self.injected += 1
        self.survived += survived
        if not survived:
            self.wrong.append(f"{point}: {why}")

    def require_nothing_lost(self) -> None:
        assert self.injected, f"nothing was injected into {self.name}"
        assert not self.lost, f"{self.name}: lost at\n" + "\n".join(self.wrong[:20])


class Tally:
    """All counts of a run."""

    def __init__(self, depth: Depth) -> None:
        self.depth = depth
        self.counts: list[Counts] = []

    def begin(self, kind: str, name: str, *, found: int, cost: int = 1) -> Counts:
        """Begin to count; of what costs more, fewer places are tried."""
        most = max(POINTS[self.depth] // cost, 3)
        counts = Counts(kind=kind, name=name, found=found, most=most)
        self.counts.append(counts)
        return counts

    def require_time(self) -> None:
        """Leave a test that takes long to ``nox -s faults``."""
        if self.depth == "short":
            pytest.skip("takes long: nox -s faults")

    def add(self, kind: str, name: str, *, survived: bool) -> None:
        """Count a fault that a whole test is about."""
        known = next((one for one in self.counts if (one.kind, one.name) == (kind, name)), None)
        counts = known or self.begin(kind, name, found=0)
        counts.found += 1
        counts.tried(name, survived=survived)


def table(counts: Iterable[Counts], *, each: bool) -> list[str]:
    """Return the lines of the report: by kind of fault, or for each action."""
    rows: dict[str, list[int]] = defaultdict(lambda: [0, 0, 0, 0])
    for one in counts:
        row = rows[f"{one.kind}: {one.name}" if each else one.kind]
        for place, number in enumerate((one.found, one.injected, one.survived, one.lost)):
            row[place] += number
    rows["all"] = [sum(column) for column in zip(*rows.values(), strict=True)]
    width = max(len(name) for name in rows)
    head = f"{'':{width}}  {'found':>8} {'injected':>8} {'survived':>8} {'lost':>8}"
    body = [
        f"{name:{width}}  " + " ".join(f"{number:8}" for number in row)
        for name, row in rows.items()
    ]
    return [head, *body]


class Reporter:
    """Gathers the counts, those of xdist's workers too, and prints them below the results."""

    def __init__(self, config: pytest.Config) -> None:
        self._tally = config.stash[TALLY]
        self._is_worker = hasattr(config, "workeroutput")

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        is_network = any(name in report.nodeid for name in NETWORK)
        if is_network and report.when == "call" and not report.skipped and not self._is_worker:
            name = report.nodeid.partition("::")[2].partition("[")[0]
            self._tally.add("network", name, survived=report.passed)

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if self._is_worker:
            found = [dataclasses.asdict(one) for one in self._tally.counts]
            session.config.workeroutput["faults"] = found

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: object, error: object) -> None:
        for one in getattr(node, "workeroutput", {}).get("faults", ()):
            self._tally.counts.append(Counts(**one))

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if not self._tally.counts or self._tally.depth == "short":
            return
        terminalreporter.section("faults")
        for each in (True, False):
            for line in table(self._tally.counts, each=each):
                terminalreporter.write_line(line)
            terminalreporter.write_line("")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--faults",
        choices=get_args(Depth),
        default="short",
        help="how many points of each action are tried; the default is a few",
    )


def pytest_configure(config: pytest.Config) -> None:
    config.stash[TALLY] = Tally(config.getoption("--faults"))
    config.pluginmanager.register(Reporter(config), "faults")
