"""What is cut off, starved and crowded: actions over a folder, each with what lies there before."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import signal
import sys
import time
from typing import TYPE_CHECKING

from wheelyard import log
from wheelyard.__main__ import main
from wheelyard.folders import make_once
from wheelyard.locking import held
from wheelyard.model.record import BuildRecord, TestReport
from wheelyard.network.folder_store import FolderStore
from wheelyard.shipping.publish import Publisher, Wishes
from wheelyard.shipping.shelf import StoreShelf
from wheelyard.yard.folder import Yard, open_yard
from wheelyard.yard.index import update_index, write_index
from wheelyard.yard.removing import prune, remove_wheels
from wheelyard.yard.reports import add_report
from wheelyard.yard.store import store_wheel
from wheelyard.yard.yanking import unyank_wheel, yank_wheel

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path


NUMBER = "FAULTS_NUMBER"
"""The variable that tells a process which one of a crowd it is."""


MANY = 2000


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Scenario:
    """An action that may be cut off and run again, and what it starts from."""

    act: Callable[[Path], object]
    prepare: Callable[[Path], object] = lambda _folder: None
    """Makes the state before, with no fault about."""


def arrivals(folder: Path) -> list[tuple[Path, BuildRecord, TestReport]]:
    """Return the wheels that lie in ``made``, by name, with record and report."""
    found = []
    for path in sorted(folder.glob("made/*.whl")):
        record = BuildRecord.from_json(_beside(path, "record").read_bytes(), origin="made")
        report = TestReport.from_json(_beside(path, "report").read_bytes(), origin="made")
        found.append((path, record, report))
    return found


def put_arrival(folder: Path, path: Path, record: BuildRecord, report: TestReport) -> None:
    """Lay a wheel into ``made``."""
    target = folder / "made" / path.name
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(path, target)
    _beside(target, "record").write_bytes(record.to_json())
    _beside(target, "report").write_bytes(report.to_json())


def _beside(path: Path, what: str) -> Path:
    return path.with_name(f"{path.name}.{what}.json")


def yard_of(folder: Path) -> Yard:
    return open_yard(folder / "yard")


def store_all(folder: Path) -> None:
    """Store every wheel, as the last stage of a job does, and list it."""
    for path, record, report in arrivals(folder):
        yard = yard_of(folder)
        store_wheel(yard, path, record, report)
        update_index(yard, (record.filename,))


def _store_without_index(folder: Path) -> None:
    for path, record, report in arrivals(folder):
        store_wheel(yard_of(folder), path, record, report)


def _damage(folder: Path) -> None:
    store_all(folder)
    first, *_ = arrivals(folder)
    yard_of(folder).wheel_path(first[1].filename).unlink()


def _litter(folder: Path) -> None:
    """Leave what killed processes leave, and a wheel that nobody knows."""
    store_all(folder)
    yard = yard_of(folder)
    (yard.wheels_dir / ".part-cut.whl").write_bytes(b"half")
    (yard.records_dir / ".part-cut.whl.json").write_bytes(b"{")
    (yard.wheels_dir / "orphan-1.0-py3-none-any.whl").write_bytes(b"orphan")
    (yard.path / "reports" / ("0" * 64)).mkdir()
    (yard.path / "reports" / ("0" * 64) / "builder-imported.json").write_bytes(b"{}")


def _remove(folder: Path) -> None:
    names = [record.filename for _, record, _ in arrivals(folder)[:2]]
    remove_wheels(yard_of(folder), names)


def _yank(folder: Path) -> None:
    yank_wheel(yard_of(folder), arrivals(folder)[0][1].filename, reason="wrong numbers")


def _unyank(folder: Path) -> None:
    unyank_wheel(yard_of(folder), arrivals(folder)[0][1].filename)


def _yanked(folder: Path) -> None:
    store_all(folder)
    _yank(folder)


def _report(folder: Path) -> None:
    for _, _, report in arrivals(folder):
        add_report(yard_of(folder), report)


def _without_reports(folder: Path) -> None:
    for path, record, _ in arrivals(folder):
        store_wheel(yard_of(folder), path, record)


def publisher(folder: Path) -> Publisher:
    store = FolderStore(folder / "site")
    return Publisher(store=store, shelf=StoreShelf(store), extra_pages=lambda _site: {})


def publish(folder: Path) -> None:
    """Publish the whole yard into a folder, as ``wheelyard publish`` does."""
    yard, there = yard_of(folder), publisher(folder)
    with yard.lock("publish"), there.store.alone():
        there.publish(there.plan(yard, Wishes()), say=lambda _text: None)


def _publish_the_first(folder: Path) -> None:
    path, record, report = arrivals(folder)[0]
    store_wheel(yard_of(folder), path, record, report)
    publish(folder)
    store_all(folder)


def _publish_all(folder: Path) -> None:
    store_all(folder)
    publish(folder)


def _yank_published(folder: Path) -> None:
    publisher(folder).yank(arrivals(folder)[0][1].filename, reason="wrong numbers")


def _build_elsewhere(folder: Path) -> None:
    """Build the tiny job on one of several hosts, which share the yard and nothing else."""
    path = folder / "env.json"
    home = folder / f"home{_number()}"
    (home / "tmp").mkdir(parents=True)
    variables = json.loads(path.read_text().replace(str(folder / "home"), str(home)))
    _command_with(variables, folder, "build", "tiny")


def _bundle(folder: Path) -> None:
    """Bundle what the tiny job made, and install it into an environment."""
    archive, environment = str(folder / "tiny.tar"), str(folder / "environment")
    cell = ("--python", f"{sys.version_info.major}.{sys.version_info.minor}", "--torch", "2.6.0")
    _command(folder, "bundle", "tiny", *cell, "-o", archive)
    _command(folder, "install", archive, "--into", environment, "--python", sys.executable)


def _number() -> int:
    return int(os.environ[NUMBER])


def _mix(folder: Path) -> None:
    """Do what others do at the same time over one yard and one published folder."""
    works = (store_all, _index, publish, _report_known, _prune, _yank_and_back)
    for turn in range(3):
        works[(_number() + turn) % len(works)](folder)


def _index(folder: Path) -> None:
    write_index(yard_of(folder))


def _prune(folder: Path) -> None:
    prune(yard_of(folder))


def _report_known(folder: Path) -> None:
    yard = yard_of(folder)
    for _, record, report in arrivals(folder):
        if yard.record(record.filename) is not None:
            add_report(yard, report)


def _yank_and_back(folder: Path) -> None:
    yard = yard_of(folder)
    for _, record, _ in arrivals(folder):
        if yard.record(record.filename) is not None:
            yank_wheel(yard, record.filename, reason="for a moment")
            unyank_wheel(yard, record.filename)


def _settle(folder: Path) -> None:
    """Bring it all to the end, whatever was done before."""
    store_all(folder)
    yard = yard_of(folder)
    for _, record, _ in arrivals(folder):
        unyank_wheel(yard, record.filename)
    _prune(folder)
    publish(folder)
    for _, record, _ in arrivals(folder):
        # a mark that is published stays until it is taken back there
        publisher(folder).yank(record.filename, reason=None)


def _publish_own(folder: Path) -> None:
    """Publish one wheel from a yard of one's own into the folder that others publish into too."""
    found = arrivals(folder)
    path, record, report = found[_number() % len(found)]
    own = folder / f"yard{_number()}"
    yard = open_yard(own)
    store_wheel(yard, path, record, report)
    there = publisher(folder)
    with yard.lock("publish"), there.store.alone():
        there.publish(there.plan(yard, Wishes()), say=lambda _text: None)


