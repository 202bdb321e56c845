"""The commands that carry wheels: from a yard and an index of small wheels into environments."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
import uv

from wheelyard.cli.bundling import parse_size
from wheelyard.errors import UsageError
from wheelyard.farm import load_farm
from wheelyard.planning.locks import wanted_locks
from wheelyard.yard.index import write_index
from wheelyard.yard.store import store_wheel

if TYPE_CHECKING:
    import contextlib
    from collections.abc import Callable

    from tests.yards import Made

    from wheelyard.yard.folder import Yard

    Wheelyard = Callable[..., subprocess.CompletedProcess[str]]

PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
REPORT = """\
import json, sys, demo_ext
words = sys.argv
report = {"level": words[words.index("--level") + 1], "measurements": []}
open(words[words.index("--json") + 1], "w").write(json.dumps(report))
"""
RECIPE = """\
name = "demo-ext"
summary = "An extension"
homepage = "https://example.org/demo-ext"
license = "MIT"

[build]
requires = ["setuptools>=77"]
memory-per-job = 1.0
effort = { host = 30.0, device = 60.0 }

[wheel]
extensions = ["demo_ext_cuda"]
top-levels = ["demo_ext"]

[gpu-archs]
"12.0" = ["9.0"]

[[versions]]
version = "1.0"
[versions.sdist]
filename = "demo-ext-1.0.tar.gz"
sha256 = "1111111111111111111111111111111111111111111111111111111111111111"
size = 1000
"""
MATRIX = f"""\
[axes]
python = ["{PYTHON}"]
torch = ["2.11.0+cu130", "2.8.0+cu128"]
"""


@pytest.fixture
def places(
    tmp_path: Path,
    yard: Yard,
    make: Callable[..., Made],
    make_wheel: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
    wheelyard: Wheelyard,
) -> tuple[str, ...]:
    """Return the options that name a farm and a yard with ``demo-ext``; torch is on an index."""
    folder = tmp_path / "farm"
    (folder / "recipes" / "demo-ext").mkdir(parents=True)
    (folder / "recipes" / "demo-ext.toml").write_text(RECIPE)
    (folder / "recipes" / "demo-ext" / "smoke.py").write_text(REPORT)
    (folder / "matrix.toml").write_text(MATRIX)
    for request in wanted_locks(load_farm(folder)):
        (folder / request.path).parent.mkdir(parents=True, exist_ok=True)
        (folder / request.path).write_text(f"{request.header}\n")
    made = make(name="demo-ext", public="1.0")
    store_wheel(yard, made.path, msgspec.structs.replace(made.record, python=PYTHON), made.report)
    write_index(yard)
    index = tmp_path / "wheels"
    make_wheel(name="torch", version="2.11.0", requires=["helper"], files={"torch.py": b""})
    make_wheel(name="torch", version="2.8.0", files={"torch.py": b""})
    make_wheel(name="helper", version="1.0", files={"helper.py": b""})
    make_wheel(
        name="uv",
        version=uv_version(),
        tag=f"py3-none-manylinux_2_17_{os.uname().machine}",
        files={f"uv-{uv_version()}.data/scripts/uv": Path(uv.find_uv_bin()).read_bytes()},
    )
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(index))
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "uv-cache"))
    return "--farm", str(folder), "--yard", str(yard.path)


def uv_version() -> str:
    from importlib.metadata import version  # noqa: PLC0415

    return version("uv")


def run(folder: Path, code: str) -> None:
    subprocess.run([str(folder / "bin" / "python"), "-I", "-c", code], check=True)


def test_bundle_of_a_yard_installs_with_its_own_installer_and_with_ours(
    wheelyard: Wheelyard, places: tuple[str, ...], tmp_path: Path
) -> None:
    output = tmp_path / "demo.tar"
    done = wheelyard("bundle", "demo-ext", *places, "--torch", "2.11.0", "-o", output, "--json")
    assert done.returncode == 0, done.stderr
    told: dict[str, Any] = json.loads(done.stdout)
    assert told["paths"] == [str(output)]
    unpacked = tmp_path / "unpacked"
    unpacked.mkdir()
    subprocess.run(["tar", "-xf", output, "-C", unpacked], check=True)
    names = {str(path.relative_to(unpacked)) for path in unpacked.rglob("*") if path.is_file()}
    cell = told["cells"][0]
    assert {"SHA256SUMS", "bundle.json", "install.py", "smoke/demo-ext/smoke.py"} <= names
    assert {
        f"cells/{cell}/{name}" for name in ("pylock.toml", "requirements.txt", "sbom.cdx.json")
    } <= names
    assert f"records/{cell}/demo-ext.json" in names
    assert "index/simple/demo-ext/index.html" in names
    command = [sys.executable, "-I", str(unpacked / "install.py"), str(output)]
    child = subprocess.run(
        [*command, "--into", str(tmp_path / "one")], check=False, capture_output=True, text=True
    )
    assert child.returncode == 0, child.stderr
    assert told["digest"] in child.stderr
    run(tmp_path / "one", "import demo_ext, torch, helper")
    done = wheelyard("install", output, "--into", tmp_path / "two", *places)
    assert done.returncode == 0, done.stderr
    run(tmp_path / "two", "import demo_ext, torch, helper")
    done = wheelyard("uninstall", tmp_path / "two", *places)
    assert done.returncode == 0, done.stderr
    assert not (tmp_path / "two").exists()


def test_simple_index_inside_serves_pip_and_uv(
    wheelyard: Wheelyard, places: tuple[str, ...], tmp_path: Path
) -> None:
    output = tmp_path / "demo.tar"
    wheelyard("bundle", "demo-ext", *places, "--torch", "2.11.0", "-o", output)
    unpacked = tmp_path / "unpacked"
    unpacked.mkdir()
    subprocess.run(["tar", "-xf", output, "-C", unpacked], check=True)
    (requirements,) = unpacked.glob("cells/*/requirements.txt")
    (lock,) = unpacked.glob("cells/*/pylock.toml")
    index = (unpacked / "index" / "simple").as_uri()
    base = [uv.find_uv_bin(), "pip", "install", "--no-config", "--python", sys.executable]
    hashed = [*base, "--require-hashes", "--default-index", index, "-r", str(requirements)]
    locked = [*base, "--no-index", "-r", str(lock)]
    for number, command in enumerate((hashed, locked)):
        target = tmp_path / f"target{number}"
        env = {"PATH": os.environ["PATH"], "UV_CACHE_DIR": str(tmp_path / f"cache{number}")}
        done = subprocess.run(
            [*command, "--target", str(target)],
            check=False, capture_output=True, text=True, env=env,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert (target / "demo_ext" / "__init__.py").is_file()


@pytest.mark.parametrize("archs_label", ["", "-sm90", "-sm90-env"])
def test_published_index_is_enough_for_find_bundle_and_install(
    wheelyard: Wheelyard,
    places: tuple[str, ...],
    tmp_path: Path,
    yard: Yard,
    make: Callable[..., Made],
    serve_folder: Callable[[Path], contextlib.AbstractContextManager[str]],
    archs_label: str,
) -> None:
    if archs_label:
        made = make(name="demo-ext", public="1.0", archs_label=archs_label)
        record = msgspec.structs.replace(made.record, python=PYTHON)
        store_wheel(yard, made.path, record, made.report)
        write_index(yard)
    site = tmp_path / "site"
    done = wheelyard("publish", site, *places)
    assert done.returncode == 0, done.stderr
    label = f"torch2.11.0-cu130{archs_label}"
    empty = (*places[:2], "--yard", str(tmp_path / "empty"))
    with serve_folder(site) as url:
        index = f"{url}/{label}/simple/"
        words = ("demo-ext", *empty, "--torch", "2.11.0", "--index", index)
        found = json.loads(wheelyard("find", *words, "--json").stdout)
        (offer,) = found["fits"][0]["ours"]
        assert found["fits"][0]["works_now"] is True
        assert (offer["origin"], offer["version"]) == (
            "published",
            f"1.0+cu130.torch2.11.0{archs_label.replace('-', '.')}",
        )
        done = wheelyard("bundle", *words, "-o", tmp_path / "demo.tar")
        assert done.returncode == 0, done.stderr
    with tarfile.open(tmp_path / "demo.tar") as archive:
        name = f"records/{found['fits'][0]['cell']}/demo-ext.json"
        archive.extract(name, tmp_path / "unpacked", filter="data")
    record = json.loads((tmp_path / "unpacked" / name).read_bytes())
    assert record["version"] == offer["version"]
    done = wheelyard("install", tmp_path / "demo.tar", "--into", tmp_path / "env", *empty)
    assert done.returncode == 0, done.stderr
    run(tmp_path / "env", "import demo_ext, torch")


def test_same_question_gives_the_same_bytes(
    wheelyard: Wheelyard, places: tuple[str, ...], tmp_path: Path
) -> None:
    for name in ("one.tar", "two.tar"):
        words = ("bundle", "demo-ext", *places, "--torch", "2.11.0", "-o", tmp_path / name)
        assert wheelyard(*words).returncode == 0
        shutil.rmtree(tmp_path / "cache")
    assert (tmp_path / "one.tar").read_bytes() == (tmp_path / "two.tar").read_bytes()


def test_get_installs_the_best_for_this_machine_and_leaves_a_receipt(
    wheelyard: Wheelyard, places: tuple[str, ...], tmp_path: Path
) -> None:
    done = wheelyard("get", "demo-ext", *places, "--into", tmp_path / "env")
    assert done.returncode == 0, done.stderr
    run(tmp_path / "env", "import demo_ext, torch")
    assert list((tmp_path / "env").glob("share/wheelyard/receipts/*.json"))
    done = wheelyard("uninstall", tmp_path / "env", *places)
    assert done.returncode == 0, done.stderr


def test_what_is_not_built_yet_is_not_bundled_but_named(
    wheelyard: Wheelyard, places: tuple[str, ...], tmp_path: Path
) -> None:
    output = tmp_path / "demo.tar"
    done = wheelyard("bundle", "demo-ext", *places, "--torch", "2.8.0", "-o", output)
    assert done.returncode == 2
    assert "wheelyard build --job demo-ext-1.0-" in done.stderr
    assert not output.exists()


def test_damaged_bundle_ends_with_the_exit_code_of_wrong_bytes(
    wheelyard: Wheelyard, places: tuple[str, ...], tmp_path: Path
) -> None:
    output = tmp_path / "demo.tar"
    wheelyard("bundle", "demo-ext", *places, "--torch", "2.11.0", "-o", output)
    content = bytearray(output.read_bytes())
    content[len(content) // 2] ^= 4
    output.write_bytes(content)
    done = wheelyard("install", output, "--into", tmp_path / "env", *places)
    assert done.returncode == 8
    assert "Nothing was touched" in done.stderr
    assert not (tmp_path / "env").exists()


@pytest.mark.parametrize(
    ("text", "size"), [("4G", 4 * 10**9), ("700M", 7 * 10**8), ("1.5GB", 15 * 10**8)]
)
def test_sizes_of_parts_are_read(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "many", "5K", "-1G"])
def test_sizes_that_are_none_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match="is no size of a part"):
        parse_size(text)
