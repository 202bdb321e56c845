"""Publishing into folders and object stores, and what is left when it is killed."""

from __future__ import annotations

import functools
import json
import shutil
from typing import TYPE_CHECKING

import msgspec
import pytest

from wheelyard.errors import TargetError, UnknownNameError
from wheelyard.model.record import TestLevel
from wheelyard.network.folder_store import FolderStore
from wheelyard.shipping.publish import Publisher, Wishes
from wheelyard.shipping.shelf import StoreShelf
from wheelyard.yard.folder import Yard, open_yard
from wheelyard.yard.reports import add_report
from wheelyard.yard.store import store_wheel
from wheelyard.yard.verifying import verify
from wheelyard.yard.yanking import yank_wheel

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.yards import Made

    from wheelyard.shipping.publish import Published

ALL = Wishes()


@pytest.fixture
def site(tmp_path: Path) -> Path:
    return tmp_path / "site"


def publisher(site: Path) -> Publisher:
    store = FolderStore(site)
    return Publisher(store=store, shelf=StoreShelf(store), extra_pages=lambda _site: {})


def publish(yard: Yard, site: Path, wishes: Wishes = ALL) -> Published:
    there = publisher(site)
    return there.publish(there.plan(yard, wishes), say=lambda _text: None)


def add(yard: Yard, made: Made) -> None:
    store_wheel(yard, made.path, made.record, made.report)


def named(site: Path, page: str = "simple/demo-ext") -> dict[str, object]:
    path = site / page / "index.v1.json"
    files = json.loads(path.read_text())["files"] if path.exists() else []
    return {file["filename"]: file["yanked"] for file in files}


def test_published_folder_is_whole_and_names_what_is_there(
    yard: Yard, make: Callable[..., Made], site: Path
) -> None:
    builds = [make(), make(torch="2.12.1+cu130"), make(archs_label="-sm90a")]
    for made in builds:
        add(yard, made)
    done = publish(yard, site)
    assert (done.files, done.wheels) == (9, 3)
    found = verify(site)
    assert found.problems == ()
    assert found.counts["build records"] == found.counts["core metadata"] == 3
    assert set(named(site)) == {made.path.name for made in builds[:2]}
    assert set(named(site, "torch2.11.0-cu130-sm90a/simple/demo-ext")) == {builds[2].path.name}


def test_publishing_again_has_nothing_to_do(
    yard: Yard, make: Callable[..., Made], site: Path
) -> None:
    add(yard, make())
    publish(yard, site)
    done = publish(yard, site)
    assert (done.files, done.wheels, done.pages_written) == (0, 1, 0)


def test_another_yard_adds_its_wheels_without_having_the_old_ones(
    yard: Yard, make: Callable[..., Made], site: Path, tmp_path: Path
) -> None:
    first, second = make(), make(torch="2.12.1+cu130")
    add(yard, first)
    publish(yard, site)
    other = open_yard(tmp_path / "other")
    add(other, second)
    assert publish(other, site).wheels == 2
    assert set(named(site)) == {first.path.name, second.path.name}
    assert verify(site).problems == ()


def test_other_bytes_under_a_published_name_stop_before_anything_is_brought(
    yard: Yard,
    make: Callable[..., Made],
    site: Path,
    tmp_path: Path,
    snapshot: Callable[[Path], dict[str, bytes]],
) -> None:
    add(yard, make())
    publish(yard, site)
    before = snapshot(site)
    other = open_yard(tmp_path / "other")
    add(other, make(name="another"))
    add(other, make(content=b"x = 'other, and longer'\n"))
    with pytest.raises(TargetError, match=r"with other bytes.*raise `revision`"):
        publish(other, site)
    assert snapshot(site) == before


