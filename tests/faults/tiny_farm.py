"""A farm whose one job goes through every stage in seconds, and an upstream of its own."""

from __future__ import annotations

import hashlib
import importlib.metadata
import io
import json
import os
import shutil
import sys
import tarfile
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import uv
from native import write_torch_site
from redist import write_small_site
from wheels import write_wheel

from wheelyard.farm import load_farm
from wheelyard.model.redistributables import read_manifest, redist_lock_request, redist_text
from wheelyard.planning.locks import wanted_locks

if TYPE_CHECKING:
    from collections.abc import Iterable

RELEASE = "12.4.1"
HEADERS = ("cublas_v2.h", "cusparse.h", "cusolverDn.h")
BUILD_TOOLS = ("build", "packaging", "pyproject_hooks", "setuptools")
PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
RECIPE = """\
name = "tiny"
summary = "The smallest extension worth building"
homepage = "https://example.org/tiny"
license = "MIT"

[build]
requires = ["setuptools>=77"]
memory-per-job = 0.1
effort = {{ host = 1.0, device = 0.1 }}

[wheel]
extensions = ["tiny_cuda"]
top-levels = ["tiny", "tiny_cuda"]

[[patches]]
file = "0001-answer.patch"

[[versions]]
version = "1.0"
python = ">=3.9"
[versions.sdist]
filename = "tiny-1.0.tar.gz"
sha256 = "{sha256}"
size = {size}
"""
PATCH = """\
The answer is another one.

--- a/tiny/__init__.py
+++ b/tiny/__init__.py
@@ -1 +1 @@
-ANSWER = 41
+ANSWER = 42
"""
SMOKE = """\
import argparse, json, pathlib, sys
parser = argparse.ArgumentParser()
parser.add_argument("--level")
parser.add_argument("--json")
arguments = parser.parse_args()
import tiny, tiny_cuda
assert tiny.ANSWER == 42
try:
    pathlib.Path(arguments.json).write_text(json.dumps({"level": arguments.level, "machine": {}}))
except OSError as error:
    sys.exit(f"cannot write the report: {error}")
"""
SOURCE = {
    "PKG-INFO": "Metadata-Version: 2.1\nName: tiny\nVersion: 1.0\n",
    "pyproject.toml": (
        '[build-system]\nrequires = ["setuptools"]\nbuild-backend = "setuptools.build_meta"\n'
        '[project]\nname = "tiny"\nversion = "1.0"\ndependencies = ["torch"]\n'
        '[tool.setuptools]\npackages = ["tiny"]\n'
    ),
    "setup.py": (
        "from setuptools import Extension, setup\n"
        'setup(ext_modules=[Extension("tiny_cuda", ["tiny.c"], extra_compile_args=["-g0"])])\n'
    ),
    "tiny/__init__.py": "ANSWER = 41\n",
    "tiny.c": (
        "#include <Python.h>\n"
        'static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "tiny_cuda", 0, -1, 0, 0, 0, '
        "0, 0};\nPyMODINIT_FUNC PyInit_tiny_cuda(void) { return PyModule_Create(&module); }\n"
    ),
}


class TinyFarm(NamedTuple):
    """Where it lies: the recipes, and what is served to it."""

    farm: Path
    site: Path


def write_tiny_farm(folder: Path) -> TinyFarm:
    """Write the farm, its locks, and a site with a simple index and NVIDIA's archives."""
    farm, site = folder / "farm", folder / "site"
    sdist = _write_sdist(site / "simple" / "tiny")
    write_small_site(site / "redist")
    _write_torch(folder / "torch", site / "simple" / "torch")
    _write_uv(site / "simple" / "uv")
    for name in BUILD_TOOLS:
        _repack(name, site / "simple" / name.replace("_", "-"))
    digest = hashlib.sha256(sdist.read_bytes()).hexdigest()
    files = {
        "matrix.toml": f'[axes]\npython = ["{PYTHON}"]\ntorch = ["2.6.0+cu124"]\n',
        "patches/tiny/0001-answer.patch": PATCH,
        "recipes/tiny.toml": RECIPE.format(sha256=digest, size=sdist.stat().st_size),
        "recipes/tiny/smoke.py": SMOKE,
    }
    for name, text in files.items():
        (farm / name).parent.mkdir(parents=True, exist_ok=True)
        (farm / name).write_text(text, encoding="utf-8")
    _write_locks(farm, site)
    return TinyFarm(farm, site)


