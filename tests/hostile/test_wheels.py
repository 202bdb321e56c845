"""Wheels that lie, burst, climb or were mutated: a report or an error, soon, in little memory."""

from __future__ import annotations

import random
import struct
import zipfile
from typing import TYPE_CHECKING

import pytest
from hostile.mutating import mutate
from packaging.requirements import Requirement
from packaging.version import Version

from wheelyard.wheels.check import check
from wheelyard.wheels.describing import describe
from wheelyard.wheels.repair import repair_wheel
from wheelyard.wheels.stamp import stamp_wheel
from wheelyard.wheels.values import BuiltWheel

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager
    from pathlib import Path

    from hostile.conftest import Tally

    from wheelyard.wheels.findings import CheckReport

HEAD = "Metadata-Version: 2.1\nName: demo\nVersion: 1.0\n"
WHEEL = "Wheel-Version: 1.0\nGenerator: x\nRoot-Is-Purelib: true\n"
NINES = "9" * 5000
DIST_INFO = "demo-1.0.dist-info"
MUTATIONS = 150


@pytest.fixture
def inspect(tmp_path: Path) -> Callable[[Path], CheckReport]:
    """Return a function that checks a wheel against nothing and writes its report for people."""

    def inspected(wheel: Path) -> CheckReport:
        report = check(wheel, expectation=None, surroundings=None, scratch=tmp_path / "scratch")
        assert "\x1b" not in describe(report)
        return report

    return inspected


@pytest.fixture
def stamp(tmp_path: Path) -> Callable[[Path], Path]:
    """Return a function that gives a wheel its identity, as repair does."""

    def stamped(wheel: Path) -> Path:
        return stamp_wheel(
            wheel,
            destination=tmp_path / "stamped",
            version=Version("1.0+x"),
            torch_requirement=Requirement("torch==2"),
            build_tag=None,
            platform_tag="linux_x86_64",
        )

    return stamped


def _labels() -> dict[str, dict[str, str | None]]:
    deep = "(" * 20_000 + 'python_version > "3"' + ")" * 20_000
    numbers = ".".join(map(str, range(200)))
    return {
        "marker nested without end": {"METADATA": f"{HEAD}Requires-Dist: a; {deep}\n"},
        "version of 5000 digits": {"METADATA": HEAD.replace("1.0", f"1.{NINES}")},
        "python of 5000 digits": {"METADATA": f"{HEAD}Requires-Python: >=3.{NINES}\n"},
        "no name": {"METADATA": "Metadata-Version: 2.1\nVersion: 1.0\n"},
        "two names": {"METADATA": f"{HEAD}Name: other\n"},
        "another name": {"METADATA": HEAD.replace("demo", "other")},
        "another version": {"METADATA": HEAD.replace("1.0", "2.0")},
        "name with an escape": {"METADATA": HEAD.replace("demo", "\x1b[2Jdemo")},
        "empty metadata": {"METADATA": " "},
        "metadata of zeros": {"METADATA": "\0" * 1000},
        "a million tags": {"WHEEL": f"{WHEEL}Tag: {numbers}-{numbers}-{numbers}\n"},
        "tag that is none": {"WHEEL": f"{WHEEL}Tag: x\n"},
        "no WHEEL": {"WHEEL": None},
        "RECORD with a size of 5000 digits": {"RECORD": f"a,sha256=x,{NINES}\n"},
        "RECORD with a superscript": {"RECORD": "a,sha256=x,²\n"},
        "RECORD with a field of a megabyte": {"RECORD": '"' + "a" * (1 << 20) + '",,\n'},
        "RECORD with a weak digest": {"RECORD": "demo/__init__.py,md5=x,0\n"},
        "RECORD with an odd digest": {"RECORD": "demo/__init__.py,shake_128=x,0\n"},
        "RECORD that climbs": {"RECORD": "../../../etc/passwd,sha256=x,0\n"},
        "RECORD of other files": {"RECORD": "elsewhere.py,sha256=x,0\n"},
        "RECORD twice the same": {"RECORD": "demo/__init__.py,sha256=x,0\n" * 2},
        "quote without an end": {"RECORD": 'demo/"__init__.py,"sha256\n,0'},
    }


