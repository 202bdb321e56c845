"""The flash_attn case: compiled with one ABI of libstdc++, named as if with the other."""

from __future__ import annotations

import dataclasses
import io
import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest
from native import link
from wheels import write_wheel

from wheelyard.network.indexes import read_index_settings
from wheelyard.network.session import open_session
from wheelyard.network.wheel_index import list_wheels

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import requests

pytestmark = [pytest.mark.heavy, pytest.mark.network]

# What upstream calls the wheel, and what METADATA says in it: the name alone was changed.
FILENAME: Final = "flash_attn-2.8.3+cu12torch2.6cxx11abiFALSE-cp312-cp312-linux_x86_64.whl"
VERSION: Final = "2.8.3"
MODULE: Final = "flash_attn_2_cuda.cpython-312-x86_64-linux-gnu.so"
HEADERS: Final = ("torch/include/c10/macros/", "torch/include/c10/util/")
TORCH_WHEELS: Final = {
    "2.6.0": (
        "torch-2.6.0-cp312-cp312-manylinux1_x86_64.whl",
        "2bb8987f3bb1ef2675897034402373ddfc8f5ef0e156e2d8cfc47cacafdda4a9",
    ),
    "2.7.1": (
        "torch-2.7.1-cp312-cp312-manylinux_2_28_x86_64.whl",
        "c33360cfc2edd976c2633b3b66c769bdcbbf0e0b6550606d188431c81e7dd1fc",
    ),
}

# What flash_attn asks of torch with a std::string in it: a failed check, and an error it throws.
SOURCE: Final = """
#include <c10/util/Exception.h>
#include <string>

extern "C" void *PyModule_Create2(void *, int);

void require(bool is_there, const std::string &name) {
    TORCH_CHECK(is_there, "no tensor ", name);
    if (name.empty()) throw c10::Error({__func__, __FILE__, __LINE__}, name);
}

extern "C" __attribute__((visibility("default"))) void *PyInit_flash_attn_2_cuda() {
    require(true, "q");
    return PyModule_Create2(nullptr, 1013);
}
"""

WRONG_ABI: Final = "wrong CXX11 ABI: compiled with _GLIBCXX_USE_CXX11_ABI={}, this torch with {}"


_WINDOW: Final = 1 << 18


class _Ranges(io.RawIOBase):
    """A file on a server that is read piece by piece, where it is asked for."""

    def __init__(self, session: requests.Session, url: str) -> None:
        super().__init__()
        self._session, self._url, self._position = session, url, 0
        with session.get(url, headers={"Range": "bytes=0-0"}, timeout=60) as response:
            self._size = int(response.headers["Content-Range"].rpartition("/")[2])

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        bases = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}
        self._position = bases[whence] + offset
        return self._position

    def readinto(self, buffer: memoryview) -> int:
        end = min(self._position + len(buffer), self._size)
        if end <= self._position:
            return 0
        asked = {"Range": f"bytes={self._position}-{end - 1}", "Accept-Encoding": "identity"}
        with self._session.get(self._url, headers=asked, timeout=60) as response:
            response.raise_for_status()
            piece = response.content
        buffer[: len(piece)] = piece
        self._position += len(piece)
        return len(piece)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Upstream:
    """Compiles and packs what upstream does, and checks it with the command line."""

    folder: Path
    headers: Callable[[str], Path]

    def wheel(self, *, headers: str, cxx11_abi: int) -> Path:
        module = self._compile(self.headers(headers), cxx11_abi)
        return write_wheel(
            self.folder,
            name="flash_attn",
            version=VERSION,
            tag="cp312-cp312-linux_x86_64",
            filename=FILENAME,
            requires=["torch", "einops"],
            files={"flash_attn/__init__.py": b"", MODULE: module.read_bytes()},
        )

    def check(self, wheel: Path, *options: str) -> Mapping[str, Any]:
        command = [sys.executable, "-m", "wheelyard", "check", str(wheel), *options, "--json"]
        done = subprocess.run(command, check=False, capture_output=True, text=True)
        assert done.returncode in {0, 12}, done.stderr
        (report,) = json.loads(done.stdout)["reports"]
        assert isinstance(report, dict)
        return report

    def _compile(self, include: Path, cxx11_abi: int) -> Path:
        compiler = shutil.which("g++")
        if compiler is None:
            pytest.skip("there is no g++")
        source, module = self.folder / "flash_api.cpp", self.folder / MODULE
        source.write_text(SOURCE)
        c10 = link(self.folder, "libc10.so")
        command = [compiler, "-shared", "-fPIC", "-std=c++17", "-O1", "-fvisibility=hidden"]
        command += [f"-D_GLIBCXX_USE_CXX11_ABI={cxx11_abi}", f"-I{include}", str(source)]
        command += ["-Wl,--unresolved-symbols=ignore-all", "-Wl,--no-as-needed", str(c10)]
        subprocess.run([*command, "-o", str(module)], check=True)
        return module


