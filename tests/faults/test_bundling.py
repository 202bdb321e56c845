"""A bundle and its installation, cut off and starved anywhere: all of it or nothing."""

from __future__ import annotations

import errno
import hashlib
import shutil
from typing import TYPE_CHECKING

import pytest
from faults.injecting import Action, Done, Kind, Order
from faults.scenarios import differences
from faults.test_pipeline import begin, tiny_farm

from wheelyard.files import PART

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from faults.injecting import Runner
    from faults.reporting import Tally

__all__ = ["begin", "tiny_farm"]
FAULTS = {
    "kill": (Action.KILL, 0, Kind.ALL),
    "full": (Action.FAIL_FROM, errno.ENOSPC, Kind.GROWS),
    "broken": (Action.FAIL, errno.EIO, Kind.ALL),
    "Ctrl-C": (Action.INTERRUPT, 0, Kind.ALL),
}
KINDS = {"kill": "crash", "Ctrl-C": "resources"}


def outcome(folder: Path) -> dict[str, object]:
    """Return the archive, and what the environment holds beside bytecode and the receipt."""
    files = [folder / "tiny.tar", *(folder / "environment").rglob("*")]
    found: dict[str, object] = {}
    for path in files:
        name = str(path.relative_to(folder))
        if path.is_dir() or "__pycache__" in name or path.name in {".lock", "RECORD"}:
            continue
        if path.parent.name == "bin" and path.name.startswith("python"):
            # venv copies it where it can make no link
            found[name] = hashlib.sha256(path.resolve().read_bytes()).hexdigest()
        elif path.is_symlink():
            found[name] = str(path.readlink())
        elif "wheelyard" in path.parts[-3:] or path.suffix == ".json":
            found[path.parent.name] = len(list(path.parent.iterdir()))
        else:
            found[name] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def litter(folder: Path) -> list[str]:
    """Return what nobody finished beside the archive and the environment."""
    names = [path.name for path in folder.iterdir()]
    return [name for name in names if name.startswith((PART, ".environment"))]


@pytest.mark.parametrize("fault", FAULTS)
def test_bundle_that_was_hit_anywhere_is_installed_by_the_next_run(
    fault: str,
    runner: Runner,
    begin: Callable[[], None],
    folder: Path,
    tally: Tally,
) -> None:
    tally.require_time()
    action, number_of_error, kinds = FAULTS[fault]

    def run(order: Order) -> Done:
        [done] = runner.run("bundle", folder, order)
        return done

    begin()
    [built] = runner.run("build", folder, Order(folder=folder))
    assert built.status == 0, built.output
    before = folder.with_name("before")
    shutil.copytree(folder, before, symlinks=True)
    quiet = Order(folder=folder, kinds=kinds)
    whole = run(quiet)
    assert whole.status == 0, whole.output
    expected = outcome(folder)
    counts = tally.begin(KINDS.get(fault, "disk"), f"{fault}, a bundle", found=whole.seen, cost=4)
    for number in counts.points():
        shutil.rmtree(folder)
        shutil.copytree(before, folder, symlinks=True)
        hit = run(
            Order(folder=folder, action=action, at=number, error=number_of_error, kinds=kinds)
        )
        wrong = []
        if fault != "kill" and not (0 <= hit.status < 30 or hit.status == 130):
            wrong.append(f"status {hit.status}: {hit.output[-1500:]}")
        if "Traceback" in hit.output:
            wrong.append(hit.output[-1500:])
        again = run(quiet)
        wrong += [] if again.status == 0 else [again.output[-1500:]]
        wrong += differences(outcome(folder), expected) if not again.status else []
        wrong += litter(folder)
        counts.tried(number, survived=not wrong, why=wrong)
    counts.require_nothing_lost()
