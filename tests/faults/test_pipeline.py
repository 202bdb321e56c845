"""The whole of a job, from an empty cache to a published wheel, cut off and starved anywhere."""

from __future__ import annotations

import errno
import hashlib
import json
import shutil
from typing import TYPE_CHECKING

import pytest
from faults.injecting import Action, Done, Kind, Order
from faults.scenarios import differences
from faults.tiny_farm import TinyFarm, put_farm, write_tiny_farm
from redist import serve

from wheelyard.files import PART
from wheelyard.yard.verifying import verify

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from faults.injecting import Runner
    from faults.reporting import Tally

MADE = ("requirements", "sources", "toolkits", "tools", "torch")
"""What later runs take from the cache without looking again."""
FAULTS = {
    "kill": (Action.KILL, 0, Kind.ALL),
    "torn": (Action.TEAR, 0, Kind.GROWS),
    "full": (Action.FAIL_FROM, errno.ENOSPC, Kind.GROWS),
    "full for a moment": (Action.FAIL, errno.ENOSPC, Kind.GROWS),
    "broken": (Action.FAIL, errno.EIO, Kind.ALL),
    "denied": (Action.FAIL, errno.EACCES, Kind.GROWS | Kind.RENAMES),
    "read-only": (Action.FAIL_FROM, errno.EROFS, Kind.ALL),
    "across devices": (Action.FAIL, errno.EXDEV, Kind.RENAMES),
}

SHORT = frozenset({"kill", "full"})
"""What is tried in every run of the tests."""


@pytest.fixture(scope="module")
def tiny_farm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[TinyFarm, str]]:
    made = write_tiny_farm(tmp_path_factory.mktemp("tiny"))
    with serve(made.site) as url:
        yield made, url


@pytest.fixture
def begin(folder: Path, tiny_farm: tuple[TinyFarm, str]) -> Callable[[], None]:
    """Return a function that lays the farm, and nothing else, into the folder."""

    def again() -> None:
        shutil.rmtree(folder, ignore_errors=True)
        made, url = tiny_farm
        put_farm(made, folder, url=url)

    return again


def result(folder: Path) -> dict[str, object]:
    """Return what has to come out the same: yard, published folder, what the cache made."""
    found: dict[str, object] = {}
    for top in ("yard", "site", *(f"home/cache/{name}" for name in MADE)):
        for path in sorted((folder / top).rglob("*")):
            name = str(path.relative_to(folder))
            parts = path.relative_to(folder / top).parts
            is_record_of_time = parts[0] in {"logs", "locks"} or path.name.endswith(".lock")
            if path.is_dir() or is_record_of_time or "__pycache__" in parts:
                continue
            found[name] = _content(path, parts)
    return found


def _content(path: Path, parts: tuple[str, ...]) -> object:
    if path.is_symlink():
        return str(path.readlink())
    if "simple" in parts or path.name in {"index.html", "wheelyard.json", "SHA256SUMS"}:
        return None  # it names digests of records, which hold times
    if path.name == "request.json":
        return None  # it names the folder as it was called when it was made
    if path.suffix != ".json" or parts[0] not in {"records", "reports", "wheels"}:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    document = json.loads(path.read_text())
    for key in ("created", "seconds", "measurements"):
        document.pop(key, None)
    document.get("origin", {}).pop("build", None)
    return document


def left_over(folder: Path) -> list[str]:
    """Return what nobody finished."""
    names = [
        *folder.rglob(f"{PART}*"),
        *(folder / "home" / "cache").rglob(".*.new-*"),
        *(folder / "home" / "work").rglob("*.whl"),
    ]
    return [f"{path.relative_to(folder)} is left over" for path in names]


@pytest.mark.parametrize("fault", FAULTS)
def test_job_that_was_hit_anywhere_comes_to_the_same_end(
    fault: str, runner: Runner, begin: Callable[[], None], folder: Path, tally: Tally
) -> None:
    action, number_of_error, kinds = FAULTS[fault]
    if fault not in SHORT:
        tally.require_time()

    def run(order: Order) -> Done:
        [done] = runner.run("build", folder, order)
        return done

    quiet = Order(folder=folder, kinds=kinds)
    begin()
    whole = run(quiet)
    assert whole.status == 0, whole.output
    expected = result(folder)
    kind = "crash" if fault in {"kill", "torn"} else "disk"
    cost = 2 if fault == "kill" else 6
    counts = tally.begin(kind, f"{fault}, a whole job", found=whole.seen, cost=cost)
    for number in counts.points():
        begin()
        order = Order(folder=folder, action=action, at=number, error=number_of_error, kinds=kinds)
        hit = run(order)
        wrong = []
        if kind == "disk" and not 0 <= hit.status < 30:
            wrong.append(f"status {hit.status}: {hit.output[-1500:]}")
        again = run(quiet)
        wrong += [] if again.status == 0 else [again.output[-1500:]]
        if not wrong:
            wrong += [*verify(folder / "yard").problems, *verify(folder / "site").problems]
            wrong += differences(result(folder), expected) + left_over(folder)
        counts.tried(number, survived=not wrong, why=wrong)
    counts.require_nothing_lost()


@pytest.mark.parametrize("size", [2, 3])
def test_hosts_that_share_a_yard_build_a_job_once(
    size: int, runner: Runner, begin: Callable[[], None], folder: Path, tally: Tally
) -> None:
    begin()
    ended = runner.run("build elsewhere", folder, copies=size)
    wrong = [done.output for done in ended if done.status != 0]
    built = [done for done in ended if "\nstore " in done.output]
    tally.add("crowd", "hosts that build one job", survived=not wrong and len(built) == 1)
    assert wrong == []
    assert len(built) == 1
    assert verify(folder / "yard").problems == ()
