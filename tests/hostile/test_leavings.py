"""A build that leaves traps where it may write; wheelyard reads there afterwards."""

from __future__ import annotations

import dataclasses
import functools
import io
import json
import os
import shutil
import zipfile
from typing import TYPE_CHECKING

import pytest

from wheelyard.errors import BuildError, IntegrityError, SmokeTestError
from wheelyard.folders import remove_tree
from wheelyard.leavings import find_left
from wheelyard.machine.namespaces import SandboxLevel
from wheelyard.model.source import FolderSource
from wheelyard.network.folder_store import FolderStore
from wheelyard.sources.values import FetchedSource, PatchedSource
from wheelyard.toolchain.compile_cache import NoCache
from wheelyard.toolchain.sccache import Sccache, object_name
from wheelyard.toolchain.shared_cache import SharedCache
from wheelyard.wheels.build import BuildRequest, build_wheel
from wheelyard.wheels.excess import find_origins
from wheelyard.wheels.probe import read_units
from wheelyard.wheels.smoke import _decode

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from hostile.conftest import Tally

    from wheelyard.model.job import Job
    from wheelyard.toolchain.sandbox import Sandbox
    from wheelyard.toolchain.values import Toolchain

PROGRAMS = {SandboxLevel.UNSHARE: "unshare", SandboxLevel.BUBBLEWRAP: "bwrap"}
CONFINING = [level for level, program in PROGRAMS.items() if shutil.which(program)]
SECRET = "hunter2"
WHEEL = "probe-1.1-py3-none-any.whl"
KEY = "a" * 64


def _wheel() -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("probe.py", "")
    return stream.getvalue()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Ground:
    """A job whose build child is a shell script of the test, run in the real sandbox."""

    folder: Path
    request: BuildRequest
    patched: PatchedSource

    def build(self, script: str) -> object:
        """Run the script where the build frontend would run."""
        driver = self.folder / "tools" / "drive-build"
        driver.write_text(f"#!/bin/sh -e\ncd /wy/build\n{script}\n", encoding="utf-8")
        driver.chmod(0o755)
        return build_wheel(self.patched, self.request)


@pytest.fixture(params=CONFINING, ids=str)
def ground(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    open_sandbox: Callable[[SandboxLevel, Path], Sandbox],
    make_probe_job: Callable[..., Job],
    make_toolchain: Callable[..., Toolchain],
) -> Ground:
    sandbox = open_sandbox(request.param, tmp_path / "sandbox")
    for name in ("torch/torch", "links", "toolkit", "requirements", "tools", "home"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "home" / "secret").write_text(SECRET, encoding="ascii")
    (tmp_path / "home" / WHEEL).write_bytes(_wheel())
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / WHEEL).write_bytes(_wheel())
    fetched = FetchedSource(source=FolderSource(path="p"), path=tmp_path, digest="")
    return Ground(
        folder=tmp_path,
        request=BuildRequest(
            job=make_probe_job(),
            toolchain=make_toolchain(tmp_path, sandbox=sandbox),
            work=tmp_path / "work",
            compile_cache=Sccache(),
            cache_root=tmp_path / "compile" / "probe",
            compile_jobs=1,
            log_path=tmp_path / "log",
        ),
        patched=PatchedSource(
            tree=tmp_path / "source", source=fetched, patches=(), digest="sha256:0"
        ),
    )


GOOD = f"cp /wy/source/{WHEEL} dist/"


@pytest.mark.parametrize(
    "script",
    [
        pytest.param(f"ln -s {{home}}/{WHEEL} dist/", id="link-out"),
        pytest.param(f"ln -s /wy/source/{WHEEL} dist/", id="link-within"),
        pytest.param(f"ln -s /dev/zero dist/{WHEEL}", id="endless-device"),
        pytest.param(f"mkfifo dist/{WHEEL}", id="pipe-nobody-writes-to"),
        pytest.param(f"mkdir dist/{WHEEL}", id="folder"),
        pytest.param("rm -r dist; ln -s {home} dist", id="folder-of-wheels-leads-out"),
        pytest.param("rm -r dist; mkfifo dist", id="folder-of-wheels-is-a-pipe"),
        pytest.param(f"truncate -s 1T dist/{WHEEL}", id="a-terabyte-of-holes"),
        pytest.param("rm -r dist", id="nothing"),
    ],
)
def test_wheel_that_is_no_plain_file_is_refused(ground: Ground, script: str, tally: Tally) -> None:
    script = script.format(home=ground.folder / "home")
    try:
        tally.refuses(lambda: ground.build(script), str(ground.request.log_path.parent))
    finally:
        remove_tree(ground.request.work)