def _make_one_folder(folder: Path) -> None:
    """Make a folder of the cache once, as environments and toolkits are made."""

    def fill(unfinished: Path) -> None:
        with (folder / "fills").open("a") as file:
            file.write("x")
        for number in range(20):
            (unfinished / str(number)).write_text("whole")

    made = make_once(folder / "cache" / "environment", fill, what="the environment")
    assert len(list(made.iterdir())) == 20


def _hold(folder: Path) -> None:
    with held(folder / "lock"):
        (folder / "held").touch()
        signal.pause()


def _take(folder: Path) -> None:
    log.set_up(verbose=False)
    with held(folder / "lock"):
        pass


def _command(folder: Path, *words: str) -> None:
    """Run the command line as somebody does who knows nothing but the scenario's folder."""
    _command_with(json.loads((folder / "env.json").read_text()), folder, *words)


def _command_with(variables: Mapping[str, str], folder: Path, *words: str) -> None:
    os.environ.update(variables)
    code = main([*words, "--farm", str(folder / "farm"), "--yard", str(folder / "yard")])
    if code:
        raise SystemExit(code)


def _build(folder: Path) -> None:
    """Take the tiny job through every stage from nothing, and publish it."""
    _command(folder, "build", "tiny")
    _command(folder, "publish", str(folder / "site"))


