"""Compiled objects shared between machines through a store that builds themselves never reach.

Objects lie in the store under the digest of their bytes. A list for each job says which object the
compile cache knows by which key; it is written last, so that it names nothing that is not there.
"""

from __future__ import annotations

import dataclasses
import shutil
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Annotated, Literal, TypeVar

import msgspec

from wheelyard.errors import IntegrityError
from wheelyard.files import file_sha256
from wheelyard.folders import remove_tree
from wheelyard.leavings import opened, put
from wheelyard.model.decode import UNREADABLE
from wheelyard.model.record import Sha256  # noqa: TC001 - msgspec reads it
from wheelyard.toolchain.admission import sharing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from pathlib import Path

    from wheelyard.model.job import Job
    from wheelyard.network.object_store import ObjectStore

T = TypeVar("T")
_OBJECT_LIMIT = 4 << 30
Key = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]
"""What the compile cache calls an object."""


class SharedObject(msgspec.Struct, frozen=True, kw_only=True):
    """The bytes that a key stands for."""

    sha256: Sha256
    size: int

    @property
    def name(self) -> str:
        """Its key in the store."""
        return f"objects/{self.sha256[:2]}/{self.sha256}"


class SharedList(msgspec.Struct, frozen=True, kw_only=True):
    """What one job's build took from its compile cache or put there."""

    format: Literal[1] = 1
    job: str
    objects: dict[Key, SharedObject]


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Moved:
    """How much was brought from the store or put there."""

    objects: int
    size: int
    """In bytes."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class SharedCache:
    """A store, and how many objects are moved at once."""

    store: ObjectStore
    parallel: int

    def bring(
        self, job: Job, *, folder: Path, name_of: Callable[[str], str], scratch: Path
    ) -> Moved:
        """Bring what the job may need and the compile cache in ``folder`` lacks, verified.

        Builds write to that folder: nothing in it is followed or trusted.
        That is what jobs of its group compiled; if none did yet, what the same recipe version
        compiled for other torch builds of this CUDA, whose device code it can use.
        """
        folder.mkdir(parents=True, exist_ok=True)
        known = self._known(job)
        lacking = {key: one for key, one in known.items() if not _has(folder, name_of(key))}

        def fetch(item: tuple[str, SharedObject]) -> None:
            key, one = item
            part = scratch / key
            self._fetch(one, part)
            put(part, folder, name_of(key))

        scratch.mkdir(parents=True, exist_ok=True)
        try:
            self._each(fetch, lacking.items())
        finally:
            remove_tree(scratch)
        return _moved(lacking.values())

    def share(
        self,
        job: Job,
        keys: Iterable[str],
        *,
        folder: Path,
        name_of: Callable[[str], str],
        scratch: Path,
    ) -> Moved:
        """Put the objects of these keys into the store, then the job's list of them.

        An object that the compile cache has dropped meanwhile is left out. What is put there is a
        copy, which no build can change or turn into a link meanwhile.
        """
        known = self._known(job)
        here = [key for key in sorted(keys) if _has(folder, name_of(key))]
        described: dict[str, SharedObject] = {}

        def take(item: tuple[str, SharedObject | None]) -> None:
            key, one = item
            if one is None:
                part = scratch / key
                described[key] = _copy(folder, name_of(key), part)
                self.store.put(described[key].name, part, sha256=described[key].sha256)
                part.unlink()

        scratch.mkdir(parents=True, exist_ok=True)
        try:
            self._each(take, [(key, known.get(key)) for key in here])
        finally:
            remove_tree(scratch)
        objects = {key: known.get(key) or described[key] for key in here}
        fresh = {key: one for key, one in objects.items() if key not in known}
        text = msgspec.json.encode(
            SharedList(job=job.identifier, objects=objects), order="deterministic"
        )
        self.store.write(f"{_folder(job)}{job.identifier}.json", text)
        return _moved(fresh.values())

    def _known(self, job: Job) -> Mapping[str, SharedObject]:
        return self._listed(_folder(job)) or self._listed(f"lists/{sharing(job)}/")

    def _listed(self, prefix: str) -> dict[str, SharedObject]:
        found: dict[str, SharedObject] = {}
        for listing in self._lists(prefix):
            found |= listing.objects
        return found

    def _lists(self, prefix: str) -> Iterator[SharedList]:
        for stored in self.store.objects(prefix):
            text = self.store.read(stored.key)
            if text is None:
                continue  # removed meanwhile
            try:
                yield msgspec.json.decode(text, type=SharedList)
            except UNREADABLE as error:
                msg = (
                    f"{stored.key} in {self.store.name} is no list of compiled objects: {error}. "
                    "Remove it; nothing but compile time is lost."
                )
                raise IntegrityError(msg) from None

    def _fetch(self, one: SharedObject, path: Path) -> None:
        got = self.store.get(one.name, path)
        if got.sha256 != one.sha256:
            msg = (
                f"{one.name} in {self.store.name} has sha256 {got.sha256}. Somebody changed it: "
                "remove it, and find out who may write there."
            )
            raise IntegrityError(msg)

    def _each(
        self,
        move: Callable[[tuple[str, T]], None],
        items: Iterable[tuple[str, T]],
    ) -> None:
        with ThreadPoolExecutor(self.parallel) as pool:
            for _ in pool.map(move, items):
                pass


def _folder(job: Job) -> str:
    return f"lists/{sharing(job)}/{job.group}/"


def _has(folder: Path, name: str) -> bool:
    try:
        with opened(folder, name, limit=_OBJECT_LIMIT):
            return True
    except FileNotFoundError:
        return False


def _copy(folder: Path, name: str, part: Path) -> SharedObject:
    with opened(folder, name, limit=_OBJECT_LIMIT) as stream, part.open("wb") as target:
        shutil.copyfileobj(stream, target, 1 << 20)
    return SharedObject(sha256=file_sha256(part), size=part.stat().st_size)


def _moved(objects: Iterable[SharedObject]) -> Moved:
    sizes = [one.size for one in objects]
    return Moved(objects=len(sizes), size=sum(sizes))
