"""Source archives that burst, climb or were mutated, wherever one is unpacked."""

from __future__ import annotations

import gzip
import io
import os
import random
import stat
import tarfile
import zipfile
from typing import TYPE_CHECKING

import pytest
from hostile.mutating import mutate

from wheelyard.errors import IntegrityError
from wheelyard.folders import remove_tree
from wheelyard.network.remote_zip import RemoteZip
from wheelyard.network.wheel_index import IndexWheel
from wheelyard.sources.unpack import Limits, unpack

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from contextlib import AbstractContextManager
    from pathlib import Path

    from hostile.conftest import Tally

MUTATIONS = 120
SMALL = Limits(entries=50, size=1 << 20)


def _header(name: str, **about: object) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    for key, value in about.items():
        setattr(info, key, value)
    return info


def _write_tar(
    path: Path, entries: Iterable[tuple[tarfile.TarInfo, bytes]], mode: str = "w"
) -> Path:
    with tarfile.open(path, mode) as tar:  # type: ignore[call-overload]
        for info, content in entries:
            info.size = info.size or len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


def _plain(path: Path) -> Path:
    entries = [
        (_header("p-1/a.txt"), b"a" * 3000),
        (_header("p-1/" + "long/" * 40 + "b.txt"), b"b"),
        (_header("p-1/ünïcödé.txt", pax_headers={"comment": "c"}), b"c" * 700),
        (_header("p-1/link", type=tarfile.SYMTYPE, linkname="a.txt"), b""),
        (_header("p-1/hard", type=tarfile.LNKTYPE, linkname="p-1/a.txt"), b""),
    ]
    return _write_tar(path, entries)


LINK = {"type": tarfile.SYMTYPE}
TARS: dict[str, list[tuple[tarfile.TarInfo, bytes]]] = {
    "part of 300": [(_header("p/" + "a" * 300), b"")],
    "part of 300 in UTF-8": [(_header("p/" + "é" * 200), b"")],
    "path without end": [(_header("p/" + "d/" * 3000 + "a"), b"")],
    "link to a path without end": [(_header("p/l", linkname="d/" * 3000, **LINK), b"")],
    "two links in a circle": [
        (_header("p/a", linkname="b", **LINK), b""),
        (_header("p/b", linkname="a", **LINK), b""),
    ],
    "link to itself": [(_header("p/a", linkname="a", **LINK), b"")],
    "chain of links out": [
        (_header("p/a", linkname="b/..", **LINK), b""),
        (_header("p/b", linkname="..", **LINK), b""),
    ],
    "file in a link": [
        (_header("p/a", linkname="/tmp", **LINK), b""),
        (_header("p/a/escaped"), b"x"),
    ],
    "link where a file is": [(_header("p/a"), b""), (_header("p/a", linkname="b", **LINK), b"")],
    "hard link out": [(_header("p/a", type=tarfile.LNKTYPE, linkname="/etc/passwd"), b"")],
    "hard link to itself": [(_header("p/a", type=tarfile.LNKTYPE, linkname="p/a"), b"")],
    "hard link to a device": [
        (_header("p/a", type=tarfile.LNKTYPE, linkname="p/b"), b""),
        (_header("p/b", type=tarfile.CHRTYPE), b""),
    ],
    "device": [(_header("p/a", type=tarfile.CHRTYPE, devmajor=1, devminor=5), b"")],
    "pipe": [(_header("p/a", type=tarfile.FIFOTYPE), b"")],
    "climbing": [(_header("p/../../escaped"), b"")],
    "absolute": [(_header("/tmp/escaped"), b"")],
    "twice": [(_header("p/a"), b""), (_header("p/a"), b"")],
    "folder and file": [(_header("p/a/b"), b""), (_header("p/a"), b"")],
    "pax path that climbs": [(_header("p/a", pax_headers={"path": "../../escaped"}), b"")],
    "pax sparse map that is none": [
        (
            _header("p/a", pax_headers={"GNU.sparse.map": "x,y", "GNU.sparse.size": "9" * 5000}),
            b"",
        )
    ],
}


@pytest.mark.parametrize("entries", [pytest.param(value, id=key) for key, value in TARS.items()])
@pytest.mark.parametrize("form", ["sdist", "export"])
def test_hostile_tar_is_refused_and_nothing_is_written_elsewhere(
    tmp_path: Path, entries: list[tuple[tarfile.TarInfo, bytes]], form: str, tally: Tally
) -> None:
    archive = _write_tar(tmp_path / "a.tar", entries)
    folder = tmp_path / "deep" / "er" / "tree"
    tally.refuses(lambda: unpack(archive, folder, strip_top=form == "sdist"))
    written = {path.name for path in tmp_path.rglob("*")} - {"deep", "er", "tree", "a.tar"}
    assert not written & {"escaped", "passwd"}


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
@pytest.mark.parametrize(
    "kind", [tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK]
)
def test_header_as_large_as_a_bomb_is_not_read_into_memory(
    tmp_path: Path,
    mode: str,
    kind: bytes,
    tally: Tally,
    little_memory: Callable[[], AbstractContextManager[None]],
) -> None:
    archive = tmp_path / "a.tar"
    with tarfile.open(archive, mode) as tar:  # type: ignore[call-overload]
        tar.fileobj.write(_header("x", type=kind, size=1 << 33).tobuf(tarfile.GNU_FORMAT))
        for _ in range(64):
            tar.fileobj.write(bytes(1 << 20))
    with little_memory():
        tally.refuses(lambda: unpack(archive, tmp_path / "tree"), "not a whole archive")


