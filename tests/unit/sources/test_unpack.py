from __future__ import annotations

import io
import resource
import stat
import tarfile
import zipfile
from typing import TYPE_CHECKING

import pytest

from wheelyard.errors import DiskError, IntegrityError
from wheelyard.files import disk_errors
from wheelyard.sources.tree import SOURCE_TIME
from wheelyard.sources.unpack import Limits, unpack

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    MakeTar = Callable[..., Path]


def entry(name: str, type_: bytes, target: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type = type_
    info.linkname = target
    return info


def link(name: str, target: str) -> tarfile.TarInfo:
    return entry(name, tarfile.SYMTYPE, target)


def files_in(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): path.read_text()
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.mark.parametrize("name", ["a.tar.gz", "a.tar.xz", "a.tar.bz2", "a.tar"])
def test_top_folder_of_a_tar_is_left_out(make_tar: MakeTar, tmp_path: Path, name: str) -> None:
    top = entry("p-1.0", tarfile.DIRTYPE)
    files = (("p-1.0/setup.py", "s"), ("p-1.0/p-1.0/x.sh", "x"))
    archive = make_tar(top, *files, link("p-1.0/l", "p-1.0/x.sh"), name=name)
    unpack(archive, tmp_path / "out")
    assert files_in(tmp_path / "out") == {"setup.py": "s", "p-1.0/x.sh": "x", "l": "x"}
    assert (tmp_path / "out" / "l").is_symlink()


def test_modes_and_times_are_constant(make_tar: MakeTar, tmp_path: Path) -> None:
    unpack(make_tar(("p/a", "a"), ("p/d/run.sh", "r")), tmp_path / "out")
    modes = {path.name: path.stat().st_mode & 0o7777 for path in (tmp_path / "out").rglob("*")}
    assert modes == {"a": 0o644, "d": 0o755, "run.sh": 0o755}
    assert {path.stat().st_mtime for path in (tmp_path / "out").rglob("*")} == {SOURCE_TIME}


def test_tar_without_top_folder_is_unpacked_when_asked(make_tar: MakeTar, tmp_path: Path) -> None:
    unpack(make_tar(("a", "1"), ("b/c", "2")), tmp_path / "out", strip_top=False)
    assert files_in(tmp_path / "out") == {"a": "1", "b/c": "2"}


def test_hard_link_becomes_a_copy(make_tar: MakeTar, tmp_path: Path) -> None:
    hard = entry("p/b", tarfile.LNKTYPE, "p/a")
    unpack(make_tar(("p/a", "text"), hard), tmp_path / "out")
    assert files_in(tmp_path / "out") == {"a": "text", "b": "text"}
    assert (tmp_path / "out" / "b").stat().st_nlink == 1


def test_repository_in_an_archive_is_left_out(make_tar: MakeTar, tmp_path: Path) -> None:
    archive = make_tar(("p/a", "a"), ("p/.git/config", "x"), ("p/sub/.git", "gitdir: ../x"))
    unpack(archive, tmp_path / "out")
    assert files_in(tmp_path / "out") == {"a": "a"}


HOSTILE = {
    "absolute": (("/p/a", "x"), "'/p/a' would be written outside"),
    "climbing": (("p/../../a", "x"), "'p/../../a' is refused|would be written outside"),
    "link-absolute": (link("p/l", "/etc/passwd"), "'p/l' is refused|links out"),
    "link-climbing": (link("p/l", "../../x"), "'p/l' is refused|links out"),
    "link-to-beside-the-top": (link("p/l", "../x"), "'p/l' links out of the folder"),
    "hard-link-out": (entry("p/h", tarfile.LNKTYPE, "../../x"), "'p/h' is refused|not there"),
    "hard-link-to-nothing": (entry("p/h", tarfile.LNKTYPE, "p/none"), "'p/none', not there"),
    "device": (entry("p/d", tarfile.CHRTYPE), "'p/d' is neither"),
    "pipe": (entry("p/f", tarfile.FIFOTYPE), "'p/f' is neither"),
    "second-top": (("q/a", "x"), "'q/a' lies outside the one top folder"),
    "file-at-the-top": (("a", "x"), "'a' lies outside the one top folder"),
    "twice": (("p/first", "again"), "'p/first' comes twice"),
    "twice-by-another-spelling": (("p/./first", "again"), "comes twice"),
    "file-as-folder": (("p/first/inner", "x"), "is a file and a folder"),
}


@pytest.mark.parametrize(("bad", "expected"), HOSTILE.values(), ids=HOSTILE)
@pytest.mark.parametrize("filtered", [True, False], ids=["with-data-filter", "older-python"])
def test_hostile_tar_is_refused(
    make_tar: MakeTar,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    *,
    bad: tarfile.TarInfo | tuple[str, str],
    expected: str,
    filtered: bool,
) -> None:
    if not filtered:
        monkeypatch.setattr("wheelyard.sources.unpack._data_filter", None)
    archive = make_tar(("p/first", "first"), bad)
    outside = set(tmp_path.rglob("*"))
    with pytest.raises(IntegrityError, match=expected):
        unpack(archive, tmp_path / "deep" / "out")
    written = set(tmp_path.rglob("*")) - outside - {tmp_path / "deep", tmp_path / "deep" / "out"}
    assert written <= {tmp_path / "deep" / "out" / "first"}


def test_nothing_is_written_through_a_link(make_tar: MakeTar, tmp_path: Path) -> None:
    archive = make_tar(("p/real/a", "a"), link("p/l", "real"), ("p/l/b", "b"))
    with pytest.raises(IntegrityError, match="is a link and a folder"):
        unpack(archive, tmp_path / "out")
    assert files_in(tmp_path / "out") == {"real/a": "a", "l/b": "b"}


def test_link_that_climbs_through_another_link_is_refused(
    make_tar: MakeTar, tmp_path: Path
) -> None:
    up = link("p/a/b/c/up", "../../../s")
    archive = make_tar(("p/s/x", "x"), up, link("p/evil", "a/b/c/up/../.."))
    with pytest.raises(IntegrityError, match=r"leads out|is refused"):
        unpack(archive, tmp_path / "out")


def test_archive_bombs_are_left_in_time(make_tar: MakeTar, tmp_path: Path) -> None:
    big = make_tar(("p/a", "x" * 100), ("p/b", "x" * 100))
    with pytest.raises(IntegrityError, match=r"'p/b' is one too many .* 150 bytes"):
        unpack(big, tmp_path / "size", limits=Limits(size=150))
    assert not (tmp_path / "size" / "b").exists()
    with pytest.raises(IntegrityError, match="1 entries"):
        unpack(big, tmp_path / "entries", limits=Limits(entries=1))


@pytest.mark.parametrize("cut", [0, 10, 60])
@pytest.mark.parametrize("name", ["a.tar.gz", "a.tar.xz", "a.tar.bz2"])
def test_broken_archive_is_named(make_tar: MakeTar, tmp_path: Path, name: str, cut: int) -> None:
    archive = make_tar(("p/a", "text" * 1000), name=name)
    archive.write_bytes(archive.read_bytes()[:cut])
    with pytest.raises(IntegrityError, match=f"{archive} is not a whole archive"):
        unpack(archive, tmp_path / "out")


def test_folder_with_something_in_it_is_refused(make_tar: MakeTar, tmp_path: Path) -> None:
    with pytest.raises(IntegrityError, match="is not empty"):
        unpack(make_tar(("p/a", "a")), tmp_path)


def test_error_of_the_disk_is_not_the_archives(make_tar: MakeTar, tmp_path: Path) -> None:
    archive = make_tar(("p/a", "a" * 100_000))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, before[1]))
    try:
        with pytest.raises(DiskError, match="File too large"), disk_errors(tmp_path):
            unpack(archive, tmp_path / "out")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def write_zip(path: Path, *entries: tuple[str, str, int]) -> Path:
    with zipfile.ZipFile(path, "w") as zipped:
        for name, content, mode in entries:
            info = zipfile.ZipInfo(name)
            info.external_attr = mode << 16
            zipped.writestr(info, content)
    return path