def tiny_environment(site_url: str, home: Path) -> dict[str, str]:
    """Return the variables of somebody who reaches that site alone, with all state in ``home``."""
    return {
        "HOME": str(home),
        "LC_ALL": "C.UTF-8",
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "TMPDIR": str(home / "tmp"),
        "UV_CACHE_DIR": str(home / "uv"),
        "WHEELYARD_CACHE": str(home / "cache"),
        "WHEELYARD_CONFIG": str(home / "config.toml"),
        "WHEELYARD_DIRECT": "never",
        "WHEELYARD_PYTHON_INDEXES": f"{site_url}simple",
        "WHEELYARD_REDIST_URLS": f"{site_url}redist/",
        "WHEELYARD_STATE": str(home / "state"),
        "WHEELYARD_WORK": str(home / "work"),
    }


def _write_sdist(folder: Path) -> Path:
    folder.mkdir(parents=True)
    path = folder / "tiny-1.0.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        for name, text in SOURCE.items():
            info = tarfile.TarInfo(f"tiny-1.0/{name}")
            info.size = len(text)
            archive.addfile(info, io.BytesIO(text.encode()))
    return path


def _write_torch(scratch: Path, folder: Path) -> None:
    """Write a torch that has what is read of one: its version, its libraries, CUDA's headers."""
    libraries = write_torch_site(scratch, cuda=12)
    files = {
        str(path.relative_to(libraries)): path.read_bytes()
        for path in sorted(libraries.rglob("*.so*"))
        if path.suffix not in {".c", ".map"}
    }
    files |= {f"nvidia/cublas/include/{name}": b"" for name in HEADERS}
    version = b"__version__ = '2.6.0+cu124'\ncuda: str = '12.4'\n"
    files |= {"torch/__init__.py": b"", "torch/version.py": version}
    files |= {"torch/utils/__init__.py": b"", "torch/utils/cpp_extension.py": b""}
    write_wheel(folder, name="torch", version="2.6.0", files=files)


def _write_uv(folder: Path) -> None:
    """Write the wheel of uv that a bundle takes along."""
    version = importlib.metadata.version("uv")
    files = {f"uv-{version}.data/scripts/uv": Path(uv.find_uv_bin()).read_bytes()}
    write_wheel(folder, name="uv", version=version, files=files)


def _repack(name: str, folder: Path) -> None:
    """Make a wheel again of what is installed here."""
    distribution = importlib.metadata.distribution(name)
    folder.mkdir(parents=True)
    path = folder / f"{name}-{distribution.version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for file in distribution.files or ():
            where = Path(str(distribution.locate_file(file)))
            if ".." not in file.parts and "__pycache__" not in file.parts and where.is_file():
                archive.writestr(
                    zipfile.ZipInfo(str(file), (2020, 1, 1, 0, 0, 0)), where.read_bytes()
                )


def _write_locks(farm: Path, site: Path) -> None:
    pins = {"build": BUILD_TOOLS, "torch": ("torch",), "runtime": (), "toolkit": ()}
    for request in wanted_locks(load_farm(farm)):
        _write(farm / request.path, f"{request.header}\n" + _pinned(site, pins[request.kind]))
    request = redist_lock_request(RELEASE)
    manifest = (site / "redist" / f"redistrib_{RELEASE}.json").read_bytes()
    digest = hashlib.sha256(manifest).hexdigest()
    file = read_manifest(manifest, request, sha256=digest, origin="site")
    _write(farm / request.path, redist_text(request, file))


def _pinned(site: Path, names: Iterable[str]) -> str:
    text = ""
    for name in names:
        [wheel] = (site / "simple" / name.replace("_", "-")).glob("*.whl")
        digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
        text += (
            f"{name.replace('_', '-')}=={wheel.name.split('-')[1]} \\\n    --hash=sha256:{digest}\n"
        )
    return text


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def put_farm(made: TinyFarm, folder: Path, *, url: str) -> None:
    """Lay the farm into a scenario's folder, with the environment that builds it."""
    shutil.copytree(made.farm, folder / "farm")
    (folder / "home" / "tmp").mkdir(parents=True)
    (folder / "env.json").write_text(json.dumps(tiny_environment(url, folder / "home")))