@pytest.mark.parametrize("texts", [pytest.param(text, id=name) for name, text in _labels().items()])
def test_labels_that_lie_are_found(
    make_wheel: Callable[..., Path],
    inspect: Callable[[Path], CheckReport],
    stamp: Callable[[Path], Path],
    texts: dict[str, str | None],
    tally: Tally,
) -> None:
    wheel = make_wheel(texts=texts)
    report = tally.meets(lambda: inspect(wheel))
    # what a number too long is compared with decides nothing
    assert not getattr(report, "passed", True) or NINES in str(texts)
    tally.meets(lambda: stamp(wheel))


def _member(name: str, mode: int = 0o100644) -> tuple[zipfile.ZipInfo, bytes]:
    info = zipfile.ZipInfo("x")
    info.filename = info.orig_filename = name
    info.external_attr = mode << 16
    return info, b"\x7fELF hostile"


MEMBERS = {
    "climbs": _member("../../escaped.py"),
    "climbs in the middle": _member("demo/../../../escaped.py"),
    "absolute": _member("/tmp/escaped.py"),
    "backslashes": _member("..\\..\\escaped.py"),
    "drive": _member("C:escaped.py"),
    "link": _member("demo/link", 0o120777),
    "device": _member("demo/device", 0o020644),
    "block device": _member("demo/disk", 0o060644),
    "pipe": _member("demo/pipe", 0o010644),
    "socket": _member("demo/socket", 0o140644),
    "twice": _member("demo/__init__.py"),
    "file that is a folder": _member("demo"),
    "name of 300": _member("a" * 300 + ".so"),
    "name of 300 in UTF-8": _member("é" * 200 + ".so"),
    "path without end": _member("d/" * 3000 + "x.so"),
    "escape": _member("demo/\x1b[2J.py"),
    "new line": _member("demo/a\nb.py"),
    "empty part": _member("demo//a.py"),
    "dot": _member("./demo/a.py"),
}


