"""The identity of a wheel."""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import resource
import stat
import zipfile
from typing import TYPE_CHECKING

import pytest
from packaging.requirements import Requirement
from packaging.utils import parse_wheel_filename
from packaging.version import Version

from wheelyard.errors import RepairError
from wheelyard.model.metadata import parse_core_metadata, parse_wheel_info
from wheelyard.wheels import stamp
from wheelyard.wheels.stamp import member_names, read_dist_info, stamp_wheel

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

VERSION = Version("1.0+cu130.torch2.11.0")
STEM = "demo_ext-1.0+cu130.torch2.11.0"
MEMBERS = {
    "demo_ext/__init__.py": b"x = 1\n",
    "demo_ext/_C.so": b"\x7fELF" + bytes(1000),
    "demo_ext-1.0.data/scripts/tool": b"#!python\n",
    "demo_ext-1.0.dist-info/licenses/LICENSE": b"free",
    "demo_ext-1.0.dist-info/RECORD.jws": b"signature",
}


def stamped(
    wheel: Path,
    destination: Path,
    *,
    build_tag: str | None = None,
    extra_files: dict[str, bytes] | None = None,
    platform_tag: str = "manylinux_2_28_x86_64",
    source_date_epoch: int = 0,
) -> Path:
    return stamp_wheel(
        wheel,
        destination=destination,
        version=VERSION,
        torch_requirement=Requirement("torch==2.11.0"),
        build_tag=build_tag,
        platform_tag=platform_tag,
        extra_files=extra_files,
        source_date_epoch=source_date_epoch,
    )


def test_filename_metadata_folders_and_tags_change_together(
    write_wheel: Callable[..., Path], tmp_path: Path
) -> None:
    path = stamped(write_wheel(MEMBERS), tmp_path / "out")
    assert path.name == f"{STEM}-cp312-cp312-manylinux_2_28_x86_64.whl"
    metadata = parse_core_metadata(read_dist_info(path, "METADATA"))
    name, version, build, tags = parse_wheel_filename(path.name)
    assert (metadata.name, metadata.version) == (name, version) == ("demo-ext", VERSION)
    assert build == ()
    assert parse_wheel_info(read_dist_info(path, "WHEEL")).tags == tags
    assert [str(item) for item in metadata.requires] == ["torch==2.11.0"]
    tops = {member.partition("/")[0] for member in member_names(path)}
    assert tops == {"demo_ext", f"{STEM}.data", f"{STEM}.dist-info"}


def test_record_lists_every_member_with_its_digest(
    write_wheel: Callable[..., Path], tmp_path: Path
) -> None:
    path = stamped(write_wheel(MEMBERS), tmp_path / "out")
    with zipfile.ZipFile(path) as archive:
        record = archive.read(f"{STEM}.dist-info/RECORD").decode()
        rows = {row[0]: row[1:] for row in csv.reader(io.StringIO(record))}
        assert rows.keys() == set(archive.namelist())
        assert rows.pop(f"{STEM}.dist-info/RECORD") == ["", ""]
        for name, (digest, size) in rows.items():
            content = archive.read(name)
            expected = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).decode()
            assert digest == f"sha256={expected.rstrip('=')}"
            assert size == str(len(content))


def test_void_signature_is_left_out(write_wheel: Callable[..., Path], tmp_path: Path) -> None:
    path = stamped(write_wheel(MEMBERS), tmp_path / "out")
    assert not [name for name in member_names(path) if name.endswith(".jws")]


def test_bytes_do_not_depend_on_when_and_in_which_order_the_wheel_was_built(
    write_wheel: Callable[..., Path], tmp_path: Path
) -> None:
    one = stamped(write_wheel(MEMBERS), tmp_path / "one")
    backwards = dict(reversed(MEMBERS.items()))
    late = write_wheel(backwards, folder="late", date=(2026, 1, 2, 3, 4, 6), mode=0o600)
    assert stamped(late, tmp_path / "two").read_bytes() == one.read_bytes()


def test_stamping_again_changes_nothing(write_wheel: Callable[..., Path], tmp_path: Path) -> None:
    one = stamped(write_wheel(MEMBERS), tmp_path / "one", build_tag="3")
    two = stamped(one, tmp_path / "two", build_tag="3")
    assert two.name == one.name
    assert two.read_bytes() == one.read_bytes()


def test_dist_info_comes_last_and_record_after_it(
    write_wheel: Callable[..., Path], tmp_path: Path
) -> None:
    path = stamped(write_wheel(MEMBERS | {"zz.py": b""}), tmp_path / "out")
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
    outside = [name for name in names if ".dist-info/" not in name]
    assert names[: len(outside)] == sorted(outside)
    assert names[-1].endswith("/RECORD")


