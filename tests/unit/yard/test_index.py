"""Writing the index."""

from __future__ import annotations

import functools
import json
import re
import shutil
import subprocess
from typing import TYPE_CHECKING

from wheelyard.yard.folder import Yard
from wheelyard.yard.index import update_index, write_index
from wheelyard.yard.store import store_wheel

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import pytest
    from tests.yards import Made


def add(yard: Yard, made: Made) -> None:
    store_wheel(yard, made.path, made.record)


def listed(yard: Yard, page: str) -> list[str]:
    document = json.loads((yard.index_dir / page / "index.v1.json").read_text())
    if "projects" in document:
        return [project["name"] for project in document["projects"]]
    return [file["filename"] for file in document["files"]]


def test_each_index_names_the_wheels_that_belong_there(
    yard: Yard, make: Callable[..., Made]
) -> None:
    plain = make()
    other = make(torch="2.12.1+cu130")
    special = make(archs_label="-sm90a")
    for made in (plain, other, special):
        add(yard, made)
    summary = write_index(yard)
    assert (summary.pages_written, summary.pages_total, summary.left_out) == (16, 16, ())
    assert listed(yard, "simple/demo-ext") == [plain.path.name, other.path.name]
    assert listed(yard, "torch2.11.0-cu130/simple/demo-ext") == [plain.path.name]
    assert listed(yard, "torch2.12.1-cu130/simple/demo-ext") == [other.path.name]
    assert listed(yard, "torch2.11.0-cu130-sm90a/simple/demo-ext") == [special.path.name]
    assert listed(yard, "simple") == ["demo-ext"]


def test_links_lead_to_wheel_and_metadata(yard: Yard, make: Callable[..., Made]) -> None:
    add(yard, make())
    write_index(yard)
    for page in yard.index_dir.rglob("demo-ext/index.html"):
        [url] = re.findall(r'href="([^"#]*)', page.read_text())
        assert "+" not in url
        wheel = (page.parent / url.replace("%2B", "+")).resolve()
        assert wheel.is_file()
        assert wheel.with_name(f"{wheel.name}.metadata").is_file()


def test_only_pages_that_change_are_written(yard: Yard, make: Callable[..., Made]) -> None:
    add(yard, make())
    write_index(yard)
    before = {path: path.stat().st_mtime_ns for path in yard.index_dir.rglob("index.*")}
    assert write_index(yard).pages_written == 0
    add(yard, make(name="other", torch="2.12.1+cu130"))
    summary = write_index(yard)
    changed = {path for path, at in before.items() if path.stat().st_mtime_ns != at}
    assert {path.parent for path in changed} == {yard.index_dir / "simple"}
    assert (summary.pages_written, summary.pages_total) == (8, 14)


def test_pages_without_records_go(yard: Yard, make: Callable[..., Made]) -> None:
    made, kept = make(torch="2.12.1+cu130"), make(name="kept")
    add(yard, made)
    add(yard, kept)
    write_index(yard)
    yard.record_path(made.path.name).unlink()
    write_index(yard)
    assert {path.name for path in yard.index_dir.iterdir()} == {
        "simple",
        "state.json",
        "torch2.11.0-cu130",
    }
    assert listed(yard, "simple") == ["kept"]
    assert not (yard.index_dir / "simple" / "demo-ext").exists()


def test_index_does_not_name_a_wheel_that_is_gone(
    yard: Yard, make: Callable[..., Made], caplog: pytest.LogCaptureFixture
) -> None:
    gone, kept = make(name="gone"), make()
    add(yard, gone)
    add(yard, kept)
    yard.wheel_path(gone.path.name).unlink()
    assert write_index(yard).left_out == (gone.path.name,)
    assert listed(yard, "simple") == ["demo-ext"]
    assert gone.path.name in caplog.text
    assert "Put the file with sha256" in caplog.text


