"""Nothing can be read from a wheel that no installer may unpack."""

from __future__ import annotations

import stat
import zipfile
from typing import TYPE_CHECKING

import pytest

from wheelyard.wheels.archive import ArchiveError, open_wheel

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def member(name: str, mode: int = stat.S_IFREG | 0o644) -> tuple[zipfile.ZipInfo, bytes]:
    info = zipfile.ZipInfo(name)
    info.external_attr = mode << 16
    return info, b"content"


def test_plain_wheel_is_read_whole(make_wheel: Callable[..., Path]) -> None:
    path = make_wheel(files={"demo/__init__.py": b"x = 1\n"}, extra=[member("demo/sub/")])
    with open_wheel(path) as archive:
        archive.refuse_unsafe()
        assert archive.unsafe == ()
        assert archive.read("demo/__init__.py") == b"x = 1\n"
        assert "demo/sub/" not in archive.members


@pytest.mark.parametrize(
    ("extra", "why"),
    [
        pytest.param(member("../evil.py"), "climbs", id="parent"),
        pytest.param(member("demo/../../evil.py"), "climbs", id="parent inside"),
        pytest.param(member("/etc/evil"), "climbs", id="absolute"),
        pytest.param(member("demo\\..\\evil.py"), "plain relative path", id="backslash"),
        pytest.param(member("C:/evil.py"), "plain relative path", id="drive"),
        pytest.param(member("demo//evil.py"), "plain relative path", id="empty part"),
        pytest.param(member("./evil.py"), "plain relative path", id="dot"),
        pytest.param(member("demo/evil\n.py"), "plain relative path", id="line feed"),
        pytest.param(member("demo/link", stat.S_IFLNK | 0o777), "is a link", id="link"),
        pytest.param(member("demo/pipe", stat.S_IFIFO | 0o644), "neither file", id="pipe"),
        pytest.param(member("demo"), "file and a folder", id="file where a folder is"),
    ],
)
def test_unsafe_member_is_told_and_cannot_be_read(
    make_wheel: Callable[..., Path], extra: tuple[zipfile.ZipInfo, bytes], why: str
) -> None:
    with open_wheel(make_wheel(extra=[extra])) as archive:
        assert len(archive.unsafe) == 1
        assert why in str(archive.unsafe[0])
        assert extra[0].filename not in archive.members
        assert "demo/__init__.py" in archive.members
        with pytest.raises(ArchiveError, match=why):
            archive.refuse_unsafe()


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_every_repetition_is_told(make_wheel: Callable[..., Path]) -> None:
    path = make_wheel(extra=[member("demo/__init__.py"), member("demo/__init__.py")])
    with open_wheel(path) as archive:
        assert [one.why for one in archive.unsafe] == ["is there more than once"] * 2


def test_encrypted_member_is_unsafe(make_wheel: Callable[..., Path]) -> None:
    path = make_wheel()
    data = bytearray(path.read_bytes())
    at = data.index(b"PK\x01\x02")
    data[at + 8] |= 1
    path.write_bytes(data)
    with open_wheel(path) as archive:
        assert [one.why for one in archive.unsafe] == ["is encrypted"]


def test_uncommon_compression_is_unsafe(make_wheel: Callable[..., Path]) -> None:
    info, content = member("demo/packed.py")
    info.compress_type = zipfile.ZIP_BZIP2
    with open_wheel(make_wheel(extra=[(info, content)])) as archive:
        assert ["compressed" in one.why for one in archive.unsafe] == [True]


def test_damaged_member_is_an_error_that_names_it(make_wheel: Callable[..., Path]) -> None:
    path = make_wheel(extra=[member("demo/data.txt")])
    path.write_bytes(path.read_bytes().replace(b"content", b"CONTENT"))
    with (
        open_wheel(path) as archive,
        pytest.raises(ArchiveError, match=r"'demo/data.txt' .* cannot be unpacked"),
    ):
        archive.read("demo/data.txt")


def test_what_is_no_archive_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "demo-1.0-py3-none-any.whl"
    path.write_text("<html>404</html>")
    with pytest.raises(ArchiveError, match="cannot be read as a wheel"), open_wheel(path):
        pass
