"""Commands over what the yard keeps."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING

import pytest

from wheelyard.yard.folder import open_yard
from wheelyard.yard.index import write_index

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from subprocess import CompletedProcess

    from wheelyard.yard.store import StoredWheel

    Run = Callable[..., CompletedProcess[str]]
    Store = Callable[..., StoredWheel]

IDENTIFIER = "probe-1.1-cp312-torch2.11.0-cu130-x86_64"


@pytest.fixture
def stored(probe_farm: Path, store_probe: Store) -> StoredWheel:
    found = store_probe()
    write_index(open_yard(probe_farm / "yard"))
    return found


def listed(probe_farm: Path) -> list[dict[str, object]]:
    page = probe_farm / "yard" / "index" / "simple" / "probe" / "index.v1.json"
    files: list[dict[str, object]] = json.loads(page.read_text())["files"] if page.exists() else []
    return files


def test_list_with_yard_alone_shows_the_wheels_of_the_farms_yard(
    wheelyard: Run, probe_farm: Path, stored: StoredWheel
) -> None:
    done = wheelyard("list", "--farm", probe_farm, "--yard")
    assert done.returncode == 0
    assert done.stdout.splitlines()[1].split()[0] == IDENTIFIER
    assert "1 wheels, 1.0 kB" in done.stdout
    document = json.loads(wheelyard("list", "--farm", probe_farm, "--yard", "--json").stdout)
    assert [item["filename"] for item in document["wheels"]] == [stored.path.name]


def test_list_without_yard_still_shows_recipes(wheelyard: Run, probe_farm: Path) -> None:
    assert "probe" in wheelyard("list", "--farm", probe_farm).stdout


def test_yard_of_a_dot_is_this_folder_and_not_the_default(
    wheelyard: Run, probe_farm: Path, stored: StoredWheel
) -> None:
    done = wheelyard("show", IDENTIFIER, "--farm", probe_farm, "--yard", ".")
    assert done.returncode == 14
    assert "There is no yard in" in done.stderr


@pytest.mark.parametrize("named", ["identifier", "filename", "path"])
def test_show_finds_a_wheel_by_any_of_its_names(
    wheelyard: Run, probe_farm: Path, stored: StoredWheel, named: str
) -> None:
    names = {
        "identifier": IDENTIFIER,
        "filename": stored.path.name,
        "path": str(stored.path),
    }
    done = wheelyard("show", names[named], "--farm", probe_farm)
    assert done.returncode == 0
    assert stored.record.sha256 in done.stdout
    assert "probe==1.1+cu130.torch2.11.0" in done.stdout
    assert "explicit = true" in done.stdout


def test_show_of_an_unknown_wheel_names_the_nearest(
    wheelyard: Run, probe_farm: Path, stored: StoredWheel
) -> None:
    done = wheelyard("show", IDENTIFIER.replace("cp312", "cp313"), "--farm", probe_farm)
    assert done.returncode == 4
    assert f"Did you mean '{IDENTIFIER}'?" in done.stderr


def test_yank_marks_the_wheel_in_the_index_and_undo_takes_it_back(
    wheelyard: Run, probe_farm: Path, stored: StoredWheel
) -> None:
    wheelyard("yank", IDENTIFIER, "--reason", "wrong gradients", "--farm", probe_farm)
    assert [file["yanked"] for file in listed(probe_farm)] == ["wrong gradients"]
    shown = wheelyard("show", IDENTIFIER, "--farm", probe_farm).stdout
    assert "yanked: wrong gradients" in shown
    wheelyard("yank", IDENTIFIER, "--undo", "--farm", probe_farm)
    assert [file["yanked"] for file in listed(probe_farm)] == [False]


def test_removed_wheel_leaves_nothing_behind(
    wheelyard: Run, probe_farm: Path, stored: StoredWheel
) -> None:
    wheelyard("yank", IDENTIFIER, "--farm", probe_farm)
    done = wheelyard("remove", IDENTIFIER, "--farm", probe_farm)
    assert done.returncode == 0
    assert listed(probe_farm) == []
    left = [path for path in (probe_farm / "yard").rglob("*probe*") if path.is_file()]
    assert left == []


def test_prune_keeps_what_the_index_names_and_shows_first_what_goes(
    wheelyard: Run, probe_farm: Path, stored: StoredWheel
) -> None:
    orphan = stored.path.with_name("orphan-1.0-py3-none-any.whl")
    orphan.write_bytes(b"")
    reports = probe_farm / "yard" / "reports" / ("0" * 64)
    reports.mkdir(parents=True)
    done = wheelyard("prune", "--dry-run", "--farm", probe_farm)
    assert f"would remove {orphan}: no record names it" in done.stdout
    assert orphan.exists()
    wheelyard("prune", "--farm", probe_farm)
    assert not orphan.exists()
    assert not reports.exists()
    assert stored.path.exists()
    assert [file["filename"] for file in listed(probe_farm)] == [stored.path.name]
    assert "nothing to prune" in wheelyard("prune", "--farm", probe_farm).stdout


def test_prune_takes_lower_revisions_only_when_asked(
    wheelyard: Run, probe_farm: Path, recipe_text: str, store_probe: Store, stored: StoredWheel
) -> None:
    newer = store_probe(
        text=recipe_text.replace('version = "1.1"', 'version = "1.1"\nrevision = 1')
    )
    assert newer.record.revision == 1
    wheelyard("prune", "--farm", probe_farm)
    assert stored.path.exists()
    wheelyard("prune", "--superseded", "--farm", probe_farm)
    assert not stored.path.exists()
    assert newer.path.exists()
    assert [file["filename"] for file in listed(probe_farm)] == [newer.path.name]


def test_import_needs_the_record(
    wheelyard: Run, probe_farm: Path, make_wheel: Callable[..., Path]
) -> None:
    done = wheelyard("import", make_wheel(), "--farm", probe_farm)
    assert done.returncode == 3
    assert "wheelyard adopt" in done.stderr


def test_import_checks_like_any_other_wheel(
    wheelyard: Run, probe_farm: Path, stored: StoredWheel, tmp_path: Path
) -> None:
    """The probe's wheel has none of the extensions that its recipe declares."""
    other = tmp_path / "elsewhere"
    shutil.copytree(probe_farm / "yard", other)
    wheel = other / "wheels" / stored.path.name
    new = tmp_path / "new"
    done = wheelyard("import", wheel, "--farm", probe_farm, "--yard", new)
    assert done.returncode == 12
    assert "must not be shipped" in done.stderr
    assert not list((new / "wheels").glob("*"))