@pytest.mark.parametrize(
    "name", ["times", "cache.json", "sccache.log", "fresh/1/cache.json", "fresh/1/sccache.log"]
)
@pytest.mark.parametrize(
    "trap",
    [
        pytest.param("ln -s /dev/zero {name}", id="endless-device"),
        pytest.param("ln -s {home}/secret {name}", id="link-out"),
        pytest.param("mkfifo {name}", id="pipe"),
        pytest.param("mkdir {name}", id="folder"),
        pytest.param("truncate -s 1T {name}", id="holes"),
    ],
)
def test_report_of_a_build_that_is_no_plain_file_is_refused(
    ground: Ground, name: str, trap: str, tally: Tally
) -> None:
    trap = trap.format(name=name, home=ground.folder / "home")
    error = tally.refuses(
        lambda: ground.build(f"{GOOD}\nmkdir -p fresh/1\n{trap}"), name, "Nothing of what"
    )
    assert isinstance(error, IntegrityError)
    assert SECRET not in str(error)


DEEP = "[" * 100_000
LINE = "[t DEBUG sccache::compiler::compiler] [a.o]: "


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("times", "9" * 4000 + "m1s 1m2s"),
        ("times", "1m" + "9." * 1000 + "s"),
        ("times", "ünïcödé"),
        ("cache.json", DEEP),
        ("cache.json", "[]"),
        ("cache.json", '{"stats": []}'),
        ("cache.json", '{"stats": {"cache_hits": {"counts": "x"}, "cache_misses": {}}}'),
        ("cache.json", '{"stats": {"cache_hits": {"counts": {"a": -1}}, "cache_misses": {}}}'),
        ("cache.json", '{"stats": {"cache_hits": {"counts": {"a": 1e999}}, "cache_misses": {}}}'),
        ("sccache.log", f"{LINE}get_cached_or_compile: {DEEP}\n"),
        ("sccache.log", f'{LINE}get_cached_or_compile: ["a"]\n{LINE}Compiled in 1.2.3 s\n'),
        ("sccache.log", f'{LINE}get_cached_or_compile: ["a"]\n{LINE}Hash key: \n'),
        ("sccache.log", f"{LINE}Hash key: x\n" * 3),
        ("sccache.log", "\x00" * 100_000),
    ],
)
def test_nonsense_in_the_reports_of_a_build_counts_as_nothing(
    ground: Ground, name: str, text: str, tally: Tally
) -> None:
    (ground.folder / "source" / "text").write_text(text, encoding="utf-8")
    built, statistics = tally.meets(  # type: ignore[misc]
        lambda: ground.build(f"{GOOD}\ncp /wy/source/text {name}")
    )
    assert built.path.name == WHEEL
    assert not any(statistics.hits.values())
    assert statistics.keys == frozenset()


def test_build_cannot_have_a_file_of_the_user_shared_as_a_compiled_object(
    ground: Ground, tmp_path: Path, tally: Tally
) -> None:
    # the keys of what it compiled are read from a log that it writes itself
    keys = ["../../../home/secret", "/" + str(tmp_path / "home" / "secret"), KEY]
    log = "".join(
        f'{LINE}get_cached_or_compile: ["-c", "a.cpp"]\n{LINE}Hash key: {key}\n' for key in keys
    )
    (tmp_path / "source" / "log").write_text(log, encoding="utf-8")
    link = f"mkdir -p /wy/cache/a/a\nln -s {tmp_path}/home/secret /wy/cache/{object_name(KEY)}"
    _, statistics = ground.build(f"{GOOD}\n{link}\ncp /wy/source/log sccache.log")  # type: ignore[misc]
    assert statistics.keys == {KEY}
    shared = SharedCache(store=FolderStore(tmp_path / "store"), parallel=1)
    tally.refuses(
        lambda: shared.share(
            ground.request.job,
            statistics.keys,
            folder=ground.request.cache_folder,
            name_of=object_name,
            scratch=tmp_path / "scratch",
        ),
        object_name(KEY),
    )
    texts = [path.read_text() for path in (tmp_path / "store").rglob("*") if path.is_file()]
    assert not any(SECRET in text for text in texts)


def test_build_cannot_lead_what_others_compiled_out_of_the_cache(
    ground: Ground, tmp_path: Path, tally: Tally
) -> None:
    ground.build(f"{GOOD}\nln -s {tmp_path}/home /wy/cache/a")
    shared = SharedCache(store=FolderStore(tmp_path / "store"), parallel=1)
    (tmp_path / "other" / "a" / "a").mkdir(parents=True)
    (tmp_path / "other" / object_name(KEY)).write_text("object", encoding="ascii")
    for folder, move in (("other", "share"), ("compile/probe", "bring")):
        words = {
            "folder": tmp_path / folder,
            "name_of": object_name,
            "scratch": tmp_path / "scratch",
        }
        if move == "share":
            shared.share(ground.request.job, [KEY], **words)  # type: ignore[arg-type]
        else:
            tally.refuses(lambda: shared.bring(ground.request.job, **words), "compile/probe/a")  # type: ignore[arg-type]  # noqa: B023
    assert sorted(path.name for path in (tmp_path / "home").iterdir()) == [WHEEL, "secret"]