def test_killed_at_any_step_no_page_is_half_written_or_names_what_is_not_there(
    tmp_path: Path,
    make: Callable[..., Made],
    snapshot: Callable[[Path], dict[str, bytes]],
    killed_at: Callable[..., bool],
    yard: Yard,
) -> None:
    for name in ("alpha", "beta"):
        add(yard, make(name=name))
    write_index(yard)
    old = snapshot(yard.index_dir)
    add(yard, make(name="gamma"))
    add(yard, make(name="alpha", torch="2.12.1+cu130"))
    lost = yard.record_path(make(name="beta").path.name)
    lost.unlink()
    undisturbed = Yard(tmp_path / "undisturbed")
    shutil.copytree(yard.path, undisturbed.path)
    write_index(undisturbed)
    new = snapshot(undisturbed.index_dir)
    number = 1
    while True:
        killed = Yard(tmp_path / f"killed{number}")
        shutil.copytree(yard.path, killed.path)
        if not killed_at(number, functools.partial(write_index, killed)):
            break
        for name, content in snapshot(killed.index_dir).items():
            if ".part-" not in name:
                assert content in (old.get(name), new.get(name))
        for root in killed.index_dir.rglob("simple"):
            if (root / "index.html").exists():
                names = re.findall(r'href="([^"]*)/"', (root / "index.html").read_text())
                assert all((root / name / "index.html").exists() for name in names)
        write_index(killed)
        assert snapshot(killed.index_dir) == new
        number += 1
    assert snapshot(killed.index_dir) == new
    assert number > 30


def test_update_comes_to_what_writing_everything_does(
    yard: Yard, make: Callable[..., Made], snapshot: Callable[[Path], dict[str, bytes]]
) -> None:
    for name in ("alpha", "beta"):
        add(yard, make(name=name))
    write_index(yard)
    steps = [
        make(name="gamma"),
        make(name="alpha", torch="2.12.1+cu130"),
        make(name="be-ta"),
        make(name="beta", archs_label="-sm90a"),
    ]
    for made in steps:
        add(yard, made)
        update_index(yard, (made.path.name,))
        updated = snapshot(yard.path)
        assert write_index(yard).pages_written == 0
        assert snapshot(yard.path) == updated
    for made in steps:
        yard.record_path(made.path.name).unlink()
        update_index(yard, (made.path.name,))
        updated = snapshot(yard.path)
        assert write_index(yard).pages_written == 0
        assert snapshot(yard.path) == updated
    assert listed(yard, "simple") == ["alpha", "beta"]


def test_update_writes_only_pages_that_name_the_wheel(
    yard: Yard, make: Callable[..., Made]
) -> None:
    for name in ("alpha", "beta"):
        for torch in ("2.11.0+cu130", "2.12.1+cu130"):
            add(yard, make(name=name, torch=torch))
    write_index(yard)
    before = {path: path.stat().st_mtime_ns for path in yard.index_dir.rglob("index.*")}
    made = make(name="alpha", content=b"x = 2\n", revision=1)
    add(yard, made)
    summary = update_index(yard, (made.path.name,))
    changed = {path.parent for path, at in before.items() if path.stat().st_mtime_ns != at}
    folders = ("simple/alpha", "torch2.11.0-cu130/simple/alpha")
    assert changed == {yard.index_dir / folder for folder in folders}
    assert summary.pages_written == 4


def test_update_brings_in_what_one_before_was_cut_off_from(
    yard: Yard, make: Callable[..., Made]
) -> None:
    add(yard, make(name="alpha"))
    write_index(yard)
    add(yard, make(name="beta"))  # killed before its index was written
    later = make(name="gamma")
    add(yard, later)
    update_index(yard, (later.path.name,))
    assert listed(yard, "simple") == ["alpha", "beta", "gamma"]


def test_sums_are_what_sha256sum_checks(yard: Yard, make: Callable[..., Made]) -> None:
    for torch in ("2.11.0+cu130", "2.12.1+cu130"):
        made = make(torch=torch)
        add(yard, made)
        update_index(yard, (made.path.name,))
    command = ("sha256sum", "--check", "--strict", "SHA256SUMS")
    done = subprocess.run(command, cwd=yard.wheels_dir, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count(": OK\n") == 2
