"""From a combination that has everything to its files, and from those to a bundle."""

from __future__ import annotations

import concurrent.futures
import dataclasses
import functools
import os
import platform
import shutil
import tempfile
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import TYPE_CHECKING

import uv
from packaging.tags import compatible_tags, cpython_tags
from packaging.utils import canonicalize_name, parse_wheel_filename

from wheelyard.errors import FetchError, IntegrityError, MachineError, ProcessError
from wheelyard.files import disk_errors, file_sha256
from wheelyard.finding.offer import Offer, Origin
from wheelyard.finding.resolution import Conflict
from wheelyard.model.record import BuildRecord
from wheelyard.network.download import download_known
from wheelyard.network.partial import Wanted
from wheelyard.network.project_page import local_path
from wheelyard.network.reading import NotThereError, read_document
from wheelyard.network.session import open_session
from wheelyard.network.uv_indexes import run_uv
from wheelyard.progress import QUIET
from wheelyard.shipping.interpreter import pack_interpreter
from wheelyard.shipping.parcel import record_name
from wheelyard.shipping.parts import BundledCell, OurWheel, make_members
from wheelyard.shipping.wheel import BundledWheel, read_wheel
from wheelyard.toolchain.interpreters import find_interpreter

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from packaging.tags import Tag
    from packaging.utils import NormalizedName

    from wheelyard.finding.answer import Fit
    from wheelyard.finding.question import Question
    from wheelyard.finding.resolution import Pinned, RemoteFile, Resolver
    from wheelyard.model.cell import Cell
    from wheelyard.progress import Transfers
    from wheelyard.shipping.bundle import Member
    from wheelyard.shipping.interpreter import PackedInterpreter
    from wheelyard.workshop import Workshop

PARALLEL = 4
_LARGEST_RECORD = 1 << 22
UV_GLIBC = (2, 17)
"""uv's own wheel has to run wherever the others do."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Collector:
    """Brings the files of combinations into the cache, verified."""

    workshop: Workshop
    resolver: Resolver
    question: Question
    with_interpreter: bool = False
    transfers: Transfers = QUIET

    def collect(self, fits: Sequence[Fit]) -> list[Member]:
        """Return all members of a bundle of these combinations."""
        cells = [self._cell(fit) for fit in fits]
        names = {ours.name for cell in cells for ours in cell.ours}
        return make_members(
            cells,
            uv=self._uv(fits[0].cell),
            requested=[str(item) for item in self.question.requirements],
            smoke=dict(self._smoke_tests(names)),
        )

    def _cell(self, fit: Fit) -> BundledCell:
        ours = {offer.name: offer for offer in fit.resolved.ours}
        with concurrent.futures.ThreadPoolExecutor(max_workers=PARALLEL) as pool:
            bring = functools.partial(self._bring, cell=fit.cell, ours=ours)
            wheels = tuple(pool.map(bring, fit.resolved.packages.values()))
        return BundledCell(
            cell=fit.cell,
            wheels=wheels,
            ours=tuple(self._ours(offer) for offer in ours.values()),
            interpreter=self._interpreter(fit.cell) if self.with_interpreter else None,
        )

    def _interpreter(self, cell: Cell) -> PackedInterpreter:
        env = self.workshop.env
        if cell.machine != platform.machine():
            msg = f"There is no interpreter for {cell.machine} here. Leave out --interpreter."
            raise MachineError(msg)
        found = find_interpreter(cell.python, env)
        return pack_interpreter(found, self.workshop.cache / "bundled" / "pythons", env)

    def _ours(self, offer: Offer) -> OurWheel:
        if offer.origin is Origin.yard:
            record: bytes | None = self.workshop.yard.record_path(offer.filename).read_bytes()
        else:
            record = self._published_record(offer)
        return OurWheel(
            name=offer.name, version=offer.version, gpu_archs=offer.gpu_archs, record=record
        )

    def _published_record(self, offer: Offer) -> bytes | None:
        """Return the record that lies beside a published wheel, if there is one of it."""
        settings, env = self.workshop.indexes, self.workshop.env
        try:
            with open_session(settings, env) as session:
                text = read_document(
                    record_name(offer.place),
                    read=lambda content: content,
                    limit=_LARGEST_RECORD,
                    session=session,
                    settings=settings,
                )
        except NotThereError:
            return None
        if BuildRecord.from_json(text, origin=record_name(offer.place)).sha256 != offer.sha256:
            msg = f"The record beside {offer.filename} is of another wheel. Publish it anew."
            raise IntegrityError(msg)
        return text

    def _bring(
        self, pinned: Pinned, *, cell: Cell, ours: Mapping[NormalizedName, Offer]
    ) -> BundledWheel:
        offer = ours.get(pinned.name)
        if offer is not None:
            return self._bring_ours(offer)
        wheel = best_wheel(pinned, cell, glibc=self.question.glibc)
        if wheel is not None:
            return read_wheel(self._file(wheel), sha256=wheel.sha256)
        if pinned.sdist is None:
            msg = f"The index has no file of {pinned.name} {pinned.version} for {cell.identifier}."
            raise FetchError(msg)
        return self._built(pinned.sdist)

    def _bring_ours(self, offer: Offer) -> BundledWheel:
        if offer.origin is Origin.yard:
            return read_wheel(Path(offer.place), sha256=offer.sha256)
        path = self._kept(offer.sha256, offer.filename)
        self._download(offer.place, offer.filename, offer.sha256, None, path)
        return read_wheel(path, sha256=offer.sha256)

    def _file(self, file: RemoteFile) -> Path:
        """Return a file of the index, brought into the cache if it is not there."""
        path = self._kept(file.sha256, file.name)
        self._download(file.url, file.name, file.sha256, file.size, path)
        return path

    def _kept(self, sha256: str, filename: str) -> Path:
        return self.workshop.cache / "bundled" / sha256 / filename

    def _download(self, url: str, name: str, sha256: str, size: int | None, path: Path) -> None:
        if path.is_file():
            return
        local = local_path(url)
        if local is not None:
            _keep(local, path, sha256=sha256)
            return
        download_known(
            url,
            Wanted(name=name, sha256=sha256, size=size),
            destination=path,
            settings=self.workshop.indexes,
            env=self.workshop.env,
            transfers=self.transfers,
        )

    def _built(self, sdist: RemoteFile) -> BundledWheel:
        """Build the wheel of a project that publishes none; one with compiled code is refused."""
        source = self._file(sdist)
        folder = source.parent / "built"
        if not any(folder.glob("*.whl")):
            with tempfile.TemporaryDirectory(dir=source.parent) as scratch:
                self._build(source, Path(scratch))
                (made,) = Path(scratch).glob("*.whl")
                if not made.name.endswith("-any.whl"):
                    msg = (
                        f"The index has no wheel of {source.name}, and it compiles code: "
                        "write a recipe for it, or leave it out."
                    )
                    raise FetchError(msg)
                folder.mkdir(exist_ok=True)
                made.replace(folder / made.name)
        (wheel,) = folder.glob("*.whl")
        return read_wheel(wheel, sha256=file_sha256(wheel))

    def _build(self, source: Path, scratch: Path) -> None:
        command = [uv.find_uv_bin(), "build", "--quiet", "--wheel", "--out-dir", str(scratch)]
        env = {**self.workshop.uv_env(), "SOURCE_DATE_EPOCH": "315532800"}
        try:
            run_uv([*command, str(source)], env=env, cwd=scratch)
        except ProcessError as error:
            msg = f"The index has no wheel of {source.name}, and none could be built.\n{error.tail}"
            raise FetchError(msg) from error

    def _uv(self, cell: Cell) -> BundledWheel:
        """Return uv's own wheel, which installs the others."""
        wanted = f"uv=={installed_version('uv')}"
        found = self.resolver.resolve([wanted], cell, offers=(), glibc=UV_GLIBC, with_torch=False)
        if isinstance(found, Conflict):
            msg = f"The index has no wheel of {wanted}, which goes into the bundle.\n{found.text}"
            raise FetchError(msg)
        pinned = found.packages[canonicalize_name("uv")]
        wheel = best_wheel(pinned, cell, glibc=UV_GLIBC)
        if wheel is None:
            msg = f"The index has no wheel of {wanted} for {cell.machine}, glibc 2.17."
            raise FetchError(msg)
        return read_wheel(self._file(wheel), sha256=wheel.sha256)

    def _smoke_tests(self, names: Iterable[str]) -> Iterator[tuple[str, bytes]]:
        farm = self.workshop.farm
        for path in farm.smoke_helpers():
            yield f"smoke/{path.name}", path.read_bytes()
        for name in sorted(names):
            yield f"smoke/{name}/smoke.py", farm.smoke_path(canonicalize_name(name)).read_bytes()