def test_level_is_the_policy_of_the_index_and_stays(
    yard: Yard, make: Callable[..., Made], make_report: Callable[..., object], site: Path
) -> None:
    ran, imported = make(), make(torch="2.12.1+cu130")
    for made in (ran, imported):
        add(yard, made)
    add_report(yard, make_report(ran.record, level=TestLevel.ran_on_gpu))  # type: ignore[arg-type]
    publish(yard, site, Wishes(level=TestLevel.ran_on_gpu))
    assert set(named(site)) == {ran.path.name}
    page = json.loads((site / "simple" / "demo-ext" / "index.v1.json").read_text())
    assert page["meta"]["_wheelyard-level"] == "ran-on-gpu"
    plan = publisher(site).plan(yard, ALL)
    assert [item.reason for item in plan.skipped] == [
        "tested: imported; this index asks for ran-on-gpu"
    ]
    publish(yard, site, Wishes(level=TestLevel.imported))
    assert set(named(site)) == {ran.path.name, imported.path.name}
    publish(yard, site, Wishes(level=TestLevel.ran_on_gpu))
    assert set(named(site)) == {ran.path.name}


def test_wheel_built_without_a_sandbox_has_to_be_asked_for(
    yard: Yard, make: Callable[..., Made], site: Path
) -> None:
    made = make()
    record = msgspec.structs.replace(made.record, sandbox="none")
    store_wheel(yard, made.path, record, made.report)
    [skipped] = publisher(site).plan(yard, ALL).skipped
    assert "--unsandboxed" in skipped.reason
    assert publish(yard, site).wheels == 0
    assert publish(yard, site, Wishes(unsandboxed=True)).wheels == 1


def test_yank_reaches_the_published_index_and_a_later_publishing_keeps_it(
    yard: Yard, make: Callable[..., Made], site: Path
) -> None:
    one, two = make(), make(torch="2.12.1+cu130")
    for made in (one, two):
        add(yard, made)
    publish(yard, site)
    yank_wheel(yard, one.path.name, reason="wrong numbers")
    publish(yard, site)
    publisher(site).yank(two.record.identifier, reason="")
    publish(yard, site)
    assert named(site) == {one.path.name: "wrong numbers", two.path.name: True}
    publisher(site).yank(two.path.name, reason=None)
    assert named(site)[two.path.name] is False
    with pytest.raises(UnknownNameError, match="no wheel 'nothing'"):
        publisher(site).yank("nothing", reason="")


def test_index_forgets_a_wheel_that_is_gone_there(
    yard: Yard, make: Callable[..., Made], site: Path, tmp_path: Path
) -> None:
    made = make(name="gone")
    add(yard, made)
    publish(yard, site)
    (site / "wheels" / made.path.name).unlink()
    other = open_yard(tmp_path / "other")
    add(other, make())
    publish(other, site)
    assert not (site / "simple" / "gone").exists() or not named(site, "simple/gone")
    assert json.loads((site / "simple" / "index.v1.json").read_text())["projects"] == [
        {"name": "demo-ext"}
    ]
    assert verify(site).problems == ()


def test_pattern_chooses_by_identifier(yard: Yard, make: Callable[..., Made], site: Path) -> None:
    for torch in ("2.11.0+cu130", "2.12.1+cu130"):
        add(yard, make(torch=torch))
    assert publish(yard, site, Wishes(select="*-torch2.12.1-*")).wheels == 1


def test_killed_at_any_step_the_index_is_never_ahead_and_the_next_run_completes(
    yard: Yard,
    make: Callable[..., Made],
    tmp_path: Path,
    snapshot: Callable[[Path], dict[str, bytes]],
    killed_at: Callable[..., bool],
) -> None:
    add(yard, make())
    old = tmp_path / "old"
    publish(yard, old)
    add(yard, make(torch="2.12.1+cu130"))
    add(yard, make(name="another", torch="2.12.1+cu130"))
    undisturbed = tmp_path / "undisturbed"
    shutil.copytree(old, undisturbed)
    publish(yard, undisturbed)
    new = snapshot(undisturbed)
    number, killed = 1, 0
    while True:
        site = tmp_path / f"killed{number}"
        shutil.copytree(old, site)
        if not killed_at(number, functools.partial(publish, yard, site)):
            break
        killed += 1
        named_but_not_there = [
            problem
            for problem in verify(site).problems
            if "index.v1.json" in problem and "which is not there" in problem
        ]
        assert named_but_not_there == []
        publish(yard, site)
        assert snapshot(site) == new
        shutil.rmtree(site)
        number += 7
    assert killed >= 10
