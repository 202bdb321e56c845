"""Real wheels, broken in many ways: each is found, and explained rightly."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import pytest
from breaking import CASES, SOURCES, Bench
from broken import MODULES, shortcoming

if TYPE_CHECKING:
    from pathlib import Path

    from breaking import Case

pytestmark = [pytest.mark.heavy, pytest.mark.network]


@pytest.fixture(scope="module")
def bench(wheels_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return Bench(wheels_folder, tmp_path_factory.mktemp("broken"))


@pytest.mark.parametrize("source", SOURCES)
def test_wheel_that_nobody_broke_passes(bench: Bench, source: str) -> None:
    report = bench.check_whole(source, ours=False)
    assert report.passed, [str(one.message) for one in report.findings]


@pytest.mark.parametrize("source", ["torch-harmonics", "torchaudio, mended"])
def test_wheel_that_nobody_broke_passes_as_one_of_ours(bench: Bench, source: str) -> None:
    report = bench.check_whole(source, ours=True)
    assert report.passed, [str(one.message) for one in report.findings]


@pytest.mark.parametrize("case", [pytest.param(case, id=case.name) for case in CASES.values()])
def test_broken_wheel_is_found_and_explained(bench: Bench, case: Case) -> None:
    verdict = bench.judge(case)
    assert verdict.found, shortcoming(verdict)
    assert verdict.explained, shortcoming(verdict)


def test_there_are_several_broken_wheels_of_each_kind() -> None:
    modules = Counter(case.breaking.__module__ for case in CASES.values())
    assert modules.keys() == {module.__name__ for module in MODULES}
    assert min(modules.values()) >= 20
    assert len({case.source for case in CASES.values()}) >= 6