def test_only_libraries_and_programs_are_executable(
    write_wheel: Callable[..., Path], tmp_path: Path
) -> None:
    members = {"demo_ext/_C.so": b"", "demo.libs/libx-1.so.1.2": b"", "demo_ext/a.sock": b""}
    path = stamped(write_wheel(members), tmp_path / "out")
    with zipfile.ZipFile(path) as archive:
        modes = {info.filename: info.external_attr >> 16 for info in archive.infolist()}
    assert modes["demo_ext/_C.so"] == modes["demo.libs/libx-1.so.1.2"] == stat.S_IFREG | 0o755
    assert modes["demo_ext/a.sock"] == stat.S_IFREG | 0o644
    program = stamped(write_wheel({"demo_ext/bin/tool": b""}, mode=0o775), tmp_path / "out")
    with zipfile.ZipFile(program) as archive:
        assert archive.getinfo("demo_ext/bin/tool").external_attr >> 16 & 0o777 == 0o755


@pytest.mark.parametrize(
    ("epoch", "date"),
    [
        pytest.param(0, (1980, 1, 1, 0, 0, 0), id="before zips begin"),
        pytest.param(1_700_000_000, (2023, 11, 14, 22, 13, 20), id="given"),
    ],
)
def test_every_member_carries_the_given_date(
    write_wheel: Callable[..., Path], tmp_path: Path, epoch: int, date: tuple[int, ...]
) -> None:
    path = stamped(write_wheel(MEMBERS), tmp_path / "out", source_date_epoch=epoch)
    with zipfile.ZipFile(path) as archive:
        assert {info.date_time for info in archive.infolist()} == {date}


def test_first_revision_has_no_build_tag(write_wheel: Callable[..., Path], tmp_path: Path) -> None:
    path = stamped(write_wheel(MEMBERS), tmp_path / "out")
    assert path.name.startswith(f"{STEM}-cp312-")
    assert not parse_wheel_info(read_dist_info(path, "WHEEL")).build


def test_revision_is_the_build_tag(write_wheel: Callable[..., Path], tmp_path: Path) -> None:
    path = stamped(write_wheel(MEMBERS), tmp_path / "out", build_tag="2")
    assert path.name.startswith(f"{STEM}-2-cp312-")
    assert parse_wheel_info(read_dist_info(path, "WHEEL")).build == "2"


def test_alias_of_the_platform_tag_stands_in_filename_and_wheel(
    write_wheel: Callable[..., Path], tmp_path: Path
) -> None:
    tag = "manylinux2014_x86_64.manylinux_2_17_x86_64"
    path = stamped(write_wheel(MEMBERS), tmp_path / "out", platform_tag=tag)
    assert path.name.endswith(f"-{tag}.whl")
    info = parse_wheel_info(read_dist_info(path, "WHEEL"))
    assert {item.platform for item in info.tags} == set(tag.split("."))


def test_extra_files_come_into_dist_info(write_wheel: Callable[..., Path], tmp_path: Path) -> None:
    extra = {"sboms/demo.cdx.json": b"{}"}
    path = stamped(write_wheel(MEMBERS), tmp_path / "out", extra_files=extra)
    assert read_dist_info(path, "sboms/demo.cdx.json") == b"{}"
    assert f"{STEM}.dist-info/sboms/demo.cdx.json" in read_dist_info(path, "RECORD").decode()


@pytest.mark.parametrize(
    ("members", "words"),
    [
        pytest.param({"../evil.py": b""}, "evil.py", id="outside"),
        pytest.param({"/etc/evil.py": b""}, "evil.py", id="absolute"),
        pytest.param({"other-1.dist-info/METADATA": b""}, "2 dist-info folders", id="two"),
    ],
)
def test_wheel_that_no_installer_may_unpack_is_refused(
    write_wheel: Callable[..., Path], tmp_path: Path, members: dict[str, bytes], words: str
) -> None:
    with pytest.raises(RepairError, match=words):
        stamped(write_wheel(members), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_file_that_is_no_wheel_is_named(tmp_path: Path) -> None:
    path = tmp_path / "demo-1-py3-none-any.whl"
    path.write_bytes(b"not a zip")
    with pytest.raises(RepairError, match="demo-1-py3-none-any"):
        stamped(path, tmp_path / "out")


def test_failure_leaves_nothing_behind(
    write_wheel: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_digest: bytes) -> str:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(stamp, "record_digest", fail)
    with pytest.raises(OSError, match="No space"):
        stamped(write_wheel(MEMBERS), tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


def test_large_member_is_streamed(write_wheel: Callable[..., Path], tmp_path: Path) -> None:
    size = 128 * 2**20
    wheel = write_wheel({})
    with zipfile.ZipFile(wheel, "a") as archive, archive.open("demo_ext/big.so", "w") as member:
        for _ in range(size >> 20):
            member.write(bytes(1 << 20))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    stamped(wheel, tmp_path / "out")
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
    assert grown < size // 4