@pytest.mark.parametrize("extra", [pytest.param(value, id=key) for key, value in MEMBERS.items()])
def test_member_that_must_not_be_unpacked_is_told_and_never_written(
    make_wheel: Callable[..., Path],
    inspect: Callable[[Path], CheckReport],
    stamp: Callable[[Path], Path],
    extra: tuple[zipfile.ZipInfo, bytes],
    tmp_path: Path,
    tally: Tally,
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("warnings.warn", lambda *_words, **_more: None)  # of a duplicate's writer
        wheel = make_wheel(extra=[extra])
    report = tally.meets(lambda: inspect(wheel))
    assert not getattr(report, "passed", True)
    tally.refuses(lambda: stamp(wheel), "must not be unpacked")
    assert not list(tmp_path.parent.rglob("escaped.py"))


@pytest.mark.parametrize("name", ["Demo-1.0.DIST-INFO", "dEMO-1.0.dist-info", "demo-1.0.dist-ınfo"])  # noqa: RUF001
def test_folder_in_the_wrong_case_is_none(
    make_wheel: Callable[..., Path],
    inspect: Callable[[Path], CheckReport],
    name: str,
    tally: Tally,
) -> None:
    def spoil(members: dict[str, bytes]) -> None:
        for member in [one for one in members if DIST_INFO in one]:
            members[member.replace(DIST_INFO, name)] = members.pop(member)

    report = tally.meets(lambda: inspect(make_wheel(spoil=spoil)))
    assert not getattr(report, "passed", True)


@pytest.mark.parametrize("name", ["é", "e\u0301", "\u202eevil", "数据", "\U0001f4a3", "ﬁle"])
def test_names_in_every_script_are_names(
    make_wheel: Callable[..., Path],
    inspect: Callable[[Path], CheckReport],
    stamp: Callable[[Path], Path],
    name: str,
    tally: Tally,
) -> None:
    wheel = make_wheel(files={f"demo/{name}.py": b"", "demo/__init__.py": b""})
    report = tally.meets(lambda: inspect(wheel))
    assert getattr(report, "passed", False)
    tally.meets(lambda: stamp(wheel))


def _say_sizes(path: Path, size: int) -> None:
    """Let the central directory claim that each member has that size."""
    data = bytearray(path.read_bytes())
    at = data.find(b"PK\x01\x02")
    while at >= 0:
        struct.pack_into("<I", data, at + 24, size)
        at = data.find(b"PK\x01\x02", at + 4)
    path.write_bytes(data)


def test_bomb_is_refused_before_anything_is_unpacked(
    make_wheel: Callable[..., Path],
    inspect: Callable[[Path], CheckReport],
    stamp: Callable[[Path], Path],
    tmp_path: Path,
    tally: Tally,
    little_memory: Callable[[], AbstractContextManager[None]],
) -> None:
    wheel = make_wheel(files={f"demo/{number}.so": b"\x7fELF" for number in range(20)})
    _say_sizes(wheel, 0xFFFFFFFE)
    with little_memory():
        report = tally.meets(lambda: inspect(wheel))
        assert [str(one.kind) for one in getattr(report, "findings", ())] == ["not-a-wheel"]
        tally.refuses(lambda: stamp(wheel), "more than any wheel")
        # what it says is the most that it gives
        _say_sizes(wheel, 1)
        assert not getattr(tally.meets(lambda: inspect(wheel)), "passed", True)
    assert not list((tmp_path / "scratch").rglob("*.so"))


def test_text_of_a_gigabyte_is_not_read(
    make_wheel: Callable[..., Path],
    inspect: Callable[[Path], CheckReport],
    stamp: Callable[[Path], Path],
    tally: Tally,
    little_memory: Callable[[], AbstractContextManager[None]],
) -> None:
    wheel = make_wheel()
    path = wheel.with_name("other-1.0-py3-none-any.whl")
    with zipfile.ZipFile(wheel) as old, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            if not name.endswith("METADATA"):
                new.writestr(name, old.read(name))
        with new.open(f"{DIST_INFO}/METADATA", "w") as stream:
            for _ in range(100):
                stream.write(bytes(1 << 20))
    with little_memory():
        report = tally.meets(lambda: inspect(path))
        assert "more than any text" in str(report)
        tally.refuses(lambda: stamp(path), "more than any text")


@pytest.mark.parametrize("seed", range(4))
def test_mutated_wheel_gives_a_report_or_an_error(
    make_wheel: Callable[..., Path],
    inspect: Callable[[Path], CheckReport],
    stamp: Callable[[Path], Path],
    seed: int,
    tally: Tally,
) -> None:
    chance = random.Random(seed)  # noqa: S311
    wheel = make_wheel(files={"demo/__init__.py": b"x = 1\n" * 20, "demo/b.so": b"\x7fELF" * 50})
    whole = wheel.read_bytes()
    directory = whole.index(b"PK\x01\x02")
    for _ in range(MUTATIONS):
        changed = whole[:directory] + mutate(whole[directory:], chance)
        wheel.write_bytes(changed if chance.random() < 0.7 else mutate(whole, chance))
        tally.meets(lambda: inspect(wheel))
        tally.meets(lambda: stamp(wheel))


@pytest.mark.parametrize("member", ["METADATA", "WHEEL", "RECORD", "entry_points.txt"])
def test_mutated_label_gives_a_report_or_an_error(
    make_wheel: Callable[..., Path],
    inspect: Callable[[Path], CheckReport],
    stamp: Callable[[Path], Path],
    member: str,
    tally: Tally,
) -> None:
    chance = random.Random(member)  # noqa: S311

    def spoil(members: dict[str, bytes]) -> None:
        name = f"{DIST_INFO}/{member}"
        members[name] = mutate(members[name], chance)

    for _ in range(MUTATIONS // 3):
        wheel = make_wheel(
            requires=['torch>=2; python_version > "3"', "a[b]@ https://example.org/a"],
            entry_points="[console_scripts]\na = demo:c\n",
            spoil=spoil,
        )
        tally.meets(lambda: inspect(wheel))  # noqa: B023
        tally.meets(lambda: stamp(wheel))  # noqa: B023


def test_repair_of_a_wheel_that_lies_is_refused_before_a_tool_unpacks_it(
    make_wheel: Callable[..., Path], tmp_path: Path, tally: Tally
) -> None:
    for texts, extra in (
        ({"METADATA": HEAD.replace("1.0", f"1.{NINES}")}, ()),
        ({"RECORD": 'a,"b\n'}, ()),
        ({}, (MEMBERS["climbs"],)),
        ({}, (MEMBERS["link"],)),
    ):
        wheel = make_wheel(texts=texts, extra=extra)
        built = BuiltWheel(
            path=wheel, sha256="", log_path=tmp_path / "log", seconds=0.0, cpu_seconds=0.0
        )
        tally.refuses(
            lambda: repair_wheel(
                built,  # noqa: B023
                destination=tmp_path / "repaired",
                version=Version("1.0+x"),
                torch_requirement=None,
                build_tag=None,
                env={"PATH": "/nonexistent"},
            )
        )