@pytest.fixture(scope="session")
def headers(wheels_folder: Path) -> Callable[[str], Path]:
    """Return a function that fetches a few headers out of a torch wheel, and not the wheel."""

    def fetch(version: str) -> Path:
        folder = wheels_folder / f"headers-{version}"
        if not folder.exists():
            half = folder.with_suffix(".part")
            _fetch_headers(*TORCH_WHEELS[version], half)
            half.rename(folder)
        return folder / "torch" / "include"

    return fetch


def _fetch_headers(filename: str, sha256: str, folder: Path) -> None:
    settings = read_index_settings(os.environ, home=Path.home(), cwd=Path.cwd())
    with open_session(settings, os.environ) as session:
        listed = list_wheels("torch", settings=settings, session=session)
        (wheel,) = (one for one in listed if one.filename == filename)
        assert wheel.sha256 == sha256, "the index no longer has the file of this digest"
        stream = io.BufferedReader(_Ranges(session, wheel.url), _WINDOW)
        with zipfile.ZipFile(stream) as archive:
            archive.extractall(
                folder, [name for name in archive.namelist() if name.startswith(HEADERS)]
            )


@pytest.fixture
def upstream(tmp_path: Path, headers: Callable[[str], Path]) -> Upstream:
    return Upstream(folder=tmp_path, headers=headers)


def findings(report: Mapping[str, Any], kind: str) -> list[str]:
    return [one["message"] for one in report["findings"] if one["kind"] == kind]


def loads(report: Mapping[str, Any]) -> list[bool | None]:
    return [one["loads"] for one in report["files"]]


@pytest.mark.parametrize("version", TORCH_WHEELS)
def test_wheel_of_the_other_abi_is_refused_beside_the_torch_that_its_name_promises(
    upstream: Upstream, version: str
) -> None:
    wheel = upstream.wheel(headers=version, cxx11_abi=1)
    report = upstream.check(wheel, "--torch", "2.6.0+cu124")
    assert not report["passed"]
    assert loads(report) == [False]
    (missing,) = findings(report, "missing-symbol")
    assert WRONG_ABI.format(1, 0) in missing
    assert "c10::detail::torchCheckFail" in missing
    assert "c10::Error::Error" in missing
    (advice,) = findings(report, "torch")
    assert "2.7.1+cu126" in advice


@pytest.mark.parametrize("version", TORCH_WHEELS)
@pytest.mark.parametrize("torch", ["2.7.0", "2.7.1+cu126"])
def test_it_loads_beside_a_torch_of_its_own_abi_whatever_it_is_called(
    upstream: Upstream, version: str, torch: str
) -> None:
    report = upstream.check(upstream.wheel(headers=version, cxx11_abi=1), "--torch", torch)
    assert loads(report) == [True]
    assert findings(report, "missing-symbol") == []
    assert findings(report, "missing-library") == []
    errors = {one["kind"] for one in report["findings"] if one["severity"] == "error"}
    assert errors == {"name"}


def test_name_that_upstream_changed_alone_is_found(upstream: Upstream) -> None:
    report = upstream.check(upstream.wheel(headers="2.7.1", cxx11_abi=1), "--torch", "2.7.1")
    filename = "The filename says flash-attn 2.8.3+cu12torch2.6cxx11abifalse"
    assert sorted(findings(report, "name")) == [
        f"{filename}, METADATA says flash-attn 2.8.3",
        f"{filename}, the folder is 'flash_attn-2.8.3.dist-info'",
    ]


def test_without_a_torch_it_names_those_of_its_own_abi(upstream: Upstream) -> None:
    report = upstream.check(upstream.wheel(headers="2.7.1", cxx11_abi=1))
    assert "2.6.0+cu124" not in report["fits"]
    assert {"2.7.0+cu126", "2.7.1+cu126"} <= set(report["fits"])


def test_wheel_that_is_what_its_name_says_is_refused_beside_the_other_torch_alone(
    upstream: Upstream,
) -> None:
    wheel = upstream.wheel(headers="2.6.0", cxx11_abi=0)
    assert loads(upstream.check(wheel, "--torch", "2.6.0+cu124")) == [True]
    report = upstream.check(wheel, "--torch", "2.7.1+cu126")
    assert loads(report) == [False]
    (missing,) = findings(report, "missing-symbol")
    assert WRONG_ABI.format(0, 1) in missing