def test_source_of_a_unit_that_became_a_trap_explains_nothing(
    ground: Ground, tmp_path: Path, tally: Tally
) -> None:
    def log(flag: str, key: str) -> str:
        words = json.dumps([flag, "-c", "/wy/source/../source/a.cu"])
        return (
            f"{LINE}get_cached_or_compile: {words}\n{LINE}Hash key: {key * 64}\n"
            f'{LINE.replace("a.o", "a.ptx")}get_cached_or_compile: ["-x"]\n'
            f"{LINE.replace('a.o', 'a.ptx')}Hash key: {key * 63}1\n"
            f"{LINE.replace('a.o', 'a.ptx')}Cache miss in 0.0 s\n"
        )

    for number, trap in enumerate(("ln -s /dev/zero", "mkfifo", f"ln -s {tmp_path}/home/secret")):
        (tmp_path / "source" / "log").write_text(log("-O2", "abc"[number]), encoding="utf-8")
        script = (
            f"{GOOD}\nrm -f /wy/source/a.cu\n{trap} /wy/source/a.cu\ncp /wy/source/log sccache.log"
        )
        tally.meets(lambda: ground.build(script))  # noqa: B023
        remove_tree(ground.request.work)


def test_what_a_build_nests_without_end_can_be_removed(ground: Ground, tally: Tally) -> None:
    nest = "python3 -c \"import os\nfor _ in range(1500): os.mkdir('d'); os.chdir('d')\""
    if not shutil.which("python3", path="/usr/bin:/bin"):
        nest = "i=0; while [ $i -lt 1500 ]; do mkdir d; cd d; i=$((i+1)); done"
    tally.meets(lambda: ground.build(f"{GOOD}\n({nest})"))
    tally.meets(functools.partial(remove_tree, ground.request.work))
    assert not ground.request.work.exists()


def test_report_of_a_smoke_test_that_is_a_trap_is_refused(tmp_path: Path, tally: Tally) -> None:
    report = tmp_path / "report.json"
    (tmp_path / "elsewhere").write_text("{}", encoding="ascii")
    traps: dict[str, Callable[[], object]] = {
        "device": lambda: report.symlink_to("/dev/zero"),
        "link": lambda: report.symlink_to(tmp_path / "elsewhere"),
        "pipe": lambda: os.mkfifo(report),
        "folder": report.mkdir,
        "holes": lambda: (report.touch(), os.truncate(report, 1 << 40)),
    }
    for make in traps.values():
        make()
        tally.refuses(lambda: _decode(tmp_path, "report.json"), "report.json")
        report.rmdir() if report.is_dir() and not report.is_symlink() else report.unlink()
    for text in (DEEP, "\x00", "[1]", '{"a": ' * 50_000):
        report.write_text(text, encoding="utf-8")
        error = tally.refuses(lambda: _decode(tmp_path, "report.json"), "report")
        assert isinstance(error, SmokeTestError)


@pytest.mark.parametrize("line", ["x", "1 2", "a b c", "1.0 nan c", "9" * 5000 + " 1 c", "1 1e9 c"])
def test_unit_of_a_probe_that_is_nonsense_is_refused(
    tmp_path: Path, line: str, tally: Tally
) -> None:
    (tmp_path / "probe").mkdir()
    (tmp_path / "probe" / "compiled").write_text(f"{line}\n", encoding="ascii")
    error = tally.refuses(lambda: read_units(tmp_path), "which is no time")
    assert isinstance(error, BuildError)


def test_objects_that_are_traps_are_no_objects(
    ground: Ground, tmp_path: Path, tally: Tally
) -> None:
    traps = (
        *("mkfifo a.o", "ln -s /dev/zero b.o", f"ln -s {tmp_path}/home/secret c.o", "mkdir d.o"),
        *("echo junk >e.o", "ln -s . again", "mkdir -p deep/er && mkfifo deep/er/f.o"),
    )
    for _ in range(2):
        tally.meets(lambda: ground.build("\n".join((GOOD, *traps))))
        build = ground.request.work / "build"
        assert tally.meets(lambda: find_origins({"memcpy"}, [build])) == {}  # noqa: B023
        assert [path.name for path in find_left(build, ".o")] == ["e.o"]
        remove_tree(ground.request.work)


def test_build_without_a_cache_reads_nothing_of_it(ground: Ground, tally: Tally) -> None:
    ground = dataclasses.replace(
        ground, request=dataclasses.replace(ground.request, compile_cache=NoCache())
    )
    tally.meets(lambda: ground.build(f"{GOOD}\nln -s /dev/zero cache.json"))