def test_zip_is_unpacked_with_links_and_modes(tmp_path: Path) -> None:
    archive = write_zip(
        tmp_path / "a.zip",
        ("p/", "", stat.S_IFDIR | 0o755),
        ("p/a", "a", 0),
        ("p/run", "r", stat.S_IFREG | 0o755),
        ("p/l", "a", stat.S_IFLNK | 0o777),
    )
    unpack(archive, tmp_path / "out")
    assert files_in(tmp_path / "out") == {"a": "a", "run": "r", "l": "a"}
    assert (tmp_path / "out" / "run").stat().st_mode & 0o777 == 0o755
    assert (tmp_path / "out" / "l").is_symlink()


@pytest.mark.parametrize(
    ("bad", "expected"),
    [
        pytest.param(("/a", "x", 0), "outside", id="absolute"),
        pytest.param(("p/../../a", "x", 0), "outside", id="climbing"),
        pytest.param(("p/l", "../x", stat.S_IFLNK), "links out", id="link"),
        pytest.param(("p/d", "", stat.S_IFCHR), "neither", id="device"),
        pytest.param(("p/a", "again", 0), "comes twice", id="twice"),
    ],
)
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_hostile_zip_is_refused(tmp_path: Path, bad: tuple[str, str, int], expected: str) -> None:
    archive = write_zip(tmp_path / "a.zip", ("p/a", "a", 0), bad)
    with pytest.raises(IntegrityError, match=expected):
        unpack(archive, tmp_path / "out")


def test_damaged_zip_is_named(tmp_path: Path) -> None:
    archive = write_zip(tmp_path / "a.zip", ("p/a", "content", 0))
    archive.write_bytes(archive.read_bytes().replace(b"content", b"CONTENT"))
    with pytest.raises(IntegrityError, match="not a whole archive"):
        unpack(archive, tmp_path / "out")


def test_sparse_bomb_counts_its_real_size(tmp_path: Path) -> None:
    """A GNU sparse entry of a few bytes says that it unpacks to a terabyte."""
    info = tarfile.TarInfo("p/sparse")
    info.type = tarfile.GNUTYPE_SPARSE
    header = bytearray(info.tobuf(tarfile.GNU_FORMAT))
    header[483:495] = b"%011o\0" % (1 << 32)
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    archive = tmp_path / "a.tar"
    archive.write_bytes(io.BytesIO(bytes(header) + bytes(1024)).getvalue())
    with pytest.raises(IntegrityError, match="one too many"):
        unpack(archive, tmp_path / "out", limits=Limits(size=1 << 20))