def _many(folder: Path) -> None:
    """Fill the yard with thousands of wheels, all of them links to one."""
    store_all(folder)
    yard = yard_of(folder)
    first = arrivals(folder)[1][1].filename
    text = yard.record_path(first).read_text()
    for number in range(1, MANY):
        name = first.replace("-1.0+", f"-1.{number}+")
        changed = text.replace("1.0+", f"1.{number}+").replace("-1.0-", f"-1.{number}-")
        yard.record_path(name).write_text(changed)
        yard.wheel_path(name).hardlink_to(yard.wheel_path(first))
        yard.metadata_path(name).hardlink_to(yard.metadata_path(first))


def _tell_the_time(folder: Path) -> None:
    days = {int(time.time() // 86400) for _ in range(6)}
    (folder / "clock").write_text("jumps" if len(days) > 2 else "goes on")


SCENARIOS = {
    "many": Scenario(act=_index, prepare=_many),
    "tell the time": Scenario(act=_tell_the_time),
    "build": Scenario(act=_build),
    "build elsewhere": Scenario(act=_build_elsewhere),
    "bundle": Scenario(act=_bundle),
    "hold": Scenario(act=_hold),
    "take": Scenario(act=_take),
    "mix": Scenario(act=_mix),
    "settle": Scenario(act=_settle),
    "publish own": Scenario(act=_publish_own),
    "make once": Scenario(act=_make_one_folder),
    "open": Scenario(act=yard_of),
    "store": Scenario(act=store_all),
    "store again": Scenario(act=store_all, prepare=_damage),
    "index": Scenario(
        act=lambda folder: write_index(yard_of(folder)), prepare=_store_without_index
    ),
    "report": Scenario(act=_report, prepare=_without_reports),
    "yank": Scenario(act=_yank, prepare=store_all),
    "unyank": Scenario(act=_unyank, prepare=_yanked),
    "remove": Scenario(act=_remove, prepare=store_all),
    "prune": Scenario(act=lambda folder: prune(yard_of(folder)), prepare=_litter),
    "publish": Scenario(act=publish, prepare=_publish_the_first),
    "publish first": Scenario(act=publish, prepare=store_all),
    "yank published": Scenario(act=_yank_published, prepare=_publish_all),
}


APART = frozenset(
    {
        "build",
        "build elsewhere",
        "bundle",
        "hold",
        "many",
        "mix",
        "publish own",
        "settle",
        "take",
        "tell the time",
    }
)
"""Scenarios with tests of their own."""
ALONE = tuple(name for name in SCENARIOS if name not in APART)


def state(folder: Path) -> dict[str, object]:
    """Return everything that has to come out the same, whatever happened on the way."""
    found: dict[str, object] = {}
    for top in ("yard", "site", "cache"):
        for path in sorted((folder / top).rglob("*")):
            name = str(path.relative_to(folder))
            is_lock = name.startswith("yard/locks/") or name.endswith(".lock")
            if path.is_dir() or is_lock or name.startswith("yard/logs/"):
                continue
            found[name] = _content(path)
    return found


def _content(path: Path) -> object:
    text = path.read_bytes()
    if path.suffix != ".json":
        return text
    try:
        document = json.loads(text)
    except ValueError:
        return text
    if isinstance(document, dict):
        document.pop("created", None)
    return document


def differences(found: Mapping[str, object], expected: Mapping[str, object]) -> list[str]:
    """Name what is not as it has to be."""
    both = found.keys() & expected.keys()
    return [
        *(f"{name} is lost" for name in sorted(expected.keys() - both)),
        *(f"{name} is there" for name in sorted(found.keys() - both)),
        *(f"{name} differs" for name in sorted(both) if found[name] != expected[name]),
    ]
