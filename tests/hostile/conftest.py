"""What hostile cases share: a count of what came of them, and fixtures of the unit tests."""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import time
import tracemalloc
from typing import TYPE_CHECKING, TypeVar

import pytest
from unit.conftest import (
    assert_stored,
    interpreter,
    make_probe_job,
    make_toolchain,
    matrix_text,
    open_sandbox,
    parse_text,
    probe,
    probe_farm,
    recipe_text,
    repository,
    wheelyard,
    write_farm,
)

from wheelyard.errors import WheelyardError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = [
    "assert_stored",
    "interpreter",
    "make_probe_job",
    "make_toolchain",
    "matrix_text",
    "open_sandbox",
    "parse_text",
    "probe",
    "probe_farm",
    "recipe_text",
    "repository",
    "wheelyard",
    "write_farm",
]

T = TypeVar("T")
PROPERTY = "hostile cases"
SECONDS = 200.0
"""No case takes a hundredth of it; what takes longer hangs, or grows with what is hostile."""
MEMORY = 512 << 20


@dataclasses.dataclass(slots=True)
class Tally:
    """Cases that were injected, and what came of them."""

    refused: int = 0
    borne: int = 0
    wrong: int = 0

    def meets(self, action: Callable[[], T]) -> T | WheelyardError:
        """Run one case: it gives a value or an error of ours that says enough, and soon."""
        started = time.monotonic()
        try:
            result: T | WheelyardError = action()
        except WheelyardError as error:
            result = error
        except BaseException:
            self.wrong += 1
            raise
        seconds = time.monotonic() - started
        if seconds > SECONDS or (isinstance(result, WheelyardError) and not _says(result)):
            self.wrong += 1
            pytest.fail(f"after {seconds:.1f} s: {result!r}")
        if isinstance(result, WheelyardError):
            self.refused += 1
        else:
            self.borne += 1
        return result

    def refuses(self, action: Callable[[], object], *says: str) -> WheelyardError:
        """Run a case that has to be refused, in these words."""
        result = self.meets(action)
        missing = [word for word in says if word not in str(result)]
        if not isinstance(result, WheelyardError) or missing:
            self.refused -= isinstance(result, WheelyardError)
            self.borne -= not isinstance(result, WheelyardError)
            self.wrong += 1
            pytest.fail(f"expected an error that says {missing or says}, got {result!r}")
        return result


def _says(error: WheelyardError) -> bool:
    """Whether it is a sentence for people, and not what Python calls something."""
    text = str(error)
    return len(text.split()) >= 3 and "Traceback" not in text and "\x1b" not in text


@pytest.fixture
def tally(request: pytest.FixtureRequest) -> Iterator[Tally]:
    """Return the count of this test's cases."""
    counted = Tally()
    yield counted
    request.node.user_properties.append((PROPERTY, dataclasses.asdict(counted)))


@pytest.fixture
def little_memory() -> Callable[[], contextlib.AbstractContextManager[None]]:
    """Return a context in which Python may not come to hold more than a fixed amount."""

    @contextlib.contextmanager
    def bounded() -> Iterator[None]:
        tracemalloc.start()
        try:
            yield
            assert tracemalloc.get_traced_memory()[1] < MEMORY
        finally:
            tracemalloc.stop()

    return bounded


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the sum of all tallies."""
    total: collections.Counter[str] = collections.Counter()
    for reports in terminalreporter.stats.values():
        for report in reports:
            if getattr(report, "when", "") == "teardown":
                for name, counts in report.user_properties:
                    if name == PROPERTY:
                        total.update(counts)
    if total:
        terminalreporter.write_line(
            f"hostile cases: {total.total()} injected, {total['refused']} refused, "
            f"{total['borne']} borne (a right value), {total['wrong']} wrong"
        )