def test_headers_that_follow_each_other_without_end_are_refused(
    tmp_path: Path, tally: Tally
) -> None:
    record = b"13 comment=x\n"
    one = _header("x", type=tarfile.XHDTYPE, size=len(record)).tobuf(tarfile.PAX_FORMAT)
    (tmp_path / "a.tar.gz").write_bytes(gzip.compress((one + record.ljust(512, b"\0")) * 20_000))
    tally.refuses(lambda: unpack(tmp_path / "a.tar.gz", tmp_path / "tree"), "not a whole archive")


@pytest.mark.parametrize("mode", ["w:gz", "w:bz2", "w:xz"])
def test_bomb_in_a_tar_is_refused_by_what_it_claims(
    tmp_path: Path, mode: str, tally: Tally
) -> None:
    archive = tmp_path / "a.tar"
    with tarfile.open(archive, mode) as tar:  # type: ignore[call-overload]
        tar.fileobj.write(_header("p/a", size=1 << 40).tobuf())
        tar.fileobj.write(bytes(1 << 24))
    tally.refuses(lambda: unpack(archive, tmp_path / "tree"), "one too many")


ZIPS = {
    "part of 300": ("p/" + "a" * 300, 0o100644, b""),
    "path without end": ("p/" + "d/" * 3000 + "a", 0o100644, b""),
    "link without end": ("p/a", stat.S_IFLNK | 0o777, b"d/" * 3000),
    "link of a megabyte": ("p/a", stat.S_IFLNK | 0o777, b"a" * (1 << 20)),
    "link to nul": ("p/a", stat.S_IFLNK | 0o777, b"a\0b"),
    "link to itself": ("p/a", stat.S_IFLNK | 0o777, b"a"),
    "link out": ("p/a", stat.S_IFLNK | 0o777, b"../../escaped"),
    "socket": ("p/a", stat.S_IFSOCK | 0o777, b""),
    "block device": ("p/a", stat.S_IFBLK | 0o777, b""),
    "climbing": ("p/../../escaped", 0o100644, b""),
    "two tops": ("q/a", 0o100644, b""),
}


@pytest.mark.parametrize(
    ("name", "mode", "content"), [pytest.param(*value, id=key) for key, value in ZIPS.items()]
)
def test_hostile_zip_is_refused(
    tmp_path: Path, name: str, mode: int, content: bytes, tally: Tally
) -> None:
    archive = tmp_path / "a.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as zipped:
        zipped.writestr("p/setup.py", "")
        info = zipfile.ZipInfo(name)
        info.external_attr = mode << 16
        zipped.writestr(info, content)
    tally.refuses(lambda: unpack(archive, tmp_path / "deep" / "er" / "tree"))
    assert not list(tmp_path.rglob("escaped"))


@pytest.mark.parametrize("kind", ["tar", "gz", "zip"])
def test_mutated_archive_is_unpacked_or_refused(tmp_path: Path, kind: str, tally: Tally) -> None:
    chance = random.Random(kind)  # noqa: S311
    archive, folder = tmp_path / "a", tmp_path / "tree"
    if kind == "zip":
        with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as zipped:
            for name in ("p/a.txt", "p/ü.txt", "p/b/c.txt"):
                zipped.writestr(name, name * 100)
    else:
        _plain(archive)
    whole = archive.read_bytes()
    for _ in range(MUTATIONS):
        changed = mutate(whole, chance, head=2048)
        archive.write_bytes(gzip.compress(changed) if kind == "gz" else changed)
        error = tally.meets(lambda: unpack(archive, folder, limits=SMALL))
        assert error is None or isinstance(error, IntegrityError)
        for path in folder.rglob("*"):
            assert os.path.realpath(path).startswith(os.path.realpath(folder))
        remove_tree(folder)


def test_mutated_wheel_that_streams_by_is_read_or_refused(tmp_path: Path, tally: Tally) -> None:
    chance = random.Random(1)  # noqa: S311
    archive = tmp_path / "demo-1.0-py3-none-any.whl"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as zipped:
        for name in ("a.so", "b.so", "c.py"):
            zipped.writestr(name, name * 1000)
    whole = archive.read_bytes()
    wheel = IndexWheel(
        filename=archive.name,
        url=archive.as_uri(),
        sha256=None,
        version=None,
        build=(),
        tags=frozenset(),  # type: ignore[arg-type]
    )

    def read() -> list[str]:
        remote = RemoteZip(wheel, session=None, scratch=tmp_path)  # type: ignore[arg-type]
        return [member.name for member in remote.read(lambda name: name.endswith(".so"))]

    for _ in range(MUTATIONS):
        archive.write_bytes(mutate(whole, chance))
        tally.meets(read)
