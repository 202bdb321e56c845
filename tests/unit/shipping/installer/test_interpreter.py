"""An interpreter in a bundle: the same bytes, nothing of where it was, and it runs elsewhere."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
from typing import TYPE_CHECKING

import pytest

from wheelyard.errors import MachineError
from wheelyard.model.cell import PythonVersion
from wheelyard.shipping.installer.interpreter import unpack_interpreter
from wheelyard.shipping.installer.problems import DamageError
from wheelyard.shipping.interpreter import pack_interpreter
from wheelyard.toolchain.interpreters import Interpreter, find_interpreter

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from wheelyard.shipping.bundle import Written

HERE = PythonVersion(sys.version_info.major, sys.version_info.minor)


@pytest.fixture
def interpreter() -> Interpreter:
    return find_interpreter(HERE, os.environ)


def test_same_interpreter_gives_the_same_bytes(interpreter: Interpreter, tmp_path: Path) -> None:
    one = pack_interpreter(interpreter, tmp_path / "one", os.environ)
    two = pack_interpreter(interpreter, tmp_path / "two", os.environ)
    assert one.sha256 == two.sha256
    assert one.path.read_bytes() == two.path.read_bytes()
    assert one.member == f"pythons/{one.path.name}"


def test_what_was_installed_beside_an_interpreter_is_not_packed(
    interpreter: Interpreter, tmp_path: Path
) -> None:
    packed = pack_interpreter(interpreter, tmp_path, os.environ)
    with tarfile.open(packed.path) as archive:
        names = archive.getnames()
    assert f"include/python{HERE}/Python.h" in names
    assert not [name for name in names if "/site-packages/" in name or name.endswith(".pyc")]


def test_interpreter_that_does_not_run_elsewhere_is_refused(
    interpreter: Interpreter, tmp_path: Path
) -> None:
    import dataclasses  # noqa: PLC0415

    library = tmp_path / "prefix" / "lib" / f"python{HERE}"
    library.mkdir(parents=True)
    without = dataclasses.replace(interpreter, base_prefix=tmp_path / "prefix")
    with pytest.raises(MachineError, match="leave out --interpreter"):
        pack_interpreter(without, tmp_path / "packed", os.environ)


def test_bundle_brings_its_python_to_where_only_another_is(
    interpreter: Interpreter,
    tmp_path: Path,
    make_bundle: Callable[..., Written],
    install: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    packed = pack_interpreter(interpreter, tmp_path / "packed", os.environ)
    bundle = make_bundle(interpreter=packed).paths[0]
    other = shutil.which("python3.9", path=_pythons())
    if other is None:
        pytest.skip("there is no other Python here")
    target = tmp_path / "new"
    done = install(bundle, "--into", target, python=other)
    assert done.returncode == 0, done.stderr
    code = "import demo_ext, ssl, sys; print(sys.version_info[:2], sys.base_prefix)"
    run = [str(target / "bin" / "python"), "-I", "-c", code]
    said = subprocess.run(run, check=True, capture_output=True, text=True).stdout
    assert said.strip() == f"{sys.version_info[:2]} {target / 'share' / 'wheelyard' / 'python'}"
    moved = install("--uninstall", "--into", target, python=other)
    assert moved.returncode == 0, moved.stderr
    assert not target.exists()


def test_python_that_is_named_comes_before_the_one_of_the_bundle(
    interpreter: Interpreter,
    tmp_path: Path,
    make_bundle: Callable[..., Written],
    install: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    packed = pack_interpreter(interpreter, tmp_path / "packed", os.environ)
    bundle = make_bundle(interpreter=packed).paths[0]
    words = (bundle, "--into", tmp_path / "new", "--python", os.path.realpath(sys.executable))
    done = install(*words)
    assert done.returncode == 0, done.stderr
    assert not (tmp_path / "new" / "share" / "wheelyard" / "python").exists()


def _pythons() -> str:
    from pathlib import Path  # noqa: PLC0415

    folders = Path("~/.pyenv/versions").expanduser().glob("3.9.*/bin")
    return os.pathsep.join([*map(str, folders), os.environ["PATH"]])


@pytest.mark.parametrize(
    ("name", "link"),
    [
        pytest.param("../outside", "", id="name"),
        pytest.param("bin/python", "/etc/passwd", id="absolute link"),
        pytest.param("bin/python", "../../outside", id="link that climbs out"),
    ],
)
def test_interpreter_that_leads_out_is_refused(tmp_path: Path, name: str, link: str) -> None:
    archive = tmp_path / "hostile.tar"
    with tarfile.open(archive, "w") as stream:
        info = tarfile.TarInfo(name)
        if link:
            info.type, info.linkname = tarfile.SYMTYPE, link
        stream.addfile(info)
    with pytest.raises(DamageError):
        unpack_interpreter(archive, tmp_path / "unpacked")
    assert not (tmp_path / "outside").exists()