def best_wheel(pinned: Pinned, cell: Cell, *, glibc: tuple[int, int]) -> RemoteFile | None:
    """Return the file that an installer on such a machine would take."""
    order = {tag: number for number, tag in enumerate(_tags(cell, glibc))}
    ranked = [
        (min(order[tag] for tag in fitting), wheel.name, wheel)
        for wheel in pinned.wheels
        if (fitting := parse_wheel_filename(wheel.name)[3] & order.keys())
    ]
    return min(ranked)[2] if ranked else None


@functools.cache
def _tags(cell: Cell, glibc: tuple[int, int]) -> tuple[Tag, ...]:
    python = (cell.python.major, cell.python.minor)
    platforms = _platforms(cell.machine, glibc)
    return (
        *cpython_tags(python, [cell.python.abi_tag], platforms),
        *compatible_tags(python, cell.python.python_tag, platforms),
    )


def _platforms(machine: str, glibc: tuple[int, int]) -> list[str]:
    """Return the platform tags that such a machine takes, the newest first."""
    legacy = {17: "manylinux2014", 12: "manylinux2010", 5: "manylinux1"}
    found = []
    for minor in range(glibc[1], 4, -1):
        found.append(f"manylinux_2_{minor}_{machine}")
        if minor in legacy and (machine == "x86_64" or minor == 17):
            found.append(f"{legacy[minor]}_{machine}")
    return [*found, f"linux_{machine}"]


def _keep(source: Path, path: Path, *, sha256: str) -> None:
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent) as folder:
            new = Path(folder, path.name)
            shutil.copyfile(source, new)
            found = file_sha256(new)
            if found != sha256:
                msg = f"{source} has sha256 {found}, resolved was {sha256}. Resolve again."
                raise IntegrityError(msg)
            os.replace(new, path)  # noqa: PTH105 - one rename
