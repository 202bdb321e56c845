"""The installer on what is wrong: a clear error, and everything as it was."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import os
import random
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from wheelyard.shipping.installer import layout
from wheelyard.shipping.installer.archive import open_bundle
from wheelyard.shipping.installer.problems import DamageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from wheelyard.shipping.bundle import Written

    Install = Callable[..., subprocess.CompletedProcess[str]]
    Bundle = Callable[..., Written]
    Look = Callable[[Path], dict[str, object]]


@pytest.fixture
def small_bundle(
    make_bundle: Bundle, monkeypatch: pytest.MonkeyPatch, make_wheel: Callable[..., Path]
) -> Path:
    """Return a bundle whose uv is a few bytes, so that its every byte can be tried."""
    from wheelyard.shipping.parts import make_members  # noqa: PLC0415
    from wheelyard.shipping.wheel import read_wheel  # noqa: PLC0415

    tiny = make_wheel(name="uv", version="0.0.1", files={"uv": b"uv"})

    def small(*arguments: object, **words: object) -> object:
        sha256 = hashlib.sha256(tiny.read_bytes()).hexdigest()
        words["uv"] = read_wheel(tiny, sha256=sha256)
        return make_members(*arguments, **words)  # type: ignore[arg-type]

    monkeypatch.setitem(make_bundle.__globals__, "make_members", small)
    return make_bundle().paths[0]


def test_one_flipped_bit_anywhere_is_found(small_bundle: Path, tmp_path: Path) -> None:
    content = small_bundle.read_bytes()
    places = range(0, len(content), 1 if len(content) < 20_000 else len(content) // 4000)
    headers = [at + offset for at in range(0, len(content), 512) for offset in range(0, 512, 37)]
    damaged = tmp_path / "damaged.tar"
    flipper = random.Random(7)  # noqa: S311 - which bit, not whose secret
    for place in sorted({*places, *headers, len(content) - 1}):
        flipped = bytearray(content)
        flipped[place] ^= 1 << flipper.randrange(8)
        damaged.write_bytes(flipped)
        with pytest.raises(DamageError):
            open_bundle(damaged).verify(lambda _name: None)


@pytest.mark.parametrize("kept", [0, 1, 511, 512, 5000, -10241, -1])
def test_bundle_that_was_cut_off_is_refused(small_bundle: Path, tmp_path: Path, kept: int) -> None:
    cut = tmp_path / "cut.tar"
    cut.write_bytes(small_bundle.read_bytes()[:kept])
    with pytest.raises(DamageError):
        open_bundle(cut).verify(lambda _name: None)


def test_bytes_behind_the_end_are_refused(small_bundle: Path) -> None:
    with small_bundle.open("ab") as stream:
        stream.write(bytes(10240))
    with pytest.raises(DamageError):
        open_bundle(small_bundle)


@pytest.mark.parametrize("number", [1, 2, -1])
def test_missing_part_is_named(
    tmp_path: Path, make_bundle: Bundle, install: Install, number: int
) -> None:
    parts = make_bundle(part_size=8_000_000).paths
    gone = parts[number - 1] if number > 0 else parts[-1]
    gone.unlink()
    done = install(parts[2], "--into", tmp_path / "new")
    assert done.returncode in {2, 8}
    assert f"{gone} is missing" in done.stderr
    assert not (tmp_path / "new").exists()


def test_bundle_for_another_python_is_refused_in_a_sentence(
    tmp_path: Path, make_bundle: Bundle, install: Install
) -> None:
    done = install(make_bundle(python="3.14").paths[0], "--into", tmp_path / "new")
    assert done.returncode == 6
    here = f"{sys.version_info.major}.{sys.version_info.minor}"
    assert f"is for Python 3.14, and this is Python {here}" in done.stderr
    assert not (tmp_path / "new").exists()


def test_older_python_than_the_installer_takes_is_told(
    tmp_path: Path, installer_path: Path
) -> None:
    # as an older one would find it
    source = tmp_path / "old.py"
    source.write_text(
        "import runpy, sys\nsys.version_info = (3, 8, 0, 'final', 0)\n"
        f"runpy.run_path({str(installer_path)!r}, run_name='__main__')\n"
    )
    command = [sys.executable, "-I", str(source)]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 6
    assert "install.py needs Python 3.9 or later" in done.stderr


@pytest.mark.parametrize("version", ["3.9", "3.10", "3.12", "3.13"])
def test_installer_runs_on_every_python(
    make_bundle: Bundle, install: Install, tmp_path: Path, version: str
) -> None:
    found = sorted(Path("~/.pyenv/versions").expanduser().glob(f"{version}.*/bin/python"))
    python = str(found[-1]) if found else shutil.which(f"python{version}")
    if python is None:
        pytest.skip(f"there is no Python {version} here")
    bundle = make_bundle(python=version).paths[0]
    done = install(bundle, "--into", tmp_path / "new", python=python)
    assert done.returncode == 0, done.stderr
    done = install("--uninstall", "--into", tmp_path / "new", python=python)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", ["../outside", "/absolute", "wheels/../../x", "wheels//x", "a\\b"])
def test_path_that_climbs_out_is_refused(tmp_path: Path, install: Install, name: str) -> None:
    path = tmp_path / "hostile.tar"
    content = b"{}"
    digest = hashlib.sha256(content).hexdigest()
    sums = f"{digest}  {name}\n{digest}  bundle.json\n".encode()
    with tarfile.open(path, "w", format=tarfile.GNU_FORMAT) as archive:
        for member, text in (("SHA256SUMS", sums), (name, content), ("bundle.json", content)):
            info = tarfile.TarInfo(member)
            info.size = len(text)
            info.mtime = 315532800
            archive.addfile(info, io.BytesIO(text))
    done = install(path, "--into", tmp_path / "new")
    assert done.returncode == 8
    assert "not inside of it" in done.stderr
    assert not (tmp_path / "outside").exists()


def test_links_and_folders_in_the_archive_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "hostile.tar"
    sums = layout.format_sums([("bundle.json", "0" * 64)])
    header = layout.tar_header("SHA256SUMS", len(sums))
    info = tarfile.TarInfo("bundle.json")
    info.type, info.linkname, info.mtime = tarfile.SYMTYPE, "/etc/passwd", 315532800
    body = header + sums + bytes(layout.padding(len(sums))) + info.tobuf(tarfile.GNU_FORMAT)
    path.write_bytes(body + bytes(layout.end_of(len(body))))
    with pytest.raises(DamageError):
        open_bundle(path)


def test_what_would_break_is_named_and_the_environment_stays(
    make_bundle: Bundle,
    install: Install,
    environment: Path,
    look: Look,
    make_wheel: Callable[..., Path],
) -> None:
    before = look(environment)
    newer = make_wheel(name="demo-helper", version="2.0", files={"demo_helper.py": b"x = 2\n"})
    bundle = _with_newer_helper(make_bundle, newer)
    done = install(bundle, "--into", environment)
    assert done.returncode == 20
    assert "demo-user" in done.stderr
    assert "demo-helper<2" in done.stderr.replace(" ", "")
    assert look(environment) == before
    forced = install(bundle, "--into", environment, "--force")
    assert forced.returncode == 0, forced.stderr
    assert "warning:" in forced.stderr


def _with_newer_helper(make_bundle: Bundle, newer: Path) -> Path:
    real = make_bundle.__globals__["_read"]
    make_bundle.__globals__["_read"] = lambda path: real(
        newer if path.name.startswith("demo_helper") else path
    )
    try:
        return make_bundle().paths[0]
    finally:
        make_bundle.__globals__["_read"] = real


def test_smoke_test_that_fails_leaves_the_environment_as_it_was(
    make_bundle: Bundle, install: Install, environment: Path, look: Look
) -> None:
    before = look(environment)
    done = install(make_bundle(broken=True).paths[0], "--into", environment)
    assert done.returncode == 13
    assert "demo_ext is broken" in done.stderr
    assert look(environment) == before


@pytest.mark.parametrize("after", [0.0, 0.2, 0.5, 0.9, 1.4, 2.0])
def test_kill_at_any_time_leaves_old_or_new_and_the_next_run_succeeds(
    make_bundle: Bundle,
    install: Install,
    environment: Path,
    look: Look,
    installer_path: Path,
    after: float,
) -> None:
    before = look(environment)
    bundle = make_bundle().paths[0]
    python = os.path.realpath(sys.executable)
    child = subprocess.Popen(
        [python, "-I", "-S", installer_path, bundle, "--into", environment],
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    time.sleep(after)
    os.killpg(child.pid, signal.SIGKILL)
    child.wait()
    receipts = list(environment.glob("share/wheelyard/receipts/*.json"))
    if not receipts:
        assert look(environment) == before
    done = install(bundle, "--into", environment)
    assert done.returncode == 0, done.stderr
    assert [path.name for path in environment.parent.glob(".used*")] == []


def test_folder_that_is_no_environment_is_not_touched(
    tmp_path: Path, make_bundle: Bundle, install: Install
) -> None:
    folder = tmp_path / "documents"
    folder.mkdir()
    (folder / "letter.txt").write_text("dear")
    done = install(make_bundle().paths[0], "--into", folder)
    assert done.returncode == 2
    assert "not empty and no environment" in done.stderr
    assert os.listdir(folder) == ["letter.txt"]  # noqa: PTH208


def test_system_python_is_not_touched(make_bundle: Bundle, install: Install) -> None:
    done = install(make_bundle().paths[0], "--into", "/usr")
    assert done.returncode == 2
    assert "no place for an environment" in done.stderr


@pytest.fixture
def small_disk(tmp_path: Path) -> Callable[[str], list[str]]:
    """Return a function that gives the words which run a command with a small disk at a path."""

    def words(size: str) -> list[str]:
        disk = tmp_path / "disk"
        disk.mkdir(exist_ok=True)
        mount = f'mount -t tmpfs -o size={size} tmpfs {disk} && exec "$@"'
        return ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", mount, "sh"]

    if subprocess.run([*words("1M"), "true"], check=False, capture_output=True).returncode:
        pytest.skip("this user may not mount in a namespace")
    return words


def run_on(disk: list[str], target: Path, bundle: Path, installer_path: Path) -> tuple[str, str]:
    """Install there, and return what was said and what the disk holds afterwards."""
    python = os.path.realpath(sys.executable)
    words = ("-I", "-S", str(installer_path), str(bundle), "--into", str(target))
    script = f'"$@"; code=$?; ls -A {target.parent}; exit $code'
    done = subprocess.run(
        [*disk, "sh", "-c", script, "sh", python, *words],
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 15, done.stderr
    return done.stderr, done.stdout


def test_disk_that_will_not_do_is_refused_at_once(
    tmp_path: Path,
    make_bundle: Bundle,
    installer_path: Path,
    small_disk: Callable[[str], list[str]],
) -> None:
    target = tmp_path / "disk" / "new"
    said, left = run_on(small_disk("1M"), target, make_bundle().paths[0], installer_path)
    assert "GB free. Nothing was changed. Free some space" in said
    assert not left


def test_disk_that_fills_up_on_the_way_is_told_and_nothing_is_left(
    tmp_path: Path,
    make_bundle: Bundle,
    installer_path: Path,
    small_disk: Callable[[str], list[str]],
    make_wheel: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # zeros that take no room in the wheel, and of which the manifest does not speak
    large = make_wheel(name="demo-large", version="1.0", files={"large.bin": bytes(200 << 20)})
    real = make_bundle.__globals__["_read"]
    silent = lambda path: dataclasses.replace(real(path), unpacked=0)  # noqa: E731
    monkeypatch.setitem(make_bundle.__globals__, "_read", silent)
    bundle = make_bundle(others=[large]).paths[0]
    said, left = run_on(small_disk("180M"), tmp_path / "disk" / "new", bundle, installer_path)
    assert "the disk is full. Nothing was changed. Free some space" in said
    assert "installing 3 distributions" in said
    assert not left
