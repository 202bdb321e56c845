"""Compiled objects that machines share through a store."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, TypedDict

import pytest

from wheelyard.errors import IntegrityError
from wheelyard.network.folder_store import FolderStore
from wheelyard.toolchain.sccache import object_name
from wheelyard.toolchain.shared_cache import Moved, SharedCache

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from wheelyard.model.job import Job

DEVICE, HOST, OTHER = "a" * 64, "b" * 64, "c" * 64


class _Cache(TypedDict):
    folder: Path
    name_of: Callable[[str], str]


class Machine:
    """A compile cache beside a store that others use too."""

    def __init__(self, folder: Path, store: Path) -> None:
        self.folder = folder
        self.shared = SharedCache(store=FolderStore(store), parallel=2)
        self.cache = folder / "cache"
        folder.mkdir()  # whose cache nothing was compiled into

    def compile(self, **objects: str) -> None:
        for key, content in objects.items():
            path = self.cache / object_name(key)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content, encoding="ascii")

    def bring(self, job: Job) -> Moved:
        return self.shared.bring(job, scratch=self.folder / "scratch", **self._cache)

    def share(self, job: Job, *keys: str) -> Moved:
        return self.shared.share(job, keys, scratch=self.folder / "scratch", **self._cache)

    @property
    def _cache(self) -> _Cache:
        return {"folder": self.cache, "name_of": object_name}

    @property
    def content(self) -> dict[str, str]:
        files = (path for path in (self.folder / "cache").rglob("*") if path.is_file())
        return {path.name: path.read_text(encoding="ascii") for path in files}


@pytest.fixture
def machine(tmp_path: Path) -> Callable[[str], Machine]:
    return lambda name: Machine(tmp_path / name, tmp_path / "store")


def test_other_python_on_another_machine_gets_what_the_first_compiled(
    machine: Callable[[str], Machine], make_probe_job: Callable[..., Job]
) -> None:
    first, second = machine("first"), machine("second")
    first.compile(**{DEVICE: "device code", HOST: "host code", OTHER: "of another recipe"})
    assert first.share(make_probe_job(python="3.12"), DEVICE, HOST) == Moved(objects=2, size=20)
    assert second.bring(make_probe_job(python="3.13")) == Moved(objects=2, size=20)
    assert second.content == {DEVICE: "device code", HOST: "host code"}
    assert not (second.folder / "scratch").exists()


def test_what_is_there_already_moves_in_neither_direction(
    machine: Callable[[str], Machine], make_probe_job: Callable[..., Job]
) -> None:
    first, second, job = machine("first"), machine("second"), make_probe_job()
    first.compile(**{DEVICE: "device code"})
    first.share(job, DEVICE)
    assert first.share(job, DEVICE) == Moved(objects=0, size=0)
    second.compile(**{DEVICE: "compiled twice, in other bytes"})
    assert second.bring(job) == Moved(objects=0, size=0)
    assert second.share(job, DEVICE) == Moved(objects=0, size=0)
    assert second.content == {DEVICE: "compiled twice, in other bytes"}


def test_new_torch_build_begins_with_what_others_of_its_cuda_compiled(
    machine: Callable[[str], Machine], make_probe_job: Callable[..., Job]
) -> None:
    first, second = machine("first"), machine("second")
    first.compile(**{DEVICE: "device code"})
    first.share(make_probe_job(torch="2.11.0+cu130"), DEVICE)
    assert second.bring(make_probe_job(torch="2.12.1+cu130")).objects == 1
    assert machine("third").bring(make_probe_job(torch="2.15.0+cu132")).objects == 0


def test_object_that_the_cache_has_dropped_is_left_out(
    machine: Callable[[str], Machine], make_probe_job: Callable[..., Job]
) -> None:
    first = machine("first")
    first.compile(**{DEVICE: "device code"})
    assert first.share(make_probe_job(), DEVICE, OTHER).objects == 1


def test_changed_object_is_refused(
    machine: Callable[[str], Machine], make_probe_job: Callable[..., Job], tmp_path: Path
) -> None:
    first, second = machine("first"), machine("second")
    first.compile(**{DEVICE: "device code"})
    first.share(make_probe_job(), DEVICE)
    (path,) = (path for path in (tmp_path / "store/objects").rglob("*") if path.is_file())
    path.write_text("something else", encoding="ascii")
    with pytest.raises(IntegrityError, match=r"has sha256 [0-9a-f]{64}\. Somebody changed it"):
        second.bring(make_probe_job())
    assert second.content == {}
    assert not (second.folder / "scratch").exists()


@pytest.mark.parametrize(
    "objects",
    [
        pytest.param({"../../../etc/passwd": {"sha256": "0" * 64, "size": 1}}, id="path"),
        pytest.param({DEVICE: {"sha256": "../..", "size": 1}}, id="digest"),
        pytest.param({DEVICE: {"size": 1}}, id="nothing"),
    ],
)
def test_list_that_is_none_is_refused(
    machine: Callable[[str], Machine],
    make_probe_job: Callable[..., Job],
    tmp_path: Path,
    objects: dict[str, object],
) -> None:
    first, job = machine("first"), make_probe_job()
    first.compile(**{DEVICE: "device code"})
    first.share(job, DEVICE)
    (path,) = (tmp_path / "store/lists").rglob("*.json")
    path.write_text(json.dumps({"job": "x", "objects": objects}), encoding="ascii")
    with pytest.raises(IntegrityError, match="is no list of compiled objects"):
        machine("second").bring(job)


def test_list_is_written_when_its_objects_are_there(
    machine: Callable[[str], Machine],
    make_probe_job: Callable[..., Job],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*_: object, **__: object) -> bool:
        raise OSError

    first = machine("first")
    first.compile(**{DEVICE: "device code"})
    monkeypatch.setattr(FolderStore, "put", fail)
    with pytest.raises(OSError):  # noqa: PT011 - that of the store
        first.share(make_probe_job(), DEVICE)
    assert not list(tmp_path.glob("store/lists/**/*.json"))
